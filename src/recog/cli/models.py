"""`recog models`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from recog.cli.guard import Threads, guarded
from recog.cli.output import print_cells, print_json, print_note, print_rendered
from recog.core.text import plural, visible

if TYPE_CHECKING:
    from rich.console import Console

    from recog.models.listing import NetworkFacts

COLUMNS = ("", "network", "parameters", "input", "top-1", "ms", "weights", "licence")
MARK = "*"
MAX_LICENCE = 20  # characters; a longer one is a remark


@guarded
def models(
    pattern: Annotated[
        str | None, typer.Argument(help="Part of a name, or a pattern such as 'resnet*'; also searches timm.")
    ] = None,
    measure: Annotated[
        bool, typer.Option("--measure", help="Measure the time per image on this machine, some seconds per network.")
    ] = False,
    threads: Threads = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the list as JSON on stdout.")] = False,
) -> None:
    """List the networks that can be trained: parameters, input size, accuracy, time, weights and licence."""

    from recog.models.listing import list_networks, strongest

    networks = list_networks(pattern)
    if measure:
        networks = _measured(networks, threads)
    marked = strongest(networks if measure or pattern is None else list_networks())
    if as_json:
        rows = [_to_dict(facts, is_strongest=facts.name in marked) for facts in networks]
        print_json({"pattern": pattern, "networks": rows})
    elif sys.stdout.isatty():
        print_rendered(lambda console: _print_table(networks, marked, console))
    else:
        print_cells(COLUMNS)
        for facts in networks:
            print_cells(_cells(facts, is_strongest=facts.name in marked))
    for line in _remarks(networks, pattern, measured=measure):
        print_note(line)


def _measured(networks: Sequence[NetworkFacts], threads: int | None) -> list[NetworkFacts]:
    from recog.verbs.bench import measure_networks

    print_note(f"measuring {plural(len(networks), 'network')}, some seconds each")
    found = list(measure_networks(networks, num_threads=threads or 1))
    failed = [facts.name for facts in found if facts.ms is None]
    if failed:
        print_note(f"not measured, as recog cannot train or export them: {', '.join(failed)}")
    return found


def _to_dict(facts: NetworkFacts, *, is_strongest: bool) -> dict[str, object]:
    from dataclasses import asdict

    return {**asdict(facts), "weights_at_hand": facts.at_hand, "is_strongest": is_strongest}


def _cells(facts: NetworkFacts, *, is_strongest: bool) -> list[str]:
    height, width = facts.image_size
    return [
        MARK if is_strongest else "",
        facts.name,
        _count(facts.num_parameters),
        f"{width} x {height}{' grey' if facts.channels == 1 else ''}",
        "" if facts.top1 is None else f"{facts.top1:.1f}%",
        "" if facts.ms is None else f"{facts.ms:.2g}" if facts.ms < 10 else f"{facts.ms:.0f}",
        facts.weights,
        _short(facts),
    ]


def _count(number: int | None) -> str:
    if number is None:
        return "not counted"
    return f"{number / 1e6:.1f} M" if number >= 1_000_000 else f"{number / 1e3:.0f} k"


def _print_table(networks: Sequence[NetworkFacts], marked: set[str], console: Console) -> None:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, collapse_padding=True, header_style="bold")
    for name in COLUMNS:
        is_number = name in ("parameters", "input", "top-1", "ms")
        table.add_column(name, justify="right" if is_number else "left", no_wrap=is_number, overflow="fold")
    for facts in networks:
        table.add_row(*(Text(visible(cell)) for cell in _cells(facts, is_strongest=facts.name in marked)))
    console.print(table)


def _short(facts: NetworkFacts) -> str:
    if facts.weights == "none":
        return ""
    licence = facts.licence or "not stated"
    return licence if len(licence) <= MAX_LICENCE else "see below"


def _remarks(networks: Sequence[NetworkFacts], pattern: str | None, *, measured: bool) -> list[str]:
    """What the table's words mean, and what it leaves out."""
    from recog.models.table import DOWNLOADS

    words = {
        "installed": "installed: with recog's packages",
        "cached": "cached: from an earlier download",
        "download": "download: fetched when first used",
        "none": "none: trained from scratch",
    }
    used = [text for word, text in words.items() if any(facts.weights == word for facts in networks)]
    lines = []
    if any(facts.top1 is not None for facts in networks):
        where = "on this machine" if measured else "on one core of a server; --measure times them here"
        among = "no other of these" if measured and pattern else "no other"
        lines.append(
            f"{MARK} for photos: {among} is both more accurate and faster. top-1: on ImageNet; ms: per image {where}"
        )
    lines.append(f"weights {'; '.join(used)}")
    for licence in dict.fromkeys(
        facts.licence for facts in networks if facts.licence and len(facts.licence) > MAX_LICENCE
    ):
        names = ", ".join(facts.name for facts in networks if facts.licence == licence)
        lines.append(f"licence of {names}: {licence}")
    if any(facts.num_parameters is None for facts in networks):
        lines.append(
            f"{len(networks):,} networks are too many to count the parameters of all; a narrower pattern counts them"
        )
    if pattern is None:
        worth = [
            f"{facts.name} ({facts.licence}): {DOWNLOADS[facts.name]}"
            for facts in networks
            if facts.name in DOWNLOADS and not facts.at_hand
        ]
        if worth:
            lines.append(f"worth a download: {'; '.join(worth)}")
        lines.append(
            "recog train --model takes any of these and of timm's networks; recog models PATTERN searches both"
        )
    return lines
