"""Data whose form misleads (issue kinds 45 to 48 and 57): levels, groups, names, numbers as labels, lines and containers.

They join the cases of bad_datasets, which says what a case is.
"""

import gzip
import io
import json
import tarfile
import zipfile

import numpy as np
from bad_datasets import CASES, CAT, DOG, HEAD, ROWS, case, listed, pets, zipped
from containers import add, labelled_pngs, write_text

FORM_KINDS = (45, 46, 47, 48, 57)
IMAGES = list(labelled_pngs(4, classes=(CAT, DOG)).values())
NAMES = [CAT] * 4 + [DOG] * 4


# 45: folders above or below the classes, and words for splits


def placed(folder, *tops):
    """Four images in each of the folders, no two alike."""
    images = labelled_pngs(4, classes=tuple(map(str, range(len(tops)))))
    for number, top in enumerate(tops):
        (folder / top).mkdir(parents=True)
        for i in range(4):
            (folder / top / f"{i}{'abcdefghijklmnop'[number]}.png").write_bytes(images[str(number), i])
    return folder


for pair in (
    ("seg_train/seg_train", "seg_test/seg_test"),
    ("Train Data", "Test Data"),
    ("train_images", "test_images"),
    ("train1", "test1"),
    ("train", "dev"),
    ("train", "eval"),
    ("Training", "PublicTest"),
):

    @case(45, f"{pair[0]} and {pair[1]}", "read", "", 16)
    def _(folder, pair=pair):
        return placed(folder, *(f"{split}/{name}" for split in pair for name in (CAT, DOG)))


for other in ("holdout", "extra", "inference", "unlabeled"):

    @case(
        45, f"train and {other}", "refused", f"beside them {other}.*--split-folders train=train.*--classes-at-depth 1"
    )
    def _(folder, other=other):
        return placed(folder, *(f"{top}/{name}" for top in ("train", other) for name in (CAT, DOG)))


@case(45, "splits below the classes", "read", "", 16)
def _(folder):
    return placed(folder, *(f"{name}/{split}" for name in (CAT, DOG) for split in ("train", "test")))


@case(45, "classes below groups of classes", "refused", "read in two ways.*--classes-at-depth 1.*--classes-at-depth 2")
def _(folder):
    return placed(folder, "animals/cat", "animals/dog", "plants/rose")


@case(45, "classes below letters", "refused", "read in two ways.*--classes-at-depth 1.*--classes-at-depth 2")
def _(folder):
    return placed(folder, "places/a/airfield", "places/b/beach")


@case(45, "names that repeat below folders of any name", "refused", "--split-folders train=site1,test=site2")
def _(folder):
    return placed(folder, *(f"{top}/{name}" for top in ("site1", "site2") for name in (CAT, DOG)))


@case(45, "CSV: a word for no split", "refused", "the split 'holdout'; it must be train, val or test")
def _(folder):
    return listed(folder, "path,label,split\ncat/000.png,cat,holdout\n")


# 46: what belongs together


@case(46, "sub-folders of classes", "warned", "6 sub-folders; if one is one patient, clip or series, use --group", 24)
def _(folder):
    return placed(folder, *(f"{name}/P{k}{i}" for k, name in enumerate((CAT, DOG)) for i in range(3)))


@case(
    46,
    "the same sub-folders in train and test",
    "warned",
    "same sub-folders are in train and test: P00, P01, P10, P11",
    32,
)
def _(folder):
    names = [(name, f"{k}{i}") for k, name in enumerate((CAT, DOG)) for i in range(2)]
    return placed(folder, *(f"{split}/{name}/P{k}" for split in ("train", "test") for name, k in names))


@case(46, "clips of numbered frames", "warned", "3 sequences of numbered files; if one is one patient, clip", 24)
def _(folder):
    images = list(labelled_pngs(12, classes=(CAT, DOG)).items())
    for (name, i), data in images:
        (folder / name).mkdir(parents=True, exist_ok=True)
        (folder / name / f"clip{i // 4}_{i % 4:04d}.png").write_bytes(data)
    return folder


# 47: classes called null, NaN, NA


