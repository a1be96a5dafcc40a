"""`recog predict` by what is given and by where the answers go; each line of the tables in docs/predict.md is a case here."""

import csv
import io
import json
import os
import pty
import signal
import subprocess
import sys
import tarfile
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

import recog
from recog.cli import build_app
from recog.cli.predict import TablePrinter, to_output
from recog.core.errors import ConfigError

GOLDEN = Path(__file__).parents[1] / "golden"
BUNDLE = str(GOLDEN / "digits-format-1-trust")
APP = build_app(("predict", "verify"))
NAMES = ["0.png", "1.png", "2.png", "3.png"]


@pytest.fixture
def place(tmp_path, monkeypatch):
    """photos/ with four digits, the same as zip and tar, and lists of them."""
    from sklearn.datasets import load_digits

    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos").mkdir()
    digits = load_digits().images
    for i, name in enumerate(NAMES):
        Image.fromarray(np.round(digits[i] * (255 / 16)).astype(np.uint8)).save(tmp_path / "photos" / name)
    with zipfile.ZipFile("photos.zip", "w") as archive:
        for name in NAMES:
            archive.write(f"photos/{name}", name)
    with tarfile.open("photos.tgz", "w:gz") as archive:
        for name in NAMES:
            archive.add(f"photos/{name}", name)
    Path("list.txt").write_text("".join(f"photos/{name}\n" for name in NAMES))
    Path("list.csv").write_text("path,label\n" + "".join(f"photos/{name},?\n" for name in NAMES))
    Path("ids.csv").write_text("id,label\n0,0\n1,0\n2,0\n3,0\n")  # as a sample submission
    return tmp_path


def run(*arguments, expect=0, stdin=None):
    result = CliRunner().invoke(APP, ["predict", *map(str, arguments)], input=stdin)
    assert result.exit_code == expect, (result.output, result.exception)
    return result


def rows_of(text):
    return list(csv.DictReader(io.StringIO(text)))


@pytest.fixture
def expected(place):
    predictions = recog.load(BUNDLE).predict([f"photos/{name}" for name in NAMES])
    return [(prediction.label, f"{prediction.confidence:.6f}") for prediction in predictions]


@pytest.mark.parametrize(
    ("given", "prefix"),
    [
        (["photos"], "photos/"),
        (["photos/*.png"], "photos/"),
        (["photos/0.png", "photos"], "photos/"),
        (["photos.zip"], "photos.zip/"),
        (["photos.tgz"], "photos.tgz/"),
        (["--from", "list.txt"], "photos/"),
        (["--from", "list.txt", "photos"], "photos/"),
        (["list.csv"], "photos/"),
        (["--from", "list.csv"], "photos/"),
        (["ids.csv", "--images", "photos"], ""),
        (["ids.csv", "--images", "photos", "--path-column", "id", "--encoding", "utf-8"], ""),
    ],
)
def test_every_input_gives_the_same_answers(place, expected, given, prefix):
    rows = rows_of(run(BUNDLE, *given, "--csv").stdout)
    assert [row["file"] for row in rows] == [prefix + name for name in (NAMES if prefix else "0123")]
    assert [(row["label"], row["confidence"]) for row in rows] == expected


@pytest.mark.parametrize("name", ["-", "/dev/stdin"])
def test_one_image_from_standard_input(place, expected, name):
    (row,) = rows_of(run(BUNDLE, name, "--csv", stdin=Path("photos/2.png").read_bytes()).stdout)
    assert (row["file"], row["label"], row["confidence"]) == ("stdin", *expected[2])
    result = run(BUNDLE, name, stdin=b"", expect=3)
    assert "it is empty (0 bytes)" in result.stdout


def test_a_list_from_standard_input(place, expected):
    rows = rows_of(run(BUNDLE, "--from", "-", "--csv", stdin=b"photos/1.png\0photos/3.png\0").stdout)
    assert [(row["label"], row["confidence"]) for row in rows] == [expected[1], expected[3]]


