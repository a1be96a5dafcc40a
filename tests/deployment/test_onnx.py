import json
import logging

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from recog.core.errors import TrainingError
from recog.deployment import onnx as export
from recog.deployment.onnx import add_metadata, export_onnx, open_exported, with_present_head
from recog.models.build import build_model
from recog.models.classifier import Classifier
from recog.models.config import ModelConfig
from recog.models.inner_layers import with_layers
from recog.models.networks.resnet import resnet8
from recog.runtime.engines.onnxruntime_engine import OnnxEngine

CLASSES = ["cat", "Löwe", "犬 🐕", 'with "quotes", a comma and \\', "<b>&amp;", "1"]
IMAGE_SIZE = (12, 8)  # not square


def small_classifier():
    torch.manual_seed(0)
    network = resnet8(num_classes=len(CLASSES), in_chans=3)
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):  # statistics other than 0 and 1, so that they matter
            torch.nn.init.uniform_(module.running_mean, -0.1, 0.1)
            torch.nn.init.uniform_(module.running_var, 0.5, 1.5)
    return Classifier(network, mean=(0.4, 0.5, 0.6), std=(0.2, 0.25, 0.3))


@pytest.fixture(scope="module")
def classifier():
    return small_classifier()


@pytest.fixture(scope="module")
def path(classifier, tmp_path_factory):
    path = tmp_path_factory.mktemp("onnx") / "model.onnx"
    export_onnx(classifier, path, image_size=IMAGE_SIZE, channels=3, class_names=CLASSES)
    return path


def random_images(num_images, height, width, channels=3):
    return np.random.default_rng(0).integers(0, 256, (num_images, height, width, channels), dtype=np.uint8)


def outputs_of_torch(classifier, images):
    with torch.no_grad():
        logits, features = classifier.eval()(torch.from_numpy(images))
    return logits.numpy(), features.numpy()


def outputs_of_onnx(path, images):
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return session.run(["logits", "features"], {"images": images})


@pytest.mark.parametrize("batch_size", [1, 3, 7])
def test_any_batch_size_gives_what_torch_gives(path, classifier, batch_size):
    images = random_images(batch_size, *IMAGE_SIZE)
    for ours, theirs in zip(outputs_of_onnx(path, images), outputs_of_torch(classifier, images), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)


def test_the_graph_takes_uint8_and_gives_logits_and_features(path):
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    (images,) = session.get_inputs()
    assert (images.name, images.type, images.shape[1:]) == ("images", "tensor(uint8)", [12, 8, 3])
    assert not isinstance(images.shape[0], int)  # dynamic
    outputs = {value.name: (value.type, value.shape[1:]) for value in session.get_outputs()}
    assert outputs == {"logits": ("tensor(float)", [6]), "features": ("tensor(float)", [64])}


def test_the_file_is_self_contained_and_valid(path):
    assert [entry.name for entry in path.parent.iterdir()] == ["model.onnx"]  # no .data beside it
    model = onnx.load(path, load_external_data=False)
    onnx.checker.check_model(model, full_check=True)
    assert all(tensor.data_location != onnx.TensorProto.EXTERNAL for tensor in model.graph.initializer)


def test_old_releases_of_onnx_runtime_read_the_file(path):
    """IR version 9 and opset 20: both since ONNX 1.15, which ONNX Runtime 1.17 reads (onnxruntime.ai, "Compatibility")."""
    model = onnx.load(path)
    assert (model.ir_version, [(opset.domain, opset.version) for opset in model.opset_import]) == (9, [("", 20)])
    graph = model.graph
    parts = [graph, *graph.node, *graph.input, *graph.output, *graph.value_info, *graph.initializer]
    assert not any(part.metadata_props for part in parts)  # a field of IR version 10


def test_the_file_is_quantised_by_onnx_runtimes_own_tool(path, tmp_path):
    """The quantiser of ONNX Runtime 1.22 transposes weights and fails on a second statement of their shapes."""
    from onnxruntime.quantization import quantize_dynamic

    graph = onnx.load(path).graph
    assert not {value.name for value in graph.value_info} & {tensor.name for tensor in graph.initializer}
    quantize_dynamic(path, tmp_path / "small.onnx")
    images = random_images(3, *IMAGE_SIZE)
    exact, small = outputs_of_onnx(path, images)[0], outputs_of_onnx(tmp_path / "small.onnx", images)[0]
    np.testing.assert_allclose(
        small, exact, atol=0.05 * np.abs(exact).max()
    )  # 8 bits are 1 part in 255, over 10 layers


def test_class_names_stand_in_the_metadata(path):
    metadata = {entry.key: entry.value for entry in onnx.load(path).metadata_props}
    assert json.loads(metadata["class_names"]) == CLASSES
    assert OnnxEngine(path).class_names == tuple(CLASSES)


def test_no_path_of_this_machine_is_in_the_file(path):
    """The exporter notes where each node was made, unless it is told not to."""
    import recog

    data = path.read_bytes()
    assert recog.__file__.rpartition("/")[0].encode() not in data
    assert str(path.parent).encode() not in data


