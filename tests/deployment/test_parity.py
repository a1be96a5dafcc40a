import numpy as np
import pytest

from recog.core.errors import BundleError
from recog.deployment.parity import MAX_PROB_DIFFERENCE, Parity, check_parity, compare_engines


def test_agreement_by_hand():
    ours = np.array([[0.9, 0.1], [0.3, 0.7], [0.5, 0.5]])
    theirs = np.array([[0.89996, 0.10004], [0.3, 0.7], [0.49998, 0.50002]])
    parity = compare_engines(ours, theirs)
    assert parity == Parity(
        num_images=3,
        max_prob_difference=pytest.approx(4e-5),
        mean_prob_difference=pytest.approx((4e-5 + 4e-5 + 2e-5 + 2e-5) / 6),
        num_ties=1,  # the third image, whose labels differ and may
        num_label_differences=0,
    )
    check_parity(parity)


def test_a_tie_is_a_margin_of_at_most_twice_the_tolerance():
    ours = np.array([[0.50009, 0.49991], [0.50011, 0.49989]])  # margins 1.8e-4 and 2.2e-4
    assert compare_engines(ours, ours).num_ties == 1
    assert MAX_PROB_DIFFERENCE == 1e-4  # design.md, section 4


def test_the_margin_is_between_the_two_best():
    ours = np.array([[0.1, 0.45, 0.45], [0.45, 0.1, 0.45], [0.2, 0.3, 0.5]])
    assert compare_engines(ours, ours).num_ties == 2


def test_a_label_that_differs_clearly_is_counted():
    parity = compare_engines(np.array([[0.9, 0.1], [0.2, 0.8]]), np.array([[0.1, 0.9], [0.2, 0.8]]))
    assert (parity.num_label_differences, parity.max_prob_difference) == (1, pytest.approx(0.8))
    with pytest.raises(BundleError, match=r"2 image files: probabilities differ by up to 0\.8 .*1 labels differ"):
        check_parity(parity)


@pytest.mark.parametrize(("difference", "passes"), [(0.99e-4, True), (1.01e-4, False)])
def test_the_tolerance_is_1e_4(difference, passes):
    ours = np.array([[0.7, 0.3]])
    parity = compare_engines(ours, ours + np.array([[difference, -difference]]))
    if passes:
        check_parity(parity)
    else:
        with pytest.raises(BundleError, match="No bundle was written"):
            check_parity(parity)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("both", [True, False])
def test_numbers_that_are_not_finite_never_agree(bad, both):
    ours = np.array([[0.7, 0.3], [bad, 0.0]])
    theirs = ours if both else np.array([[0.7, 0.3], [0.5, 0.5]])
    parity = compare_engines(ours, theirs)
    assert parity.max_prob_difference == float("inf")
    with pytest.raises(BundleError):
        check_parity(parity)


def test_a_label_difference_alone_is_enough_to_refuse():
    with pytest.raises(BundleError, match="1 labels differ"):
        check_parity(
            Parity(num_images=9, max_prob_difference=0, mean_prob_difference=0, num_ties=0, num_label_differences=1)
        )


def test_several_labels_differ_where_a_threshold_lies_clearly_between():
    """Image 0: 0.30002 and 0.29998 around 0.3 may differ. Image 1: 0.4 and 0.2 may not."""
    thresholds = (0.3, 0.5)
    ours = np.array([[0.30002, 0.9], [0.4, 0.1]])
    parity = compare_engines(ours, np.array([[0.29998, 0.9], [0.4, 0.1]]), task="multilabel", thresholds=thresholds)
    assert (parity.num_ties, parity.num_label_differences) == (1, 0)
    check_parity(parity)
    parity = compare_engines(ours, np.array([[0.30002, 0.9], [0.2, 0.1]]), task="multilabel", thresholds=thresholds)
    assert parity.num_label_differences == 1