def test_output_as_csv_and_the_habit_of_giving_csv_a_file(place, expected):
    printed = run(BUNDLE, "photos", "--csv").stdout
    for i, arguments in enumerate(
        (["--output", "a.csv"], ["--csv", "b.csv"], ["--csv=c.csv"], ["--csv", "--output", "d.csv"])
    ):
        result = run(BUNDLE, "photos", *arguments)
        assert Path(f"{'abcd'[i]}.csv").read_text() == printed
        assert f"answers: {'abcd'[i]}.csv" in result.stderr
        assert result.stdout.splitlines()[0] == "label\timages"
    assert [(row["label"], row["confidence"]) for row in rows_of(printed)] == expected


def test_output_as_json_lines_and_parquet(place, expected):
    printed = json.loads(run(BUNDLE, "photos", "--json", "--top", 2).stdout)
    run(BUNDLE, "photos", "--top", 2, "--output", "a.json")
    run(BUNDLE, "photos", "--top", 2, "--json", "b.json")
    run(BUNDLE, "photos", "--top", 2, "--output", "a.jsonl")
    assert json.loads(Path("a.json").read_text()) == json.loads(Path("b.json").read_text()) == printed
    assert [json.loads(line) for line in Path("a.jsonl").read_text().splitlines()] == printed
    parquet = pytest.importorskip("pyarrow.parquet")
    run(BUNDLE, "photos", "--output", "a.parquet")
    table = parquet.read_table("a.parquet").to_pylist()
    assert [(row["label"], f"{row['confidence']:.6f}") for row in table] == expected


def test_a_submission(place, expected):
    run(BUNDLE, "photos", "--output", "submission.csv", "--columns", "id,label")
    labels = [label for label, _ in expected]
    assert Path("submission.csv").read_text() == "id,label\n" + "".join(f"{i},{labels[i]}\n" for i in range(4))
    run(BUNDLE, "ids.csv", "--images", "photos", "--output", "again.csv", "--columns", "id,label")
    assert Path("again.csv").read_text() == Path("submission.csv").read_text()
    run(BUNDLE, "photos", "--output", "probs.csv", "--columns", "image_id=name,probs")
    rows = rows_of(Path("probs.csv").read_text())
    assert list(rows[0]) == ["image_id", *(str(digit) for digit in range(10))]
    assert [row[label] for row, (label, _) in zip(rows, expected, strict=True)] == [prob for _, prob in expected]


def test_min_confidence_marks_and_counts(place, expected):
    highest = sorted(float(prob) for _, prob in expected)[-1]
    result = run(BUNDLE, "photos", "--csv", "--min-confidence", highest - 1e-6)
    rows = rows_of(result.stdout)
    assert [row["label"] for row in rows].count("unsure") == 3
    assert [row["confidence"] for row in rows] == [prob for _, prob in expected]
    assert "unsure: 3 of 4 images, below confidence" in result.stderr
    lines = run(BUNDLE, "photos", "--min-confidence", 1).stdout.splitlines()
    assert lines[1].split("\t")[1] == f"unsure ({expected[0][0]})"


def test_sort_into_copies_links_and_never_overwrites(place, expected):
    result = run(BUNDLE, "photos", "--sort-into", "sorted")
    files = {path.relative_to("sorted").as_posix() for path in Path("sorted").rglob("*.png")}
    assert files == {f"{label}/{name}" for name, (label, _) in zip(NAMES, expected, strict=True)}
    assert sorted(path.name for path in Path("photos").iterdir()) == NAMES
    assert "copied 4 files into sorted" in result.stderr
    again = run(BUNDLE, "photos", "--sort-into", "sorted", expect=3)
    assert "exists already; nothing was sorted" in again.stderr
    run(BUNDLE, "photos", "--sort-into", "linked", "--link")
    assert all(path.samefile(f"photos/{path.name}") for path in Path("linked").rglob("*.png"))


def test_sheet(place, expected):
    result = run(BUNDLE, "photos.zip", "--sheet", "sheet.html")
    page = Path("sheet.html").read_text()
    assert page.count("<img") == 4
    assert "photos.zip/0.png" in page
    assert "sheet: sheet.html" in result.stderr


