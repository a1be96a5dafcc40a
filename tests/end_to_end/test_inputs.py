"""Every layout, weights file and input that recog reads or refuses: how it was made, the command, what came of it.

`pytest -s tests/end_to_end/test_inputs.py` prints the table, which is benchmarks/results/inputs.md.
"""

import inspect
import json
import re
import shlex
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
from containers import (
    CONTAINERS,
    digest,
    idx_bytes,
    labelled_pngs,
    png,
    write_folder,
    write_named,
    write_text,
    write_zip,
)
from hub_mirror import COMMIT, hub_of
from layouts import (
    LAYOUTS,
    MORE_LAYOUTS,
    MULTILABEL_LAYOUTS,
    SPLIT_LAYOUTS,
    json_of_lists,
    settings_in,
    split_folders,
    unlabelled_test,
)
from PIL import Image
from typer.testing import CliRunner

import recog
from recog.cli import build_app
from recog.core.errors import RecogError
from recog.core.images.decode import decode
from recog.data.readers.own import read_items
from recog.data.sources import open_source
from recog.recipes.config import DataConfig

pytestmark = pytest.mark.slow
APP = build_app(("scan", "predict", "models"))
IMAGES = labelled_pngs(4)
BUNDLE = Path(__file__).parents[1] / "golden" / "digits-format-1-trust"
ROWS: list[tuple[str, str, str, str]] = []


@pytest.fixture(scope="module", autouse=True)
def printed():
    yield
    section, order = "", list(dict.fromkeys(row[0] for row in ROWS))
    for title, made, command, result in sorted(ROWS, key=lambda row: order.index(row[0])):
        if title != section:
            print(f"\n## {title}\n\n| How made | Command | Result |\n|---|---|---|")
            section = title
        print(f"| {made} | `{command.replace('|', chr(92) + '|')}` | {result.replace('|', chr(92) + '|')} |")


def note(section, made, command, result, place=""):
    """A row of the table, without what differs from one machine to the next."""
    texts = [made, command, result]
    if place:
        texts = [text.replace(f"{place}/", "").replace(str(place), "FOLDER") for text in texts]
    ROWS.append((section, *(re.sub(r"\s+", " ", text).strip() for text in texts)))


def words_of(settings):
    """`settings` of DataConfig as options of the command line."""
    pairs = [
        (key, part) for key, value in settings.items() for part in (value if isinstance(value, tuple) else (value,))
    ]
    return [word for key, part in pairs for word in (f"--{key.replace('_', '-')}", str(part))]


def run(*arguments, expect=0, stdin=None):
    result = CliRunner().invoke(APP, [*map(str, arguments)], input=stdin)
    assert result.exit_code == expect, (arguments, result.output, result.exception)
    return result


def read(source, settings):
    """The digest of what `recog train` reads, and the first line of `recog scan`."""
    config = DataConfig(source=str(source), **settings)
    scanned = run("scan", source, *words_of(settings)).stdout
    assert "can be trained on" in scanned
    return digest(open_source(source, labels=config.labels, layout=config.layout)), scanned.splitlines()[0]


def made_by(write, name):
    made = (inspect.getdoc(write) or "").partition("\n")[0].rstrip(".")
    return f"{name}: {made[:1].lower()}{made[1:]}" if made and write not in CONTAINERS.values() else name


def check_layouts(section, layouts, expected, place):
    for number, (name, (write, settings)) in enumerate(layouts.items()):
        folder = place / f"{section.split()[0].lower()}-{number}"
        source = write(IMAGES, folder)
        settings = settings_in(folder, settings)
        found, line = read(source, settings)
        assert found == expected, name
        command = shlex.join(["recog", "train", str(source), *words_of(settings)])
        note(section, made_by(write, name), command, f"{line.partition(': ')[2]}; same fingerprint", folder)


def test_layouts(tmp_path):
    pytest.importorskip("pyarrow")
    expected = digest(open_source(write_folder(IMAGES, tmp_path / "folders")))
    containers = {name: (write, {}) for name, write in CONTAINERS.items()}
    check_layouts("Containers of class folders' images", containers, expected, tmp_path)
    check_layouts("Layouts", LAYOUTS | MORE_LAYOUTS, expected, tmp_path)
    reference = split_folders(IMAGES, tmp_path / "splits")
    check_layouts("Splits as of train/CLASS, valid/CLASS, test/CLASS", SPLIT_LAYOUTS, read(reference, {})[0], tmp_path)
    reference = json_of_lists(IMAGES, tmp_path / "labels")
    check_layouts("Several labels, as of JSON lists", MULTILABEL_LAYOUTS, read(reference, {})[0], tmp_path)


