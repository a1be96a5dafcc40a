import copy
import math

import numpy as np
import pytest
import torch
from timm.utils import ModelEmaV3
from torch import nn

from recog.core.errors import TrainingError
from recog.data.augment.batch import AugmentConfig
from recog.data.loader import TrainLoader
from recog.data.store import ImageStore
from recog.models.classifier import Classifier
from recog.models.networks.resnet import resnet8
from recog.training.config import LossConfig, OptimConfig
from recog.training.fit import EpochLog, StepLog, collect_logits, eval_mode, fit, train_step
from recog.training.losses import build_loss
from recog.training.optim import build_optimizer
from recog.training.state import TrainState, build_state

NUM_CLASSES = 3
MEAN, STD = 0.5, 0.25


class Flat(nn.Module):
    """One linear layer on the pixels, with timm's method names: its gradients can be worked out by hand."""

    def __init__(self, num_pixels):
        super().__init__()
        self.fc = nn.Linear(num_pixels, NUM_CLASSES)

    def forward_features(self, images):
        return images

    def forward_head(self, features, pre_logits=False):
        flat = features.flatten(1)
        return flat if pre_logits else self.fc(flat)

    def get_classifier(self):
        return self.fc


def random_images(num_images, side=8):
    return np.random.default_rng(0).integers(0, 256, (num_images, side, side, 1), dtype=np.uint8)


def state_of(network, *, lr=0.1, precision="float32", label_smoothing=0.0, **settings):
    classifier = Classifier(network, mean=(MEAN,), std=(STD,))
    optimizer = build_optimizer(network, classifier.classifier, OptimConfig(lr=lr, **settings).filled(epochs=1))
    loss = build_loss(LossConfig(label_smoothing=label_smoothing))
    return TrainState(classifier=classifier, optimizer=optimizer, loss=loss, precision=precision)


def resnet_state(**settings):
    torch.manual_seed(0)
    return state_of(resnet8(num_classes=NUM_CLASSES, in_chans=1), **settings)


def loader_of(num_images=17, batch_size=4):
    images = random_images(num_images)
    return TrainLoader(
        store=ImageStore(list(images)),
        targets=np.arange(num_images) % NUM_CLASSES,
        augment=AugmentConfig(policy="standard", geometry="warp", mirror=True),
        image_size=(8, 8),
        batch_size=batch_size,
        seed=0,
    )


def weights_of(state):
    return {key: value.clone() for key, value in state.classifier.state_dict().items()}


def assert_equal_weights(first, second):
    assert first.keys() == second.keys()
    for key in first:
        assert torch.equal(first[key], second[key]), key


# one step


SMOOTHING, DECAY, MOMENTUM = 0.1, 0.05, 0.8


def step_by_hand(weight, bias, buffers, pixels, labels, *, lr):
    """Softmax regression and SGD with Nesterov momentum in NumPy: -> loss, weight, bias (Sutskever et al., 2013, as in torch)."""
    logits = pixels @ weight.T + bias
    probs = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    targets = (1 - SMOOTHING) * np.eye(NUM_CLASSES)[labels] + SMOOTHING / NUM_CLASSES
    loss = -(targets * np.log(probs)).sum(axis=1).mean()
    d_logits = (probs - targets) / len(labels)
    gradients = {"weight": d_logits.T @ pixels + DECAY * weight, "bias": d_logits.sum(axis=0)}
    steps = {}
    for name, gradient in gradients.items():
        buffers[name] = gradient if name not in buffers else MOMENTUM * buffers[name] + gradient
        steps[name] = gradient + MOMENTUM * buffers[name]
    return loss, weight - lr * steps["weight"], bias - lr * steps["bias"]


