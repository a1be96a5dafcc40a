import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

import recog
from recog.core.errors import BundleError, ConfigError, DataError, DiskError
from recog.runtime.predictor import load
from recog.verbs import export as export_module
from recog.verbs.export import export

QUICK = {"seconds": 0.01}
NUM_VAL = 269  # of 1,797 images, 15 % of each class


@pytest.fixture(scope="module")
def exports(digits_run, tmp_path_factory):
    """Each export of the run, made once: exports("onnx") -> Export."""
    made = {}

    def of(target):
        if target not in made:
            made[target] = export(digits_run.folder, target, out=tmp_path_factory.mktemp("out") / target, **QUICK)
        return made[target]

    return of


@pytest.fixture(scope="module")
def picture(tmp_path_factory):
    path = tmp_path_factory.mktemp("picture") / "three.png"
    Image.fromarray(np.random.default_rng(3).integers(0, 256, (40, 30), dtype=np.uint8)).save(path)
    return path


@pytest.mark.parametrize(
    ("target", "runtime"),
    [("onnx", "onnxruntime"), ("triton", "onnxruntime"), ("openvino", "openvino"), ("torch", "torch")],
)
def test_an_export_predicts_without_recog_as_the_bundle_does(exports, digits_run, picture, target, runtime):
    done = exports(target)
    assert done.gate.problem == ""
    assert done.gate.num_images == NUM_VAL
    assert done.gate.num_other_pixels == 0
    code = (
        "import sys, runpy; sys.modules['recog'] = sys.modules['timm'] = None; sys.argv = ['predict.py', sys.argv[1]]; "
        "runpy.run_path('predict.py', run_name='__main__')"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code, str(picture)], cwd=done.folder, capture_output=True, text=True, check=True
    )
    name, _, answer = ran.stdout.partition(" ")
    found, expected = json.loads(answer), load(digits_run.bundle).predict(picture)
    assert name == str(picture)
    assert found["labels"] == [expected.label]
    np.testing.assert_allclose(list(found["probs"].values()), expected.probs, atol=1e-4)
    assert json.loads((done.folder / "contract.json").read_bytes())["runtime"] == runtime


