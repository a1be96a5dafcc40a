"""The 16 kinds of bad datasets (reliability.md 3.3, kinds 27 to 42; and 44), as generators: nothing of them is kept in git.

A case builds its data in an empty folder and returns what a user would name. `expected` is the verdict: 'refused' (a
DataError), 'untrainable' (scan names the problem, training would stop), 'left out' (named and counted, the rest is used),
'warned' or 'read'. `says` is a pattern that the message, the list of what was left out, or the notes must hold.
"""

import gzip
import io
import os
import socket
import struct
import tarfile
import unicodedata
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from archive_bombs import REFUSED, zip_that_claims_less
from containers import add, labelled_pngs, write_folder, write_parquet, write_shards, write_text

CAT, DOG = "cat", "dog"
HEAD = "path,label\n"


@dataclass(frozen=True)
class Case:
    kind: int
    name: str
    build: Callable[[Path], Path]
    expected: str
    says: str
    num_images: int | None = None  # that remain in use


CASES: list[Case] = []


def case(kind, name, expected, says="", num_images=None):
    def register(build):
        CASES.append(Case(kind, name, build, expected, says, num_images))
        return build

    return register


def pets(folder, per_class=4):
    return write_folder(labelled_pngs(per_class, classes=(CAT, DOG)), folder)


def split_pets(folder):
    images = list(labelled_pngs(8, classes=(CAT, DOG)).items())
    write_folder(dict(images[0::2]), folder / "train")
    write_folder(dict(images[1::2]), folder / "test")
    return folder


def listed(folder, text, encoding="utf-8"):
    pets(folder)
    write_text(folder / "list.csv", text, encoding)
    return folder / "list.csv"


ROWS = "".join(f"{name}/{i:03d}.png,{name}\n" for name in (CAT, DOG) for i in range(4))


@case(27, "empty folder", "refused", "holds nothing")
def _(folder):
    return folder


@case(28, "one class", "untrainable", "one class only")
def _(folder):
    return write_folder(labelled_pngs(4, classes=(CAT,)), folder)


@case(29, "empty class folder", "untrainable", "class 'eel' .* has no usable image")
def _(folder):
    (folder / "eel").mkdir()
    return pets(folder)


@case(30, "class with one image", "untrainable", "class 'eel' .* has 1 image; at least 3")
def _(folder):
    write_folder(labelled_pngs(1, classes=("eel",), size=9), folder)
    return pets(folder)


@case(
    30,
    "60 classes of three images",
    "warned",
    "train gets 33% of the images, not 70%, as 60 of 60 classes .* than 7",
    180,
)
def _(folder):
    return write_folder(labelled_pngs(3, classes=tuple(f"c{i}" for i in range(60)), size=8), folder)


@case(31, "a class that one split lacks", "untrainable", r"split 'test' .* lacks 1 of 3 classes: eel")
def _(folder):
    write_folder(labelled_pngs(2, classes=("eel",), size=9), folder / "train")
    return split_pets(folder)


@case(31, "a class spelt in two ways", "untrainable", "spelt alike")
def _(folder):
    split_pets(folder)
    (folder / "test/dog").rename(folder / "test/Dog")
    return folder


@case(32, "the same file in train and test", "warned", "1 image is in more than one split", 16)
def _(folder):
    split_pets(folder)
    first = min((folder / "train/cat").iterdir())
    min((folder / "test/cat").iterdir()).write_bytes(first.read_bytes())
    return folder


@case(33, "the same image under two labels", "warned", "1 image is under different classes", 8)
def _(folder):
    pets(folder)
    (folder / "dog/000.png").write_bytes((folder / "cat/000.png").read_bytes())
    return folder


@case(34, "NFC and NFD twins of a class", "warned", "2 folders spell the class 'caf\u00e9' in two Unicode forms", 12)
def _(folder):
    for i, form in enumerate(("NFC", "NFD")):
        write_folder(labelled_pngs(2, classes=(unicodedata.normalize(form, "café"),), size=8 + i), folder)
    return pets(folder)


