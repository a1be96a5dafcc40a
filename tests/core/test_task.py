from typing import get_args

from recog.core.task import TASKS, Task


def test_the_tuple_and_the_type_name_the_same_tasks():
    assert get_args(Task) == TASKS == ("multiclass", "multilabel")
