"""Folders above and below the classes (kind 45), and images that belong together (kind 46).

They join the cases of bad_datasets, which says what a case is.
"""

import zipfile

from bad_datasets import CASES, case
from containers import labelled_pngs, write_text

LAYOUT_KINDS = (45, 46)


def write_tree(root, folders, per_folder=4, name="{i}.png"):
    """`per_folder` images in each of `folders`, all different."""
    images = labelled_pngs(per_folder, classes=tuple(folders))
    for (folder, i), data in images.items():
        path = root / "data" / folder / name.format(i=i)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return root / "data"


def across(tops, classes=("cat", "dog")):
    return [f"{top}/{name}" for top in tops for name in classes]


def in_tree(folders):
    return lambda folder: write_tree(folder, folders)


def in_zip(folders):
    def build(folder):
        root = write_tree(folder, folders)
        with zipfile.ZipFile(folder / "data.zip", "w") as archive:
            for path in sorted(root.rglob("*.png")):
                archive.write(path, path.relative_to(root))
        return folder / "data.zip"

    return build


SPLITS = {
    "the same name twice": ["seg_train/seg_train", "seg_test/seg_test"],
    "words": ["Train Data", "Test Data"],
    "suffixes": ["train_images", "test_images"],
    "numbers": ["train1", "test1"],
    "years": ["train2017", "val2017"],
    "train and dev": ["train", "dev"],
    "train and eval": ["train", "eval"],
    "capitals": ["TRAIN", "PublicTest"],
}
for name, tops in SPLITS.items():
    case(45, f"splits: {name}", "read", "", 16)(in_tree(across(tops)))
    case(45, f"splits in a zip: {name}", "read", "", 16)(in_zip(across(tops)))

case(45, "splits below the classes", "read", "", 16)(in_tree(["cat/train", "cat/test", "dog/train", "dog/test"]))
case(45, "a class called train", "read", "", 12)(in_tree(["train", "car", "bus"]))

for word in ("holdout", "extra", "inference", "unlabeled"):
    says = f"train and beside them {word}.*--split-folders"
    case(45, f"train beside {word}", "refused", says)(in_tree(across(["train", word])))

TWO_READINGS = {
    "kingdoms": ["animals/cat", "plants/rose"],
    "letters": ["a/airfield", "a/alley", "b/beach"],
    "names that repeat": across(["site1", "site2"]),
}
for name, folders in TWO_READINGS.items():
    says = "--classes-at-depth 1.*--classes-at-depth 2"
    case(45, f"two readings: {name}", "refused", says)(in_tree(folders))
    case(45, f"two readings in a zip: {name}", "refused", says)(in_zip(folders))


@case(
    45, "images beside sub-folders", "warned", "whose images are read as of the class above; .*--classes-at-depth 2", 12
)
def _(folder):
    return write_tree(folder, ["cat", "cat/kitten", "dog"])


for word in ("dev", "eval", "PublicTest"):

    @case(45, f"CSV: the split {word}", "read", "", 16)
    def _(folder, word=word):
        root = write_tree(folder, ["cat", "dog"], per_folder=8)
        rows = "".join(f"{n}/{i}.png,{n},{'train' if i % 2 else word}\n" for n in ("cat", "dog") for i in range(8))
        return write_text(root / "list.csv", "path,label,split\n" + rows)


# 46: what belongs together


@case(46, "sub-folders of patients", "warned", "8 sub-folders; if one is one patient, .*--group subfolder", 32)
def _(folder):
    return write_tree(folder, [f"{name}/P{i:03d}" for i, name in enumerate(["benign", "malign"] * 4)])


@case(46, "the same patients in train and test", "warned", "the same sub-folders are in train and test: bP01", 32)
def _(folder):
    classes = [f"{split}/{name}" for split in ("train", "test") for name in ("benign", "malign")]
    return write_tree(folder, [f"{name}/{name[-6]}P0{i}" for name in classes for i in (1, 2)])


@case(46, "frames of clips", "warned", "3 sequences of numbered files; .*--group ", 96)
def _(folder):
    root = folder
    for clip in range(3):
        write_tree(root, ["walk", "run"], per_folder=8 * (clip + 1), name=f"clip{clip:02d}_{{i:04d}}.png")
    return root / "data"


@case(46, "a column of groups", "read", "", 8)
def _(folder):
    root = write_tree(folder, ["cat", "dog"])
    rows = "".join(f"{name}/{i}.png,{name},p{i}\n" for name in ("cat", "dog") for i in range(4))
    return write_text(root / "list.csv", "path,label,group\n" + rows)


assert all(any(each.kind == kind for each in CASES) for kind in LAYOUT_KINDS)