@case(34, "emoji, newline and 255-byte names", "read", "", 11)
def _(folder):
    data = list(labelled_pngs(3, classes=("x",), size=9).values())
    pets(folder)
    for name, image in zip(("\N{CAT FACE}.png", "two\nlines.png", "n" * 251 + ".png"), data, strict=True):
        (folder / "cat" / name).write_bytes(image)
    return folder


@case(35, "classes that differ by case only", "warned", "'Cat' and 'cat' differ by case only", 12)
def _(folder):
    write_folder(labelled_pngs(4, classes=("Cat",), size=9), folder)
    return pets(folder)


@case(36, "a link that leads in a circle", "left out", "cat/loop: the same folder again", 8)
def _(folder):
    pets(folder)
    (folder / "cat/loop").symlink_to(folder)
    return folder


@case(36, "a link out of the folder", "warned", "1 link leads out of", 9)
def _(folder):
    pets(folder / "data")
    (folder / "outside.png").write_bytes(labelled_pngs(1, size=9)["ant", 0])
    (folder / "data/cat/link.png").symlink_to(folder / "outside.png")
    return folder / "data"


@case(36, "a broken link", "warned", "link.png: it is a link to a missing file")
def _(folder):
    pets(folder)
    (folder / "cat/link.png").symlink_to(folder / "nowhere.png")
    return folder


@case(37, "a pipe", "warned", "pipe.png: .*pipe")
def _(folder):
    pets(folder)
    os.mkfifo(folder / "cat/pipe.png")
    return folder


@case(37, "a socket", "warned", "s.png: .*socket")
def _(folder):
    pets(folder)
    old = os.getcwd()
    os.chdir(folder / "cat")  # a socket's path may have 107 bytes only
    try:
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind("s.png")
    finally:
        os.chdir(old)
    return folder


@case(37, "a device", "warned", "zero.png: .*device")
def _(folder):
    pets(folder)
    (folder / "cat/zero.png").symlink_to("/dev/zero")
    return folder


@case(38, "litter of macOS, Windows and notebooks", "left out", "hidden or left behind by a tool", 8)
def _(folder):
    pets(folder)
    for name in (".DS_Store", "cat/Thumbs.db", "__MACOSX/cat/._000.png", "cat/.hidden.png", ".ipynb_checkpoints/x.png"):
        write_text(folder / name, "litter")
    return folder


@case(
    38, "folders of file systems, NAS systems and Windows", "left out", "lost.found: hidden or left behind by a tool", 8
)
def _(folder):
    pets(folder)
    for name in (
        "lost+found/x",
        "System Volume Information/x",
        "$RECYCLE.BIN/x.png",
        "@eaDir/x.png",
        "cat/@eaDir/x.png",
    ):
        write_text(folder / name, "litter")
    return folder


@case(38, "runs, bundles and evaluations of recog", "left out", "runs: written by recog", 8)
def _(folder):
    pets(folder)
    for name in ("runs/a/train.lock", "runs/b/bundle/recog.json", "best/recog.json", "cat/out/report.json"):
        write_text(folder / name, "{}")
    write_text(folder / "cat/out/report.html", "")
    return folder


