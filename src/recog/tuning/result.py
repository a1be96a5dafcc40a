"""What a study found: the trials, the best one, how much of its score is luck, and which settings mattered."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from recog.core.text import plural
from recog.evaluation.measures.counts import wilson_interval
from recog.report.notes import WIDE_INTERVAL
from recog.report.text import percent, percent_range, spreadsheet_cell
from recog.tuning.optimism import Optimism
from recog.tuning.space import Value
from recog.tuning.storage import TrialRow, best_of

if TYPE_CHECKING:
    import optuna

MIN_IMPORTANT = 8  # trials with a score from which importances are computed
MAX_REASONS = 3
NOT_ESTIMATED = "the optimism of the best score was not estimated, as the answers of the trials were too large to keep"
DEFAULT_IS_BEST = "the default recipe is the best; the search found none that is better"


@dataclass(frozen=True, kw_only=True)
class StudyResult:
    """`rows` are the trials in order; `importances` are shares of the settings, by their names in the study, summing to 1."""

    name: str
    data: str
    rows: tuple[TrialRow, ...]
    score_name: str  # accuracy or mAP
    measured_on: str  # 'val', or 'cross-validation' on train and val
    num_images: int  # that trials are measured on
    sampler: str
    fingerprint: str  # of the data
    optimism: Optimism | None = None
    importances: Mapping[str, float] | None = None
    duration_s: float = 0.0
    version: str = ""

    @property
    def best(self) -> TrialRow | None:
        return next(iter(best_of(self.rows, 1)), None)

    @property
    def default(self) -> TrialRow | None:
        return next((row for row in self.rows if row.is_default and row.state == "done"), None)

    @property
    def counts(self) -> dict[str, int]:
        """Trials by state, without those that wait."""
        return count_states(self.rows)

    def conclusions(self) -> list[str]:
        """The result as sentences."""
        small = [self.small_sample] if self.small_sample else []
        return [*self._trials(), *self._best(), *small, *self._luck()]

    @property
    def summary(self) -> str:
        """The best trial, or that there is none."""
        return next(self._best())

    def remarks(self) -> list[str]:
        """What the best score, its luck and the gain mean, as sentences that do not repeat the numbers."""
        return [f"{text[0].upper()}{text[1:]}." for text in (*self._failures(), *self._verdict())]

    def _verdict(self) -> Iterator[str]:
        best, found = self.best, self.optimism
        if best is None:
            return
        if found is None:
            yield NOT_ESTIMATED
        if best.is_default:
            yield DEFAULT_IS_BEST
        elif found is not None and found.gain_ci95 is not None:
            if found.gain_ci95[0] > 0:
                yield "the best trial is better than the default recipe: the 95% interval of the gain is above 0"
            else:
                yield "no reliable gain over the default recipe: the 95% interval of the gain includes 0"

    @property
    def small_sample(self) -> str:
        """A warning where trials are measured on so few images that scores hardly tell them apart; empty elsewhere."""
        best = self.best
        if best is None or best.score is None or not self.num_images:
            return ""
        interval = None if self.optimism is None else self.optimism.ci95
        if self.score_name == "accuracy":
            interval = wilson_interval(round(best.score * self.num_images), self.num_images)
        if interval is None or interval[1] - interval[0] <= WIDE_INTERVAL:
            return ""
        return (
            f"small sample: {plural(self.num_images, 'image')}, so one of them is {100 / self.num_images:.1f} points; the 95% "
            f"interval of the best score is {percent_range(interval)}, without the choice among trials"
        )

    def _trials(self) -> Iterator[str]:
        states = ", ".join(f"{count} {state}" for state, count in self.counts.items())
        yield f"{plural(sum(self.counts.values()), 'trial')}: {states}"
        yield from self._failures()

    def _failures(self) -> Iterator[str]:
        reasons = Counter(row.reason.partition(":")[0] for row in self.rows if row.state == "failed")
        for reason, count in reasons.most_common(MAX_REASONS):
            yield f"failed, {plural(count, 'trial')}: {reason}"

    def _best(self) -> Iterator[str]:
        best, default = self.best, self.default
        if best is None:
            yield "no trial ended with a result"
            return
        where = "cross-validated" if self.measured_on != "val" else "val"
        yield (
            f"best: trial {best.number}, {where} {self.score_name} {percent(best.score)} on "
            f"{plural(self.num_images, 'image')}; {describe_settings(best)}"
        )
        if default is not None and default is not best:
            yield f"the default recipe, trial {default.number}: {self.score_name} {percent(default.score)}"

    def _luck(self) -> Iterator[str]:
        found, best = self.optimism, self.best
        if best is None:
            return
        if found is None:
            yield NOT_ESTIMATED
            return
        interval = f", no interval: {found.reason}" if found.reason else f", 95% interval {percent_range(found.ci95)}"
        if found.num_trials > 1:
            yield (
                f"the best of {found.num_trials} is optimistic by {100 * max(0.0, found.gap):.1f} points: expected on new images "
                f"{percent(found.corrected)} (bootstrap{interval})"
            )
        if best.is_default:
            yield DEFAULT_IS_BEST
        elif found.gain is not None and found.gain_ci95 is not None:
            low, high = map(points, found.gain_ci95)
            gain = f"{points(found.gain)} points (95% interval {low} to {high})"
            verdict = "" if found.gain_ci95[0] > 0 else "; no reliable gain"
            yield f"gain over the default recipe, optimism removed: {gain}{verdict}"

    def to_dict(self) -> dict[str, Any]:
        """As JSON, for study.json and --json."""
        best, default = self.best, self.default
        return {
            "study": self.name,
            "data": self.data,
            "fingerprint": self.fingerprint,
            "measured_on": self.measured_on,
            "num_images": self.num_images,
            "score_name": self.score_name,
            "sampler": self.sampler,
            "trials": self.counts,
            "best": None if best is None else _facts(best),
            "default": None if default is None else _facts(default),
            "optimism": None if self.optimism is None else self.optimism.to_dict(),
            "small_sample": self.small_sample or None,
            "importances": dict(self.importances or {}),
            "duration_s": round(self.duration_s, 3),
            "recog": self.version,
        }


def points(share: float) -> str:
    """A difference of shares in percentage points, with its sign: '+0.5'; never '-0.0'."""
    return f"{round(100 * share, 1) + 0.0:+.1f}"


def count_states(rows: Sequence[TrialRow]) -> dict[str, int]:
    found = Counter(row.state for row in rows)
    return {state: found[state] for state in ("done", "pruned", "failed", "running") if found[state]}


def _facts(row: TrialRow) -> dict[str, Any]:
    facts = ("number", "recipe", "score", "nll", "epochs", "seconds")
    return {name: getattr(row, name) for name in facts} | {"settings": row.labelled}


def describe_settings(row: TrialRow) -> str:
    """'recipe head, model.name=..., head.l2=0.013'; the default recipe is called that."""
    if row.is_default:
        return f"the default recipe ({row.recipe})"
    settings = ", ".join(f"{name}={short(value)}" for name, value in row.labelled.items())
    return f"recipe {row.recipe}{', ' if settings else ''}{settings}"


def trial_line(row: TrialRow, *, score_name: str, is_best: bool) -> str:
    """What became of a trial that has just ended."""
    outcome = row.reason if row.state == "pruned" else f"{row.state}, {row.reason}"
    if row.score is not None:
        outcome = f"{score_name} {percent(row.score)}"
    seconds = "" if row.seconds is None else f" ({row.seconds:.1f} s)"
    best = ", the best so far" if is_best else ""
    return f"trial {row.number}: {outcome}{best}{seconds}; {describe_settings(row)}"


def running_line(row: TrialRow, *, since: float = 0.0) -> str:
    """A trial that runs, as known `since` seconds: its epoch, the time that it has taken, and what it needs at that pace."""
    done, left = max(row.by_epoch, default=0), row.left_s
    epoch = f"epoch {min(done + 1, row.num_epochs)}/{row.num_epochs}" if row.num_epochs else row.recipe
    score = "" if row.last_score is None else f", val {percent(row.last_score)}"
    expected = "" if left is None else f", {max(0.0, left - since):.0f} s left"
    seconds = f"{(row.seconds or 0.0) + since:.0f} s"
    return f"trial {row.number}: {epoch}{score}, {seconds}{expected}; {describe_settings(row)}"


def short(value: Value) -> str:
    """Numbers to three digits."""
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:.3g}" if isinstance(value, float) else str(value)


@dataclass(frozen=True, kw_only=True)
class TrialEnded:
    """A trial has ended; `best` are the best rows so far, `counts` the trials by state."""

    row: TrialRow
    best: tuple[TrialRow, ...]
    counts: dict[str, int]
    score_name: str
    left: str = ""  # of the search: '1m20s left', or '12 trials left'

    @property
    def line(self) -> str:
        """The event in words."""
        is_best = bool(self.best) and self.best[0].number == self.row.number
        return trial_line(self.row, score_name=self.score_name, is_best=is_best)


def trials_csv(rows: Sequence[TrialRow]) -> str:
    """trials.csv: a line per trial, a column per setting."""
    names = sorted({name for row in rows for name in row.labelled})
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["trial", "state", "default", "recipe", "score", "nll", "epochs", "seconds", *names, "reason"])
    for row in rows:
        numbers = ["" if value is None else f"{value:.6g}" for value in (row.score, row.nll)]
        seconds = "" if row.seconds is None else f"{row.seconds:.2f}"
        settings = [_cell(row.labelled[name]) if name in row.labelled else "" for name in names]
        is_default = str(row.is_default).lower()
        cells = [row.number, row.state, is_default, row.recipe, *numbers, row.epochs, seconds, *settings]
        writer.writerow([*cells, spreadsheet_cell(row.reason)])
    return text.getvalue()


def _cell(value: Value) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def importances_of(study: optuna.Study) -> dict[str, float]:
    """PED-ANOVA, Watanabe et al. (2023), over finished trials and pruned ones, which count with their last score.

    Empty for few, or where all scores are equal.
    """
    import optuna

    states = (optuna.trial.TrialState.COMPLETE, optuna.trial.TrialState.PRUNED)
    found = optuna.create_study(direction="maximize")
    for trial in study.get_trials(deepcopy=False, states=states):
        score = trial.value
        if score is None and trial.intermediate_values:
            score = trial.intermediate_values[max(trial.intermediate_values)]
        if score is not None and trial.params:
            copied = optuna.create_trial(value=score, params=trial.params, distributions=trial.distributions)
            found.add_trial(copied)
    if len(found.trials) < MIN_IMPORTANT or len({trial.value for trial in found.trials}) < 2:
        return {}
    return {name: float(share) for name, share in optuna.importance.get_param_importances(found).items()}
