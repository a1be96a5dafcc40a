"""The study on disk or in a database, by Optuna: opening it, and its trials as rows."""

from __future__ import annotations

import contextlib
import os
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast, get_args

from recog.core.errors import ConfigError, DataError, MissingExtraError, one_line
from recog.core.files import open_regular
from recog.core.text import visible
from recog.tuning.lost_trials import GRACE_S, HEARTBEAT_S, run_again
from recog.tuning.space import Space, Value

if TYPE_CHECKING:
    import optuna
    from optuna.storages import BaseStorage
    from optuna.trial import FrozenTrial

Sampler = Literal["tpe", "random"]
NUM_NEAR = 10  # trials near the default recipe, before TPE has enough to learn from
CONNECT_S = 10
State = Literal["done", "pruned", "failed", "running", "waiting"]


@dataclass(frozen=True, kw_only=True)
class TrialRow:
    """One trial. `score` and `nll` are those of its answers to the images that trials are measured on."""

    number: int
    state: State
    recipe: str = ""
    settings: Mapping[str, Value] = field(default_factory=dict)  # by setting
    factors: frozenset[str] = frozenset()  # the settings whose value is a factor on what is planned without it
    score: float | None = None  # accuracy, or mAP of multi-label images
    nll: float | None = None  # calibrated by a temperature
    epochs: int = 0  # that were trained; 0 of a head
    num_epochs: int = 0  # that are planned
    seconds: float | None = None  # so far, of a trial that runs
    full_s: float = 0.0  # with the time of features that an earlier trial had computed
    own_s: float = 0.0  # of a head, without its features
    reason: str = ""  # of a pruned or failed trial
    is_default: bool = False  # the recipe without a search
    by_epoch: Mapping[int, float] = field(default_factory=dict)  # score by epoch
    plan: Mapping[str, Any] = field(default_factory=dict)  # of a trial that is done: every setting of the run
    answers: str = ""  # see recog.tuning.optimism

    @property
    def labelled(self) -> dict[str, Value]:
        """The settings, those that are factors as 'optim.lr x default'."""
        return {f"{name} x default" if name in self.factors else name: value for name, value in self.settings.items()}

    @property
    def last_score(self) -> float | None:
        """That of the last epoch, of a trial of gradient training."""
        return self.by_epoch[max(self.by_epoch)] if self.by_epoch else None

    @property
    def left_s(self) -> float | None:
        """Expected seconds until the end of a trial that runs, at the pace of its epochs; None before the first one."""
        done = max(self.by_epoch, default=0)
        if not done or self.seconds is None:
            return None
        return self.seconds / done * max(0, self.num_epochs - done)

    @property
    def rank(self) -> tuple[float, float]:
        """The greater, the better: the score, of equals the lower NLL."""
        return (-1.0 if self.score is None else self.score), -(self.nll or 0.0)


def best_of(rows: Sequence[TrialRow], count: int) -> list[TrialRow]:
    """The best `count` of those that are done, the best first; of equals the earlier one."""
    done = [row for row in rows if row.state == "done"]
    return sorted(done, key=lambda row: (-row.rank[0], -row.rank[1], row.number))[:count]


@contextlib.contextmanager
def quiet_optuna() -> Iterator[None]:
    """A block in which Optuna logs errors only and gives no warnings on what it calls experimental."""
    import optuna

    level = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            warnings.filterwarnings("ignore", category=UserWarning, module="optuna")
            yield
    finally:
        optuna.logging.set_verbosity(level)


def check_sampler(name: str) -> Sampler:
    """`name` as one of the samplers. ConfigError."""
    found = next((known for known in get_args(Sampler) if known == name), None)
    if found is None:
        raise ConfigError(f"--sampler is '{visible(name)}'; it must be one of {', '.join(get_args(Sampler))}.")
    return cast("Sampler", found)


def check_storage(where: str) -> None:
    """ConfigError where `where` can be no storage, found without importing Optuna."""
    if "://" in where:
        return
    folder = Path(where).absolute().parent
    if not where or not folder.is_dir() or Path(where).is_dir():
        raise ConfigError(
            f"--storage is '{visible(where)}'; expected a journal file in a folder that exists, or a URL such as "
            "sqlite:///study.db or postgresql+psycopg://USER@HOST/DATABASE."
        )


def open_storage(where: str) -> BaseStorage:
    """The journal file or database `where`; it is created where it is missing. ConfigError where it cannot be used."""
    from optuna.storages import JournalStorage, RDBStorage
    from optuna.storages.journal import JournalFileBackend

    shown = _without_password(where)
    try:
        if "://" not in where:
            # absolute, as Optuna waits for ever at the lock of a killed process where its link leads nowhere
            return JournalStorage(JournalFileBackend(os.path.abspath(where)))
        return RDBStorage(
            where,
            engine_kwargs={"connect_args": _connect_args(where), "pool_pre_ping": True},
            heartbeat_interval=HEARTBEAT_S,
            grace_period=GRACE_S,
            heartbeat_stale_trial_callback=run_again,
        )
    except ImportError:
        raise MissingExtraError(
            f"--storage {shown} needs a database driver that is not installed. For PostgreSQL: pip install 'recog[postgresql]', "
            "and a URL that begins with postgresql+psycopg://."
        ) from None
    except (OSError, ValueError) as error:
        raise ConfigError(f"--storage {shown} is no journal of a study: {one_line(error)}.") from None
    except Exception as error:  # SQLAlchemy's own tree of errors, and those of each driver
        if not type(error).__module__.startswith(("sqlalchemy", "alembic", "optuna", "builtins")):
            raise
        raise ConfigError(f"--storage {shown} cannot be used: {one_line(_cause(error))}.") from None


