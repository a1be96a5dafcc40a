"""Kind 43: a stranger's ONNX file ends in one sentence, at load or at the first images, and never hangs."""

import json
import re
import shutil
import signal
import time
from collections import Counter
from pathlib import Path

import bad_graphs
import ledger
import numpy as np
import onnx
import pytest
from bad_graphs import CASES, Graph
from PIL import Image
from typer.testing import CliRunner

from recog.cli import build_app
from recog.core.errors import BundleError
from recog.runtime.engine import MAX_ONNX_BYTES, check_graph
from recog.runtime.engines.onnxruntime_engine import OnnxEngine
from recog.runtime.predictor import load

MAX_S = 2.0
GOLDEN = Path(__file__).parents[1] / "golden" / "digits-format-1"
IMAGES = np.zeros((5, 2, 2, 1), np.uint8)


def verdict_of(case, folder):
    path = bad_graphs.write(case, folder)
    started = time.process_time()
    with pytest.raises(BundleError) as caught:
        OnnxEngine(path)(IMAGES)
    assert time.process_time() - started < MAX_S
    message = str(caught.value)
    assert re.search(case.refused, message), message
    assert message.startswith(str(path))
    assert "\n" not in message
    assert len(message) < 1000
    if case.is_loaded:
        OnnxEngine(path)
    return "refused when called" if case.is_loaded else "refused at load"


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_it_is_refused_by_a_sentence(case, tmp_path, capfd):
    verdict_of(case, tmp_path)
    assert capfd.readouterr() == ("", "")


def test_the_graph_that_the_cases_change_is_answered(tmp_path):
    (tmp_path / "m.onnx").write_bytes(Graph().build().SerializeToString())
    assert OnnxEngine(tmp_path / "m.onnx")(IMAGES).logits.shape == (5, 3)


def test_a_file_beyond_what_protobuf_holds_is_not_read(tmp_path):
    with (tmp_path / "m.onnx").open("wb") as file:
        file.truncate(MAX_ONNX_BYTES + 1)
    with pytest.raises(BundleError, match=r"it has 2,147,483,648 bytes"):
        check_graph(tmp_path / "m.onnx")


def test_a_resealed_bundle_with_a_loop_is_refused(bundle, reseal):
    loop = next(case for case in CASES if case.name == "an endless Loop")
    (bundle / "model.onnx").write_bytes(loop.data)
    reseal(bundle)
    with pytest.raises(BundleError, match="control flow"):
        load(bundle)


def test_ledger(tmp_path, capsys):
    """`make ledger` prints it."""
    verdicts = {43: Counter(verdict_of(case, tmp_path) for case in CASES)}
    with capsys.disabled():
        print("", *ledger.lines(verdicts), sep="\n")


def failing_bundle(case, folder, reseal):
    """The golden bundle with the network of `case`, which takes images of 2 x 2 px and has 2, 3 or 4 classes."""
    bundle = shutil.copytree(GOLDEN, folder / "bundle")
    (bundle / "model.onnx").write_bytes(case.data)
    names = ["a", "b", "c", "d"][
        : onnx.load(bundle / "model.onnx").graph.output[0].type.tensor_type.shape.dim[1].dim_value
    ]
    model = onnx.load(bundle / "model.onnx")
    model.metadata_props[0].value = json.dumps(names)
    onnx.save(model, bundle / "model.onnx")
    config = json.loads((bundle / "config.json").read_text())
    config |= {"num_classes": len(names), "label_names": names}
    config["pretrained_cfg"]["input_size"] = [1, 2, 2]
    (bundle / "config.json").write_text(json.dumps(config))
    preprocess = json.loads((bundle / "recog.json").read_text())["preprocess"] | {"image_size": [2, 2]}
    reseal(bundle, class_names=names, preprocess=preprocess)
    return bundle


@pytest.mark.parametrize("case", [case for case in CASES if case.is_loaded], ids=lambda case: case.name)
def test_a_network_that_fails_when_it_runs_ends_every_command_with_exit_code_4(case, tmp_path, reseal, monkeypatch):
    monkeypatch.setattr(signal, "signal", lambda *_: None)  # a command's handlers are not for this process
    bundle = failing_bundle(case, tmp_path, reseal)
    for number in range(5):
        for label in ("a", "b"):
            (tmp_path / "data" / label).mkdir(parents=True, exist_ok=True)
            pixels = np.full((2, 2), 10 * number + len(label), np.uint8)
            Image.fromarray(pixels).save(tmp_path / "data" / label / f"{number}.png")
    photos = str(tmp_path / "data" / "a")
    commands = [
        ["predict", str(bundle), photos],
        ["predict", str(bundle), photos, "--json"],
        ["predict", str(bundle), photos, "--csv"],
        ["verify", str(bundle)],
        ["evaluate", str(bundle), str(tmp_path / "data"), "--out", str(tmp_path / "report")],
        ["compare", str(bundle), str(bundle), "--data", str(tmp_path / "data")],
    ]
    for command in commands:
        done = CliRunner().invoke(build_app((command[0],)), command)
        assert done.exit_code == 4, (command, done.output, done.exception)
    assert not (tmp_path / "report").exists()