def metadata(folder, labels):
    pets(folder)
    rows = [
        {"file_name": f"{name}/{i:03d}.png", "label": label} for (name, i), label in zip(_places(), labels, strict=True)
    ]
    write_text(folder / "metadata.jsonl", "\n".join(map(json.dumps, rows)))
    return folder


def _places():
    return [(name, i) for name in (CAT, DOG) for i in range(4)]


for word in ("null", "NaN", "None", "NA", "nan", "N/A"):

    @case(47, f"CSV: a class called {word}", "read", "", 8)
    def _(folder, word=word):
        return listed(folder, HEAD + ROWS.replace(f",{CAT}", f",{word}"))

    @case(47, f"metadata.jsonl: a class called {word}", "read", "", 8)
    def _(folder, word=word):
        return metadata(folder, [word] * 4 + [DOG] * 4)

    @case(47, f"Parquet: a class called {word}", "read", "", 8)
    def _(folder, word=word):
        return parquet(folder, image=IMAGES, label=[word] * 4 + [DOG] * 4)


@case(47, "folders called null and NaN", "read", "", 8)
def _(folder):
    pets(folder)
    (folder / CAT).rename(folder / "null")
    (folder / DOG).rename(folder / "NaN")
    return folder


@case(47, "metadata.jsonl: null", "refused", "2 of 8 images of .* have no label, more than 1%")
def _(folder):
    return metadata(folder, [None] * 2 + NAMES[2:])


@case(47, "Parquet: null", "refused", "2 of 8 images of t have no label, more than 1%")
def _(folder):
    return parquet(folder, image=IMAGES, label=[None] * 2 + NAMES[2:])


# 48: numbers as labels of a torch Dataset


class Items:
    """A Dataset with numbers as labels; `classes` names them where it is given."""

    def __init__(self, labels, classes=None, images=None):
        self.labels, self.images = labels, images
        if classes is not None:
            self.classes = classes

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, i):
        image = np.full((9, 9), i, np.uint8) if self.images is None else self.images[i]
        return image, self.labels[i]


class Wrapped:
    def __init__(self, dataset):
        self.dataset = dataset

    def __len__(self):
        return len(self.dataset)

    def __getitem__(self, i):
        return self.dataset[i]


LABELS = [0, 1] * 4


@case(48, "names through two wrappers", "read", "", 8)
def _(folder):
    return Wrapped(Wrapped(Items(LABELS, ["dog", "cat"])))


@case(48, "two parts with other names", "refused", "the classes of test are b, a, those of train a, b")
def _(folder):
    return {"train": Items(LABELS, ["a", "b"]), "test": Items(LABELS, ["b", "a"])}


@case(48, "more numbers than names", "refused", "label 2, but there are names for 2 classes")
def _(folder):
    return Items([0, 1, 2] * 3, ["a", "b"])


@case(48, "a number below zero", "refused", "the label '-1'; expected a whole number from 0 on")
def _(folder):
    return Items([-1, 1] * 4)


@case(48, "a fraction", "refused", "the label '0.5'; expected a whole number")
def _(folder):
    return Items([0.5, 1] * 4)


@case(48, "NaN", "refused", "4 of 8 images of items have no label")
def _(folder):
    return Items([float("nan"), 1] * 4)


@case(48, "truth values", "read", "", 8)
def _(folder):
    return Items([True, False] * 4)


# 57: readers of lines and containers


def parquet(folder, **columns):
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.table(columns), folder / "t.parquet")
    return folder / "t.parquet"


@case(57, "Parquet: names as dictionary and as view", "read", "", 8)
def _(folder):
    import pyarrow as pa

    group = pa.array(list("abcdefgh"), pa.string_view())
    return parquet(folder, image=IMAGES, label=pa.array(NAMES).dictionary_encode(), group=group)


@case(57, "Parquet: bytes as view", "read", "", 8)
def _(folder):
    import pyarrow as pa

    return parquet(folder, image=pa.array(IMAGES, pa.binary_view()), label=NAMES)


for name, image, found in (
    ("nested structs", [{"bytes": {"x": data}} for data in IMAGES], "struct<x: binary>"),
    ("texts", [{"bytes": "text"}] * 8, "string"),
    ("lists", [{"bytes": [1, 2]}] * 8, "list<"),
):

    @case(57, f"Parquet: {name} for bytes", "refused", f"'bytes' of the column image of type {found}")
    def _(folder, image=image):
        return parquet(folder, image=image, label=NAMES)