def _cause(error: Exception) -> Exception:
    """The driver's own error, which SQLAlchemy keeps in `orig`."""
    found = getattr(error, "orig", None) or getattr(error.__cause__, "orig", None)
    return found if isinstance(found, Exception) else error


def _connect_args(url: str) -> dict[str, Any]:
    if url.startswith("sqlite"):
        return {"timeout": 60}  # seconds to wait for another process's write
    return {} if "pg8000" in url.partition("://")[0] else {"connect_timeout": CONNECT_S}


def _without_password(where: str) -> str:
    return visible(re.sub(r"://([^:@/]*):[^@]*@", r"://\1:***@", where))


def repair_journal(path: Path) -> None:
    """Remove what a process that was killed left of the journal that no other process uses: its lock, an unfinished line."""
    Path(f"{path}.lock").unlink(missing_ok=True)
    if not path.is_file():
        return
    with open_regular(path, "r+b", error=DataError) as file:
        data = file.read()
        end = data.rfind(b"\n") + 1
        if end < len(data):
            file.truncate(end)


@dataclass(frozen=True, kw_only=True)
class StudyFacts:
    """What makes a study the same: processes with other facts may not join it."""

    fingerprint: str  # of the data
    space: Mapping[str, Any]
    config: Mapping[str, Any]  # of the runs, without places
    measured_on: str
    score_name: str


def open_study(storage: BaseStorage, name: str, facts: StudyFacts, *, where: str) -> optuna.Study:
    """The study `name`, new or as other processes made it. DataError or ConfigError where it is of other data or settings."""
    import optuna

    study = optuna.create_study(storage=storage, study_name=name, direction="maximize", load_if_exists=True)
    known, shown = study.user_attrs, _without_password(where)
    ours = {key: getattr(facts, key) for key in StudyFacts.__dataclass_fields__}
    if "fingerprint" not in known:
        if study.trials:
            raise ConfigError(f"the study '{name}' in {shown} is not one of recog tune; choose another --name.")
        for key in reversed(ours):  # the fingerprint last: with it the facts are complete
            study.set_user_attr(key, ours[key])
        return study
    if known["fingerprint"] != facts.fingerprint:
        raise DataError(
            f"the study '{name}' in {shown} was made with other data: its fingerprint is {known['fingerprint'][:19]}, that of "
            f"these images {facts.fingerprint[:19]}. Give the same data, or choose another --name."
        )
    for key in ("space", "config", "measured_on"):
        if known.get(key) != ours[key]:
            raise ConfigError(
                f"the study '{name}' in {shown} was started with another {key}; use the same options and space file, or choose "
                "another --name."
            )
    return study


def build_sampler(kind: Sampler, *, seed: int, number: int, fixed: Mapping[str, Value]) -> optuna.samplers.BaseSampler:
    """The sampler of trial `number`: its chance is a function of seed and number, so that a study that is resumed goes on as
    it would have. `fixed` are parts of the space that it does not choose.
    """
    from optuna.samplers import PartialFixedSampler, RandomSampler, TPESampler

    own_seed = (seed * 1_000_003 + number) % (1 << 32)
    base: optuna.samplers.BaseSampler
    if kind == "random":
        base = RandomSampler(seed=own_seed)
    else:  # every choice that Optuna 5 changed is stated
        base = TPESampler(seed=own_seed, n_startup_trials=NUM_NEAR, multivariate=True, group=True, constant_liar=True)
    return PartialFixedSampler(dict(fixed), base) if fixed else base


def describe_sampler(kind: Sampler, seed: int) -> str:
    import optuna

    if kind == "random":
        return f"random search, seed {seed}, Optuna {optuna.__version__}"
    return (
        f"TPE, seed {seed}, after {NUM_NEAR} trials that change a few settings of the default recipe, multivariate within the "
        f"settings of a recipe, constant liar, Optuna {optuna.__version__}"
    )


def rows_of(study: optuna.Study, space: Space) -> list[TrialRow]:
    """The trials in order, without those that were queued twice or ran again."""
    return [_row(trial, space) for trial in study.get_trials(deepcopy=False) if not _is_hidden(trial)]


def _is_hidden(trial: FrozenTrial) -> bool:
    is_lost = trial.state.name == "FAIL" and "reason" not in trial.user_attrs  # run again, or by Optuna's heartbeat
    return "repeats" in trial.user_attrs or is_lost


_STATES: Mapping[str, State] = {
    "COMPLETE": "done",
    "PRUNED": "pruned",
    "FAIL": "failed",
    "RUNNING": "running",
    "WAITING": "waiting",
}


def _row(trial: FrozenTrial, space: Space) -> TrialRow:
    facts = trial.user_attrs
    settings = {name.partition("/")[2]: value for name, value in trial.params.items() if "/" in name}
    begun = trial.datetime_start
    ended = datetime.now() if trial.state.name == "RUNNING" else trial.datetime_complete
    recipe = str(facts.get("recipe") or trial.params.get("recipe", ""))
    return TrialRow(
        number=trial.number,
        state=_STATES[trial.state.name],
        recipe=recipe,
        settings=settings,
        factors=frozenset(each.setting for each in space.dimensions if each.recipe == recipe and each.times_default),
        score=trial.value if trial.state.name == "COMPLETE" else None,
        nll=facts.get("nll"),
        epochs=facts.get("epochs", 0),
        num_epochs=facts.get("num_epochs", 0),
        seconds=None if begun is None or ended is None else (ended - begun).total_seconds(),
        full_s=facts.get("full_s", 0.0),
        own_s=facts.get("own_s", 0.0),
        reason=facts.get("reason", ""),
        is_default=bool(facts.get("default")),
        by_epoch=trial.intermediate_values,
        plan=facts.get("plan", {}),
        answers=facts.get("answers", ""),
    )
