import json
import subprocess
import sys

import numpy as np
from containers import labelled_pngs, write_folder, write_text
from PIL import Image

import recog
from recog.cli.scan import _print_report
from recog.verbs.scan import scan


def test_everything_that_a_person_asks(tmp_path):
    """Expected values are those of what is written here."""
    write_folder(labelled_pngs(30, classes=("cat",), size=10), tmp_path / "train")
    write_folder(labelled_pngs(3, classes=("dog",), size=12), tmp_path / "train")
    write_folder(labelled_pngs(3, classes=("cat",), size=11), tmp_path / "test")
    (tmp_path / "test/dog").mkdir()
    copy = (tmp_path / "train/cat/000.png").read_bytes()
    (tmp_path / "train/cat/copy.png").write_bytes(copy)
    (tmp_path / "train/dog/copy.png").write_bytes(copy)
    (tmp_path / "test/cat/copy.png").write_bytes(copy)
    Image.fromarray(np.full((6, 9), 3000, np.uint16)).save(tmp_path / "test/cat/deep.png")
    frames = [Image.new("RGB", (10, 10), colour) for colour in ("red", "blue")]
    frames[0].save(tmp_path / "test/cat/moving.gif", save_all=True, append_images=frames[1:])
    write_text(tmp_path / "test/cat/broken.png", "")
    write_text(tmp_path / "README.md", "notes")
    report = scan(tmp_path).report
    assert report.counts == {"train": (31, 4), "test": (6, 0)}  # without broken.png
    assert report.num_images == 42
    assert report.num_usable_of == {"train": 35, "test": 6}
    assert [e.name for e in report.bad] == ["test/cat/broken.png"]
    assert [e.name for e in report.left_out] == ["README.md"]
    assert [len(names) for names in report.copies] == [4]
    assert len(report.across_classes) == len(report.across_splits) == 1
    assert report.class_map_gaps == {"test": ["dog"]}
    assert report.imbalance == 31 / 4
    images = report.images
    assert (images.num_images, images.num_animated, images.grey16_max) == (41, 1, 3000)
    assert images.formats == {"PNG": 40, "GIF": 1}
    assert (images.widths_px[0], images.widths_px[-1], images.heights_px[0]) == (9, 12, 6)
    assert "lacks 1 of 2 classes: dog" in report.problems[0]
    table = json.loads(json.dumps(report.to_dict()))
    assert table["usable"] is False
    assert table["bad"][0]["name"] == "test/cat/broken.png"


def test_good_data_have_no_problems(tmp_path):
    report = recog.scan(write_folder(labelled_pngs(7), tmp_path)).report
    assert (report.problems, report.warnings, report.bad) == ((), (), ())
    assert report.counts == {"all": (7, 7, 7)}


def test_imbalance_is_a_warning_not_a_problem(tmp_path):
    write_folder(labelled_pngs(40, classes=("cat",)), tmp_path)
    report = scan(write_folder(labelled_pngs(4, classes=("dog",), size=9), tmp_path)).report
    assert report.problems == ()
    assert "the largest class has 10 times" in report.warnings[0]


def command(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "recog", "scan", *map(str, arguments)], capture_output=True, text=True, timeout=120
    )


def test_the_command_fits_on_a_screen_and_ends_with_its_code(tmp_path):
    classes = [f"class{i}" for i in range(60)]
    write_folder(labelled_pngs(3, classes=classes), tmp_path)
    done = command(tmp_path)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) <= 30
    assert "180 images, 60 classes" in done.stdout
    assert "(44 classes between)" in done.stdout
    assert done.stderr == ""
    (tmp_path / "empty").mkdir()
    failed = command(tmp_path, "--json")
    assert failed.returncode == 3
    assert "class 'empty'" in json.loads(failed.stdout)["problems"][0]


def test_names_with_newlines_keep_to_their_line(tmp_path, capsys):
    write_folder(labelled_pngs(3), tmp_path)
    write_text(tmp_path / "ant/two\nlines [bold].png", "")
    _print_report(scan(tmp_path).report)
    assert r"two\nlines [bold].png: it is empty" in capsys.readouterr().out


def test_scan_loads_no_torch(tmp_path):
    code = (
        "import sys, recog; recog.scan(sys.argv[1]); import recog.cli.scan; "
        "print([m for m in ('torch', 'torchvision', 'timm', 'sklearn', 'pandas', 'matplotlib') if m in sys.modules])"
    )
    folder = write_folder(labelled_pngs(3), tmp_path)
    done = subprocess.run([sys.executable, "-c", code, str(folder)], capture_output=True, text=True, timeout=120)
    assert done.stdout.strip() == "[]", done.stderr


def test_several_labels_are_counted_each_with_the_cardinality(tmp_path):
    """5 images with 2, 1, 0, 1, 1 labels: 5 labels, 1.0 an image; cat 3 times, dog 2 times."""
    from recog.data.lists.label_format import LabelFormat

    images = labelled_pngs(5, classes=("x",))
    rows = [("cat|dog", "train"), ("cat", "train"), ("", "train"), ("dog", "test"), ("cat", "test")]
    text = "path,label,split\n"
    for ((_, i), data), (label, split) in zip(images.items(), rows, strict=True):
        (tmp_path / f"{i}.png").write_bytes(data)
        text += f"{i}.png,{label},{split}\n"
    (tmp_path / "list.csv").write_text(text)
    report = scan(tmp_path / "list.csv", labels=LabelFormat(separator="|")).report
    assert (report.task, report.class_names) == ("multilabel", ("cat", "dog"))
    assert report.counts == {"train": (2, 1), "test": (1, 1)}
    assert report.num_images_of == {"train": 3, "test": 2}
    assert report.num_labels_per_image == {"train": (1, 1, 1), "test": (0, 2)}
    assert (report.num_images, report.label_cardinality) == (5, 1.0)
    assert report.to_dict()["label_cardinality"] == 1.0
