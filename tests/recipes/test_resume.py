import os
import signal

import pytest
import torch

from recog.core.errors import TrainingStopped
from recog.models.classifier import Classifier
from recog.models.networks.resnet import resnet8
from recog.recipes.resume import CheckpointKeeper, Progress, ResumePoint, StopAsked, shared
from recog.training.checkpoint import Checkpoints
from recog.training.config import CheckpointConfig, LossConfig, OptimConfig
from recog.training.distributed import World
from recog.training.fit import EpochLog
from recog.training.losses import build_loss
from recog.training.state import build_state


def state_of(seed=0):
    torch.manual_seed(seed)
    classifier = Classifier(resnet8(num_classes=3, in_chans=1), mean=(0.5,), std=(0.25,))
    return build_state(
        classifier, optim=OptimConfig(lr=0.1).filled(epochs=1), loss=build_loss(LossConfig()), precision="float32"
    )


def store_in(folder, **settings):
    return Checkpoints(folder / "run" / "checkpoints", {}, CheckpointConfig(**settings))


def keeper_of(store, state=None):
    return CheckpointKeeper(ResumePoint(checkpoints=store, state=state), World())


def weight_of(classifier):
    return classifier.classifier.weight.detach().clone()


def test_the_better_weights_are_kept_as_they_were():
    state = state_of()
    progress = Progress.begin((0.5, -1.0), state.classifier)
    first = weight_of(state.classifier)
    with torch.no_grad():
        state.classifier.classifier.weight.add_(1)
    assert not progress.update_best((0.5, -1.0), state.classifier)  # an equal is not better
    assert torch.equal(progress.best_weights["network.fc.weight"], first)
    assert progress.update_best((0.5, -0.9), state.classifier)
    with torch.no_grad():
        state.classifier.classifier.weight.add_(1)
    assert torch.equal(progress.best_weights["network.fc.weight"], first + 1)
    assert progress.best_rank == (0.5, -0.9)


def test_what_is_kept_can_be_taken_up(tmp_path, monkeypatch):
    monkeypatch.setattr("recog.training.checkpoint.EPOCH_S", 0.0)
    state, store = state_of(), store_in(tmp_path, every_steps=2)
    progress = Progress.begin((0.25, -2.0), state.classifier)
    progress.close_epoch(0.25)
    progress.unmeasured = EpochLog(epoch=2, train_loss=1.5, num_images=8, train_s=0.5)
    state.epoch, state.step, state.num_steps_done = 2, 0, 7
    keeper_of(store).keep(state, progress)
    assert store.load_newest() is None  # 7 is no multiple of 2
    keeper_of(store).keep(state, progress, epoch_ended=True)
    other = state_of(seed=1)
    kept = ResumePoint(state=store.load_newest().state)
    found = keeper_of(store, kept.state).restore(other)
    assert torch.equal(weight_of(other.classifier), weight_of(state.classifier))
    assert (other.epoch, other.num_steps_done) == (2, 7)
    assert (found.best_rank, found.measured, found.unmeasured) == ((0.25, -2.0), [0.25], progress.unmeasured)
    assert kept.cursor == (1, 7)  # the second epoch is to be measured yet
    assert shared(World(), kept) is kept


def test_nothing_kept_begins_anew(tmp_path):
    assert keeper_of(store_in(tmp_path)).restore(state_of()) is None
    assert ResumePoint().cursor == (0, 0)


def test_a_stop_is_heeded_after_a_checkpoint(tmp_path):
    state, store = state_of(), store_in(tmp_path)
    state.step = state.num_steps_done = 3
    keeper, progress = keeper_of(store), Progress.begin((0.0, 0.0), state.classifier)
    reached = []
    with keeper.listening():
        keeper.keep(state, progress)
        assert store.load_newest() is None
        os.kill(os.getpid(), signal.SIGTERM)
        with pytest.raises(StopAsked), keeper.at_once():
            reached.append("an evaluation")
        run = tmp_path / "run"
        with pytest.raises(
            TrainingStopped, match=f"stopped by SIGTERM after step 3.*recog train --resume {run}"
        ) as caught:
            keeper.keep(state, progress)
    assert caught.value.exit_code == 143
    assert store.load_newest().step == 3
    assert reached == []


def test_without_checkpoints_nothing_is_written_and_a_stop_still_stops():
    state = state_of()
    keeper, progress = keeper_of(None), Progress.begin((0.0, 0.0), state.classifier)
    with keeper.listening():
        keeper.keep(state, progress, epoch_ended=True)
        os.kill(os.getpid(), signal.SIGINT)
        with pytest.raises(TrainingStopped) as caught:
            keeper.keep(state, progress)
    assert caught.value.exit_code == 130
