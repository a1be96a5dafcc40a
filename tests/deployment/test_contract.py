import json

import pytest

from recog.core.preprocess import Preprocess
from recog.deployment.contract import onnx_facts, open_program, render_readme, write_contract
from recog.evaluation.trust.calibration import Calibration
from recog.evaluation.trust.scaling import Scaling
from recog.runtime.predictor import load


def contract_of(folder, bundle, **changes):
    predictor = load(bundle)
    facts = {
        "name": "digits",
        "runtime": "onnxruntime",
        "file": "model.onnx",
        "precision": "float32",
        "num_features": 64,
    } | changes
    write_contract(folder, predictor.manifest, predictor.calibration, **facts)
    return json.loads((folder / "contract.json").read_bytes())


def test_facts_for_those_without_the_bundle():
    facts = onnx_facts(
        Preprocess(image_size=(8, 9)),
        Calibration(scaling=Scaling(method="vector", factors=(1.0, 2.0), offsets=(0.0, 1.0))),
    )
    assert facts["preprocess"]["image_size"] == [8, 9]
    assert facts["calibration"] == {"method": "vector", "factors": [1.0, 2.0], "offsets": [0.0, 1.0]}


def test_the_contract_and_its_programs(bundle, tmp_path):
    contract = contract_of(tmp_path, bundle)
    assert contract["input"] == {"images": ["uint8", "B", 8, 8, 1]}
    assert contract["outputs"] == {"logits": ["float32", "B", 10], "features": ["float32", "B", 64]}
    names = {path.name for path in tmp_path.iterdir()} - {"bundle"}
    assert names == {"contract.json", "predict.py", "predict.mjs", "pixels.mjs", "predict.cpp"}
    (tmp_path / "model.onnx").write_bytes((bundle / "model.onnx").read_bytes())
    assert open_program(tmp_path, num_threads=1).contract == contract


@pytest.mark.parametrize(
    ("mode", "words"),
    [
        ("center", "scale until the image covers 10 x 9 (width x height) with bicubic"),
        ("squash", "scale each side by itself to 10 x 9"),
        ("border", "keep the middle 9 x 8, surrounded with [1, 2, 3]"),
    ],
)
def test_the_readme_states_the_preparation(bundle, tmp_path, mode, words):
    contract = contract_of(tmp_path, bundle)
    rules = Preprocess(image_size=(8, 9), crop_pct=0.875, crop_mode=mode, fill=(1, 2, 3)).to_dict()
    page = render_readme(contract | {"preprocess": rules}, title="a\nb", notes=("A note.",), figures="all equal")
    assert page.startswith("# a\\nb\n")
    assert words in page
    assert "- A note.\n" in page
    assert "uint8 [B, 8, 9, 3], RGB" in page
