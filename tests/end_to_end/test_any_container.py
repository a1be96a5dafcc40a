"""The same images through every container: equal fingerprint, equal splits, and a network that answers equally."""

import json

import numpy as np
import pytest
from containers import CONTAINERS, idx_bytes, labelled_pngs, png
from layouts import LAYOUTS, settings_in

from recog.core.files import sha256_bytes
from recog.core.images.decode import decode
from recog.data.readers.own import read_items
from recog.recipes.config import ComputeConfig, DataConfig, TrainConfig
from recog.runtime.predictor import load
from recog.training.config import OptimConfig
from recog.verbs.evaluate import evaluate
from recog.verbs.run import Run
from recog.verbs.train import train_events


def train(source, runs, dataset=None, **settings):
    config = TrainConfig(
        recipe="scratch",
        data=DataConfig(source=str(source), **settings),
        optim=OptimConfig(epochs=2),
        compute=ComputeConfig(num_threads=1),
    )
    *_, run = train_events(config, name="run", runs=runs, dataset=dataset)
    assert isinstance(run, Run)
    return run


def facts_of(run):
    """(fingerprint, class names, content hashes by split, hash of the weights)."""
    manifest = json.loads((run.bundle / "recog.json").read_text())
    table = json.loads((run.folder / "splits.json").read_text())
    splits = {split: sorted(row["sha256"] for row in rows) for split, rows in table["splits"].items()}
    weights = sha256_bytes((run.bundle / "model.safetensors").read_bytes())
    return manifest["data"]["fingerprint"], manifest["class_names"], splits, weights


def probs_of(run, images):
    return np.stack([answer.probs for answer in load(run.bundle, num_threads=1).predict(images)])


def same_numbers(report):
    table = report.to_dict()
    return {key: table[key] for key in ("num_images", "accuracy", "nll", "confusion", "class_names")}


@pytest.mark.slow
def test_the_container_of_files_cannot_be_seen_in_the_model(tmp_path, capsys):
    pytest.importorskip("pyarrow")
    images = labelled_pngs()
    sources = {kind: write(images, tmp_path / kind) for kind, write in CONTAINERS.items()}
    reference = None
    lines = []
    for kind, source in sources.items():
        run = train(source, tmp_path / f"runs-{kind}")
        found, probs = facts_of(run), probs_of(run, list(images.values()))
        lines.append(
            f"{kind:26}  data {found[0][7:19]}  weights {found[3][:12]}  test accuracy {run.report.accuracy:.3f}"
        )
        reference = reference or (found, probs, run)
        assert found == reference[0], kind
        assert np.array_equal(probs, reference[1]), kind
        # one bundle, measured on the same data from here: the images of its run's own test split
        measured = evaluate(reference[2].bundle, source, out=tmp_path / f"measured-{kind}")
        assert same_numbers(measured.report) == same_numbers(reference[2].report), kind
    with capsys.disabled():
        print("", *lines, sep="\n")
    assert {len(hashes) for hashes in reference[0][2].values()} == {42, 9}  # 70/15/15 of 20 in each of three classes


@pytest.mark.slow
def test_the_layout_of_another_tool_cannot_be_seen_in_the_model(tmp_path, capsys):
    """The same network, bit for bit, and the same splits as from class folders; and the run reads its data again."""
    images = labelled_pngs()
    reference = train(CONTAINERS["folder"](images, tmp_path / "folder"), tmp_path / "runs")
    expected = facts_of(reference)
    lines = []
    for number, (kind, (write, settings)) in enumerate(LAYOUTS.items()):
        folder = tmp_path / f"data-{number}"
        source = write(images, folder)
        run = train(source, tmp_path / f"runs-{number}", **settings_in(folder, settings))
        lines.append(f"{kind:24} data {facts_of(run)[0][7:19]}  {source}  {settings or ''}".replace(f"{tmp_path}/", ""))
        assert facts_of(run) == expected, kind
        measured = evaluate(run.bundle, source, out=tmp_path / f"measured-{number}")
        assert same_numbers(measured.report) == same_numbers(reference.report), kind
    with capsys.disabled():
        print("", *lines, sep="\n")


class Pairs:
    """A torch.utils.data.Dataset as people write them, with Pillow images or arrays."""

    classes = ("0", "1")

    def __init__(self, images, labels, convert):
        self.images, self.labels, self.convert = images, labels, convert

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        return self.convert(self.images[index]), int(self.labels[index])


@pytest.mark.slow
def test_the_container_of_pixels_cannot_be_seen_in_the_model(tmp_path, capsys):
    """idx files and datasets of one's own hold pixels, not files; each pixel is as in a PNG of them."""
    torch = pytest.importorskip("torch")
    from PIL import Image

    generator = np.random.default_rng(0)
    labels = {split: np.arange(count) % 2 for split, count in (("train", 60), ("t10k", 20))}
    pixels = {
        split: (generator.integers(0, 60, (len(of), 12, 12)) + 120 * of[:, None, None]).astype(np.uint8)
        for split, of in labels.items()
    }
    folder = tmp_path / "idx"
    folder.mkdir()
    for split in labels:
        (folder / f"{split}-images-idx3-ubyte").write_bytes(idx_bytes(pixels[split]))
        (folder / f"{split}-labels-idx1-ubyte").write_bytes(idx_bytes(labels[split]))
    runs = {"idx files": train(folder, tmp_path / "a")}
    ways = {
        "Pillow images": Image.fromarray,
        "arrays": np.asarray,
        "tensors": lambda image: torch.from_numpy(image)[None],
    }
    for number, (way, convert) in enumerate(ways.items()):
        parts = {"train": "train", "test": "t10k"}
        own = {split: Pairs(pixels[part], labels[part], convert) for split, part in parts.items()}
        runs[f"own Dataset of {way}"] = train("", tmp_path / f"own-{number}", read_items(own))
    tested = list(pixels["t10k"])
    reference = facts_of(runs["idx files"]), probs_of(runs["idx files"], tested)
    lines = []
    for kind, run in runs.items():
        found = facts_of(run)
        lines.append(
            f"{kind:29}  data {found[0][7:19]}  weights {found[3][:12]}  test accuracy {run.report.accuracy:.3f}"
        )
        assert found == reference[0], kind
        assert np.array_equal(probs_of(run, tested), reference[1]), kind
    assert np.array_equal(probs_of(runs["idx files"], [png(image) for image in tested]), reference[1])
    assert np.array_equal(decode(png(tested[0]), channels=1)[:, :, 0], tested[0])
    with capsys.disabled():
        print("", *lines, sep="\n")
