"""`recog models`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from recog.cli.guard import guarded
from recog.cli.output import print_json, print_note, print_rendered
from recog.core.text import visible

if TYPE_CHECKING:
    from rich.console import Console

    from recog.models.listing import NetworkFacts


@guarded
def models(
    pattern: Annotated[
        str | None, typer.Argument(help="Part of a name, or a pattern such as 'resnet*'; also searches timm.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the list as JSON on stdout.")] = False,
) -> None:
    """List the networks that can be trained: parameters, input size, whether weights are available offline, licence."""

    from recog.models.listing import list_networks

    networks = list_networks(pattern)
    if as_json:
        print_json({"pattern": pattern, "networks": [_to_dict(facts) for facts in networks]})
    else:
        print_rendered(lambda console: _print_table(networks, console))
    for line in _remarks(networks, pattern):
        print_note(line)


def _to_dict(facts: NetworkFacts) -> dict[str, object]:
    from dataclasses import asdict

    return {**asdict(facts), "weights_at_hand": facts.at_hand}


def _print_table(networks: Sequence[NetworkFacts], console: Console) -> None:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("network", overflow="fold")
    table.add_column("parameters", justify="right", no_wrap=True)
    table.add_column("input", justify="right", no_wrap=True)
    table.add_column("weights", no_wrap=True)
    table.add_column("their licence", overflow="fold")
    for facts in networks:
        height, width = facts.image_size
        colour = "grey" if facts.channels == 1 else "colour"
        table.add_row(
            Text(visible(facts.name)),
            "not counted" if facts.num_parameters is None else f"{facts.num_parameters:,}",
            f"{width} x {height} {colour}",
            facts.weights,
            Text(_short(facts)),
        )
    console.print(table)


def _short(facts: NetworkFacts) -> str:
    if facts.weights == "none":
        return ""
    licence = facts.licence or "not stated"
    return licence if len(licence) <= 20 else "see below"


def _remarks(networks: Sequence[NetworkFacts], pattern: str | None) -> list[str]:
    """What the table's words mean, and what it leaves out."""
    words = {
        "installed": "installed: with recog's packages",
        "cached": "cached: from an earlier download",
        "download": "download: fetched when first used",
        "none": "none: trained from scratch",
    }
    used = [text for word, text in words.items() if any(facts.weights == word for facts in networks)]
    lines = [f"weights {'; '.join(used)}"]
    aliases = [f"{facts.name} is {facts.timm_name}" for facts in networks if facts.timm_name not in (None, facts.name)]
    if aliases:
        lines.append(f"in timm {', '.join(aliases)}")
    for licence in dict.fromkeys(facts.licence for facts in networks if facts.licence and len(facts.licence) > 20):
        names = ", ".join(facts.name for facts in networks if facts.licence == licence)
        lines.append(f"licence of {names}: {licence}")
    if any(facts.num_parameters is None for facts in networks):
        lines.append(
            f"{len(networks):,} networks are too many to count the parameters of all; a narrower pattern counts them"
        )
    if pattern is None:
        lines.append(
            "recog train --model takes any of these and of timm's networks; recog models PATTERN searches both"
        )
    return lines