def test_the_hub(tmp_path, monkeypatch):
    pytest.importorskip("huggingface_hub")
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    root = write_folder(IMAGES, tmp_path / "mirror")
    with hub_of(root) as address:
        monkeypatch.setenv("HF_ENDPOINT", address)
        found, line = read("hf://datasets/someone/pets", {})
        assert found == digest(open_source(root))
    assert read(f"hf://datasets/someone/pets@{COMMIT}", {})[0] == found  # now without the hub
    note(
        "Layouts", "a loopback mirror of the hub", "recog train hf://datasets/someone/pets", f"{line}; same fingerprint"
    )


def test_pixels(tmp_path):
    generator, labels = np.random.default_rng(0), [0, 1] * 6
    pixels = generator.integers(0, 256, (12, 8, 8), dtype=np.uint8)
    expected = digest(read_items((list(pixels), [str(label) for label in labels])))
    rows = [",".join(map(str, [label, *image.ravel()])) for image, label in zip(pixels, labels, strict=True)]
    fer = [f"{label},{' '.join(map(str, image.ravel()))}" for image, label in zip(pixels, labels, strict=True)]
    write_text(tmp_path / "digits.csv", "\n".join([f"label,{','.join(f'pixel{i}' for i in range(64))}", *rows]))
    write_text(tmp_path / "fer.csv", "\n".join(["emotion,pixels", *fer]))
    np.savez(tmp_path / "pets.npz", X=pixels, y=labels)
    (tmp_path / "arrays").mkdir()
    np.save(tmp_path / "arrays" / "images.npy", pixels)
    np.save(tmp_path / "arrays" / "labels.npy", labels)
    (tmp_path / "idx").mkdir()
    for part, chosen in (("train", slice(0, 8)), ("t10k", slice(8, 12))):
        (tmp_path / "idx" / f"{part}-images-idx3-ubyte").write_bytes(idx_bytes(pixels[chosen]))
        (tmp_path / "idx" / f"{part}-labels-idx1-ubyte").write_bytes(idx_bytes(labels[chosen]))
    for name, made in {
        "digits.csv": "label and a column a pixel",
        "fer.csv": "label and all pixels in one cell",
        "pets.npz": "numpy.savez(X=..., y=...)",
        "arrays": "images.npy and labels.npy",
    }.items():
        found, line = read(tmp_path / name, {})
        assert found == expected, name
        note("Pixels", made, f"recog train {name}", f"{line.partition(': ')[2]}; same fingerprint as the arrays")
    given = {"train": (pixels[:8], list(map(str, labels[:8]))), "test": (pixels[8:], list(map(str, labels[8:])))}
    found, line = read(tmp_path / "idx", {})
    assert found == digest(read_items(given))
    note("Pixels", "four idx files", "recog train idx", f"{line.partition(': ')[2]}; same fingerprint as the arrays")


def test_image_formats(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (24, 32, 3), dtype=np.uint8)
    for name, options in {
        "a.jp2": {"irreversible": False},
        "a.tga": {},
        "a.tif": {},
        "a.webp": {"lossless": True},
    }.items():
        Image.fromarray(pixels).save(tmp_path / name, **options)
        assert np.array_equal(decode(tmp_path / name), pixels)
        note(
            "Image formats",
            f"Pillow, {name.partition('.')[2]} without loss",
            f"recog predict RUN {name}",
            "the pixels as written",
        )
    pydicom = pytest.importorskip("pydicom")
    shipped = pydicom.data.get_testdata_file("CT_small.dcm")
    assert decode(shipped).shape == (128, 128, 3)
    note(
        "Image formats",
        "pydicom's CT_small.dcm",
        "recog predict RUN CT_small.dcm",
        "128 x 128 px, rescaled and windowed",
    )
    large = tmp_path / "large.png"
    Image.new("L", (8000, 7000)).save(large)
    with pytest.raises(RecogError, match="limits.max_pixels") as refusal:
        decode(large)
    note("Image formats", "56 megapixels", "recog train FOLDER", str(refusal.value), tmp_path)


