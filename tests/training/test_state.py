import torch
from timm.utils import ModelEmaV3

from recog.models.classifier import Classifier
from recog.models.networks.resnet import resnet8
from recog.training.config import LossConfig, OptimConfig
from recog.training.losses import build_loss
from recog.training.optim import build_optimizer
from recog.training.state import TrainState, build_state


def test_what_answers_is_the_average_where_one_is_kept():
    network = resnet8(num_classes=2, in_chans=1)
    classifier = Classifier(network, mean=(0.5,), std=(0.5,))
    optimizer = build_optimizer(network, classifier.classifier, OptimConfig(lr=0.1).filled(epochs=1))
    state = TrainState(classifier=classifier, optimizer=optimizer, loss=build_loss(LossConfig()))
    assert state.answering is classifier
    state.ema = ModelEmaV3(classifier)
    assert state.answering is state.ema.module
    shared = {id(p) for p in classifier.parameters()} & {id(p) for p in state.answering.parameters()}
    assert not shared
    assert (state.epoch, state.step, state.num_steps_done, state.epoch_loss) == (0, 0, 0, 0)


def test_a_state_is_built_as_the_settings_say():
    classifier = Classifier(resnet8(num_classes=2, in_chans=1), mean=(0.5,), std=(0.5,))
    optim = OptimConfig(
        name="adamw",
        accumulation=3,
        max_grad_norm=0.5,
        ema_decay=0.99,
        freeze_layers=1,
        freeze_epochs=2,
        freeze_batch_norm=True,
    ).filled(epochs=1)
    loss = build_loss(LossConfig())
    state = build_state(classifier, optim=optim, loss=loss, precision="bfloat16")
    assert isinstance(state.optimizer, torch.optim.AdamW)
    assert (state.accumulation, state.max_grad_norm, state.freeze_epochs) == (3, 0.5, 2)
    assert (state.freeze_batch_norm, state.precision, state.loss) == (True, "bfloat16", loss)
    assert not classifier.network.conv1.weight.requires_grad
    # timm's warm-up of the decay: after n steps 1 - n^(-2/3), at most what was asked for
    assert [state.ema.get_decay(step) for step in (1, 2, 8 + 1, 10**6)] == [
        0,
        1 - 2 ** (-2 / 3),
        1 - 9 ** (-2 / 3),
        0.99,
    ]


def test_by_default_nothing_is_added():
    classifier = Classifier(resnet8(num_classes=2, in_chans=1), mean=(0.5,), std=(0.5,))
    state = build_state(
        classifier, optim=OptimConfig().filled(epochs=1), loss=build_loss(LossConfig()), precision="float32"
    )
    assert (state.ema, state.max_grad_norm, state.accumulation, state.freeze_epochs) == (None, None, 1, 0)
    assert all(parameter.requires_grad for parameter in classifier.parameters())
