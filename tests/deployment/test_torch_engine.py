import numpy as np
import torch

from recog.bundle.reference import read_reference
from recog.deployment.onnx import TorchEngine
from recog.deployment.parity import check_parity, compare_engines
from recog.models.classifier import Classifier
from recog.models.network_files import load_classifier
from recog.models.networks.resnet import resnet8
from recog.runtime.predictor import load


def random_images(num_images):
    return np.random.default_rng(0).integers(0, 256, (num_images, 8, 8, 1), dtype=np.uint8)


def small_classifier():
    torch.manual_seed(0)
    return Classifier(resnet8(num_classes=4, in_chans=1), mean=(0.5,), std=(0.5,))


def test_it_runs_the_classifier_in_evaluation_mode():
    classifier = small_classifier().eval()
    images = random_images(70)  # more than one batch
    with torch.no_grad():
        logits, features = classifier(torch.from_numpy(images))
    classifier.train()
    outputs = TorchEngine(classifier)(images)
    np.testing.assert_allclose(outputs.logits, logits.numpy(), atol=1e-5)
    np.testing.assert_allclose(outputs.features, features.numpy(), atol=1e-5)
    assert outputs.logits.dtype == outputs.features.dtype == np.float32


def test_it_leaves_the_classifier_as_it_was():
    classifier = small_classifier().train()
    before = {key: value.clone() for key, value in classifier.state_dict().items()}
    TorchEngine(classifier)(random_images(3))
    assert all(module.training for module in classifier.modules())
    assert all(torch.equal(before[key], value) for key, value in classifier.state_dict().items())


def test_weights_and_graph_of_a_bundle_answer_alike(bundle):
    """Two independent ways: torch on config.json and model.safetensors, ONNX Runtime on model.onnx; from image files."""
    predictor = load(bundle)
    images = np.stack([predictor.preprocess.read(file) for file in read_reference(bundle).images])
    ours = predictor.calibration.apply(TorchEngine(load_classifier(bundle))(images).logits)
    theirs = np.stack([p.probs for p in predictor.predict(list(read_reference(bundle).images))])
    parity = compare_engines(ours, theirs)
    check_parity(parity)
    assert parity.num_images == 16
