from dataclasses import replace

import numpy as np
import pytest

from recog.evaluation.results.evaluate import evaluate
from recog.evaluation.results.facts import DataFacts, SetEvidence, TrainingFacts, UnknownEvidence
from recog.evaluation.trust.scaling import ScalingFit
from recog.evaluation.trust.unknown import UnknownRule
from recog.report.page.advice import MAX_STEPS, conclusions, next_steps
from recog.report.page.facts import EpochRow, History, PageFacts

NAMES = ("cat", "dog")
NO_FACTS = PageFacts()


def report_of(probs_of_dog, labels, **facts):
    probs = np.array([[1 - p, p] for p in probs_of_dog])
    return evaluate(
        np.log(probs).astype(np.float32),
        np.array(labels),
        class_names=NAMES,
        names=[f"{i}.png" for i in range(len(labels))],
        data=DataFacts(name="pets", split="test", **facts),
    )


def texts(report, facts=NO_FACTS):
    return " ".join(step.text for step in next_steps(report, facts))


def test_large_sets_and_unknown_answers_come_with_n_interval_and_reason():
    report = report_of([0.1] * 150 + [0.9] * 50, [0] * 100 + [1] * 100)
    sets = SetEvidence(
        method="lac", alpha=0.05, data="val", num_calibration_images=90, num_own_classes=0, num_refused_classes=0,
        num_images=200, num_covered=190, sizes=((1, 50), (2, 150)),
    )  # fmt: skip
    rule = UnknownRule(
        method="energy", threshold=1.0, false_alarm_rate=0.05, num_images=90, data="val", reason="as requested"
    )
    unknown = UnknownEvidence(rule=rule, num_images=200, num_rejected=30, num_errors=50, num_rejected_errors=0)
    found = conclusions(replace(report, trust=replace(report.trust, sets=sets, unknown=unknown)), NO_FACTS)
    assert found["Prediction sets"].startswith(
        "The sets contain the true class for 95.0% of 200 images (95% interval 91.0-97.3%; promised: 95.0%) and have 1.75 "
        "classes on average. They are large because 95.0% is promised and the most probable class is right for 75.0%"
    )
    assert "or a lower rate (--set calibration.alpha=0.1)," in found["Prediction sets"]
    at_the_limit = replace(report.trust, sets=replace(sets, alpha=0.1))  # no lower rate is on offer
    advice = conclusions(replace(report, trust=at_the_limit), NO_FACTS)["Prediction sets"]
    assert advice.endswith(
        "90.0% is promised and the most probable class is right for 75.0%: a better model makes them smaller."
    )
    right = report_of([0.1] * 100 + [0.9] * 100, [0] * 100 + [1] * 100)  # accuracy 100 %
    found_right = conclusions(replace(right, trust=replace(right.trust, sets=sets)), NO_FACTS)
    assert (
        "some of the images that they are fitted to have labels that the model finds" in found_right["Prediction sets"]
    )
    assert found["Unknown images"].startswith("15.0% of 200 images (95% interval 10.7-20.6%), all of known classes,")


@pytest.mark.parametrize(
    ("reason", "says"),
    [
        ("as requested", "The probabilities are the network's own; no calibration was fitted."),
        (
            "it raises the ECE",
            "The probabilities are the network's own: calibration was left out, as it raises the ECE.",
        ),
    ],
)
def test_calibration_that_was_left_out_is_not_called_absent(reason, says):
    report = report_of([0.1] * 50 + [0.9] * 50, [0] * 50 + [1] * 50)
    fit = ScalingFit(
        data="val", reason=reason, num_images=9, num_folds=0, nll_before=1.0, nll_after=1.0, ece_before=0.1, ece_after=0.1
    )  # fmt: skip
    trust = replace(report.trust, scaling=replace(report.trust.scaling, fit=fit))
    assert conclusions(replace(report, trust=trust), NO_FACTS)["Calibration"] == says


def test_labels_to_check_are_those_of_confident_errors():
    report = report_of([0.95, 0.6, 0.1, 0.1, 0.2, 0.9, 0.9, 0.9], [0, 0, 0, 0, 0, 1, 1, 1])
    assert "Check the labels of 1 image that the model gets wrong with a confidence of 90% or more" in texts(report)
    assert "2 of 5 cat are predicted as dog" in texts(report)


def test_images_of_training_come_first():
    report = report_of([0.1, 0.9], [0, 1], num_seen_in_training=1, num_seen_in_selection=0)
    assert "the numbers here are optimistic" in next_steps(report, PageFacts())[0].text


def test_a_threshold_is_advised_where_it_halves_the_errors():
    # 40 images, 4 errors of confidence 0.55; above 0.6 none of the other 36 is wrong
    report = report_of([0.55] * 4 + [0.05] * 16 + [0.99] * 20, [0] * 20 + [1] * 20)
    step = next(step for step in next_steps(report, PageFacts(run="pets-1")) if "leave images below" in step.text)
    assert "90% of the images here, with 0% errors instead of 10%" in step.text.replace(".0%", "%")
    assert step.command.startswith("recog predict pets-1 FOLDER --min-confidence 0.")


def test_the_last_step_is_to_use_it():
    steps = next_steps(report_of([0.1] * 50 + [0.9] * 50, [0] * 50 + [1] * 50), PageFacts(run="pets-1"))
    assert len(steps) <= MAX_STEPS
    assert steps[-1].command == "recog predict pets-1 photo.jpg"


@pytest.mark.parametrize(
    ("best", "sentence"),
    [
        (3, "The last epoch, 3, was the best on the validation split: more epochs may help."),
        (2, "Epoch 2 of 3 was the best on the validation split; its weights are used."),
        (0, "No epoch was better on the validation split than the weights that training began with."),
    ],
)
def test_what_the_curves_tell(best, sentence):
    epochs = tuple(EpochRow(epoch=i, train_loss=1.0, val_accuracy=0.5, val_nll=1.0) for i in (1, 2, 3))
    training = TrainingFacts(
        network="n", recipe="scratch", num_images=9, num_epochs=3, num_planned_epochs=3, best_epoch=best, num_steps=9,
        batch_size=3, balance="none",
    )  # fmt: skip
    report = replace(report_of([0.1, 0.9], [0, 1]), training=training)
    assert conclusions(report, PageFacts(history=History(epochs=epochs)))["training"] == sentence


def test_confidence_and_openings():
    report = report_of([0.3] * 10 + [0.7] * 10, [0] * 10 + [1] * 10)  # always right, with a confidence of 0.7
    found = conclusions(report, PageFacts(num_openings=3))
    # twenty of twenty: the interval begins at 20 / (20 + 1.96 ** 2) = 83.9 %
    assert found["confidence"] == "Mean confidence 70.0%, accuracy 100%: the model is underconfident."
    few = report_of([0.3, 0.7], [0, 1])  # two of two: from 2 / (2 + 1.96 ** 2) = 34.2 %, so nothing can be said
    assert (
        conclusions(few, NO_FACTS)["confidence"]
        == "Mean confidence 70.0%, accuracy 100%: too few images to tell them apart."
    )
    assert found["errors"] == "No image was answered wrongly."
    assert found["openings"].startswith("The test split was used 3 times")