def refused(source, *options):
    result = run("scan", source, *options, expect=3)
    return next(line for line in result.output.splitlines() if line.startswith(("error: ", "cannot be trained on: ")))


def test_what_is_refused_has_a_sentence(tmp_path):
    write_zip(IMAGES, tmp_path)
    with zipfile.ZipFile(tmp_path / "outer.zip", "w") as outer:
        outer.write(tmp_path / "pets.zip", "pets.zip")
    (tmp_path / "a.rar").write_bytes(b"Rar!\x1a\x07\x01\x00")
    (tmp_path / "a.7z").write_bytes(b"7z\xbc\xaf\x27\x1c")
    (tmp_path / "a.tar.zst").write_bytes(b"\x28\xb5\x2f\xfd")
    write_text(tmp_path / "columns" / "list.csv", "photo,animal\na.png,ant\n")
    write_text(tmp_path / "empty" / "labels.csv", "when,where\n1,2\n")
    for made, source in {
        "address": "https://example.org/pets.zip",
        "bucket": "s3://bucket/pets",
        "a zip in a zip": tmp_path / "outer.zip",
        "RAR": tmp_path / "a.rar",
        "7z": tmp_path / "a.7z",
        "Zstandard": tmp_path / "a.tar.zst",
        "a list with unknown columns": tmp_path / "columns" / "list.csv",
        "a folder with a list that cannot be used": tmp_path / "empty",
    }.items():
        note("Refused", made, f"recog train {source}", refused(source).partition(": ")[2], tmp_path)
    assert "--path-column" in ROWS[-2][3]
    assert "labels.csv" in ROWS[-1][3]


def test_hints(tmp_path):
    write_folder(IMAGES, tmp_path / "masks")
    for file in sorted((tmp_path / "masks").rglob("*.png")):
        file.with_name(f"{file.stem}_mask.png").write_bytes(file.read_bytes())
    images = labelled_pngs(8)
    write_named(images, tmp_path / "loose", "{name}.{i}.png")
    write_named(images, tmp_path / "joined")
    rows = "".join(f"{name}{i}.png,{name}{'|small' if i % 2 else ''}\n" for name, i in images)
    write_text(tmp_path / "joined" / "list.csv", f"path,label\n{rows}")
    rows = "".join(f"{name}{i}.png,{name},{'train' if i else 'test'}\n" for name, i in images)
    write_text(tmp_path / "joined" / "words.csv", f"path,label,part\n{rows}")
    shown = {
        ("masks beside images", tmp_path / "masks"): r"note: .*--exclude '\*_mask.png'.*",
        ("joined labels", tmp_path / "joined" / "list.csv"): r"(?:note|warning): .*--label-separator '?\|'?.*",
        (
            "a column of split words without a usual name",
            tmp_path / "joined" / "words.csv",
        ): r"note: .*part.*--split-column.*",
        (
            "unlabelled test images",
            unlabelled_test(IMAGES, tmp_path / "unlabelled"),
        ): r"note: .*recog predict RUN .*test",
    }
    for (made, source), pattern in shown.items():
        text = run("scan", source).output
        found = re.search(pattern, text)
        assert found, text
        note("Suggested by recog scan", made, f"recog scan {source}", found[0], tmp_path)
    text = refused(tmp_path / "loose")
    assert "--label-pattern '{label}.{number}.png'" in text
    note("Suggested by recog scan", "labels in file names", "recog scan loose", text.partition(": ")[2], tmp_path)
    for number in (1, 2):
        folder = write_folder(labelled_pngs(number), tmp_path / f"few-{number}")
        made, text = f"images of each class: {number}", refused(folder).partition(": ")[2]
        note("Suggested by recog scan", made, f"recog scan few-{number}", text, tmp_path)
    assert "--split none" in text


