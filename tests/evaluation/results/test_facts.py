import dataclasses
import json

import pytest

from recog.core.errors import BundleError
from recog.evaluation.results.facts import CrossValidation, TrainingFacts, parse_training

FOUND = CrossValidation(
    num_images=40, smallest_class=9, num_folds=5, num_repeats=3, l2=0.1, accuracy=0.8, accuracy_std=0.02, nll=0.6
)
FACTS = TrainingFacts(
    network="resnet8",
    recipe="scratch",
    num_images=40,
    num_epochs=3,
    num_planned_epochs=5,
    best_epoch=2,
    num_steps=30,
    batch_size=4,
    balance="weights",
    balance_effect="it did this",
    class_weights=(0.5, 2.0),
    cross_validation=FOUND,
)


@pytest.mark.parametrize("found", [FOUND, None])
def test_round_trip_through_json(found):
    facts = dataclasses.replace(FACTS, cross_validation=found)
    assert parse_training(json.loads(json.dumps(facts.to_dict()))) == facts


def test_a_bundle_says_nothing_of_time():
    assert FACTS.to_dict()["duration_s"] is None
    assert FACTS.to_dict()["is_resumed"] is False


def test_a_report_of_no_training_has_none():
    assert parse_training(None) is None


def test_a_damaged_section_is_refused():
    with pytest.raises(BundleError, match="report.json: training: recipe is missing"):
        parse_training({"network": "resnet8"})
    with pytest.raises(BundleError, match="report.json: training: num_images is text; expected a whole number"):
        parse_training(FACTS.to_dict() | {"num_images": "many"})