def test_two_steps_equal_those_worked_out_by_hand():
    torch.manual_seed(0)
    settings = {"momentum": MOMENTUM, "weight_decay": DECAY, "head_lr_factor": 2.0}
    state = state_of(Flat(64), label_smoothing=SMOOTHING, **settings)
    layer = state.classifier.classifier
    weight, bias = (parameter.detach().numpy().astype(np.float64) for parameter in (layer.weight, layer.bias))
    images, labels = random_images(6), np.array([0, 1, 2, 2, 1, 0])
    pixels = (images.reshape(6, 64) / 255 - MEAN) / STD
    buffers = {}
    for number, lr in enumerate((0.02, 0.01), start=1):
        log = train_step(state, torch.from_numpy(images), torch.from_numpy(labels), lr=lr)
        loss, weight, bias = step_by_hand(weight, bias, buffers, pixels, labels, lr=2 * lr)  # the head's factor
        assert log.loss == pytest.approx(loss, rel=1e-5)
        assert (log.step, log.lr, log.num_images, log.epoch) == (number, lr, 6, 1)
        np.testing.assert_allclose(layer.weight.detach().numpy(), weight, rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(layer.bias.detach().numpy(), bias, rtol=1e-4, atol=1e-6)
    assert (state.num_steps_done, state.step, state.epoch) == (2, 2, 0)


def test_loss_and_weights_stay_float32_in_bfloat16():
    state = resnet_state(precision="bfloat16")
    reference = resnet_state()
    images, labels = torch.from_numpy(random_images(8)), torch.arange(8) % NUM_CLASSES
    log, exact = (train_step(s, images, labels, lr=0.01) for s in (state, reference))
    assert log.loss == pytest.approx(exact.loss, rel=0.02)  # 8 bits of mantissa
    assert log.loss != exact.loss  # it was really used
    assert all(p.dtype == torch.float32 for p in state.classifier.parameters())


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_loss_that_is_not_finite_stops_before_the_step(bad):
    state = state_of(Flat(64))
    images, labels = torch.from_numpy(random_images(4)), torch.tensor([0, 1, 2, 0])
    train_step(state, images, labels, lr=0.1)
    with torch.no_grad():
        state.classifier.classifier.bias[1] = bad
    weights, optimizer = weights_of(state), copy.deepcopy(state.optimizer.state_dict()["state"])
    with pytest.raises(
        TrainingError, match=r"the loss is nan at epoch 1, step 2 \(learning rate 0\.1\).*optim\.lr=0\.01"
    ):
        train_step(state, images, labels, lr=0.1)
    assert all(torch.equal(a.isnan(), b.isnan()) for a, b in zip(weights.values(), weights_of(state).values()))  # noqa: B905
    finite = weights_of(state)
    assert all(torch.equal(weights[k].nan_to_num(), finite[k].nan_to_num()) for k in weights)
    after = state.optimizer.state_dict()["state"]
    assert all(torch.equal(optimizer[i]["momentum_buffer"], after[i]["momentum_buffer"]) for i in optimizer)
    assert (state.num_steps_done, state.step) == (1, 1)


def test_fit_passes_the_error_on():
    state = resnet_state()
    with torch.no_grad():
        state.classifier.classifier.weight.fill_(float("nan"))
    with pytest.raises(TrainingError, match="the loss is nan"):
        list(fit(state, loader_of(), lambda _: 0.1, epochs=1))


def test_a_frozen_norm_keeps_its_running_statistics():
    images, labels = torch.from_numpy(random_images(8)), torch.arange(8) % NUM_CLASSES
    for frozen in (True, False):
        state = resnet_state()
        state.freeze_batch_norm = frozen
        before = weights_of(state)
        train_step(state, images, labels, lr=0.1)
        after = weights_of(state)
        assert torch.equal(before["network.bn1.running_mean"], after["network.bn1.running_mean"]) == frozen
        assert not torch.equal(before["network.conv1.weight"], after["network.conv1.weight"])


@pytest.mark.parametrize("weights", [None, torch.tensor([3.0, 1.0, 0.5])], ids=["plain", "weighted"])
def test_a_batch_in_parts_is_the_batch(weights):
    """Without BatchNorm, 7 images in parts of 3, 3 and 1 give the loss and the step of all 7 at once."""
    images, labels = torch.from_numpy(random_images(7)), torch.tensor([0, 1, 2, 0, 0, 1, 2])
    states = []
    for accumulation in (1, 3):
        torch.manual_seed(0)
        state = state_of(Flat(64), label_smoothing=0.1)
        state.loss = build_loss(LossConfig(), class_weights=weights)
        state.accumulation = accumulation
        states.append((state, [train_step(state, images, labels, lr=0.05).loss for _ in range(3)]))
    (whole, losses), (parts, parts_losses) = states
    assert parts_losses == pytest.approx(losses, rel=1e-5)
    for name, tensor in weights_of(whole).items():
        torch.testing.assert_close(weights_of(parts)[name], tensor, rtol=1e-4, atol=1e-5)
    assert parts.num_steps_done == 3


def test_clipping_shortens_a_long_gradient_and_leaves_a_short_one():
    images, labels = torch.from_numpy(random_images(6)), torch.tensor([0, 1, 2, 2, 1, 0])
    torch.manual_seed(0)
    free = state_of(Flat(64), momentum=0.0, weight_decay=0.0)
    clipped, loose = copy.deepcopy(free), copy.deepcopy(free)
    before = weights_of(free)
    clipped.max_grad_norm, loose.max_grad_norm = 0.01, 1e6
    logs = [train_step(state, images, labels, lr=1.0) for state in (free, clipped, loose)]
    moved = [
        math.sqrt(sum(float((after[k] - before[k]).square().sum()) for k in before))
        for after in map(weights_of, (free, clipped, loose))
    ]
    norms = [log.grad_norm for log in logs]  # before clipping, and the step is the gradient at lr 1
    assert norms[0] == norms[1] == norms[2] == pytest.approx(moved[0], rel=1e-4)
    assert moved[1] == pytest.approx(0.01, rel=1e-3)
    assert moved[2] == pytest.approx(moved[0], rel=1e-6)


def test_the_average_follows_the_weights():
    """0.5 of the old average and 0.5 of the weights after each step, from the first weights on."""
    state = resnet_state()
    state.ema = ModelEmaV3(state.classifier, decay=0.5)
    images, labels = torch.from_numpy(random_images(8)), torch.arange(8) % NUM_CLASSES
    snapshots = []
    for _ in range(3):
        train_step(state, images, labels, lr=0.1)
        snapshots.append(state.classifier.network.fc.weight.detach().clone())
    # timm's first step copies the weights, so the average begins with them
    expected = 0.25 * snapshots[0] + 0.25 * snapshots[1] + 0.5 * snapshots[2]
    torch.testing.assert_close(state.answering.network.fc.weight, expected)
    assert not state.answering.training


def test_frozen_layers_do_not_change_nor_their_statistics():
    torch.manual_seed(0)
    classifier = Classifier(resnet8(num_classes=NUM_CLASSES, in_chans=1), mean=(MEAN,), std=(STD,))
    optim = OptimConfig(lr=0.1, freeze_layers=2).filled(epochs=1)
    state = build_state(classifier, optim=optim, loss=build_loss(LossConfig()), precision="float32")
    before = weights_of(state)
    train_step(state, torch.from_numpy(random_images(8)), torch.arange(8) % NUM_CLASSES, lr=0.1)
    after = weights_of(state)
    same = {key for key in before if torch.equal(before[key], after[key])}
    assert same == {key for key in before if key.startswith(("network.conv1", "network.bn1", "network.blocks.0."))}


def test_only_the_head_learns_in_the_first_epochs():
    torch.manual_seed(0)
    classifier = Classifier(resnet8(num_classes=NUM_CLASSES, in_chans=1), mean=(MEAN,), std=(STD,))
    optim = OptimConfig(lr=0.1, freeze_epochs=1).filled(epochs=1)
    state = build_state(classifier, optim=optim, loss=build_loss(LossConfig()), precision="float32")
    before = weights_of(state)
    list(fit(state, loader_of(), lambda _: 0.1, epochs=1))
    middle = weights_of(state)
    changed = {key for key in before if not torch.equal(before[key], middle[key])}
    assert changed == {"network.fc.weight", "network.fc.bias"}
    resumed = copy.deepcopy(state)
    for each in (state, resumed):  # what is frozen follows from the epoch, so that a resumed run does alike
        list(fit(each, loader_of(), lambda _: 0.1, epochs=2))
    assert not torch.equal(weights_of(state)["network.conv1.weight"], middle["network.conv1.weight"])
    assert_equal_weights(weights_of(state), weights_of(resumed))


# the loop


def test_it_yields_every_step_and_every_epoch():
    state = resnet_state()
    rates = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8]
    logs = list(fit(state, loader_of(), rates.__getitem__, epochs=2))
    steps = [log for log in logs if isinstance(log, StepLog)]
    assert [type(log).__name__ for log in logs] == (["StepLog"] * 4 + ["EpochLog"]) * 2  # 17 // 4 steps
    assert [log.lr for log in steps] == rates
    assert [log.step for log in steps] == [1, 2, 3, 4, 5, 6, 7, 8]
    assert [log.epoch for log in logs] == [1] * 5 + [2] * 5
    assert logs[4].num_images == 16
    assert logs[4].train_loss == pytest.approx(sum(log.loss for log in logs[:4]) / 4)
    assert logs[9].train_loss == pytest.approx(sum(log.loss for log in logs[5:9]) / 4)
    assert (state.epoch, state.step, state.num_steps_done) == (2, 0, 8)