def test_what_programs_hold(tmp_path):
    torch, torchvision = pytest.importorskip("torch"), pytest.importorskip("torchvision")
    pandas, polars = pytest.importorskip("pandas"), pytest.importorskip("polars")
    folder = write_folder(IMAGES, tmp_path / "pets")
    paths = sorted(folder.rglob("*.png"))
    labels = [path.parent.name for path in paths]
    stack = np.stack([np.asarray(Image.open(path)) for path in paths])
    dataset = torchvision.datasets.ImageFolder(folder, transform=torchvision.transforms.ToTensor())
    plain = torchvision.datasets.ImageFolder(folder)
    files, pixels = digest(open_source(folder)), digest(read_items((stack, labels)))
    frame = {"path": list(map(str, paths)), "species": labels}
    number_of = {name: i for i, name in enumerate(plain.classes)}
    held = {
        "(paths, labels)": ((paths, labels), files),
        "[(path, label), ...]": (list(zip(paths, labels, strict=True)), files),
        "pandas.DataFrame({'path': ..., 'species': ...})": (pandas.DataFrame(frame), files),
        "polars.DataFrame(...)": (polars.DataFrame(frame), files),
        "X uint8 [N, H, W, C], y": ((stack, labels), pixels),
        "(tensor [N, C, H, W], y)": ((torch.from_numpy(stack).permute(0, 3, 1, 2), labels), pixels),
        "ImageFolder": (plain, pixels),
        "ImageFolder(transform=ToTensor())": (dataset, pixels),
        "Subset": (torch.utils.data.Subset(plain, range(len(plain))), pixels),
        "ConcatDataset": (
            torch.utils.data.ConcatDataset([torch.utils.data.Subset(plain, part) for part in (range(5), range(5, 12))]),
            pixels,
        ),
        "one-hot rows": (Labelled(stack, [np.eye(3)[number_of[label]] for label in labels], plain.classes), pixels),
        "tensor([y])": (Labelled(stack, [torch.tensor([number_of[label]]) for label in labels], plain.classes), pixels),
    }
    for made, (source, expected) in held.items():
        found = read_items(source)
        assert digest(found) == expected, made
        said = f"; {found.notes[0]}" if found.notes else ""
        note("Python", made, "recog.train(source)", f"12 images, 3 classes, same fingerprint{said}", tmp_path)
    with pytest.raises(RecogError) as refusal:
        recog.scan(torch.utils.data.DataLoader(plain))
    note("Python", "DataLoader", "recog.train(source)", f"refused: {refusal.value}")


class Labelled:
    def __init__(self, images, labels, classes):
        self.images, self.labels, self.classes = images, labels, classes

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        return self.images[index], self.labels[index]


def test_weights(tmp_path, monkeypatch):
    torch = pytest.importorskip("torch")
    from safetensors.torch import save_file
    from small_models import build

    from recog.models.config import ModelConfig, with_bundle
    from recog.models.names import known_network

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    network = build("resnet8").classifier.network
    state, others = network.state_dict(), build("resnet8", num_classes=7).classifier.network.state_dict()

    def below(prefix):
        return {f"{prefix}{key}": value for key, value in state.items()}

    saved = {f"a{suffix}": state for suffix in (".pth", ".pt", ".bin", ".ckpt")} | {
        f"{key}.pth": {key: state, "epoch": 3} for key in ("state_dict", "model", "model_state_dict", "ema")
    }
    saved |= {
        f"{prefix}.pth": below(f"{prefix}.")
        for prefix in ("module", "model", "backbone", "encoder", "student", "_orig_mod")
    }
    saved |= {"lightning.ckpt": {"state_dict": below("model."), "pytorch-lightning_version": "2.5"}, "head.pth": others}
    for name, content in saved.items():
        torch.save(content, name)
    save_file(state, "a.safetensors")
    for name in ("a.safetensors", *saved):
        model = build("resnet8", weights=name)
        body = [key for key in state if not key.startswith("fc.")]
        assert (
            all(torch.equal(state[key], model.classifier.network.state_dict()[key]) for key in body)
            or name == "head.pth"
        )
        note(
            "Weights",
            f"torch.save or safetensors: {name}",
            f"recog train DATA --model resnet8 --weights {name}",
            model.origin.source,
        )
    torch.save({key: value for key, value in state.items() if "blocks" not in key}, "half.pth")
    torch.save(network, "whole.pt")
    for made, name in {"part of the body": "half.pth", "a whole pickled module": "whole.pt"}.items():
        with pytest.raises(RecogError) as refusal:
            build("resnet8", weights=name)
        assert len(str(refusal.value).splitlines()) <= 5
        note(
            "Weights",
            f"{made}: {name}",
            f"recog train DATA --model resnet8 --weights {name}",
            f"refused: {refusal.value}",
        )
    exec("\n".join(line.strip() for line in str(refusal.value).splitlines()[1:]), {"torch": torch})
    assert torch.equal(
        build("resnet8", weights="weights.pth").classifier.network.state_dict()["fc.bias"], state["fc.bias"]
    )
    note(
        "Weights",
        "its two lines, run",
        "recog train DATA --model resnet8 --weights weights.pth",
        "the tensors that were saved",
    )
    shutil.copytree(BUNDLE, "runs/old/bundle")
    found = with_bundle(ModelConfig(weights="old"))
    assert (found.name, found.image_size, found.mean is None) == ("resnet8", (8, 8), False)
    note("Weights", "a run by name", "recog train DATA --weights old", "resnet8, 8 x 8 pixels, mean and std of the run")
    official = "timm/resnet18.a1_in1k"
    for written in (
        official,
        f"hf-hub:{official}",
        f"hf_hub:{official}",
        "ResNet18",
        "resnet-18",
        "dinov2_small",
        "vit",
    ):
        note(
            "Model names",
            "as people write it",
            f"recog train DATA --model {written}",
            f"means {known_network(written)}",
        )


