from pathlib import Path

import pytest
from answers.examples import write_images

from recog.answers.inputs import gather
from recog.answers.stream import Summary
from recog.core.errors import ConfigError, DataError
from recog.runtime.engine_choice import record_engine
from recog.runtime.predictor import load
from recog.verbs.predict import AnswerFiles, AnswerOptions, layout_of, load_for, plan_answers

GOLDEN = Path(__file__).parents[1] / "golden"


@pytest.fixture(scope="module")
def predictor():
    return load(GOLDEN / "digits-format-1-trust", num_threads=1)


@pytest.fixture
def photos(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_images(tmp_path / "photos", [f"{i}.png" for i in range(5)])
    return gather(["photos"])


def plan(predictor, inputs, *, shard=None, files=None, **options):
    return plan_answers(predictor, inputs, AnswerOptions(**options), files or AnswerFiles(), shard=shard)


def test_answers_come_in_order_and_the_counts_last(predictor, photos):
    *answers, summary = plan(predictor, photos).events()
    assert [answer.name for answer in answers] == [f"photos/{i}.png" for i in range(5)]
    assert isinstance(summary, Summary)
    assert (summary.num_images, summary.num_bad, summary.num_of_label.total()) == (5, 0, 5)
    expected = predictor.predict([f"photos/{i}.png" for i in range(5)])
    assert [answer.labels for answer in answers] == [(prediction.label,) for prediction in expected]


def test_the_recorded_engine_serves_many_images_and_a_named_one_any_number(predictor, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    folder, other = GOLDEN / "digits-format-1-trust", "onnxruntime-no-spinning"
    record_engine(predictor.manifest, None, other)
    used = {
        (engine, num_images): load_for(folder, engine, num_images=num_images).engine_name
        for engine in ("auto", "onnxruntime", other)
        for num_images in (63, 64)
    }
    assert used == {
        ("auto", 63): "onnxruntime", ("auto", 64): other, ("onnxruntime", 63): "onnxruntime",
        ("onnxruntime", 64): "onnxruntime", (other, 63): other, (other, 64): other,
    }  # fmt: skip
    with pytest.raises(ConfigError, match="there is no engine 'tpu'; expected auto, onnxruntime"):
        load_for(folder, "tpu", num_images=1)


def test_all_files_are_whole_when_the_counts_come(predictor, photos, tmp_path):
    files = AnswerFiles(output=Path("a.csv"), sheet=Path("a.html"), sort_into=Path("sorted"))
    job = plan(predictor, photos, files=files)
    for event in job.events():
        exists = [path.exists() for path in (files.output, files.sheet, files.sort_into)]
        assert exists == [isinstance(event, Summary)] * 3
    assert len(files.output.read_text().splitlines()) == 6
    assert event.num_sorted == len(list(files.sort_into.rglob("*.png"))) == 5


def test_files_vanish_where_the_caller_stops(predictor, photos, tmp_path):
    before = sorted(tmp_path.rglob("*"))
    files = AnswerFiles(output=Path("a.jsonl"), sheet=Path("a.html"), sort_into=Path("sorted"))
    events = plan(predictor, photos, files=files).events()
    next(events)
    events.close()
    assert sorted(tmp_path.rglob("*")) == before


def test_files_vanish_where_one_cannot_be_made(predictor, photos, tmp_path):
    """The output appears meanwhile: nothing is sorted and no sheet written."""
    files = AnswerFiles(output=Path("a.csv"), sheet=Path("a.html"), sort_into=Path("sorted"))
    events = plan(predictor, photos, files=files).events()
    next(events)
    Path("a.csv").write_text("mine")
    before = {path for path in tmp_path.iterdir() if ".tmp-" not in path.name}
    with pytest.raises(DataError, match="a.csv exists already"):
        list(events)
    assert set(tmp_path.iterdir()) == before
    assert Path("a.csv").read_text() == "mine"


def test_shards_are_the_whole_and_sort_into_one_folder(predictor, photos):
    write_images(Path("others"), ["0.png", "7.png"])
    inputs = gather(["photos", "others"])
    names = []
    for i in (1, 2, 3):
        files = AnswerFiles(output=Path(f"{i}.csv"), sort_into=Path("sorted"))
        *answers, _ = plan(predictor, inputs, files=files, shard=(i, 3)).events()
        names += [answer.name for answer in answers]
    assert names == list(inputs.names)
    sorted_files = {path.name for path in Path("sorted").rglob("*.png")}
    assert sorted_files == {"0.png", "0-2.png", "1.png", "2.png", "3.png", "4.png", "7.png"}


def test_layouts_of_both_tasks(predictor):
    labels = load(GOLDEN / "digits-labels-format-1", num_threads=1)
    assert [column.header for column in layout_of(predictor, AnswerOptions(top=1)).columns] == [
        *("file", "label", "confidence", "error")
    ]
    assert [column.header for column in layout_of(labels, AnswerOptions()).columns][:2] == ["file", "labels"]


@pytest.mark.parametrize(
    ("bundle", "options", "message"),
    [
        ("digits-format-1", {"sets": True}, "makes no prediction sets"),
        ("digits-labels-format-1", {"sets": True}, "are not available for it"),
        ("digits-labels-format-1", {"top": 2}, "--top is for"),
        ("digits-format-1", {"reject": True}, "does not tell what is unknown"),
        ("digits-format-1", {"columns": "labels"}, "which is no column"),
        ("digits-format-1-trust", {"columns": "id,label", "sets": True}, "--sets has no effect"),
    ],
)
def test_options_that_the_bundle_lacks_are_refused(photos, bundle, options, message):
    with pytest.raises(ConfigError, match=message):
        plan(load(GOLDEN / bundle, num_threads=1), photos, **options)


def test_files_are_checked_before_the_work(tmp_path):
    AnswerFiles(output=tmp_path / "a.csv", sheet=tmp_path / "a.html", sort_into=tmp_path / "sorted").check()
    with pytest.raises(ConfigError, match="--link is for --sort-into"):
        AnswerFiles(link=True).check()
    with pytest.raises(ConfigError, match="--output is"):
        AnswerFiles(output=tmp_path / "a.xlsx").check()
    with pytest.raises(ConfigError, match="--sheet is"):
        AnswerFiles(sheet=tmp_path / "a.pdf").check()
