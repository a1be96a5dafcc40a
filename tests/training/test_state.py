from timm.utils import ModelEmaV3

from recog.models.classifier import Classifier
from recog.models.resnet import resnet8
from recog.training.losses import LossConfig, build_loss
from recog.training.optim import OptimConfig, build_optimizer
from recog.training.state import TrainState


def test_what_answers_is_the_average_where_one_is_kept():
    network = resnet8(num_classes=2, in_chans=1)
    classifier = Classifier(network, mean=(0.5,), std=(0.5,))
    optimizer = build_optimizer(network, classifier.classifier, OptimConfig(lr=0.1))
    state = TrainState(classifier=classifier, optimizer=optimizer, loss=build_loss(LossConfig()))
    assert state.answering is classifier
    state.ema = ModelEmaV3(classifier)
    assert state.answering is state.ema.module
    shared = {id(p) for p in classifier.parameters()} & {id(p) for p in state.answering.parameters()}
    assert not shared
    assert (state.epoch, state.step, state.num_steps_done, state.epoch_loss) == (0, 0, 0, 0)