def test_where_answers_go(tmp_path, monkeypatch):
    pytest.importorskip("pyarrow")
    from sklearn.datasets import load_digits

    monkeypatch.chdir(tmp_path)
    Path("photos").mkdir()
    files = [Path("photos") / f"{i}.png" for i in range(4)]
    for file, image in zip(files, load_digits().images, strict=False):
        file.write_bytes(png(np.round(image * (255 / 16)).astype(np.uint8)))
    with zipfile.ZipFile("photos.zip", "w") as archive:
        for file in files:
            archive.write(file, file.name)
    write_text("list.txt", "".join(f"{file}\n" for file in files))
    write_text("ids.csv", "id,label\n" + "".join(f"{i},?\n" for i in range(4)))
    expected = [row["label"] for row in json.loads(run("predict", BUNDLE, "photos", "--json").stdout)]
    for given in (["photos/*.png"], ["photos.zip"], ["--from", "list.txt"], ["ids.csv", "--images", "photos"]):
        assert [row["label"] for row in json.loads(run("predict", BUNDLE, *given, "--json").stdout)] == expected
        note(
            "Answers",
            "four digits",
            shlex.join(["recog", "predict", "RUN", *given]),
            "the same answers as of the folder",
        )
    one = json.loads(run("predict", BUNDLE, "-", "--json", stdin=files[0].read_bytes()).stdout)
    assert one[0]["label"] == expected[0]
    note("Answers", "an image on standard input", "recog predict RUN - < photos/0.png", "the same answer")
    before = {file: file.read_bytes() for file in files}
    for options, made in {
        ("--output", "a.csv"): "a.csv", ("--output", "a.json"): "a.json", ("--output", "a.jsonl"): "a.jsonl",
        ("--output", "a.parquet"): "a.parquet", ("--csv", "b.csv"): "b.csv", ("--sheet", "a.html"): "a.html",
        ("--sort-into", "sorted"): "sorted", ("--sort-into", "linked", "--link"): "linked",
        ("--output", "part.csv", "--shard", "2/4"): "part.csv", ("--output", "s.csv", "--columns", "id,label"): "s.csv",
    }.items():  # fmt: skip
        result = run("predict", BUNDLE, "photos", *options)
        assert Path(made).exists()
        said = next(line for line in result.output.splitlines() if made in line)
        note("Answers", "four digits", shlex.join(["recog", "predict", "RUN", "photos", *options]), said)
        assert {file: file.read_bytes() for file in files} == before  # nothing is moved
        if "--csv" not in options:  # which asks then whether b.csv is a list to read
            run("predict", BUNDLE, "photos", *options, expect=3)  # nor overwritten
    assert Path("part.csv").read_text().splitlines()[1].startswith("photos/1.png,")
    unsure = run("predict", BUNDLE, "photos", "--min-confidence", "1.0")
    said = next(line for line in unsure.output.splitlines() if line.startswith("unsure"))
    note("Answers", "four digits", "recog predict RUN photos --min-confidence 1.0", said)
    answer = recog.load(BUNDLE).predict(files[0]).to_dict(top=1)
    note("Answers", "Prediction.to_dict(top=1)", "recog.load(RUN).predict(file).to_dict(top=1)", ", ".join(answer))