@case(57, "Parquet: a doubled column", "refused", "has the column 'label' twice; keep one of them")
def _(folder):
    import pyarrow as pa
    import pyarrow.parquet as pq

    arrays = [pa.array(IMAGES), pa.array(NAMES), pa.array(NAMES)]
    pq.write_table(pa.Table.from_arrays(arrays, names=["image", "label", "label"]), folder / "t.parquet")
    return folder / "t.parquet"


def tar(*names):
    file = io.BytesIO()
    images = dict(zip((f"{name}/{i}.png" for name, i in labelled_pngs(8, classes=(CAT, DOG))), 2 * IMAGES, strict=True))
    with tarfile.open(fileobj=file, mode="w") as archive:
        for name in names:
            add(archive, name, images[name])
    return file.getvalue()


FIRST = [f"{name}/{i}.png" for name, i in _places()]
SECOND = [f"{name}/{i + 4}.png" for name, i in _places()]


@case(57, "two tar.gz joined", "warned", "is 2 archives, joined one behind the other; all of them are read", 16)
def _(folder):
    (folder / "p.tar.gz").write_bytes(gzip.compress(tar(*FIRST)) + gzip.compress(tar(*SECOND)))
    return folder / "p.tar.gz"


@case(57, "two tar joined", "warned", "is 2 archives, joined", 16)
def _(folder):
    (folder / "p.tar").write_bytes(tar(*FIRST) + tar(*SECOND))
    return folder / "p.tar"


@case(57, "a zip behind a tar", "warned", "goes on behind its end mark, at byte .*; that is not read", 8)
def _(folder):
    (folder / "p.tar").write_bytes(tar(*FIRST) + zipped(folder).read_bytes())
    return folder / "p.tar"


@case(57, "two zips joined", "refused", "is two zip archives, joined one behind the other")
def _(folder):
    path = zipped(folder)
    path.write_bytes(path.read_bytes() * 2)
    return path


def changed_entries(path, **fields):
    """The directory's entries with other `flags` or another `method`."""
    data, at = bytearray(path.read_bytes()), 0
    while (at := data.find(b"PK\x01\x02", at)) >= 0:
        for name, place in (("flags", 8), ("method", 10)):
            if name in fields:
                data[at + place] = fields[name]
        at += 4
    path.write_bytes(data)
    return path


@case(57, "zip: encrypted", "untrainable", "it is encrypted; only its password unpacks it", 0)
def _(folder):
    return changed_entries(zipped(folder), flags=1)


@case(57, "zip: LZMA", "untrainable", r"packed by method 14 \(LZMA\)", 0)
def _(folder):
    with zipfile.ZipFile(folder / "p.zip", "w", zipfile.ZIP_LZMA) as archive:
        for name, data in zip(FIRST, IMAGES, strict=True):
            archive.writestr(name, data)
    return folder / "p.zip"


@case(57, "zip: an unknown method", "untrainable", "packed by method 77;", 0)
def _(folder):
    return changed_entries(zipped(folder), method=77)


@case(57, "metadata.jsonl: U+2028 and U+0085 in a caption", "read", "", 8)
def _(folder):
    pets(folder)
    rows = [f'{{"file_name": "{n}/{i:03d}.png", "label": "{n}", "caption": "a\u2028b\u0085c"}}' for n, i in _places()]
    write_text(folder / "metadata.jsonl", "\n".join(rows))
    return folder


@case(57, "metadata.jsonl: half a surrogate pair in a name", "refused", "half of a surrogate pair")
def _(folder):
    return metadata(folder, ["\ud83d"] * 4 + [DOG] * 4)


@case(57, "metadata.jsonl: a NUL in a name", "refused", "with a NUL character")
def _(folder):
    return metadata(folder, ["c\0t"] * 4 + [DOG] * 4)


@case(
    57,
    "CSV: a name of a million characters",
    "refused",
    "a name of 1,000,000 characters, 'x{40}' and so on; at most 200",
)
def _(folder):
    return listed(folder, HEAD + ROWS.replace(f",{CAT}", "," + "x" * 1_000_000))


assert all(any(each.kind == kind for each in CASES) for kind in FORM_KINDS)
