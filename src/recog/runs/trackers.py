"""`--log-to`: settings, metrics by epoch and report to MLflow or Weights & Biases. No failure of theirs stops a training."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import json
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Protocol

from recog.core.config import flatten
from recog.core.errors import MissingExtraError
from recog.core.files import pretty_json, write_bytes_atomic

TRACKER_FILE = "tracker.json"  # the tracker's id of the run, so that a resumed training continues it
PROJECT = "recog"  # the experiment or project where none is set by the tracker's own variables
MAX_VALUE = 250  # characters of a parameter; MLflow's older servers refuse more


class Tracker(Protocol):
    """A run of one tracker, opened."""

    run_id: str

    def settings(self, table: Mapping[str, Any]) -> None: ...

    def metrics(self, values: Mapping[str, float], step: int) -> None: ...

    def report(self, page: Path) -> None: ...

    def close(self, *, failed: bool) -> None: ...


class MlflowTracker:
    """The server or folder of MLFLOW_TRACKING_URI, the experiment of MLFLOW_EXPERIMENT_NAME."""

    def __init__(self, run: Path, run_id: str | None) -> None:
        mlflow = importlib.import_module("mlflow")
        self._client = mlflow.MlflowClient()
        if run_id is None:
            name = os.environ.get("MLFLOW_EXPERIMENT_NAME", PROJECT)
            found = self._client.get_experiment_by_name(name)
            experiment = found.experiment_id if found else self._client.create_experiment(name)
            run_id = self._client.create_run(experiment, run_name=run.name).info.run_id
        self.run_id = str(run_id)

    def settings(self, table: Mapping[str, Any]) -> None:
        for key, value in table.items():
            self._client.log_param(self.run_id, key, str(value)[:MAX_VALUE])

    def metrics(self, values: Mapping[str, float], step: int) -> None:
        for key, value in values.items():
            self._client.log_metric(self.run_id, key, value, step=step)

    def report(self, page: Path) -> None:
        self._client.log_artifact(self.run_id, str(page))

    def close(self, *, failed: bool) -> None:
        self._client.set_terminated(self.run_id, status="FAILED" if failed else "FINISHED")


class WandbTracker:
    """The project of WANDB_PROJECT; its own files go into the run folder."""

    def __init__(self, run: Path, run_id: str | None) -> None:
        self._wandb = importlib.import_module("wandb")
        self._run = self._wandb.init(
            project=os.environ.get("WANDB_PROJECT", PROJECT), name=run.name, dir=str(run), id=run_id, resume="allow"
        )
        self.run_id = str(self._run.id)

    def settings(self, table: Mapping[str, Any]) -> None:
        self._run.config.update(dict(table), allow_val_change=True)

    def metrics(self, values: Mapping[str, float], step: int) -> None:
        self._run.log({**values, "epoch": step})

    def report(self, page: Path) -> None:
        self._run.log({"report": self._wandb.Html(page.read_text(encoding="utf-8"), inject=False)})

    def close(self, *, failed: bool) -> None:
        self._run.finish(exit_code=int(failed))


TRACKERS: Mapping[str, Callable[[Path, str | None], Tracker]] = MappingProxyType(
    {"mlflow": MlflowTracker, "wandb": WandbTracker}
)


def check_tracker(name: str) -> None:
    """MissingExtraError where the client of the tracker `name` is not installed; 'none' needs none."""
    if name in TRACKERS and importlib.util.find_spec(name) is None:
        raise MissingExtraError(f"--log-to {name} needs its client, which is not installed; run: pip install {name}")


class SafeTracker:
    """A Tracker whose failures become warnings, one for each kind of call; with the name 'none' it does nothing.

    `open` is the first call; without it, or after it failed, the others do nothing.
    """

    def __init__(self, name: str, run: Path) -> None:
        self._name, self._run = name, run
        self._tracker: Tracker | None = None
        self._warned: set[str] = set()
        self._warnings: list[str] = []

    def open(self, settings: Mapping[str, Any]) -> None:
        """Begin the run, or continue the one that a resumed training began, with its settings, nested by section."""
        if self._name not in TRACKERS:
            return
        with self._kept("be opened"):
            path = self._run / TRACKER_FILE
            known = json.loads(path.read_text()).get(self._name) if path.is_file() else None
            self._tracker = TRACKERS[self._name](self._run, known)
            write_bytes_atomic(path, pretty_json({self._name: self._tracker.run_id}))
        if self._tracker is not None:
            with self._kept("take the settings"):
                self._tracker.settings(flatten(settings))

    def metrics(self, kind: str, values: Mapping[str, float | int | str], step: int) -> None:
        """The numbers among `values` of an epoch or head, as `kind/name`."""
        if self._tracker is not None:
            with self._kept("take metrics"):
                numbers = {f"{kind}/{name}": float(v) for name, v in values.items() if isinstance(v, (int, float))}
                self._tracker.metrics(numbers, step)

    def finish(self, page: Path | None, outcome: Mapping[str, float]) -> None:
        """End the run: with the report and the measures on the split that it is about, or without a page as failed."""
        tracker, self._tracker = self._tracker, None
        if tracker is None:
            return
        if page is not None:
            with self._kept("take the report"):
                tracker.metrics({f"report/{name}": value for name, value in outcome.items()}, 0)
                tracker.report(page)
        with self._kept("be closed"):
            tracker.close(failed=page is None)

    def pop_warnings(self) -> list[str]:
        """The warnings since the last call."""
        messages, self._warnings = self._warnings, []
        return messages

    @contextlib.contextmanager
    def _kept(self, act: str) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # noqa: BLE001  no record is worth a run
            if act not in self._warned:
                self._warned.add(act)
                reason = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
                self._warnings.append(f"warning: {self._name} cannot {act} ({reason}); training continues without it")
