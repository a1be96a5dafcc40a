"""Plot of a learning-rate range test as a self-contained SVG file."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil, floor, log10

import jinja2

WIDTH, HEIGHT = 640.0, 360.0  # of the plot's inside, in SVG units
NUM_TICKS = 5
_STEPS = (1.0, 2.0, 2.5, 5.0, 10.0)

Point = tuple[float, float, float]  # rate, loss, smoothed loss

_TEMPLATE = """\
<svg xmlns="http://www.w3.org/2000/svg" viewBox="-70 -50 740 470" width="740" height="470" role="img">
<title>{{ title }}</title>
<style>
text { font: 13px system-ui, "Segoe UI", Roboto, "Noto Sans", "Liberation Sans", Arial, sans-serif; fill: #5f5d57; }
.name { fill: #1d1d1b; } .found { fill: #a83814; font-weight: 600; }
.grid { stroke: #dcdad3; fill: none; } .line { stroke: #1b5475; stroke-width: 2.5; fill: none; stroke-linejoin: round; }
.mark { stroke: #a83814; stroke-width: 1.5; stroke-dasharray: 5 4; }
</style>
<rect x="-70" y="-50" width="740" height="470" fill="#fcfcfa"/>
<rect width="{{ width }}" height="{{ height }}" fill="#f4f3ef"/>
<text class="name" x="0" y="-26">{{ title }}</text>
{% for x, label in decades %}
<path class="grid" d="M{{ x }} 0V{{ height }}"/><text x="{{ x }}" y="{{ height + 20 }}" text-anchor="middle">{{ label }}</text>
{% endfor %}
{% for y, label in losses %}
<path class="grid" d="M0 {{ y }}H{{ width }}"/><text x="-10" y="{{ y + 4 }}" text-anchor="end">{{ label }}</text>
{% endfor %}
<text class="name" x="{{ width / 2 }}" y="{{ height + 44 }}" text-anchor="middle">learning rate</text>
<text class="name" x="0" y="-8">loss</text>
<g fill="#1b5475" opacity="0.35">
{% for x, y in dots %}<circle cx="{{ x }}" cy="{{ y }}" r="2.4"/>{% endfor %}

</g>
<path class="line" d="{{ line }}"/>
{% if mark is not none %}
<path class="mark" d="M{{ mark }} 0V{{ height }}"/>
<text class="found" x="{{ mark + shift }}" y="{{ height - 12 }}" text-anchor="{{ anchor }}">{{ found }}</text>
{% endif %}
</svg>
"""


def draw_lr_range(points: Sequence[Point], *, suggestion: float | None, optimizer: str) -> str:
    """Loss against the rate on a logarithmic axis: measured as dots, smoothed as a line, the suggestion marked.

    The loss axis ends a third of the decrease above the first smoothed loss, or where nine of ten losses below that are
    visible, so that divergence does not hide the decrease.
    """
    low, high = log10(points[0][0]), log10(points[-1][0])
    start, bottom = points[0][2], min(smoothed for _, _, smoothed in points)
    top = start + max(0.35 * (start - bottom), 0.05 * abs(start), 1e-6)
    calm = sorted(loss for _, loss, smoothed in points if smoothed <= top)
    top = max(top, calm[int(0.9 * (len(calm) - 1))])
    ticks = nice_ticks(min(bottom, *(loss for _, loss, _ in points)), top)
    floor_of, top = ticks[0], max(top, ticks[-1])

    def x_of(lr: float) -> float:
        return round(WIDTH * (log10(lr) - low) / max(high - low, 1e-9), 1)

    def y_of(loss: float) -> float:
        return round(HEIGHT * (1 - (min(loss, top) - floor_of) / (top - floor_of)), 1)

    mark = None if suggestion is None else x_of(suggestion)
    on_left = mark is not None and mark < WIDTH / 4
    line = [f"{x_of(lr)} {y_of(smoothed)}" for lr, _, smoothed in points if smoothed <= top]
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.from_string(_TEMPLATE).render(
        width=WIDTH,
        height=HEIGHT,
        title=f"Learning-rate range test: {optimizer}, {len(points)} steps",
        decades=[
            (x_of(10.0**power), _power_of_ten(power)) for power in range(ceil(low - 1e-9), floor(high + 1e-9) + 1)
        ],
        losses=[(y_of(value), f"{value:g}") for value in ticks],
        dots=[(x_of(lr), y_of(loss)) for lr, loss, _ in points if loss <= top],
        line="M" + "L".join(line),
        mark=mark,
        shift=8 if on_left else -8,
        anchor="start" if on_left else "end",
        found="" if suggestion is None else f"suggested: {suggestion:g}",
    )


def _power_of_ten(power: int) -> str:
    return f"{10.0**power:g}" if -4 <= power <= 4 else f"1e{power}"


def nice_ticks(low: float, high: float) -> list[float]:
    """About five round numbers, evenly spaced, the first at or below `low` and the last the highest within `high`."""
    rough = max(high - low, 1e-9) / NUM_TICKS
    magnitude = 10.0 ** floor(log10(rough))
    step = magnitude * next(factor for factor in _STEPS if factor * magnitude >= rough * (1 - 1e-9))
    first = floor(low / step + 1e-9)
    return [round(i * step, 12) for i in range(first, floor(high / step + 1e-9) + 1)]
