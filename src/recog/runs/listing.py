"""The runs below a folder, from their run.toml and report.json, and the report page of one of them. No torch."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from recog.bundle.manifest import RUNS, run_of
from recog.bundle.seal import REPORT_HTML, REPORT_JSON, RUN_CONFIG
from recog.core.config import did_you_mean, load_toml
from recog.core.errors import BundleError, RecogError
from recog.core.files import natural_key
from recog.core.records import read_record
from recog.core.task import Task
from recog.evaluation.measures.task import TASK_MEASURES


@dataclass(frozen=True, kw_only=True)
class RunSummary:
    """One line of `recog runs`. What a run does not have, or a damaged file does not tell, is None."""

    name: str
    folder: Path
    data: str | None
    recipe: str | None
    model: str | None
    when: datetime  # local time of the report, or of the start of a run without one
    state: str  # finished, unfinished, or what is wrong
    measure: str | None = None  # accuracy; mAP of several labels per image
    value: float | None = None  # of the measure, in [0, 1], on the split that the report is about
    split: str | None = None
    num_images: int | None = None  # that it was measured on


@dataclass(frozen=True, kw_only=True)
class _Data:
    name: str
    split: str | None = None


@dataclass(frozen=True, kw_only=True)
class _Headline:
    """The part of report.json that is listed."""

    task: Task
    data: _Data
    num_images: int
    accuracy: float | None = None
    mean_average_precision: float | None = None


def list_runs(runs: Path = RUNS) -> list[RunSummary]:
    """Every folder in `runs` with a run.toml, the newest first. BundleError where `runs` is no folder."""
    try:
        folders = [path for path in runs.iterdir() if (path / RUN_CONFIG).is_file()]
    except FileNotFoundError:
        return []
    except OSError as error:
        raise BundleError(f"{runs} cannot be listed: {error.strerror}; name a folder of runs.") from None
    found = [_summarise(folder) for folder in sorted(folders, key=lambda folder: natural_key(folder.name))]
    return sorted(found, key=lambda run: run.when, reverse=True)


def find_page(name: str | Path, runs: Path = RUNS) -> Path:
    """The report.html of a run, bundle or evaluation, by its folder or the run's name. BundleError where there is none."""
    places = [Path(name), runs / name] if len(Path(name).parts) == 1 else [Path(name)]
    for folder in places:
        for page in (folder, folder / REPORT_HTML, *_page_of_run(folder)):
            if page.name == REPORT_HTML and os.path.isfile(page):  # never raises, whatever the name
                return page
    for folder in places:
        if os.path.isfile(folder / RUN_CONFIG):
            raise BundleError(
                f"{folder} is unfinished and has no report yet. To resume: recog train --resume {shlex.quote(str(folder))}"
            )
        if os.path.exists(folder):
            raise BundleError(f"{folder} has no {REPORT_HTML}; name a run, a bundle or an evaluation. See recog runs.")
    known = [run.name for run in list_runs(runs)]
    raise BundleError(f"there is no run '{name}'.{did_you_mean(str(name), known) if known else ' See recog runs.'}")


def _page_of_run(bundle: Path) -> list[Path]:
    """The page of the run that `bundle` stands in, if it is a bundle in a run folder."""
    run = run_of(bundle)
    return [] if run is None else [run / REPORT_HTML]


def _summarise(folder: Path) -> RunSummary:
    state = "unfinished"
    data = recipe = model = None
    headline: _Headline | None = None
    try:
        data, recipe, model = _settings(folder)
        if os.path.isfile(folder / REPORT_JSON):
            headline, state = read_record(folder / REPORT_JSON, _Headline), "finished"
    except RecogError as error:
        state = str(error)
    told_by = folder / (REPORT_JSON if headline else RUN_CONFIG)
    summary = RunSummary(
        name=folder.name,
        folder=folder,
        data=data,
        recipe=recipe,
        model=model,
        when=datetime.fromtimestamp(os.stat(told_by).st_mtime).astimezone(),
        state=state,
    )
    if headline is None:
        return summary
    measure = TASK_MEASURES[headline.task].score_name
    return replace(
        summary,
        data=headline.data.name,
        measure=measure,
        value={"accuracy": headline.accuracy, "mAP": headline.mean_average_precision}[measure],
        split=headline.data.split,
        num_images=headline.num_images,
    )


def _settings(folder: Path) -> Iterator[str | None]:
    """Data, recipe and network of run.toml."""
    table = load_toml(folder / RUN_CONFIG)
    sections = [table.get("data"), table, table.get("model")]
    keys = ("source", "recipe", "name")
    for section, key in zip(sections, keys, strict=True):
        value = section.get(key) if isinstance(section, dict) else None
        text = value if isinstance(value, str) and value else None
        yield _name_of_data(folder, text) if text and key == "source" else text


def _name_of_data(folder: Path, source: str) -> str:
    """As a report names data: 'photos' for the folder ../../photos, 'list' for list.csv. Sources are relative to `folder`."""
    path = Path(os.path.abspath(folder / source))
    return path.stem if os.path.isfile(path) else path.name or source