def test_it_learns():
    """A class per brightness: a network that sees 48 such images for 8 epochs tells them apart."""
    labels = np.arange(48) % NUM_CLASSES
    noise = np.random.default_rng(0).integers(0, 60, (48, 8, 8, 1))
    images = (labels[:, None, None, None] * 90 + noise).astype(np.uint8)
    store = ImageStore(list(images))
    loader = TrainLoader(
        store=store, targets=labels, augment=AugmentConfig(policy="none"), image_size=(8, 8), batch_size=16, seed=0
    )
    state = resnet_state()
    list(fit(state, loader, lambda _: 0.05, epochs=8))
    preds = collect_logits(state.classifier, images, precision="float32").logits.argmax(axis=1)
    assert (preds == labels).all()


@pytest.mark.parametrize("stop_after", range(1, 9))
def test_training_resumes_from_every_step(stop_after):
    """2 epochs of 4 steps: stopped after any of them, a fresh generator ends with the same weights and the same mean loss."""
    straight = resnet_state()
    expected = list(fit(straight, loader_of(), lambda step: 0.01 * (step + 1), epochs=2))
    state = resnet_state()
    logs = []
    for log in fit(state, loader_of(), lambda step: 0.01 * (step + 1), epochs=2):
        logs.append(log)
        if state.num_steps_done == stop_after:
            break
    resumed = copy.deepcopy(state)
    logs += fit(resumed, loader_of(), lambda step: 0.01 * (step + 1), epochs=2)
    assert_equal_weights(weights_of(resumed), weights_of(straight))
    assert [log.loss for log in logs if isinstance(log, StepLog)] == [
        log.loss for log in expected if isinstance(log, StepLog)
    ]
    assert [log.train_loss for log in logs if isinstance(log, EpochLog)] == [
        log.train_loss for log in expected if isinstance(log, EpochLog)
    ]