def test_shards_joined_are_the_whole(place):
    whole = run(BUNDLE, "photos", "--csv").stdout.splitlines()
    parts = [run(BUNDLE, "photos", "--csv", "--shard", f"{i}/3") for i in (1, 2, 3)]
    assert [line for part in parts for line in part.stdout.splitlines()[1:]] == whole[1:]
    assert "shard 2 of 3: images 2 to 2 of 4" in parts[1].stderr
    last = run(BUNDLE, "photos", "--shard", "9/9", "--output", "last.csv")
    assert "shard 9 of 9: images 4 to 4 of 4" in last.stderr
    assert len(run(BUNDLE, "photos", "--shard", "1/9", "--csv").stdout.splitlines()) == 1  # no image, a header


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["photos", "--output", "a.txt"], 2, "has to end with .csv, .json, .jsonl or .parquet"),
        (["photos", "--output", "list.csv"], 3, "list.csv exists already; nothing was written"),
        (["photos", "--output", "list.txt/a.csv"], 74, "is not a folder"),
        (["photos", "--json", "--output", "a.csv"], 2, "disagree"),
        (["photos", "--csv-raw", "--output", "a.json"], 2, "disagree"),
        (["photos", "--json", "--csv"], 2, "cannot be combined"),
        (["photos", "--columns", "id"], 2, "--columns is for a file, CSV or JSON"),
        (["photos", "--csv", "--columns", "idd"], 2, "Did you mean 'id'?"),
        (["photos", "--csv", "--columns", "id", "--top", "2"], 2, "--top is for the default columns"),
        (["photos", "--csv", "--columns", "id", "--sets"], 2, "--sets has no effect"),
        (["photos", "photos.zip", "--csv", "--columns", "id"], 3, "have the same id, '0'. Use the file name, id=name"),
        (["photos", "--sort-into", "s", "--top", "2"], 2, "--top and --sets are for a table of answers"),
        (["photos", "--link"], 2, "--link is for --sort-into"),
        (["photos.zip", "--sort-into", "s", "--link"], 2, "can only be copied"),
        (["photos", "--sort-into", "list.txt"], 3, "which is not a folder"),
        (["photos", "--sheet", "sheet.pdf"], 2, "has to end with .html"),
        (["photos", "--shard", "0/2"], 2, "with I from 1 to N"),
        (["photos", "--min-confidence", "80"], 2, "--min-confidence is '80'; it must be at most 1"),
        (["photos", "--names", "gbk"], 2, "--names is for zip archives"),
        (["photos.zip", "--names", "no-such"], 2, "no-such"),
        (["photos", "--path-column", "x"], 2, "--path-column is for lists with columns"),
        (["list.csv", "--path-column", "x"], 3, "which --path-column names"),
        (["ids.csv"], 3, "name the folder of the images: --images DIR"),
        ([], 2, "no image is named"),
        (["--from", "absent.txt"], 3, "cannot be read: No such file"),
    ],
)
def test_what_cannot_be_is_refused_before_any_answer(place, arguments, code, message):
    before = sorted(place.rglob("*"))
    result = run(BUNDLE, *arguments, expect=code)
    assert message in " ".join(result.stderr.split())
    assert result.stdout == ""
    assert sorted(place.rglob("*")) == before


def test_each_reason_is_stated_once_with_its_files(place):
    for name in ("broken.png", "b.png"):
        Path("photos", name).write_bytes(b"no image")
    result = run(BUNDLE, "photos", "absent.png", "--csv", expect=3)
    assert result.stderr.splitlines() == [
        "3 of 7 images could not be used",
        "  photos/b.png and photos/broken.png: it is not an image; its first bytes belong to no known format. Replace the file "
        "with an intact copy or remove it.",
        "  absent.png: there is no such file. Check the path.",
    ]
    assert "1 of 1 image could not be used" in run(BUNDLE, "absent.png", expect=3).stderr


def test_reject_states_the_rate_of_false_alarms(place):
    result = run(BUNDLE, "photos", "--reject", "--json")
    num_unknown = sum(row["is_unknown"] for row in json.loads(result.stdout))
    assert (
        f"unknown: {num_unknown} of 4 images; the threshold allows 5.0% false alarms on images of known classes"
        in result.stderr
    )