_COCO = '{"images": [{"id": 1, "file_name": "%s"}], "annotations": [%s], "categories": [{"id": 1, "name": "cat"}]}'
_BOX = '{"image_id": 1, "category_id": 1}'
_PIXELS = "label," + ",".join(f"pixel{i}" for i in range(64)) + "\n"
OTHER_LISTS = (  # name, text, verdict, what is said
    ("x.txt", "cat/000.png cat\n../x.png cat\n", "'../x.png', which leads out of"),
    ("x.txt", "cat/000.png\n", "line 1 is 'cat/000.png', a path without a label"),
    ("x.json", '{"cat/000.png": "cat", "/etc/passwd": "cat"}', "'/etc/passwd', which leads out of"),
    ("x.json", '{"cat": ["cat/000.png", "../x.png"], "dog": ["dog/000.png"]}', "'../x.png', which leads out of"),
    ("x.json", '{"cat/000.png": "cat", "cat/000.png": "dog"}', "a key occurs twice"),
    ("x.json", "[" * 1_000_000, "is nested more than"),
    ("x.json", '{"cat/000.png": ' + '{"a":' * 100_000, "is nested|is not valid JSON"),
    ("x.json", _COCO % ("../../etc/passwd", _BOX), "which leads out of"),
    ("x.json", _COCO % ("cat/000.png", '{"image_id": 7, "category_id": 1}'), "the image_id '7', which no image"),
    ("x.json", _COCO % ("cat/000.png", '{"image_id": 1e400, "category_id": 1}'), "x.json"),
    ("x.csv", _PIXELS + "1," + ",".join(["-1"] * 64) + "\n", "line 2 has the pixel '-1'"),
    ("x.csv", _PIXELS + "1," + ",".join(["9" * 5000] * 64) + "\n", "line 2 has the pixel '9999"),
    ("x.csv", "label,pixels\n1," + "0 " * 65_000 + "\n", "has 65,000 pixels an image, which make no square"),
)


for number, (name, text, says) in enumerate(OTHER_LISTS):

    @case(39, f"{name} {number}", "refused", says)
    def _(folder, name=name, text=text):
        return write_text(pets(folder) / name, text)


@case(39, "CSV: missing column", "refused", r"has no column 'label'.*; it has: path, lable.*Did you mean 'lable'")
def _(folder):
    return listed(folder, "path,lable\n" + ROWS)


@case(39, "CSV: duplicate rows", "left out", r"cat/000.png: listed again \(line 10\)", 8)
def _(folder):
    return listed(folder, HEAD + ROWS + "cat/000.png,cat\n")


@case(39, "CSV: one path, two labels", "refused", "line 10 gives 'cat/000.png' the label 'dog'")
def _(folder):
    return listed(folder, HEAD + ROWS + "cat/000.png,dog\n")


@case(39, "CSV: absolute path", "refused", "'/etc/passwd', which leads out of")
def _(folder):
    return listed(folder, HEAD + ROWS + "/etc/passwd,cat\n")


@case(39, "CSV: ../ path", "refused", "'cat/../../x.png', which leads out of")
def _(folder):
    return listed(folder, HEAD + ROWS + "cat/../../x.png,cat\n")


@case(39, "CSV: absolute path below the list", "read", "", 8)
def _(folder):
    return listed(folder, HEAD + ROWS.replace("cat/003.png", str(folder / "cat/003.png")))


@case(39, "CSV: byte order mark and CRLF", "read", "", 8)
def _(folder):
    return listed(folder, "\ufeff" + (HEAD + ROWS).replace("\n", "\r\n"))


@case(39, "CSV: Latin-1", "refused", "is not UTF-8: line 10 has the byte 0xe9")
def _(folder):
    return listed(folder, HEAD + ROWS + "cat/000.png,café\n", "latin-1")


@case(39, "CSV: UTF-16", "refused", "UTF-16")
def _(folder):
    return listed(folder, HEAD + ROWS, "utf-16")


@case(
    39,
    "CSV: labels absent",
    "refused",
    r"2 of 8 images of .* have no label, more than 1%; the first: .*dog/001.png: no label",
)
def _(folder):
    rows = ROWS.replace("cat/000.png,cat\n", "").replace("dog/001.png,dog\n", "")
    return listed(folder, HEAD + rows + "dog/001.png,\n\ncat/000.png,\n")


@case(39, "CSV: classes called null and NaN", "read", "", 8)
def _(folder):
    return listed(folder, HEAD + ROWS.replace(f",{CAT}", ",null").replace(f",{DOG}", ",NaN"))


