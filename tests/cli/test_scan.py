"""What `recog scan` prints: one readable screen, whatever the data."""

import contextlib
import io

import numpy as np
import pytest
from containers import idx_bytes, labelled_pngs, png, write_folder, write_named, write_text
from PIL import Image
from typer.testing import CliRunner

from recog.cli import build_app
from recog.cli.scan import _print_report
from recog.verbs.scan import scan


def printed(source):
    with contextlib.redirect_stdout(io.StringIO()) as out:
        _print_report(scan(source).report)
    return out.getvalue()


def test_one_of_a_thing_is_said_in_the_singular(tmp_path):
    images = labelled_pngs(4, classes=("cat", "dog"))
    write_folder(images, tmp_path / "train")
    write_folder(labelled_pngs(2, classes=("cat",), size=9), tmp_path / "test")
    (tmp_path / "train/cat/copy.png").write_bytes(images["cat", 0])
    text = printed(tmp_path)
    assert "split test lacks 1 class: dog" in text
    assert "identical files: 1 copy of 1 image; 0 across classes, 0 across splits" in text


def test_data_without_copies_say_so_in_a_word(tmp_path):
    assert "identical files: none; 0 across classes" in printed(write_folder(labelled_pngs(3), tmp_path))


def test_arrays_are_not_called_files(tmp_path):
    pixels = np.arange(12 * 16, dtype=np.uint8).reshape(12, 4, 4)
    (tmp_path / "train-images-idx3-ubyte").write_bytes(idx_bytes(pixels))
    (tmp_path / "train-labels-idx1-ubyte").write_bytes(idx_bytes([0, 1] * 6))
    assert "no files, but pixels; modes: L 12" in printed(tmp_path)


def test_groups_and_further_columns_are_named(tmp_path):
    images = labelled_pngs(4, classes=("cat", "dog"))
    write_folder(images, tmp_path)
    rows = "".join(f"{name}/{i:03d}.png,{name},patient{i},tele,3\n" for name, i in images)
    text = printed(write_text(tmp_path / "list.csv", f"path,label,group,Lens,hospital\n{rows}"))
    assert "groups: 4, each of which" in text
    assert "further columns, for evaluate --slice: Lens, hospital" in text


def test_many_notes_do_not_leave_the_screen(tmp_path):
    """Forty pairs of classes that differ by case only: forty notes, of which five are printed."""
    for i in range(40):
        for name in (f"kind{i}", f"Kind{i}"):
            write_text(tmp_path / f"{name}/0.png", "")
            (tmp_path / f"{name}/0.png").write_bytes(png(np.full((4, 4), i, np.uint8)))
    report = scan(tmp_path).report
    text = printed(tmp_path)
    assert len(report.notes) == 40
    assert text.count("note: ") == 5
    assert "and 35 notes more; --json lists all" in text
    assert len(text.splitlines()) <= 40


def run(*arguments):
    return CliRunner().invoke(build_app(("scan",)), ["scan", *map(str, arguments)])


@pytest.mark.parametrize("policy", ["none", "strong"])
def test_the_preview_is_drawn_by_the_settings(tmp_path, policy):
    levels = {("dark", 0): np.zeros((8, 8), np.uint8), ("light", 0): np.full((8, 8), 200, np.uint8)}
    images = {(name, i): png(pixels + i) for (name, _), pixels in levels.items() for i in range(4)}
    folder, out = write_folder(images, tmp_path / "data"), tmp_path / "out.png"
    done = run(folder, "--preview", out, "--set", f"augment.policy={policy}")
    assert done.exit_code == 0, done.output
    assert f"policy {policy}" in done.output
    assert Image.open(out).size == (8 * 100, 118)  # one row of 8 images, each enlarged to 96 px


def test_settings_without_a_preview_are_refused():
    done = run("digits", "--set", "augment.policy=strong")
    assert done.exit_code == 2
    assert "Add --preview" in done.output


def test_more_than_50_megapixels_can_be_allowed(tmp_path):
    """One grey level, 7,100 x 7,100 pixels: 50,410,000, a PNG of some 50 kB."""
    folder = write_folder(labelled_pngs(4, classes=("cat", "dog")), tmp_path)
    Image.new("L", (7100, 7100)).save(folder / "cat" / "large.png")
    refused, allowed = run(folder), run(folder, "--set", "limits.max_pixels=50410000")
    assert "50,410,000 in all; the limit is 50,000,000" in refused.output
    assert "bad files: 0" in allowed.output
    assert run(folder, "--set", "limits.max_pixels=200000000").exit_code == 2


def test_labels_in_file_names_and_files_to_leave_out(tmp_path):
    images = labelled_pngs(4, classes=("cat", "dog"))
    for end in ("", "_mask"):
        write_named(images, tmp_path, "{name}.{i}" + end + ".png")
    for i in range(2):
        write_named({("note", i): images["cat", i]}, tmp_path, "{name}{i}.png")
    done = run(tmp_path, "--label-pattern", "{label}.{}.png", "--exclude", "*_mask.png", "--exclude", "note?.png")
    assert done.exit_code == 0, done.output
    assert "8 images, 2 classes" in done.output
    assert "note: left out by --exclude: 8 by '*_mask.png', 2 by 'note?.png'" in done.output
    done = run(tmp_path, "--label-pattern", "{lable}.png")
    assert done.exit_code == 2
    assert "expected {label} once" in done.output
