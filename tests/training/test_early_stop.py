import math

import pytest

from recog.core.errors import ConfigError
from recog.training.schedule import EarlyStopped, StopConfig, early_stop


def stops_after(values, **settings):
    """The epoch after which training of 10 epochs stops, given the measure of each; None where it goes on."""
    config = StopConfig(**settings)
    for count in range(1, len(values) + 1):
        stopped = early_stop(values[:count], config, num_epochs=10)
        if stopped is not None:
            assert stopped.epoch == count
            return stopped
    return None


def test_it_stops_when_patience_is_over():
    stopped = stops_after([0.9, 0.5, 0.6, 0.5, 0.55], patience=3, measure="val_nll")
    assert stopped == EarlyStopped(epoch=5, num_epochs=10, measure="val_nll", best=0.5, best_epoch=2)
    assert str(stopped) == "stopped after epoch 5 of 10: val_nll has not improved on 0.5 since epoch 2"


def test_a_gain_starts_the_count_anew():
    assert stops_after([0.9, 0.95, 0.8, 0.85, 0.7, 0.75], patience=2) is None
    assert stops_after([0.9, 0.95, 0.8, 0.85, 0.81], patience=2).epoch == 5


def test_of_accuracy_more_is_better():
    assert stops_after([0.1, 0.2, 0.3, 0.4], patience=1, measure="val_accuracy") is None
    assert stops_after([0.4, 0.3], patience=1, measure="val_accuracy").best == 0.4


def test_a_gain_that_is_too_small_does_not_count():
    values = [1.0, 0.99, 0.98, 0.97]
    assert stops_after(values, patience=2) is None
    assert stops_after(values, patience=2, min_gain=0.05).epoch == 3


def test_slow_gains_add_up():
    """Gains are counted from the best that counted: 1.00, then 0.94 is 0.06 better."""
    assert stops_after([1.0, 0.97, 0.94, 0.91], patience=2, min_gain=0.05) is None


def test_without_patience_it_never_stops():
    assert stops_after([0.1, 0.5, 0.6, 0.7], patience=0) is None


def test_after_the_last_epoch_nothing_is_stopped():
    assert early_stop([0.1] * 10, StopConfig(patience=1), num_epochs=10) is None


def test_before_the_first_epoch_there_is_nothing_to_tell():
    assert early_stop([], StopConfig(patience=1), num_epochs=10) is None


@pytest.mark.parametrize(("name", "values"), [("patience", [-1]), ("min_gain", [-0.1, math.nan, math.inf])])
def test_impossible_settings_are_refused(name, values):
    for value in values:
        with pytest.raises(ConfigError, match=rf"stop\.{name} is {value}; it must be"):
            StopConfig(**{name: value})
