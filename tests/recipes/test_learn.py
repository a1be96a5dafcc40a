"""Learning by steps: which epoch's weights are kept, the average in their place, an early stop, a step in parts."""

import numpy as np
import pytest
import torch
from small_plans import exhaust, planned

from recog.core.errors import ConfigError
from recog.data.augment.policies import AugmentConfig
from recog.data.store import ImageStore
from recog.evaluation.measures.task import task_of
from recog.models.classifier import Classifier
from recog.models.networks.resnet import resnet8
from recog.recipes.config import LoaderConfig, TrainConfig
from recog.recipes.events import CutShort, EpochResult, FirstBatch, StartKept, TrainingSummary, ValScores, warnings_of
from recog.recipes.labelled_images import LabelledImages
from recog.recipes.learn import describe_attack_overfit, learn_network
from recog.recipes.resume import CheckpointKeeper, ResumePoint
from recog.training.config import AdversarialConfig, LossConfig, OptimConfig
from recog.training.distributed import World
from recog.training.fit import EpochLog, StepLog, collect_logits
from recog.training.losses import build_loss
from recog.training.optim import OPTIMIZERS
from recog.training.schedule import EarlyStopped, ScheduleConfig, StopConfig
from recog.training.state import build_state


def split_of(count, seed):
    """Images of three levels of grey, so that a class is a brightness."""
    generator = np.random.default_rng(seed)
    labels = np.arange(count) % 3
    levels = generator.integers(0, 60, (count, 8, 8, 1)) + 90 * labels[:, None, None, None]
    return LabelledImages(store=ImageStore(list(levels.astype(np.uint8))), targets=labels, groups=np.arange(count))


def events_of(classifier, **optim):
    tables = {key: optim.pop(key) for key in ("stop", "loss", "schedule", "recipe") if key in optim}
    config = TrainConfig(
        augment=AugmentConfig(policy="none"),
        loader=LoaderConfig(batch_size=12),
        optim=OptimConfig(**{"epochs": 3, "lr": 0.05, "momentum": 0.9, "weight_decay": 5e-4} | optim),
        **tables,
    )
    return learn_network(classifier, split_of(48, 1), split_of(30, 2), planned(config), image_size=(8, 8))


def new_classifier():
    torch.manual_seed(0)
    return Classifier(resnet8(num_classes=3, in_chans=1), mean=(0.5,), std=(0.25,))


def learn(**optim):
    """The events, the accuracy on the validation split of the weights that are left, and the summary."""
    classifier, val = new_classifier(), split_of(30, 2)
    events, summary = exhaust(events_of(classifier, **optim))
    logits = collect_logits(classifier, val.store.rows(), precision="float32").logits
    return events, task_of(val.targets).accuracy(logits, val.targets), summary


def epochs_of(events):
    return [event for event in events if isinstance(event, EpochResult)]


def test_the_best_epoch_is_what_is_left():
    events, found, summary = learn()
    results = epochs_of(events)
    assert [type(event) for event in events] == [FirstBatch, *([StepLog] * 4 + [EpochResult]) * 3]
    kept = max(result.log.epoch for result in results if result.is_best)
    assert summary == TrainingSummary(num_epochs=3, best_epoch=kept, num_steps=12)
    assert found == max(result.val_accuracy for result in results)
    assert [result.is_best for result in results].count(True) >= 1


def test_the_first_steps_have_smaller_images_of_a_size_that_the_network_takes():
    """Three epochs of four steps: half of the steps begin with 5 of 8 px; at 2 px a network with a 3 px valid filter cannot."""
    events, _, summary = learn(schedule=ScheduleConfig(small_fraction=0.5))
    assert summary.num_steps == 12
    assert next(event.images.shape for event in events if isinstance(event, FirstBatch)) == (12, 5, 5, 1)
    schedule = ScheduleConfig(small_fraction=0.5, small_scale=0.25)
    classifier = new_classifier()
    classifier.network.stem = torch.nn.Conv2d(1, 1, 3)
    forward = classifier.network.forward_features
    classifier.network.forward_features = lambda images: forward(classifier.network.stem(images))
    with pytest.raises(ConfigError, match=r"begins with images of 2 x 2 px, which this network does not take"):
        next(events_of(classifier, schedule=schedule))


def test_training_stops_early_on_the_named_measure():
    stop = StopConfig(patience=2, measure="val_accuracy")
    events, _, summary = learn(epochs=9, lr=1e-9, stop=stop, recipe="finetune")
    last, kept = events[-2:]
    assert isinstance(last, EarlyStopped)
    assert kept == StartKept(num_epochs=3, score=kept.score, nll=kept.nll)  # by a rate of 1e-9 nothing is learnt
    assert kept.score == max(result.val_accuracy for result in epochs_of(events))
    assert (summary.num_epochs, summary.num_steps) == (3, 12)
    assert (last.epoch, last.num_epochs, last.best_epoch, last.measure) == (3, 9, 1, "val_accuracy")
    assert len(epochs_of(events)) == 3


def test_random_weights_are_not_kept_however_they_compare():
    """By a rate of 1e-9 nothing is learnt, and the first epoch equals the start."""
    events, _, summary = learn(epochs=2, lr=1e-9, recipe="scratch")
    assert not any(isinstance(event, StartKept) for event in events)
    assert summary.best_epoch in (1, 2)
    assert epochs_of(events)[0].is_best


