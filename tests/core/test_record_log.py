from dataclasses import dataclass

from recog.core.record_log import RecordLog


@dataclass(frozen=True)
class Step:
    name: str
    value: float


def test_records_come_back_without_a_line_that_was_cut_off(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    log = RecordLog("steps", "abc", Step)
    assert log.read() == []
    log.add(Step("a", 0.5))
    log.add(Step("b", 1.5))
    (path,) = tmp_path.rglob("abc.jsonl")
    path.write_bytes(path.read_bytes() + b'{"name": "c", "va')
    assert RecordLog("steps", "abc", Step).read() == [Step("a", 0.5), Step("b", 1.5)]
    log.add(Step("d", 2.5))
    assert RecordLog("steps", "abc", Step).read() == [Step("a", 0.5), Step("b", 1.5), Step("d", 2.5)]
    assert RecordLog("steps", "other", Step).read() == []
    log.remove()
    log.remove()
    assert log.read() == []


def test_a_cache_that_cannot_be_written_does_not_end_the_work(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    log = RecordLog("steps", "abc", Step)
    (tmp_path / "recog" / "steps" / "abc.jsonl").mkdir()  # no file can be opened in its place
    log.add(Step("a", 0.5))
    log.add(Step("b", 1.5))
    log.remove()
