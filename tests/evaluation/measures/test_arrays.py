import numpy as np
import pytest

from recog.core.errors import DataError, ShapeError
from recog.evaluation.measures.arrays import check_labels, check_logits


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_good_arrays_pass(dtype):
    check_logits(np.zeros((1, 2), dtype=dtype))
    check_labels(np.array([1], dtype=np.uint8), 1, 2)


def test_messages_name_the_array_the_first_row_and_the_cure():
    with pytest.raises(ShapeError, match=r"probs have shape \(4,\); expected \(N, K\). One image needs probs\[None\]"):
        check_logits(np.zeros(4), "probs")
    with pytest.raises(DataError, match="2 of 3 images are NaN or infinite, first in row 1"):
        check_logits(np.array([[0, 0], [np.nan, 0], [0, np.inf]]))
    with pytest.raises(DataError, match=r"label 2 in row 1 is outside 0\.\.1, the 2 classes"):
        check_labels(np.array([0, 2]), 2, 2)