def test_several_labels_per_image(place):
    labels = str(GOLDEN / "digits-labels-format-1")
    rows = rows_of(run(labels, "photos", "--csv").stdout)
    assert list(rows[0])[:2] == ["file", "labels"]
    lines = run(labels, "photos").stdout.splitlines()
    assert lines[0] == "image\tlabels\tprobability"
    result = run(labels, "photos", "--csv", "--min-confidence", 1)
    assert all(not row["labels"] for row in rows_of(result.stdout))
    assert "below confidence 1" in result.stderr
    assert {line.split("\t")[1] for line in run(labels, "photos", "--min-confidence", 1).stdout.splitlines()[1:]} == {
        "(no label)"
    }


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (["run", "--csv", "photos"], ["run", "--csv", "photos"]),
        (["run", "photos", "--csv"], ["run", "photos", "--csv"]),
        (["run", "--csv", "new.CSV", "photos"], ["run", "--output", "new.CSV", "photos"]),
        (["run", "photos", "--json=new.json"], ["run", "photos", "--output", "new.json"]),
        (["run", "--columns", "a=b"], ["run", "--columns", "a=b"]),
        (["run", "--columns=a=b", "-"], ["run", "--columns=a=b", "-"]),
        (["run", "--csv", "photos=", "--output="], ["run", "--csv", "photos=", "--output="]),
    ],
)
def test_csv_with_a_file_means_output(given, expected):
    assert to_output(given) == expected


def test_csv_with_a_file_that_exists_is_ambiguous(place):
    with pytest.raises(ConfigError, match="list.csv is ambiguous, as list.csv exists.* write --from list.csv"):
        to_output(["run", "--csv", "list.csv"])


def test_into_a_pipe_every_line_is_whole(capsys):
    from answers.examples import answer, bad, prediction
    from rich.table import Column

    printer = TablePrinter([Column("label"), Column("confidence")], lambda a, r: [(k, f"{p:.2f}") for k, p in r.top(2)])
    printer.add(answer("a.png", prediction([0.75, 0.25], class_names=("[red]cat", "dog"))))
    printer.add(bad("b.png"))
    printer.close()
    assert capsys.readouterr().out.splitlines() == [  # nothing padded, folded or cut
        "image\tlabel\tconfidence",
        "a.png\t[red]cat\t0.75",  # a name is text, not markup
        "a.png\tdog\t0.25",
        "b.png\tnot used: truncated",
    ]


def on_terminal(*arguments, cwd, stdout=None):
    """(what a terminal shows, exit code) of the command on a pseudo-terminal."""
    main, other = pty.openpty()
    command = [sys.executable, "-m", "recog", "predict", BUNDLE, *arguments]
    environment = {**os.environ, "COLUMNS": "100", "TERM": "xterm", "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(command, cwd=cwd, stdout=stdout or other, stderr=other, stdin=other, env=environment)
    os.close(other)
    seen = b""
    try:
        while part := os.read(main, 65536):
            seen += part
    except OSError:  # Linux ends a pseudo-terminal so
        pass
    os.close(main)
    return seen.decode(), process.wait()


@pytest.mark.parametrize(("num_images", "has_bar"), [(200, False), (201, True)])
def test_a_bar_on_a_terminal_above_200_images(place, num_images, has_bar):
    many = place / "many"
    many.mkdir()
    for i in range(num_images):
        (many / f"{i}.png").write_bytes(Path("photos", NAMES[i % 4]).read_bytes())
    seen, code = on_terminal("many", cwd=place)
    assert code == 0
    assert ("predicting" in seen) == has_bar
    assert seen.count("confidence") == (num_images + 199) // 200  # a page per 200 images
    with open(place / "out.csv", "wb") as out:
        seen, code = on_terminal("many", "--csv", cwd=place, stdout=out)
    assert ("predicting" in seen) == has_bar
    assert len((place / "out.csv").read_text().splitlines()) == num_images + 1


def test_ctrl_c_leaves_no_file(place):
    command = [
        sys.executable,
        "-m",
        "recog",
        "predict",
        BUNDLE,
        "photos",
        "-",
        "--output",
        "a.csv",
        "--sheet",
        "a.html",
    ]
    process = subprocess.Popen(  # its last image never comes, so the signal does
        [*command, "--sort-into", "sorted"],
        cwd=place,
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),  # also below a job that ignores it
    )
    deadline = time.monotonic() + 60
    while not list(place.glob("a.csv.tmp-*")) and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    process.wait(timeout=60)  # before stdin is closed
    _, errors = process.communicate()
    assert process.returncode == 130, errors
    assert "interrupted; no file is half-written" in errors
    names = sorted(path.name for path in place.iterdir())
    assert names == ["ids.csv", "list.csv", "list.txt", "photos", "photos.tgz", "photos.zip"]


