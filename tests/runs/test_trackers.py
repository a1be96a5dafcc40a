import importlib.util
import sys

import pytest

from recog.core.errors import MissingExtraError
from recog.runs import trackers
from recog.runs.trackers import TRACKER_FILE, SafeTracker, check_tracker


class Recorder:
    """A tracker of the test's own that keeps what it is told, or fails."""

    def __init__(self, run, run_id):
        self.run_id, self.told = run_id or "r1", []
        Recorder.last = self

    def settings(self, table):
        self.told.append(("settings", dict(table)))

    def metrics(self, values, step):
        self.told.append(("metrics", dict(values), step))

    def report(self, page):
        self.told.append(("report", page))

    def close(self, *, failed):
        self.told.append(("close", failed))


class Broken(Recorder):
    def metrics(self, values, step):
        raise ConnectionError("the server is gone\nand more")


@pytest.fixture
def known(monkeypatch):
    monkeypatch.setattr(trackers, "TRACKERS", {"recorder": Recorder, "broken": Broken})


def test_a_run_is_told_in_order(known, tmp_path):
    tracker = SafeTracker("recorder", tmp_path)
    tracker.open({"optim": {"lr": 0.1}, "seed": 3})
    tracker.metrics("epoch", {"val_nll": 0.5, "method": "ridge"}, 1)
    tracker.finish(tmp_path / "report.html", {"accuracy": 0.9})
    tracker.finish(None, {})
    assert Recorder.last.told == [
        ("settings", {"optim.lr": 0.1, "seed": 3}),
        ("metrics", {"epoch/val_nll": 0.5}, 1),
        ("metrics", {"report/accuracy": 0.9}, 0),
        ("report", tmp_path / "report.html"),
        ("close", False),
    ]
    assert tracker.pop_warnings() == []


def test_a_resumed_run_goes_on_with_its_id(known, tmp_path):
    SafeTracker("recorder", tmp_path).open({})
    (tmp_path / TRACKER_FILE).write_text('{"recorder": "r7"}')
    SafeTracker("recorder", tmp_path).open({})
    assert Recorder.last.run_id == "r7"


def test_a_failure_is_one_warning_and_the_rest_goes_on(known, tmp_path):
    tracker = SafeTracker("broken", tmp_path)
    tracker.open({})
    for epoch in (1, 2, 3):
        tracker.metrics("epoch", {"val_nll": 0.5}, epoch)
    assert tracker.pop_warnings() == [
        "warning: broken cannot take metrics (the server is gone); training continues without it"
    ]
    tracker.finish(tmp_path / "report.html", {"accuracy": 0.9})
    assert Recorder.last.told[-1] == ("close", False)


def test_none_does_nothing(tmp_path):
    tracker = SafeTracker("none", tmp_path)
    tracker.open({})
    tracker.metrics("epoch", {"val_nll": 0.5}, 1)
    tracker.finish(None, {})
    assert list(tmp_path.iterdir()) == []


def test_a_client_that_is_missing_is_named_before_training(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match="pip install wandb"):
        check_tracker("wandb")
    check_tracker("none")


def test_mlflow_keeps_parameters_metrics_and_the_report(tmp_path, monkeypatch):
    """A store in a folder, read back by MLflow's own client."""
    import mlflow

    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"file://{tmp_path}/store")
    (tmp_path / "report.html").write_text("<html>")
    tracker = SafeTracker("mlflow", tmp_path)
    tracker.open({"optim": {"lr": 0.1}})
    for epoch, nll in ((1, 0.5), (2, 0.25)):
        tracker.metrics("epoch", {"val_nll": nll}, epoch)
    tracker.finish(tmp_path / "report.html", {"accuracy": 0.9})
    assert tracker.pop_warnings() == []
    client = mlflow.MlflowClient(tracking_uri=f"file://{tmp_path}/store")
    (run,) = client.search_runs([client.get_experiment_by_name("recog").experiment_id])
    assert run.info.status == "FINISHED"
    assert run.data.params == {"optim.lr": "0.1"}
    assert run.data.metrics["report/accuracy"] == 0.9
    assert [(m.step, m.value) for m in client.get_metric_history(run.info.run_id, "epoch/val_nll")] == [
        (1, 0.5),
        (2, 0.25),
    ]
    assert [artifact.path for artifact in client.list_artifacts(run.info.run_id)] == ["report.html"]


def test_training_with_a_tracker_that_fails_ends_well(tmp_path, monkeypatch):
    """The tracker fails at its first metrics; the run is finished and the failure is a note."""
    from recog.recipes.config import ComputeConfig, DataConfig, TrainConfig
    from recog.training.config import OptimConfig
    from recog.verbs import train

    monkeypatch.setattr(trackers, "TRACKERS", {"mlflow": Broken})
    monkeypatch.setitem(sys.modules, "mlflow", sys.modules["json"])  # so that it counts as installed
    config = TrainConfig(
        data=DataConfig(source="digits"),
        optim=OptimConfig(epochs=1),
        compute=ComputeConfig(num_threads=1),
        log_to="mlflow",
    )
    *events, run = train.train_events(config, name="tracked", runs=tmp_path)
    assert isinstance(run, train.Run)
    notes = [event.text for event in events if isinstance(event, train.Note)]
    assert "warning: mlflow cannot take metrics (the server is gone); training continues without it" in notes
    assert Recorder.last.told[0][1]["optim.epochs"] == 1
    assert Recorder.last.told[-1] == ("close", False)
