"""What the page and the terminal say of the training behind a report."""

from __future__ import annotations

from collections.abc import Iterator

from recog.evaluation.training_facts import CrossValidation, TrainingFacts
from recog.report.text import percent, plural
from recog.report.trust import Section


def training_sections(facts: TrainingFacts | None) -> list[Section]:
    """One section, or none where the report is not that of a training run."""
    if facts is None:
        return []
    said = [facts.balance_effect, _few_images(facts.cross_validation)]
    return [
        Section(
            title="Training",
            text=" ".join(f"{text[:1].upper()}{text[1:]}." for text in said if text)
            or "What was learnt from, and for how long.",
            columns=("", "What was done"),
            rows=tuple(_rows(facts)),
        )
    ]


def _rows(facts: TrainingFacts) -> Iterator[tuple[str, str]]:
    yield "Network", facts.network
    yield "Recipe", facts.recipe
    yield "Training images", f"{facts.num_images:,}"
    if facts.num_steps:
        stopped = "" if facts.num_epochs == facts.num_planned_epochs else f" of {facts.num_planned_epochs:,} planned"
        yield "Epochs", f"{facts.num_epochs:,}{stopped}; weights of epoch {facts.best_epoch:,}"
        yield "Steps", f"{facts.num_steps:,} of {plural(facts.batch_size, 'image')}"
    yield "Balance of classes", facts.balance if facts.balance_effect else f"{facts.balance}, nothing was done"
    if facts.class_weights:
        yield "Class weights", f"{min(facts.class_weights):.2f} to {max(facts.class_weights):.2f}"
    if (found := facts.cross_validation) is not None:
        yield (
            "Cross-validation",
            f"{found.num_repeats} x {found.num_folds} folds of {plural(found.num_images, 'image')}",
        )
        yield "Accuracy by it", f"{percent(found.accuracy)}, std {percent(found.accuracy_std)} over the repeats"
    if facts.duration_s is not None:
        part = " since it was resumed" if facts.is_resumed else ""
        yield "Run time", f"{duration_text(facts.duration_s)}{part}"


def _few_images(found: CrossValidation | None) -> str:
    if found is None:
        return ""
    return (
        f"a class has only {plural(found.smallest_class, 'training and validation image')}, too few for one split to choose "
        f"by: cross-validation over train and val chose L2 {found.l2:g}, which makes its accuracy slightly too good"
    )


def duration_text(seconds: float) -> str:
    """'48 s', '3 min 5 s', '2 h 7 min'."""
    whole = round(seconds)
    hours, minutes = whole // 3600, whole % 3600 // 60
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {whole % 60} s" if minutes else f"{whole} s"
