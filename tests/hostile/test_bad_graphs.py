"""Kind 43: a stranger's ONNX file ends in one sentence, at load or at the first images, and never hangs."""

import re
import time
from collections import Counter

import bad_graphs
import ledger
import numpy as np
import pytest
from bad_graphs import CASES, Graph

from recog.core.errors import BundleError
from recog.runtime.engine import OnnxEngine
from recog.runtime.onnx_graph import MAX_BYTES, check_graph
from recog.runtime.predictor import load

MAX_S = 2.0
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
        file.truncate(MAX_BYTES + 1)
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