@case(39, "CSV: labels as 1.0", "warned", "labels such as 1.0 were read as 1", 8)
def _(folder):
    return listed(folder, HEAD + ROWS.replace(",cat", ",0.0").replace(",dog", ",1.0"))


@case(39, "CSV: labels that are measurements", "refused", "has the label 0.37, a fraction")
def _(folder):
    return listed(folder, HEAD + ROWS.replace(",cat", ",0.37").replace(",dog", ",1.5"))


@case(39, "CSV: a row with too few cells", "refused", "line 10 has 1 cell, but the header has 2. Add the missing cells")
def _(folder):
    return listed(folder, HEAD + ROWS + "cat/000.png\n")


@case(39, "CSV: a row with too many cells", "refused", "line 10 has 3 cells, but the header has 2")
def _(folder):
    return listed(folder, HEAD + ROWS + "cat/000.png,a,b\n")


@case(39, "CSV: missing file", "warned", "cat/gone.png: there is no such file")
def _(folder):
    return listed(folder, HEAD + ROWS + "cat/gone.png,cat\n")


@case(40, "Parquet: cut off", "refused", "damaged or cut off")
def _(folder):
    path = write_parquet(labelled_pngs(4, classes=(CAT, DOG)), folder / "p")
    path.write_bytes(path.read_bytes()[:-100])
    return path


@case(40, "Parquet: garbled within", "refused", "damaged or cut off")
def _(folder):
    path = write_parquet(labelled_pngs(4, classes=(CAT, DOG)), folder / "p")
    data = bytearray(path.read_bytes())
    data[4:60] = b"\xff" * 56
    path.write_bytes(data)
    return path


@case(40, "shard: cut off", "refused", "pets-000001.tar is damaged at byte .* cut off")
def _(folder):
    root = write_shards(labelled_pngs(4, classes=(CAT, DOG)), folder / "s")
    shard = root / "pets-000001.tar"
    shard.write_bytes(shard.read_bytes()[:1700])
    return root


@case(
    40, "shard: key without label", "refused", "1 of 9 images of s have no label, .*pets-000000.tar/stray.png: no label"
)
def _(folder):
    root = write_shards(labelled_pngs(4, classes=(CAT, DOG)), folder / "s")
    with tarfile.open(root / "pets-000000.tar", "a") as archive:
        add(archive, "stray.png", labelled_pngs(1, size=9)["ant", 0])
    return root


@case(40, "shard: members that are unpickled elsewhere", "left out", "refused: to read .pkl may run code", 8)
def _(folder):
    root = write_shards(labelled_pngs(4, classes=(CAT, DOG)), folder / "s")
    with tarfile.open(root / "pets-000000.tar", "a") as archive:
        for suffix in ("pkl", "pyd", "pth"):
            add(archive, f"cat0000.{suffix}", b"cos\nsystem\n(S'touch /tmp/recog-was-here'\ntR.")
    return root


def zipped(folder, extra=(), images=None):
    path = folder / "pets.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for (name, i), data in (images or labelled_pngs(4, classes=(CAT, DOG))).items():
            archive.writestr(f"{name}/{i}.png", data)
        for name, data in extra:
            archive.writestr(name, data)
    return path


def tarred(folder, *members):
    path = folder / "pets.tar"
    with tarfile.open(path, "w") as archive:
        for (name, i), data in labelled_pngs(4, classes=(CAT, DOG)).items():
            add(archive, f"{name}/{i}.png", data)
        for info in members:
            archive.addfile(info)
    return path


def tar_info(name, kind=tarfile.REGTYPE, target=""):
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


@case(42, "zip bomb of one member", "refused", "taken for an archive bomb")
def _(folder):
    return zipped(folder, [("cat/bomb.png", bytes(50 << 20))])


@case(42, "zip bomb of overlapping members", "refused", "overlap; it is taken for an archive bomb")
def _(folder):
    path = zipped(folder)
    data = bytearray(path.read_bytes())
    at = [i for i in range(len(data)) if data[i : i + 4] == b"PK\x01\x02"]
    for start in at[1:]:
        data[start + 42 : start + 46] = data[at[0] + 42 : at[0] + 46]  # all of them point to the first
    path.write_bytes(data)
    return path


