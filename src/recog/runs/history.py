"""What a training run was, gathered while it goes, for the report of the network that it ends with."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path

from recog.bundle.seal import REPORT_HTML, REPORT_JSON
from recog.core.errors import ConfigError
from recog.core.files import pretty_json, write_bytes_atomic
from recog.data.balance import describe_balance, loss_weights
from recog.evaluation.results.training_facts import CrossValidation, TrainingFacts
from recog.recipes.events import CrossValidated, LearnEvent, Learnt
from recog.recipes.plan import StepsPlan
from recog.recipes.prepare import Prepared
from recog.report.measure import Measured
from recog.runs.journal import METRICS


class FactGatherer:
    """Takes the events of learning; a run that goes on reads what happened before from its metrics.jsonl."""

    def __init__(self, folder: Path, prepared: Prepared) -> None:
        self._prepared = prepared
        self._cross_validation = _read_cross_validation(folder / METRICS)
        self._learnt = Learnt(num_epochs=0, best_epoch=0, num_steps=0)

    def take(self, event: LearnEvent) -> None:
        if isinstance(event, CrossValidated):
            self._cross_validation = CrossValidation(**asdict(event))
        elif isinstance(event, Learnt):
            self._learnt = event

    def facts(self) -> TrainingFacts:
        prepared, learnt = self._prepared, self._learnt
        plan, dataset = prepared.plan, prepared.dataset
        train = prepared.exact if prepared.larger is None else prepared.larger
        if train is None:
            raise ConfigError("nothing was prepared to learn from.")  # prepare gives one of the two for every recipe
        by_steps = isinstance(plan, StepsPlan)
        is_weighted = plan.balance == "weights" or (plan.balance == "sampler" and not by_steps)
        effect = [text for text in describe_balance(dataset, plan.balance, by_steps=by_steps) if plan.balance != "auto"]
        weights = loss_weights(train.targets, len(dataset.class_names)) if is_weighted else ()
        return TrainingFacts(
            network=prepared.model.name,
            recipe=plan.recipe,
            num_images=len(train.targets),
            num_epochs=learnt.num_epochs,
            num_planned_epochs=plan.optim.epochs if isinstance(plan, StepsPlan) else 0,
            best_epoch=learnt.best_epoch,
            num_steps=learnt.num_steps,
            batch_size=min(plan.images_per_step, len(train.targets)) if isinstance(plan, StepsPlan) else 0,
            balance=plan.balance,
            balance_effect=" ".join(effect),
            class_weights=tuple(float(weight) for weight in weights),
            cross_validation=self._cross_validation,
        )


def _read_cross_validation(path: Path) -> CrossValidation | None:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
        records = [json.loads(line) for line in lines if '"cross_validation"' in line]
        names = CrossValidation.__dataclass_fields__
        found = [{name: record[name] for name in names if name in record} for record in records]
        return CrossValidation(**found[-1]) if found else None
    except (OSError, ValueError, TypeError):
        return None  # of a run that only begins there is none; one that cannot be read is not worth the run


def write_run_report(
    folder: Path, measured: Measured, *, duration_s: float, is_resumed: bool, with_pictures: bool
) -> None:
    """The bundle's report again, in the run's folder, with what only this run is: the time that it took."""
    training = measured.report.training
    if training is None:
        return
    training = replace(training, duration_s=duration_s, is_resumed=is_resumed)
    measured = replace(measured, report=replace(measured.report, training=training))
    write_bytes_atomic(folder / REPORT_JSON, pretty_json(measured.report.to_dict()))
    write_bytes_atomic(folder / REPORT_HTML, measured.html(with_pictures=with_pictures).encode())
