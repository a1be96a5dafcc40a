"""The golden bundles with an ONNX file that gives the feature map too, added to the graph by hand: exporting takes longer."""

from __future__ import annotations

import shutil
from pathlib import Path

import onnx

from recog.bundle.manifest import read_manifest
from recog.bundle.seal import seal
from recog.models.network_files import load_classifier

GOLDEN = Path(__file__).parent / "golden"


def write_mapped_bundle(name, folder):
    """A copy of the golden bundle `name` whose ONNX file gives what its features are the means of, 2 x 2 positions."""
    shutil.copytree(GOLDEN / name, folder)
    model = onnx.load(folder / "model.onnx")
    (mean,) = (node for node in model.graph.node if "features" in node.output)
    model.graph.node.append(onnx.helper.make_node("Identity", [mean.input[0]], ["feature_map"]))
    model.graph.output.append(
        onnx.helper.make_tensor_value_info("feature_map", onnx.TensorProto.FLOAT, ["B", 64, 2, 2])
    )
    model.metadata_props.add(key="class_weights", value="fc.weight")
    onnx.save(model, folder / "model.onnx")
    manifest = read_manifest(folder)
    (folder / "recog.json").unlink()
    seal(folder, manifest)
    return folder


def class_map(bundle, images, label):
    """The map of class `label` for `images` uint8 [B, H, W, C] by torch alone: Zhou et al.'s weighted sum, [B, h, w]."""
    import torch

    classifier = load_classifier(bundle)
    with torch.no_grad():
        maps = classifier.network.forward_features(classifier.normalise(torch.as_tensor(images)))
        found = torch.einsum("d,bdhw->bhw", classifier.classifier.weight[label], maps) / maps[0, 0].numel()
    return found.relu().numpy()