@case(42, "tar.gz bomb", "refused", "taken for an archive bomb")
def _(folder):
    path = folder / "pets.tar.gz"
    with gzip.open(path, "wb") as file, tarfile.open(fileobj=file, mode="w|") as archive:
        info = tarfile.TarInfo("cat/bomb.png")
        info.size = 40 << 20
        archive.addfile(info, io.BytesIO(bytes(40 << 20)))
    return path


@case(42, "more than a million entries", "refused", "1,500,000 entries")
def _(folder):
    path = zipped(folder)
    data = path.read_bytes()
    at = data.rfind(b"PK\x05\x06")
    size, start = struct.unpack_from("<LL", data, at + 12)
    end64 = struct.pack("<4sQ2H2L4Q", b"PK\x06\x06", 44, 45, 45, 0, 0, 1_500_000, 1_500_000, size, start)
    locator = struct.pack("<4sLQL", b"PK\x06\x07", 0, at, 1)
    end = struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, 0xFFFF, 0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF, 0)
    path.write_bytes(data[:at] + end64 + locator + end)
    return path


@case(42, "an archive within", "left out", "cat/more.zip: an archive within an archive", 8)
def _(folder):
    (folder / "inner").mkdir()
    return zipped(folder, [("cat/more.zip", zipped(folder / "inner").read_bytes())])


@case(42, "zip: ../ name", "refused", r"'\.\./\.\./evil.png', which points out of the archive")
def _(folder):
    return zipped(folder, [("../../evil.png", b"x")])


@case(42, "zip: absolute name", "refused", "'/etc/evil.png', which points out")
def _(folder):
    return zipped(folder, [("/etc/evil.png", b"x")])


@case(42, "zip: a Windows drive", "refused", "points out of the archive")
def _(folder):
    return zipped(folder, [("C:\\evil.png", b"x")])


@case(42, "zip: symlink", "warned", "cat/link.png: it is a link in an archive", 8)
def _(folder):
    info = zipfile.ZipInfo("cat/link.png")
    info.create_system, info.external_attr = 3, 0o120777 << 16
    return zipped(folder, [(info, "/etc/passwd")])


@case(42, "zip: duplicate names", "refused", "holds 'cat/0.png' twice")
def _(folder):
    return zipped(folder, [("cat/0.png", b"x")])


@case(42, "zip: cut off", "refused", "no end record, so it was cut off")
def _(folder):
    path = zipped(folder)
    path.write_bytes(path.read_bytes()[:-200])
    return path


@case(42, "zip: wrong checksum", "warned", "cat/0.png: the member of pets.zip is damaged")
def _(folder):
    path = zipped(folder)
    data = bytearray(path.read_bytes())
    data[60:70] = bytes(10)
    path.write_bytes(data)
    return path


@case(42, "tar: ../ name", "refused", "points out of the archive")
def _(folder):
    return tarred(folder, tar_info("cat/../../evil.png"))


@case(42, "tar: absolute name", "refused", "points out of the archive")
def _(folder):
    return tarred(folder, tar_info("/evil.png"))


@case(42, "tar: symlink and hardlink", "warned", "cat/h.png: it is a link in an archive", 8)
def _(folder):
    return tarred(
        folder,
        tar_info("cat/s.png", tarfile.SYMTYPE, "/etc/passwd"),
        tar_info("cat/h.png", tarfile.LNKTYPE, "../../etc/passwd"),
    )


@case(42, "tar: device and pipe", "warned", "cat/d.png: it is a pipe, socket, device", 8)
def _(folder):
    return tarred(folder, tar_info("cat/d.png", tarfile.CHRTYPE), tar_info("cat/p.png", tarfile.FIFOTYPE))


@case(42, "tar: duplicate names", "refused", "holds 'cat/0.png' twice")
def _(folder):
    return tarred(folder, tar_info("cat/0.png"))


