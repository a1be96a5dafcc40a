import numpy as np

from recog.attribution.nearest import nearest_rows


def test_by_cosine_around_the_mean_of_the_bank():
    """The bank's mean is (1, 1); seen from there the query points right, as row 0 does; row 1 points up, row 2 left."""
    bank = np.array([[2, 1], [1, 2], [0, 1], [1, 0]], np.float32)
    rows, cosines = nearest_rows(bank, np.array([[5, 1]], np.float32), 3)
    assert rows.tolist() == [[0, 1, 3]]
    np.testing.assert_allclose(cosines, [[1, 0, 0]], atol=1e-12)
