import dataclasses

import pytest

from recog.evaluation.results.facts import CrossValidation, TrainingFacts
from recog.report.sections import duration_text, training_sections

HEAD = TrainingFacts(
    network="tf_efficientnet_lite0",
    recipe="head",
    num_images=1200,
    num_epochs=0,
    num_planned_epochs=0,
    best_epoch=0,
    num_steps=0,
    batch_size=0,
    balance="auto",
)


def rows_of(facts):
    (section,) = training_sections(facts)
    return dict(section.rows), section.text


def test_no_training_no_section():
    assert training_sections(None) == []


def test_a_head_has_no_epochs():
    rows, _ = rows_of(HEAD)
    assert rows == {
        "Network": "tf_efficientnet_lite0",
        "Recipe": "head",
        "Training images": "1,200",
        "Class balancing": "none needed (auto)",
    }


def test_steps_balance_and_time():
    facts = dataclasses.replace(
        HEAD,
        recipe="finetune",
        num_epochs=6,
        num_planned_epochs=8,
        best_epoch=4,
        num_steps=1500,
        batch_size=32,
        balance="weights",
        balance_effect="balance by weights: 'cat' counts more",
        class_weights=(0.5, 0.75, 3.0),
        duration_s=185.4,
    )
    rows, text = rows_of(facts)
    assert rows["Epochs"] == "6 of 8 planned; weights of epoch 4"
    assert rows["Steps"] == "1,500 of 32 images"
    assert rows["Class balancing"] == "weights"
    assert rows["Class weights"] == "0.50 to 3.00"
    assert rows["Run time"] == "3 min 5 s to the sealed bundle"
    assert text == "Balance by weights: 'cat' counts more."
    assert rows_of(dataclasses.replace(facts, is_resumed=True))[0]["Run time"] == "3 min 5 s since the last resume"


def test_cross_validation_is_explained():
    found = CrossValidation(
        num_images=90, smallest_class=9, num_folds=5, num_repeats=3, l2=0.01, accuracy=0.85, accuracy_std=0.02, nll=0.5
    )
    rows, text = rows_of(dataclasses.replace(HEAD, cross_validation=found))
    assert rows["Cross-validation"] == "3 x 5 folds of 90 images"
    assert rows["Cross-validated accuracy"] == "85.0%, std 2.0% over repeats"
    assert text.startswith("The smallest class has 9 training and validation images")
    assert "L2 0.01 was chosen by cross-validation" in text


@pytest.mark.parametrize(("num_folds", "share"), [(2, "50%"), (4, "75%"), (5, None)])
def test_few_folds_make_the_cross_validation_pessimistic_too(num_folds, share):
    found = CrossValidation(
        num_images=HEAD.num_images,  # no validation split
        smallest_class=2,
        num_folds=num_folds,
        num_repeats=1,
        l2=0.01,
        accuracy=0.85,
        accuracy_std=0.0,
        nll=0.5,
    )
    rows, text = rows_of(dataclasses.replace(HEAD, cross_validation=found))
    assert rows["Cross-validated accuracy"] == "85.0%"  # one repeat has no deviation
    assert rows["Cross-validated NLL"] == "0.500, temperature-scaled"
    assert "by cross-validation over all training images, of which the smallest class has 2;" in text
    assert "slightly optimistic" in text
    assert ("pessimistic" in text) == (share is not None)
    assert share is None or f"as each was fitted on {share} of them" in text


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0 s"), (59.4, "59 s"), (59.6, "1 min 0 s"), (3600, "1 h 0 min"), (7620.2, "2 h 7 min")]
)
def test_durations(seconds, text):
    assert duration_text(seconds) == text
