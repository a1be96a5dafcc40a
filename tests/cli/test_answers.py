from pathlib import Path

import numpy as np
from rich.table import Column

from recog.cli.predict import print_answers
from recog.core.errors import BadImage
from recog.runtime.prediction import Prediction


def test_into_a_pipe_every_line_is_whole_and_what_could_not_be_used_is_counted(capsys):
    sure = Prediction(
        name="a",
        task="multiclass",
        class_names=("[red]cat", "dog"),
        probs=np.array([0.75, 0.25]),
        preds=np.array([True, False]),
        logits=np.zeros(2, np.float32),
    )
    answers = iter([sure, BadImage("b.png", "truncated", "copy it again")])
    columns = [Column("label"), Column("confidence", justify="right")]
    bad = print_answers(
        [Path("a.png"), Path("b.png")], answers, columns, lambda answer: [(k, f"{p:.2f}") for k, p in answer.top(2)]
    )
    assert bad == 1
    assert capsys.readouterr().out.splitlines() == [  # into a pipe: nothing padded, folded or cut
        "image\tlabel\tconfidence",
        "a.png\t[red]cat\t0.75",  # a name is text, not markup
        "a.png\tdog\t0.25",
        "b.png\tnot used: truncated",
    ]
