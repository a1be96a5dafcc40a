"""Run folders and bundles from strangers: pipes, links and deep JSON in place of their files are refused at once, by name."""

import os
import shutil

import pytest

from recog.core.errors import RecogError
from recog.verbs.evaluate import evaluate
from recog.verbs.train import resume_events

pytestmark = pytest.mark.timeout(60)  # a pipe that is opened would wait for the other end for ever

READ = {  # by evaluate and by --resume
    "evaluate": [
        "splits.json",
        "test_openings.jsonl",
        "bundle/recog.json",
        "bundle/config.json",
        "bundle/calibration.json",
    ]
    + ["bundle/model.onnx"],
    "resume": ["run.toml", "train.lock", "splits.json"],
}
CASES = [(verb, name) for verb, names in READ.items() for name in names]


def put_pipe(path, _):
    os.mkfifo(path)


def put_link(path, outside):
    path.symlink_to(outside)


def put_folder(path, _):
    path.mkdir()


def use(verb, run):
    if verb == "evaluate":
        evaluate(run, "digits")
    else:
        for _ in resume_events(run):
            pass


@pytest.mark.parametrize("put", [put_pipe, put_link, put_folder], ids=["pipe", "link", "folder"])
@pytest.mark.parametrize(("verb", "name"), CASES, ids=lambda value: value)
def test_what_is_not_a_regular_file_is_refused_by_name(run_folder, tmp_path, put, verb, name):
    path, outside = run_folder / name, tmp_path / "outside"
    if verb == "resume":
        shutil.rmtree(run_folder / "bundle")
        if name == "splits.json":  # read where the data have changed
            toml = (run_folder / "run.toml").read_text()
            (run_folder / "run.toml").write_text(toml.replace('fingerprint = "', 'fingerprint = "0'))
    if path.exists():
        path.rename(outside)
    else:
        outside.write_text("mine\n")
    before = outside.read_bytes()
    put(path, outside)
    with pytest.raises(RecogError, match=rf"{path.name}|holds no|neither a bundle|no run") as caught:
        use(verb, run_folder)
    assert "\n" not in str(caught.value)
    assert outside.read_bytes() == before


@pytest.mark.parametrize("name", ["splits.json", "bundle/recog.json", "bundle/config.json", "bundle/calibration.json"])
def test_deep_json_is_an_error_of_one_sentence(run_folder, name):
    (run_folder / name).write_text('{"a": ' + "[" * 100_000)
    with pytest.raises(RecogError, match="nested more than 32 levels deep|is not the file that was sealed"):
        evaluate(run_folder, "digits")


@pytest.mark.parametrize("name", ["bundle", "checkpoints", "evaluations"])
def test_folders_within_a_run_are_no_links_out(run_folder, tmp_path, name):
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "mine.safetensors").write_bytes(b"mine")
    (outside / "mine.tmp-1").write_bytes(b"mine")
    if name == "bundle":
        shutil.copytree(run_folder / "bundle", outside, dirs_exist_ok=True)
        shutil.rmtree(run_folder / "bundle")
    (run_folder / name).symlink_to(outside)
    if name == "checkpoints":
        shutil.rmtree(run_folder / "bundle")
    with pytest.raises(RecogError, match=f"{name} is a symbolic link; expected a folder"):
        use("resume" if name == "checkpoints" else "evaluate", run_folder)
    assert {path.name for path in outside.glob("mine.*")} == {"mine.safetensors", "mine.tmp-1"}