def test_the_average_is_evaluated_and_kept():
    """One epoch of 4 steps; the average by hand from the weights after each, with timm's decay 1 - n^(-2/3) after n."""
    classifier = new_classifier()
    average, result = None, None
    for event in events_of(classifier, epochs=1, ema_decay=0.9):
        if isinstance(event, StepLog):
            weight = classifier.network.fc.weight.detach().clone()
            decay = 0 if average is None else 1 - event.step ** (-2 / 3)
            average = weight if average is None else decay * average + (1 - decay) * weight
        elif isinstance(event, EpochResult):
            result = event
    assert result.is_best
    torch.testing.assert_close(classifier.network.fc.weight.detach(), average)
    assert not torch.allclose(average, weight)
    val = split_of(30, 2)
    logits = collect_logits(classifier, val.store.rows(), precision="float32").logits
    assert task_of(val.targets).accuracy(logits, val.targets) == result.val_accuracy


def test_a_step_may_be_made_of_several_batches():
    events, _, _ = learn(epochs=1, accumulation=2)
    steps = [event for event in events if isinstance(event, StepLog)]
    assert [step.num_images for step in steps] == [24, 24]


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimiser_tells_the_levels_apart(name):
    rates = {"sgd": 0.05, "muon": 0.01}
    _, found, _ = learn(name=name, lr=rates.get(name, 0.005), epochs=6, momentum=None, weight_decay=None)
    assert found > 0.9


@pytest.mark.parametrize("name", ["cross-entropy", "focal", "bce", "mse"])
def test_every_loss_tells_the_levels_apart(name):
    _, found, _ = learn(epochs=6, loss=LossConfig(name=name))
    assert found > 0.9


def test_the_schedule_is_the_one_that_is_named():
    events, _, _ = learn(epochs=1, schedule=ScheduleConfig(name="linear", warmup_fraction=0.0))
    assert [event.lr for event in events if isinstance(event, StepLog)] == pytest.approx([0.05, 0.0375, 0.025, 0.0125])


def test_the_plan_may_end_training_within_an_epoch_which_is_measured_too():
    """Of three epochs of four steps, the second is cut after two."""
    events, _, summary = learn(stop=StopConfig(max_steps=6))
    assert [event.step for event in events if isinstance(event, StepLog)] == [1, 2, 3, 4, 5, 6]
    assert [result.log.epoch for result in epochs_of(events)] == [1, 2]
    assert CutShort(step=6, num_steps=12) in events
    assert (summary.num_steps, summary.num_epochs, summary.cut_at_step) == (6, 2, 6)


def test_the_last_step_of_the_plan_is_no_cut():
    events, _, summary = learn(stop=StopConfig(max_steps=12))
    assert summary.cut_at_step is None
    assert not any(isinstance(event, CutShort) for event in events)


def test_what_the_clock_cuts_the_step_that_it_records_repeats():
    """A deadline that is past ends training after its first step; the recorded plan gives the same weights."""

    def weights(deadline, max_steps):
        config = TrainConfig(
            augment=AugmentConfig(policy="none"),
            loader=LoaderConfig(batch_size=12),
            optim=OptimConfig(epochs=3, lr=0.05, momentum=0.9, weight_decay=5e-4),
            stop=StopConfig(max_steps=max_steps),
        )
        classifier = new_classifier()
        keeper = CheckpointKeeper(ResumePoint(), World(), deadline=deadline)
        events = learn_network(
            classifier, split_of(48, 1), split_of(30, 2), planned(config), image_size=(8, 8), keeper=keeper
        )
        return exhaust(events), classifier.state_dict()

    (events, summary), by_clock = weights(0.0, None)
    assert [event for event in events if isinstance(event, CutShort)] == [CutShort(step=1, num_steps=12)]
    (_, again), by_plan = weights(float("inf"), summary.cut_at_step)
    assert again == summary
    assert all(torch.equal(value, by_plan[name]) for name, value in by_clock.items())


@pytest.mark.parametrize(
    ("num_steps_done", "train_loss", "num_right", "is_warned"),
    [
        (20, 0.4, 1, True),  # 1 of 20 right, less than the 2 that chance gives of ten classes
        (20, 0.4, 10, False),
        (20, 2.2, 1, False),  # near log 10 = 2.303: nothing was learnt at all
        (10, 0.4, 1, False),  # within the first 15 of 100 steps, whose attacks are weaker than those on val
    ],
)
def test_learning_against_the_attack_of_training_alone_is_a_warning(num_steps_done, train_loss, num_right, is_warned):
    state = build_state(
        Classifier(resnet8(num_classes=10, in_chans=1), mean=(0.5,), std=(0.2,)),
        optim=OptimConfig(name="sgd", lr=0.1).filled(epochs=1),
        loss=build_loss(LossConfig()),
        precision="float32",
        adversarial=AdversarialConfig(eps=0.1, method="fgsm-rs"),
        num_steps=100,
    )
    state.num_steps_done = num_steps_done
    right = num_right / 20
    scores = ValScores(accuracy=right, nll=3.0, selection=right, confusion=np.zeros((10, 10), np.int64))
    log = EpochLog(epoch=2, train_loss=train_loss, num_images=20, train_s=1.0)
    notes = describe_attack_overfit(state, log, scores)
    assert len(notes) == is_warned
    if is_warned:
        assert notes[0].startswith("warning: epoch 2: val accuracy under ten steps of PGD is 5.0%, though the loss")
        event = EpochResult.of(log, scores, is_best=False, notes=notes)
        assert warnings_of(event) == notes
    state.adversarial = None
    assert describe_attack_overfit(state, log, scores) == ()
