"""Data sets of the hub, from a mirror on this machine that answers as the hub does."""

from pathlib import Path

import pytest
from containers import labelled_pngs, write_folder, write_parquet
from hub_mirror import COMMIT, hub_of

from recog.core.errors import DataError
from recog.data.inspection import fingerprint, hash_samples
from recog.data.sources import open_source

pytest.importorskip("huggingface_hub")


@pytest.fixture
def mirror(tmp_path, monkeypatch):
    """(folder that is the data set someone/pets, list of the paths that were asked for)."""
    root, asked = tmp_path / "mirror", []
    root.mkdir()
    EXTRA.clear()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    with hub_of(root, asked=asked, extra=EXTRA) as address:
        monkeypatch.setenv("HF_ENDPOINT", address)
        yield root, asked


EXTRA = []  # further files that the mirror lists


def content_of(dataset):
    names = [sample.name for sample in dataset.samples]
    return fingerprint(dataset, dict(zip(names, hash_samples(dataset.samples), strict=True)))


def test_a_data_set_of_class_folders_is_downloaded_once_at_its_revision(mirror, tmp_path):
    root, asked = mirror
    images = labelled_pngs(2)
    write_folder(images, root)
    (root / "README.md").write_text("about")
    (root / "pets.py").write_text("raise SystemExit")
    data = open_source("hf://datasets/someone/pets")
    assert content_of(data) == content_of(open_source(write_folder(images, tmp_path / "same")))
    assert data.name == "pets"
    assert f"revision {COMMIT}, 6 files" in data.notes[0]
    assert f"hf://datasets/someone/pets@{COMMIT}" in data.notes[0]
    assert not any(path.endswith((".md", ".py")) for path in asked)
    asked.clear()
    again = open_source(f"hf://datasets/someone/pets@{COMMIT}")
    assert (content_of(again), asked) == (content_of(data), [])  # without the network


def test_a_data_set_of_parquet_files_has_its_splits(mirror):
    pytest.importorskip("pyarrow")
    root, _ = mirror
    for split in ("train", "test"):
        write_parquet(labelled_pngs(2), root / "data").rename(root / "data" / f"{split}-00000-of-00001.parquet")
    data = open_source("hf://datasets/someone/pets@main")
    assert (data.given_splits, data.class_names) == (("train", "test"), ("ant", "bee", "cow"))


def test_what_cannot_be_downloaded_is_one_sentence(mirror, monkeypatch):
    with pytest.raises(DataError, match="there is no such data set or revision|it does not exist"):
        open_source("hf://datasets/someone/birds")
    with pytest.raises(DataError, match="holds no files of data"):
        open_source("hf://datasets/someone/pets")
    with pytest.raises(DataError, match=r"expected hf://datasets/OWNER/NAME"):
        open_source("hf://models/someone/pets")
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(DataError, match=r"cannot be downloaded \(.*Offline, name a folder"):
        open_source("hf://datasets/someone/pets")


@pytest.mark.parametrize(
    "name", ["../../evil.png", "/etc/evil.png", "a/../../evil.png", "C:/evil.png", "a\\..\\evil.png"]
)
def test_names_that_lead_out_of_the_folder_are_refused(mirror, name, tmp_path):
    EXTRA.append({"rfilename": name, "size": 1})
    with pytest.raises(DataError, match="a file whose name leads elsewhere"):
        open_source("hf://datasets/someone/pets")
    assert not list(Path(tmp_path).rglob("evil.png"))


def test_more_than_the_disk_holds_is_refused_before_it_is_downloaded(mirror):
    EXTRA.append({"rfilename": "large.parquet", "size": 10**15})
    with pytest.raises(DataError, match=r"has 1,000,000,000,000,000 bytes, and .* are free"):
        open_source("hf://datasets/someone/pets")