def test_a_bad_file_is_one_line_and_the_others_are_answered(exports, picture, tmp_path):
    bad = tmp_path / "bad.jpg"
    bad.write_bytes(b"no image")
    ran = subprocess.run(
        [sys.executable, "predict.py", str(bad), str(picture)],
        cwd=exports("onnx").folder, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert ran.returncode == 1
    assert ran.stderr.splitlines() == [f"{bad}: cannot identify image file {str(bad)!r}"]
    assert ran.stdout.startswith(f"{picture} {{")


def test_figures_are_written_beside_it(exports):
    done = exports("onnx")
    table = json.loads((done.folder / "gate.json").read_bytes())
    assert table == json.loads(json.dumps(done.gate.to_dict()))
    assert table["bundle_bytes"] == table["export_bytes"]
    readme = (done.folder / "README.md").read_text(encoding="utf-8")
    assert "uint8 [B, 8, 8, 1], grey" in readme
    assert f"{NUM_VAL} images (validation split): labels equal on {NUM_VAL}" in readme
    assert len([line for line in readme.split("```")[0].splitlines() if line]) <= 12


def test_no_file_names_this_machine(exports):
    for target in ("onnx", "triton", "openvino", "torch"):
        folder = exports(target).folder
        for path in folder.rglob("*"):
            content = path.read_bytes() if path.is_file() else b""
            for place in (b"site-packages", b"/src/recog/", os.path.expanduser("~").encode() + b"/"):
                assert place not in content, (path, place)


def test_by_default_it_goes_to_the_run(run_folder):
    done = export(run_folder, "onnx", **QUICK)
    assert done.folder == run_folder / "exports" / "onnx"
    with pytest.raises(DataError, match="exists already; nothing was written"):
        export(run_folder, "onnx", **QUICK)


def test_an_export_that_answers_otherwise_is_refused_and_nothing_stays(run_folder, monkeypatch):
    opened = export_module.open_program

    def shifted(folder, *, num_threads):
        program = opened(folder, num_threads=num_threads)
        logits = program.logits
        program.logits = lambda images: logits(images) * np.float32(1.01)
        return program

    monkeypatch.setattr(export_module, "open_program", shifted)
    with pytest.raises(BundleError, match=rf"onnx export is refused: .*{NUM_VAL} images \(validation split\)"):
        export(run_folder, "onnx", **QUICK)
    assert list((run_folder / "exports").iterdir()) == []


def test_a_bundle_alone_needs_images_and_a_place(bundle, tmp_path):
    with pytest.raises(ConfigError, match="is not in its run folder; name the folder to write: --out FOLDER"):
        export(bundle, "onnx", images="digits")
    with pytest.raises(ConfigError, match="validation images are not known. Name labelled images.*--images DATA"):
        export(bundle, "onnx", out=tmp_path / "out")
    assert not (tmp_path / "out").exists()
    done = export(bundle, "onnx", images="digits", out=tmp_path / "out", **QUICK)
    assert (done.gate.data, done.gate.num_images) == ("digits", 500)


def test_named_images_are_those_that_the_run_did_not_use(run_folder, tmp_path):
    done = export(run_folder, "onnx", images="digits", out=tmp_path / "out", **QUICK)
    assert done.gate.data == "digits, test split"
    assert '"command": "export"' in (run_folder / "test_openings.jsonl").read_text()


def test_data_that_moved_are_asked_for(run_folder):
    config = run_folder / "run.toml"
    config.write_text(config.read_text().replace('source = "digits"', 'source = "gone/"'))
    with pytest.raises(DataError, match="the run's training data cannot be read: .*--images DATA"):
        export(run_folder, "onnx", **QUICK)


def test_in_python_errors_name_its_keywords(bundle, tmp_path):
    with pytest.raises(recog.ConfigError, match="name the folder to write: out=FOLDER"):
        recog.export(bundle, "onnx", images="digits")
    with pytest.raises(recog.ConfigError, match="num_threads is 0; it must be a whole number from 1"):
        recog.export(bundle, "onnx", out=tmp_path / "out", num_threads=0)


def test_an_unknown_target_is_refused_before_any_work(tmp_path):
    with pytest.raises(ConfigError, match="--to is 'onx'"):
        export(tmp_path / "no bundle", "onx")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_the_right_to_write(run_folder, tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(DiskError, match="no right to write"):
        export(run_folder, "onnx", out=tmp_path / "out")


def test_below_a_file(run_folder, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DiskError, match="is not a folder"):
        export(run_folder, "onnx", out=tmp_path / "file" / "out")


def test_a_damaged_bundle_is_not_exported(run_folder, tmp_path):
    with (run_folder / "bundle" / "model.onnx").open("ab") as file:
        file.write(b"x")
    with pytest.raises(BundleError, match="not the file that was sealed"):
        export(run_folder, "onnx", out=tmp_path / "out")


def test_images_that_cannot_be_read_are_none(run_folder, tmp_path):
    for label in ("0", "1"):
        (tmp_path / "data" / label).mkdir(parents=True)
        (tmp_path / "data" / label / "a.png").write_bytes(b"no image")
    with pytest.raises(ConfigError, match="none of the images can be read"):
        export(run_folder, "onnx", images=tmp_path / "data", out=tmp_path / "out", **QUICK)
    assert not (tmp_path / "out").exists()


def test_multilabel_bundles_have_their_thresholds(tmp_path):
    from pathlib import Path

    golden = Path(__file__).parents[1] / "golden" / "digits-labels-format-1"
    bundle = shutil.copytree(golden, tmp_path / "bundle")
    rows = [f"{label}-{i}.png" for label in range(2) for i in range(3)]
    lines = ["image,labels", *(f"{name},{load(bundle).class_names[i % 2]}" for i, name in enumerate(rows))]
    (tmp_path / "data").mkdir()
    for i, name in enumerate(rows):
        pixels = np.random.default_rng(i).integers(0, 256, (8, 8), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "data" / name)
    (tmp_path / "data" / "labels.csv").write_text("\n".join(lines))
    done = export(bundle, "onnx", images=tmp_path / "data" / "labels.csv", out=tmp_path / "out", **QUICK)
    contract = json.loads((done.folder / "contract.json").read_bytes())
    assert contract["task"] == "multilabel"
    assert len(contract["thresholds"]) == len(contract["class_names"])
    assert done.gate.comparison.task == "multilabel"


@pytest.mark.slow
def test_the_node_program_answers_as_the_bundle_does(exports, digits_run, picture, tmp_path):
    """With onnxruntime-node and sharp from npm, some 250 MB: skipped where npm is missing or has no network."""
    npm, node = shutil.which("npm"), shutil.which("node")
    if npm is None or node is None:
        pytest.skip("no Node.js")
    folder = shutil.copytree(exports("onnx").folder, tmp_path / "export")
    (folder / "package.json").write_text('{"type": "commonjs"}')  # as npm init writes
    install = [npm, "install", "--ignore-scripts", "onnxruntime-node@1.24", "sharp"]
    if subprocess.run(install, cwd=folder, capture_output=True, timeout=500).returncode:
        pytest.skip("npm cannot install onnxruntime-node and sharp here")
    ran = subprocess.run([node, "predict.mjs", str(picture)], cwd=folder, capture_output=True, text=True, check=True)
    found = json.loads(ran.stdout.partition(" ")[2])
    expected = load(digits_run.bundle).predict(picture)
    assert found["labels"] == [expected.label]
    np.testing.assert_allclose(list(found["probs"].values()), expected.probs, atol=1e-4)


@pytest.mark.parametrize(("target", "int8"), [("onnx", False), ("openvino", False), ("triton", False), ("onnx", True)])
def test_a_bundle_with_a_feature_map_is_exported_as_others_are(mapped_bundle, tmp_path, target, int8):
    """Every program asks for the logits alone; the gate compares them."""
    pytest.importorskip("openvino")
    found = export(mapped_bundle, target, images="digits", out=tmp_path / "out", int8=int8, **QUICK)
    contract = json.loads((found.folder / "contract.json").read_text())
    assert contract["outputs"]["feature_map"] == ["float32", "B", 64, 2, 2]
    assert found.gate.num_equal_labels >= 0.99 * found.gate.num_images