FULL = """
import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
sys.argv = ['recog', 'predict', {bundle!r}, 'many', '--output', 'a.csv', '--sort-into', 'sorted']
from recog.cli import main
main()
"""


def test_a_full_disk_leaves_no_file(place):
    """A limit on the size of files stands for it: 100 rows of some 20 bytes are more."""
    (place / "many").mkdir()
    for i in range(100):
        os.link(place / "photos" / NAMES[i % 4], place / "many" / f"{i}.png")
    before = sorted(place.rglob("*"))
    done = subprocess.run([sys.executable, "-c", FULL.format(bundle=BUNDLE)], capture_output=True, text=True)
    assert done.returncode == 74, done.stderr
    assert "File too large. Free space or choose another folder." in done.stderr
    assert "Traceback" not in done.stderr
    assert sorted(place.rglob("*")) == before


PLAIN = """
import sys; sys.argv = ['recog', 'predict', {bundle!r}, 'photos', 'photos/0.png']
from recog.cli import main
try: main()
except SystemExit: pass
print(*sys.modules)
"""


def test_the_plain_case_loads_none_of_the_new_parts(place):
    done = subprocess.run(
        [sys.executable, "-c", PLAIN.format(bundle=BUNDLE)], capture_output=True, text=True, check=True
    )
    modules = set(done.stdout.splitlines()[-1].split())
    assert {"jinja2", "pyarrow", "rich.progress", "scipy"}.isdisjoint(modules)
    assert not {name for name in modules if name.startswith(("recog.data", "recog.report.html"))}
    assert {name for name in modules if name.startswith("recog.answers.")} == {
        "recog.answers.inputs",
        "recog.answers.stream",
    }


PEAK = """
import sys; sys.argv = ['recog', 'predict', {bundle!r}, {folder!r}, '--output', {output!r}]
from recog.cli import main
try: main()
except SystemExit as ended: assert not ended.code
print(next(line.split()[1] for line in open('/proc/self/status') if line.startswith('VmHWM')))
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="no /proc")
def test_memory_does_not_grow_with_the_number_of_images(place):
    """Measured by benchmarks/predict_memory.py: 3 % from 1,000 to 20,000 images. The answers stay in order."""
    peaks = []
    for count in (1_000, 20_000):
        folder = place / f"many{count}"
        folder.mkdir()
        for i in range(count):
            os.link(place / "photos" / NAMES[i % 4], folder / f"{i}.png")
        code = PEAK.format(bundle=BUNDLE, folder=folder.name, output=f"{count}.csv")
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        peaks.append(int(done.stdout.split()[-1]))
        assert [row["file"] for row in rows_of(Path(f"{count}.csv").read_text())] == [
            f"{folder.name}/{i}.png" for i in range(count)
        ]
    assert peaks[1] < 1.15 * peaks[0]


def test_explain_needs_a_place_for_maps_and_a_bundle_that_carries_them(place, mapped_bundle):
    for options in ((), ("--csv",), ("--json", "--columns", "file,label"), ("--output", "a.csv")):
        assert (
            "--save DIR (pictures), --sheet FILE.html, or --json"
            in run(mapped_bundle, "photos", "--explain", *options, expect=2).stderr
        )
    assert "carries no feature map" in run(BUNDLE, "photos", "--explain", "--json", expect=2).stderr
    run(mapped_bundle, "photos", "--explain", "--sheet", "s.html", "--save", "out", "--output", "a.jsonl")
    assert Path("s.html").read_text().count('<img class="map"') == 4
    assert Image.open("out/0.png.jpg").width == 2 * 240 + 8
    lines = [json.loads(line) for line in Path("a.jsonl").read_text().splitlines()]
    assert all(list(line["maps"]) == [line["label"]] for line in lines)