def test_exporting_changes_neither_weights_nor_modes(tmp_path, capsys, recwarn):
    classifier = small_classifier().train()
    classifier.network.bn1.eval()
    modes = [module.training for module in classifier.modules()]
    before = {key: value.clone() for key, value in classifier.state_dict().items()}
    level = logging.getLogger("torch.onnx").level
    export_onnx(classifier, tmp_path / "model.onnx", image_size=IMAGE_SIZE, channels=3, class_names=CLASSES)
    assert [module.training for module in classifier.modules()] == modes
    assert all(torch.equal(before[key], value) for key, value in classifier.state_dict().items())
    assert all(parameter.requires_grad for parameter in classifier.parameters())
    assert logging.getLogger("torch.onnx").level == level
    assert capsys.readouterr() == ("", "")
    assert not recwarn.list
    # norms use their running statistics, although the network was in training mode
    images = random_images(2, *IMAGE_SIZE)
    for ours, theirs in zip(
        outputs_of_onnx(tmp_path / "model.onnx", images), outputs_of_torch(classifier, images), strict=True
    ):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("name", "channels"), [("test_vit", 3), ("test_efficientnet", 1)])
def test_timms_networks_export_alike(name, channels, tmp_path):
    config = ModelConfig(name=name, weights="none", channels=channels, image_size=(64, 64))
    classifier = build_model(config, num_classes=2).classifier
    torch.nn.init.normal_(classifier.classifier.weight)
    classifier.to(memory_format=torch.channels_last)  # as after training
    export_onnx(classifier, tmp_path / "m.onnx", image_size=(64, 64), channels=channels, class_names=["a", "b"])
    for batch_size in (1, 3):
        images = random_images(batch_size, 64, 64, channels)
        ours, theirs = outputs_of_onnx(tmp_path / "m.onnx", images), outputs_of_torch(classifier, images)
        np.testing.assert_allclose(ours[0], theirs[0], rtol=1e-3, atol=1e-4)


def test_a_network_too_large_for_one_file_is_refused_before_exporting(classifier, tmp_path, monkeypatch):
    num_bytes = 4 * sum(parameter.numel() for parameter in classifier.parameters())
    monkeypatch.setattr(export, "MAX_ONNX_BYTES", num_bytes - 1)
    with pytest.raises(TrainingError, match=r"the network's weights take .* GB; a self-contained ONNX file holds"):
        export_onnx(classifier, tmp_path / "m.onnx", image_size=IMAGE_SIZE, channels=3, class_names=CLASSES)
    assert not list(tmp_path.iterdir())


def test_the_limit_is_the_contracts():
    assert export.MAX_ONNX_BYTES == 1.5e9  # design.md, section 4: "no external data below 1.5 GB"


@pytest.mark.parametrize("layers", ["last", "multi"])
def test_a_head_that_was_fitted_since_is_as_in_a_new_export(layers, tmp_path):
    torch.manual_seed(0)
    built = build_model(ModelConfig(name="test_efficientnet", weights="none", image_size=(32, 48)), num_classes=6)
    model, _, _ = with_layers(built, layers)
    size = {"image_size": (32, 48), "channels": 3, "class_names": CLASSES}
    torch.nn.init.normal_(model.classifier.classifier.bias)  # the exporter leaves out one of zeros
    before = open_exported(model.classifier, model.preprocess, CLASSES, num_threads=1)
    with torch.no_grad():
        model.classifier.classifier.weight.normal_()
        model.classifier.classifier.bias.normal_()
        if layers == "multi":
            network = model.classifier.network
            network.standardise(torch.rand(network.num_features), torch.rand(network.num_features) + 0.5)
    export_onnx(model.classifier, tmp_path / "new.onnx", **size)
    (tmp_path / "changed.onnx").write_bytes(with_present_head(before.data, model.classifier))
    images = random_images(4, 32, 48)
    expected, found = (outputs_of_onnx(tmp_path / name, images) for name in ("new.onnx", "changed.onnx"))
    assert all(np.array_equal(a, b) for a, b in zip(expected, found, strict=True))
    assert not np.array_equal(before.engine(images).logits, found[0])


def test_a_head_that_the_file_has_not_by_name_is_exported_anew():
    model = build_model(ModelConfig(name="test_efficientnet", weights="none", image_size=(32, 48)), num_classes=6)
    torch.nn.init.zeros_(model.classifier.classifier.bias)
    exported = open_exported(model.classifier, model.preprocess, CLASSES, num_threads=1)
    assert with_present_head(exported.data, model.classifier) is None


def test_metadata_are_added_without_changing_the_network(classifier, path, tmp_path):
    copy = tmp_path / "model.onnx"
    copy.write_bytes(path.read_bytes())
    add_metadata(copy, {"calibration": {"method": "temperature", "temperature": 1.5}, "note": "Löwe"})
    model = onnx.load(copy)
    onnx.checker.check_model(model)
    facts = {entry.key: json.loads(entry.value) for entry in model.metadata_props}
    assert facts["class_names"] == CLASSES
    assert facts["calibration"] == {"method": "temperature", "temperature": 1.5}
    assert facts["note"] == "Löwe"
    images = random_images(3, *IMAGE_SIZE)
    for before, after in zip(outputs_of_onnx(path, images), outputs_of_onnx(copy, images), strict=True):
        assert (before == after).all()
    assert OnnxEngine(copy).class_names == tuple(CLASSES)
