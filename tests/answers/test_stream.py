import pytest
from answers.examples import answer, bad, prediction

from recog.answers.stream import Inputs, Summary, Unusable, answer_each, check_min_confidence
from recog.core.errors import BadImage, ConfigError


@pytest.mark.parametrize("count", [1, 3, 7, 9])
def test_shards_are_all_images_in_order_and_differ_by_one_at_most(count):
    inputs = Inputs(names=list("abcdefg"), sources=list("ABCDEFG"))
    parts = [inputs.shard(i, count) for i in range(1, count + 1)]
    assert "".join("".join(part.names) for part in parts) == "abcdefg"
    assert "".join("".join(part.sources) for part in parts) == "ABCDEFG"
    assert max(len(part.names) for part in parts) - min(len(part.names) for part in parts) <= 1


def test_a_shard_states_its_images():
    inputs = Inputs(names=list("abcde"), sources=list("abcde"))
    assert inputs.shard(2, 2).notes == ("shard 2 of 2: images 3 to 5 of 5",)
    assert Inputs(names=["a"], sources=["a"]).shard(1, 2).notes == ("shard 1 of 2: no images of 1",)


def test_an_unusable_input_raises_its_reason_when_read():
    error = BadImage("photos", "this folder holds no image file", "Name image files.")
    with pytest.raises(BadImage, match="holds no image file"):
        Unusable(error).read()


class Fixed:
    """A predictor with given results."""

    def __init__(self, *results):
        self.results = results

    def predict_each(self, sources, *, reject, explain):
        return iter(self.results)


def labels_of(*results, min_confidence):
    inputs = Inputs(names=["x"] * len(results), sources=["x"] * len(results))
    answers = list(answer_each(Fixed(*results), inputs, min_confidence=min_confidence))
    return [answer.labels for answer in answers], [answer.num_dropped for answer in answers]


def test_below_min_confidence_an_image_is_unsure_and_an_unknown_one_stays_unknown():
    sure, unsure = prediction([0.8, 0.1, 0.1]), prediction([0.3, 0.5, 0.2])
    unknown = prediction([0.5, 0.3, 0.2], is_unknown=True)
    assert labels_of(sure, unsure, unknown, min_confidence=0.8) == (
        [("cat",), ("unsure",), ("unknown",)],
        [0, 1, 0],
    )
    assert labels_of(sure, unsure, min_confidence=None) == ([("cat",), ("=dog",)], [0, 0])


def test_below_min_confidence_one_of_several_labels_is_left_out():
    labels = prediction([0.9, 0.6, 0.2], preds=[1, 1, 0], task="multilabel")
    assert labels_of(labels, min_confidence=0.7) == ([("cat",)], [1])
    assert labels_of(labels, min_confidence=0.95) == ([()], [2])


def test_a_class_of_the_name_unsure_is_refused():
    check_min_confidence(None, ["unsure"])
    with pytest.raises(ConfigError, match="which is a class of this bundle"):
        check_min_confidence(0.5, ["cat", "unsure"])


def test_the_summary_counts_labels_and_states_each_reason_once():
    summary = Summary()
    good = prediction([0.8, 0.1, 0.1])
    for item in [answer("a", good), answer("b", good), bad("c", "empty", "Copy it."), bad("d"), bad("e")]:
        summary.add(item)
    assert (summary.num_images, summary.num_bad, summary.num_of_label["cat"]) == (5, 3, 2)
    assert [(group.reason, group.count, group.names) for group in summary.bad] == [
        ("truncated", 2, ("d", "e")),
        ("empty", 1, ("c",)),
    ]


def test_the_summary_stays_small_however_many_images_are_bad():
    summary = Summary()
    for i in range(1000):
        summary.add(bad(f"{i}.png", f"it has {i} bytes"))
        summary.add(bad(f"{i}.jpg", "truncated"))
    assert sum(group.count for group in summary.bad) == 2000
    assert len(summary.bad) <= 21
    assert max(len(group.names) for group in summary.bad) <= 9
