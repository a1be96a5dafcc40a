import json

import numpy as np
import pytest
from safetensors.numpy import load_file, save

from recog.bundle.manifest import read_manifest
from recog.bundle.reference import Reference, read_reference, write_reference
from recog.bundle.seal import MAX_PROB_DIFFERENCE, REQUIRED_FILES, compare_probs, verify_bundle
from recog.core.errors import BadImage, BundleError, DataError
from recog.models.network_files import load_classifier
from recog.runtime.predictor import verify


def answers_as_sealed(bundle, shift=0.0):
    """A stand-in for the network: the sealed probs, one of them `shift` away."""
    probs = read_reference(bundle).probs.astype(np.float64)
    probs[3, 4] += shift
    return lambda files: probs


def never(files):
    raise AssertionError("the network was asked although something was wrong before")


def rewrite_reference(bundle, **changes):
    old = read_reference(bundle)
    write_reference(bundle, Reference(**{"kind": old.kind, "images": old.images, "probs": old.probs} | changes))


def test_a_fresh_bundle_verifies(bundle):
    found = verify(bundle)
    assert (found.num_files, found.num_reference_images) == (10, 16)
    assert found.max_prob_difference < 1e-6  # the same engine on the same machine


@pytest.mark.parametrize("name", [*sorted(REQUIRED_FILES), "recog.json"])
def test_every_harmed_file_fails_the_verb_and_is_named(bundle, name):
    data = bytearray((bundle / name).read_bytes())
    data[len(data) // 2] ^= 0x10
    (bundle / name).write_bytes(data)
    with pytest.raises(BundleError, match=name):
        verify(bundle)
    with pytest.raises(BundleError, match=name):
        verify_bundle(bundle, never)


@pytest.mark.parametrize(("shift", "passes"), [(0, True), (0.9e-4, True), (1.1e-4, False), (-0.5, False)])
def test_the_reference_must_be_answered_to_1e_4(bundle, shift, passes):
    if passes:
        found = verify_bundle(bundle, answers_as_sealed(bundle, shift))
        assert found.max_prob_difference == pytest.approx(abs(shift), abs=1e-7)
    else:
        with pytest.raises(BundleError, match=r"differ by up to .*; at most 0\.0001 is allowed. Do not use it"):
            verify_bundle(bundle, answers_as_sealed(bundle, shift))


@pytest.mark.parametrize(
    ("name", "value"),
    [("fc.weight", np.nan), ("conv1.weight", -np.inf), ("bn1.running_var", np.inf), ("bn1.running_var", -1.0)],
)
def test_weights_that_no_network_can_use_are_named(bundle, reseal, name, value):
    """The ONNX file answers as before; timm and further training would read the weights."""
    tensors = dict(load_file(bundle / "model.safetensors"))
    tensors[name] = tensors[name].copy()
    tensors[name].flat[1] = value
    (bundle / "model.safetensors").write_bytes(save(tensors))
    reseal(bundle)
    message = rf"model\.safetensors is damaged: {name} holds {value:g} in 1 of its {tensors[name].size:,} values"
    with pytest.raises(BundleError, match=message):
        verify(bundle)
    with pytest.raises(BundleError, match=message):
        load_classifier(bundle)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_network_that_answers_nan_fails(bundle, bad):
    with pytest.raises(BundleError, match="differ by up to inf"):
        verify_bundle(bundle, answers_as_sealed(bundle, bad))


def test_too_few_answers_fail(bundle):
    with pytest.raises(BundleError, match="differ by up to inf"):
        verify_bundle(bundle, lambda files: read_reference(bundle).probs[:-1])


@pytest.mark.parametrize("error", [BadImage("<bytes>", "why", "how"), DataError("logits are NaN")])
def test_a_reference_that_cannot_be_answered_is_the_bundles_fault(bundle, error):
    def fail(files):
        raise error

    with pytest.raises(BundleError, match="cannot predict its reference images"):
        verify_bundle(bundle, fail)


def test_nan_in_the_sealed_probs_fails(bundle, reseal):
    probs = read_reference(bundle).probs.copy()
    probs[0, 0] = np.nan
    rewrite_reference(bundle, probs=probs)
    reseal(bundle)
    with pytest.raises(BundleError, match="differ by up to inf"):
        verify(bundle)


def test_other_probs_than_the_networks_fail_although_all_hashes_fit(bundle, reseal):
    rewrite_reference(bundle, probs=read_reference(bundle).probs[:, ::-1].copy())
    reseal(bundle)
    with pytest.raises(BundleError, match="predicts its reference images differently"):
        verify(bundle)


def test_a_reference_of_another_number_of_classes_fails(bundle, reseal):
    rewrite_reference(bundle, probs=np.full((16, 9), 1 / 9, dtype=np.float32))
    reseal(bundle)
    with pytest.raises(BundleError, match="the reference has 9 classes, the manifest 10"):
        verify_bundle(bundle, never)


def test_reference_images_that_are_not_images_fail(bundle, reseal):
    rewrite_reference(bundle, images=(b"garbage",) * 16)
    reseal(bundle)
    with pytest.raises(BundleError, match="cannot predict its reference images"):
        verify(bundle)


def test_other_weights_in_the_graph_fail_although_all_hashes_fit(bundle, reseal):
    onnx = pytest.importorskip("onnx")
    model = onnx.load(bundle / "model.onnx")
    bias = next(t for t in model.graph.initializer if t.name.endswith("fc.bias"))
    values = onnx.numpy_helper.to_array(bias) + np.arange(10, dtype=np.float32)
    bias.CopyFrom(onnx.numpy_helper.from_array(values, bias.name))
    onnx.save(model, bundle / "model.onnx")
    reseal(bundle)
    with pytest.raises(BundleError, match="predicts its reference images differently"):
        verify(bundle)


def test_a_network_of_nan_fails(bundle, reseal):
    onnx = pytest.importorskip("onnx")
    model = onnx.load(bundle / "model.onnx")
    bias = next(t for t in model.graph.initializer if t.name.endswith("fc.bias"))
    bias.CopyFrom(onnx.numpy_helper.from_array(np.full(10, np.nan, dtype=np.float32), bias.name))
    onnx.save(model, bundle / "model.onnx")
    reseal(bundle)
    with pytest.raises(BundleError, match=r"model\.onnx answered 16 of 16 images with NaN"):
        verify(bundle)


def test_without_reference_images_the_hashes_are_checked_all_the_same(bundle, reseal):
    rewrite_reference(bundle, kind="none", images=(), probs=np.zeros((0, 0), dtype=np.float32))
    reseal(bundle)
    found = verify_bundle(bundle, never)
    assert (found.num_files, found.num_reference_images, found.max_prob_difference) == (10, 0, None)
    (bundle / "report.json").write_text("{}")
    with pytest.raises(BundleError, match=r"report\.json"):
        verify_bundle(bundle, never)


def test_config_that_disagrees_fails_although_all_hashes_fit(bundle, reseal):
    config = json.loads((bundle / "config.json").read_bytes())
    config["label_names"] = config["label_names"][::-1]
    (bundle / "config.json").write_text(json.dumps(config))
    reseal(bundle)
    with pytest.raises(BundleError, match="disagree on class names"):
        verify_bundle(bundle, never)


def test_weights_are_hashed_too(bundle):
    """Predicting reads model.onnx only; verify looks at model.safetensors as well."""
    tensors = load_file(bundle / "model.safetensors")
    tensors["fc.bias"][0] += 1
    (bundle / "model.safetensors").write_bytes(save(tensors))
    with pytest.raises(BundleError, match=r"model\.safetensors is not the file that was sealed"):
        verify(bundle)


def test_largest_difference_by_hand():
    expected, found = np.float32([[0.5, 0.5], [0.25, 0.75]]), np.array([[0.5, 0.5], [0.5, 0.5]])
    assert compare_probs(expected, found) == 0.25
    assert compare_probs(expected, expected) == 0
    assert compare_probs(expected, found[:1]) == float("inf")
    assert compare_probs(expected, np.array([[np.nan, 1], [0, 1]])) == float("inf")
    assert compare_probs(np.zeros((0, 2)), np.zeros((0, 2))) == 0
    assert MAX_PROB_DIFFERENCE == 1e-4  # design.md, section 4


def test_the_manifest_counts_in_num_files(bundle):
    assert len(read_manifest(bundle).files) == 9


def test_what_file_managers_leave_is_ignored_and_named_and_nothing_else_is(bundle):
    for name in (".DS_Store", "Thumbs.db", "desktop.ini", "._model.onnx"):
        (bundle / name).write_bytes(b"x")
    assert verify(bundle).ignored == (".DS_Store", "._model.onnx", "Thumbs.db", "desktop.ini")
    (bundle / ".hidden.so").write_bytes(b"x")
    with pytest.raises(BundleError, match=r"holds files that were not sealed: \.hidden\.so\."):
        verify(bundle)