@case(42, "tar: a header that claims a gigabyte", "refused", "a header claims 1,073,741,824 bytes")
def _(folder):
    info = tar_info("x", b"x")
    info.size = 1 << 30
    path = folder / "pets.tar"
    path.write_bytes(info.tobuf(tarfile.USTAR_FORMAT) + np.zeros(4096, np.uint8).tobytes())
    return path


for build, says in REFUSED:
    case(42, build.__name__.replace("_", " "), "refused", says)(build)
case(42, "zip that claims less", "warned", "cat/bomb.png: the member of pets.zip is damaged", 8)(zip_that_claims_less)


JXL = b"\0\0\0\x0cJXL \r\n\x87\n" + bytes(200)  # the signature of ISO/IEC 18181-2
NOT_READ = ".*it is not an image that recog reads; it looks like JPEG XL"


def half_jxl(folder, suffix=".jxl"):
    """8 cats, of which 4 are JPEG XL, and 8 dogs."""
    pets(folder, 8)
    for i in range(4):
        (folder / f"cat/{i:03d}.png").unlink()
        (folder / f"cat/{i:03d}{suffix}").write_bytes(JXL + bytes([i]))
    return folder


@case(44, "half a class of .jxl", "untrainable", "cat/000.jxl" + NOT_READ, 12)
def _(folder):
    return half_jxl(folder)


@case(44, "half a class of JPEG XL without a suffix", "untrainable", "cat/000" + NOT_READ, 12)
def _(folder):
    return half_jxl(folder, "")


@case(44, "zip: half a class of JPEG XL of another suffix", "untrainable", "cat/000.jxlc" + NOT_READ, 12)
def _(folder):
    return packed(half_jxl(folder / "a", ".jxlc"), zipfile.ZipFile, folder / "pets.zip")


@case(44, "tar: half a class of .jxl", "untrainable", "cat/000.jxl" + NOT_READ, 12)
def _(folder):
    return packed(half_jxl(folder / "a"), tarfile.open, folder / "pets.tar")


def packed(folder, open_archive, path):
    with open_archive(path, "w") as archive:
        for file in sorted(folder.rglob("*.*")) + sorted(folder.rglob("cat/???")):
            getattr(archive, "write", getattr(archive, "add", None))(file, str(file.relative_to(folder)))
    return path


@case(44, "shard: half a class of JPEG XL of two suffixes", "untrainable", "pets-000002.tar/0.jxl" + NOT_READ, 8)
def _(folder):
    root = write_shards(labelled_pngs(4, classes=(CAT, DOG)), folder / "s")
    with tarfile.open(root / "pets-000002.tar", "w") as archive:
        for i in range(4):
            add(archive, f"{i}.{('jxl', 'blob')[i % 2]}", JXL + bytes([i]))
            add(archive, f"{i}.cls", b"0")
    return root


@case(44, "zip: half a class encrypted", "untrainable", "cat/0.png: it is encrypted", 4)
def _(folder):
    path = zipped(folder)
    data = bytearray(path.read_bytes())
    at = [i for i in range(len(data)) if data[i : i + 4] == b"PK\x01\x02"]
    for start in at[:4]:
        data[start + 8] |= 1  # the flag of the ZIP specification, 4.4.4
    path.write_bytes(data)
    return path


@case(44, "images without a suffix or of an unknown one", "read", "", 10)
def _(folder):
    pets(folder)
    new = list(labelled_pngs(2, classes=("x",), size=9).values())
    (folder / "cat/download").write_bytes(new[0])
    (folder / "dog/photo.jpg_large").write_bytes(new[1])
    return folder


@case(44, "texts that begin as images do", "left out", "dog/cars.txt: not an image file", 8)
def _(folder):
    pets(folder)
    write_text(folder / "dog/cars.txt", "BMW, Audi and others")
    write_text(folder / "dog/pages.txt", "P1 is the first page")
    return folder