def test_two_epochs_are_one_and_one():
    straight, state = resnet_state(), resnet_state()
    list(fit(straight, loader_of(), lambda _: 0.05, epochs=2))
    list(fit(state, loader_of(), lambda _: 0.05, epochs=1))
    list(fit(state, loader_of(), lambda _: 0.05, epochs=2))
    assert_equal_weights(weights_of(state), weights_of(straight))
    assert list(fit(state, loader_of(), lambda _: 0.05, epochs=2)) == []  # nothing is left to do


def test_an_epoch_without_a_step_is_an_error():
    class NoBatches:
        def batches(self, epoch, first_step=0):
            return iter(())

    with pytest.raises(TrainingError, match="epoch 1 has no steps"):
        list(fit(resnet_state(), NoBatches(), lambda _: 0.1, epochs=1))


# evaluation


def test_eval_mode_gives_every_module_its_own_mode_back():
    network = nn.Sequential(nn.Dropout(), nn.Sequential(nn.BatchNorm1d(2), nn.Dropout()))
    network.train()
    network[1][0].eval()  # a frozen norm within a network that trains
    before = [module.training for module in network.modules()]
    with eval_mode(network):
        assert not any(module.training for module in network.modules())
    assert [module.training for module in network.modules()] == before == [True, True, True, False, True]


def test_eval_mode_gives_the_modes_back_when_the_block_raises():
    network = nn.Sequential(nn.Dropout(), nn.BatchNorm1d(2).eval())
    with pytest.raises(RuntimeError, match="within"), eval_mode(network):
        raise RuntimeError("within")
    assert [module.training for module in network.modules()] == [True, True, False]


@pytest.mark.parametrize("batch_size", [1, 7, 64])
def test_logits_do_not_depend_on_the_batch_size(batch_size):
    classifier = resnet_state().classifier
    images = random_images(23)
    with eval_mode(classifier), torch.no_grad():
        logits, features = classifier(torch.from_numpy(images))
    found = collect_logits(classifier, images, precision="float32", batch_size=batch_size)
    np.testing.assert_allclose(found.logits, logits.numpy(), atol=1e-5)
    np.testing.assert_allclose(found.features, features.numpy(), atol=1e-5)
    assert found.logits.shape == (23, NUM_CLASSES)
    assert found.features.shape == (23, 64)


def test_collecting_logits_changes_nothing():
    state = resnet_state()
    state.classifier.train()
    before = weights_of(state)
    collect_logits(state.classifier, random_images(5), precision="float32")
    assert all(module.training for module in state.classifier.modules())
    assert_equal_weights(weights_of(state), before)  # the norms' running statistics too
    assert all(parameter.grad is None for parameter in state.classifier.parameters())


def test_collected_logits_are_float32_whatever_the_precision():
    found = collect_logits(resnet_state().classifier, random_images(5), precision="bfloat16")
    assert found.logits.dtype == found.features.dtype == np.float32
    assert math.isfinite(found.logits.sum())
