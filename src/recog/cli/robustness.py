"""`recog robustness`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from recog.cli.guard import Threads, guarded
from recog.cli.labels import BadImages, DataOptions, IncludeSeen, Split, split_columns, with_data_options
from recog.cli.output import from_here, notes, print_json, print_lines, print_note, print_rendered
from recog.core.errors import ConfigError
from recog.core.text import listing

if TYPE_CHECKING:
    from rich.console import Console

    from recog.evaluation.measures.counts import Hits
    from recog.perturbation.attack_suite import AttackReport
    from recog.perturbation.report import CorruptionReport
    from recog.verbs.robustness import Labelled, RobustnessConfig, RobustnessRun

MAX_ROWS = 12


@guarded
@with_data_options
def robustness(
    bundle: Annotated[str, typer.Argument(help="A bundle, a run's folder, or a run's name.")],
    data: Annotated[str, typer.Argument(help="Labelled images: a folder, list or archive of images, or a name.")],
    corruptions: Annotated[
        str,
        typer.Option(
            metavar="NAME,...",
            help="Corruptions, or the groups common, extra, camera; default: all.",
            show_default=False,
        ),
    ] = "",
    severities: Annotated[str, typer.Option(metavar="N,...", help="Severities from 1 to 5; default: all.")] = "",
    limit: Annotated[
        int | None,
        typer.Option(min=1, help="Images to measure, spread over the classes; default: 1000, with --attacks 200."),
    ] = None,
    quick: Annotated[
        bool,
        typer.Option(
            "--quick", help="Seven corruptions at severities 1, 3 and 5 on 200 images; other options go over it."
        ),
    ] = False,
    attacks: Annotated[
        str,
        typer.Option(
            metavar="NAME,...",
            help="fgsm, pgd, apgd-ce, apgd-dlr, square (linf only), or all; corruptions only if given too.",
        ),
    ] = "",
    eps: Annotated[
        str | None, typer.Option(help="Largest change of a pixel in [0, 1]; default: 8/255, for l2 1/2.")
    ] = None,
    norm: Annotated[
        Literal["linf", "l2"], typer.Option(help="linf: of each pixel; l2: length of all changes.")
    ] = "linf",
    restarts: Annotated[int, typer.Option(min=1, help="Random starts of pgd, apgd-ce and apgd-dlr.")] = 1,
    seed: Annotated[int, typer.Option(min=0, help="Random seed.")] = 0,
    split: Split = None,
    out: Annotated[
        Path | None, typer.Option(help="New folder for robustness.json, .csv and .html; default: the run folder.")
    ] = None,
    bad_images: BadImages = "auto",
    include_seen: IncludeSeen = False,
    no_images: Annotated[bool, typer.Option("--no-images", help="Write robustness.html without pictures.")] = False,
    *,
    data_options: DataOptions,
    threads: Threads = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON on stdout.")] = False,
) -> None:
    """Measure accuracy, calibration and 'unknown' on corrupted images, and accuracy under attacks."""
    from recog.perturbation.attack_config import build_attack_config
    from recog.verbs.robustness import build_robustness_config, open_labelled

    attack = build_attack_config(split_columns(attacks), norm=norm, eps=eps, restarts=restarts, quick=quick)
    _check_attack_options(attack is not None, eps, norm, restarts)
    names, numbers = split_columns(corruptions), _numbers(severities)
    config = build_robustness_config(names, numbers, limit, quick=quick, attacks=attack)
    config = replace(config, seed=seed, out=out, num_threads=threads, report_images=not no_images)
    labelled = open_labelled(
        bundle,
        data,
        split=split,
        labels=data_options.labels(),
        layout=data_options.layout(),
        include_seen=include_seen,
    )
    result = _measure_with_bar(labelled, config, bad_images)
    for note in result.notes:
        print_note(note)
    if as_json:
        print_json(result.report.to_dict())
    else:
        found, attacked = result.report.corruptions, result.report.attacks
        if found is not None:
            print_rendered(lambda console: _print_table(found, console))
            print_lines(*_summary(found))
        if attacked is not None:
            print_rendered(lambda console: _print_attacks(attacked, console))
            print_lines(*(f"warning: {flag}" for flag in attacked.flags))
    if result.folder is not None:
        print_note(f"report: {from_here(result.folder / 'robustness.html')}")


def _check_attack_options(are_attacks: bool, eps: str | None, norm: str, restarts: int) -> None:
    given = {"--eps": eps is not None, "--norm": norm != "linf", "--restarts": restarts != 1}
    names = [name for name, is_given in given.items() if is_given]
    if names and not are_attacks:
        raise ConfigError(f"{listing(names)} need --attacks. Add --attacks all, or remove {listing(names)}.")


def _numbers(text: str) -> list[int]:
    try:
        return [int(part) for part in text.split(",") if part]
    except ValueError:
        raise ConfigError(
            f"--severities is '{text}'; expected whole numbers joined by commas, such as 1,3,5."
        ) from None


def _measure_with_bar(
    labelled: Labelled, config: RobustnessConfig, bad_images: Literal["auto", "skip", "error"]
) -> RobustnessRun:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from recog.verbs.robustness import RobustnessRun, robustness_events

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=notes, transient=True, disable=not notes.is_terminal) as progress:
        task = progress.add_task("reading images", total=None)
        for event in robustness_events(labelled, config, bad_images=bad_images):
            if isinstance(event, RobustnessRun):
                return event
            progress.update(task, completed=event.num_done, total=event.num_all, description=event.name)
    raise ConfigError("nothing was measured.")


def _print_table(found: CorruptionReport, console: Console) -> None:
    from rich.table import Table

    from recog.perturbation.page import title_of
    from recog.report.text import percent, percent_range

    low_high = percent_range(found.clean.hits.accuracy_ci95)
    console.print(
        f"{found.clean.hits.num_images:,} images, accuracy as they are {percent(found.clean.accuracy)} ({low_high})"
    )
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("corruption", no_wrap=True)
    severities = sorted({row.severity for row in found.rows})
    for severity in severities:
        table.add_column(f"{severity}", justify="right", no_wrap=True)
    table.add_column("mean", justify="right", no_wrap=True)
    for name, mean in list(found.mean_by_name.items())[:MAX_ROWS]:
        cells = [percent(found.by_name[name][severity].accuracy) for severity in severities]
        table.add_row(title_of(name), *cells, percent(mean))
    console.print(table)
    num_more = len(found.mean_by_name) - MAX_ROWS
    if num_more > 0:
        console.print(f"and {num_more} corruptions with a higher mean")


def _print_attacks(attacked: AttackReport, console: Console) -> None:
    from rich.table import Table

    from recog.perturbation.page import eps_text
    from recog.report.text import percent, percent_range

    def rate(hits: Hits) -> str:
        return f"{percent(hits.accuracy)} ({percent_range(hits.accuracy_ci95)})"

    console.print(
        f"attacks, {attacked.norm} up to {eps_text(attacked.eps)}; accuracy as they are {rate(attacked.clean)}"
    )
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name, justify in (("attack", "left"), ("attacked", "right"), ("fooled", "right"), ("still right", "right")):
        table.add_column(name, justify=justify, no_wrap=True)  # type: ignore[arg-type]
    for row in attacked.rows:
        table.add_row(row.name, f"{row.num_attacked:,}", f"{row.num_fooled:,}", rate(row.robust))
    console.print(table)
    console.print(f"robust accuracy, at most: {rate(attacked.robust)}")


def _summary(found: CorruptionReport) -> list[str]:
    from recog.report.text import percent, percent_range

    lines = [
        f"mean of {mean.title}: {percent(mean.accuracy)} ({percent_range(mean.accuracy_ci95)}), "
        f"relative drop {percent(mean.relative_drop)}"
        for mean in found.means
    ]
    lines.append(_over_rows("ECE", found.clean.ece, [row.ece for row in found.rows], "{:.3f}"))
    if found.clean.unknown_rate is not None:
        rates = [row.unknown_rate or 0.0 for row in found.rows]
        lines.append(_over_rows("answers 'unknown'", found.clean.unknown_rate, rates, "{:.1%}"))
    worst = [f"{row.name} ({row.clean_recall:.1%} to {row.mean_recall:.1%})" for row in found.classes[:3]]
    if len(found.classes) > 1:
        lines.append(f"classes that lose most: {listing(worst)}")
    return lines


def _over_rows(name: str, clean: float, values: Sequence[float], form: str) -> str:
    mean, most = sum(values) / len(values), max(values)
    return f"{name}: {form.format(clean)} as they are, mean {form.format(mean)}, at most {form.format(most)}"
