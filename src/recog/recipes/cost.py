"""Which plan fits a time budget: recipe, network, input size and epochs, from measured speeds. Pure, and imports no torch."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from recog.core.errors import ConfigError
from recog.recipes.config import Recipe
from recog.recipes.plan import HEAD_INPUTS, PHOTO_INPUT, PRETRAINED, HeadInput

MAX_HOURS = 1000
AIM = 0.95  # of the budget is planned; the rest is for a machine whose speed varies
LATE = 1.2  # of the time expected for what follows training is kept free of gradient steps
PROBE = 0.15  # of the budget may go into measuring
MARGIN = 1.3  # of the shortest plan, for the budget that an error proposes
ENGINE_GAIN = 6.0  # of ONNX Runtime or OpenVINO over torch's float32, until the engine is measured
MAX_EPOCHS = 200
_DURATION = re.compile(r"(?:(\d+(?:\.\d+)?)h)?(?:(\d+(?:\.\d+)?)m)?(?:(\d+(?:\.\d+)?)s)?")


@dataclass(frozen=True, kw_only=True)
class Budget:
    """The time of the whole command, and when it began, in seconds of time.perf_counter."""

    seconds: float
    started: float


def parse_budget(text: str, *, option: str = "--budget") -> float:
    """Seconds of '90s', '10m', '2h' or '1h30m', given by `option`. ConfigError for anything else."""
    found = _DURATION.fullmatch(text.strip().lower()) if isinstance(text, str) else None
    parts = [0.0 if part is None else float(part) for part in found.groups()] if found else []
    seconds = sum(value * unit for value, unit in zip(parts, (3600, 60, 1), strict=False))
    if not 0 < seconds <= 3600 * MAX_HOURS:
        raise ConfigError(
            f"{option} is {text!r}; expected a time with its unit, such as 90s, 10m, 2h or 1h30m, of at most {MAX_HOURS}h."
        )
    return float(seconds)


def describe_seconds(seconds: float) -> str:
    """As `parse_budget` reads it: '45s', '2m', '1h30m'; whole seconds, rounded up."""
    whole = math.ceil(seconds)
    parts = ((whole // 3600, "h"), (whole % 3600 // 60, "m"), (whole % 60, "s"))
    return "".join(f"{value}{unit}" for value, unit in parts if value) or "0s"


@dataclass(frozen=True, kw_only=True)
class Counts:
    """Images of each split, and classes."""

    train: int
    val: int
    test: int
    classes: int

    @property
    def measured(self) -> int:
        """That the report is measured on."""
        return self.test or self.val or self.train


@dataclass(frozen=True, kw_only=True)
class NetworkSpeed:
    """Seconds of an image through one network at its input size. 0 where the recipe does not need it."""

    step_s: float = 0.0  # in training: augmentation, forward and backward pass, optimiser
    eval_s: float = 0.0  # in evaluation, by torch in float32
    predict_s: float = 0.0  # by the engine of the bundle
    features: int = 0  # of the head


@dataclass(frozen=True, kw_only=True)
class Speeds:
    """What was measured on this machine, with all threads of the run."""

    read_s: float  # to read and decode an image of the data
    export_s: float  # to write the ONNX file of the network that needs longest
    exported: tuple[Candidate, ...] = ()  # whose file is there already, as it was needed for measuring
    pace: float = 1.0  # of the constants below: above 1, the machine is slower than the one that they were measured on
    networks: Mapping[str, NetworkSpeed] = field(default_factory=dict)  # by name


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """One way to train. Of two candidates the one with the lower expected error is the better recipe.

    `errors` are (images that were seen in training, expected error), of a head alone one point. They were measured on one data
    set each (docs/speed.md), and only order the candidates.
    """

    recipe: Recipe
    network: str
    image_size: tuple[int, int] | None = None  # (height, width); None: as planned without a budget
    measured_as: str = ""  # the network whose speed is measured; itself if empty
    cost: float = 1.0  # of an image, over that network's
    errors: tuple[tuple[float, float], ...] = ((0.0, 1.0),)

    @property
    def yardstick(self) -> str:
        """The network whose speed is measured."""
        return self.measured_as or self.network

    def settings(self, epochs: int) -> dict[str, Any]:
        """Those that make a TrainConfig train this way; `epochs` are of gradient steps."""
        found: dict[str, Any] = {"recipe": self.recipe, "model.name": self.network}
        if self.image_size is not None:
            found["model.image_size"] = self.image_size
        return found | ({} if self.recipe == "head" else {"optim.epochs": epochs})

    def error(self, images_seen: float) -> float:
        """Falls with the images seen: straight lines between the points over their logarithm, constant beyond them."""
        points = self.errors
        if len(points) == 1 or images_seen <= points[0][0]:
            return points[0][1] * (1.0 if len(points) == 1 else points[0][0] / max(1.0, images_seen))
        for (low, error), (high, lower) in zip(points, points[1:], strict=False):
            if images_seen <= high:
                return error + (lower - error) * math.log(images_seen / low) / math.log(high / low)
        return points[-1][1]


@dataclass(frozen=True, kw_only=True)
class Choice:
    """A candidate with its epochs, 0 of a head alone, and what it is expected to take from now on."""

    candidate: Candidate
    epochs: int
    expected_s: float  # all that is left to do
    after_s: float  # of it, what follows the last step: its validation, export, calibration, evaluation, report
    error: float
    is_last: bool = False  # no candidate is expected to gain from more time


# Seconds on the two cores of the machine of docs/speed.md; Speeds.pace scales them
FINISH_S = 3.5  # report, model card, hashes, replayed reference images, and the end of the process
START_S = 1.0  # the first step's allocations, run folder, TensorBoard
PER_ROW_S = (
    3e-4  # an image that is calibrated on or measured for the report: fits, resampled intervals, table of predictions
)
UNKNOWN_S = 3.5e-10  # times the cube of the features: the covariances that tell unfamiliar images
PER_NAME_S = 3e-5  # an image of the data: its line in splits.json
FIT_FLOPS, EIGEN_FLOPS = 5e9, 2e10  # per second, of L-BFGS on small matrices and of an eigendecomposition
FIT_ITERATIONS, NUM_STRENGTHS, NUM_FOLDS, MAX_CROSS_FITTED = 60, 5, 5, 4000
PARITY_IMAGES = 128


def after_training_s(candidate: Candidate, counts: Counts, speeds: Speeds) -> float:
    """Export, parity, calibration, evaluation and report."""
    speed, cost = speeds.networks[candidate.yardstick], candidate.cost
    own = min(PARITY_IMAGES, counts.val or counts.train)
    held_out = 0 if candidate.recipe == "head" else counts.val
    export_s = 0.0 if candidate.recipe == "head" else speeds.export_s  # a head's file is that of its features
    return (
        export_s
        + own * (speed.eval_s + 2 * speed.predict_s) * cost
        + held_out * speed.predict_s * cost
        + counts.measured * (speeds.read_s + speed.predict_s * cost)
        + speeds.pace * (FINISH_S + PER_ROW_S * (counts.measured + counts.val) + UNKNOWN_S * speed.features**3)
    )


def before_steps_s(candidate: Candidate, counts: Counts, speeds: Speeds) -> float:
    """Reading all images, and the head where there is one."""
    speed, cost = speeds.networks[candidate.yardstick], candidate.cost
    num_images = counts.train + counts.val + counts.test
    seconds = num_images * (speeds.read_s + PER_NAME_S * speeds.pace) + START_S * speeds.pace
    if candidate.recipe == "scratch":
        return seconds
    num_fitted = counts.train + counts.val
    export_s = 0.0 if candidate in speeds.exported else speeds.export_s
    fit_s = _fit_s(counts, speed.features) * speeds.pace
    return seconds + export_s + num_fitted * speed.predict_s * cost + fit_s


def _fit_s(counts: Counts, num_features: int) -> float:
    """Fitting and comparing the heads: by cross-validation, or with many images once on train."""
    num_images = counts.train + counts.val
    num_fits = NUM_FOLDS if num_images <= MAX_CROSS_FITTED else 1
    rows = counts.train if num_fits == 1 else num_images * (NUM_FOLDS - 1) // NUM_FOLDS
    columns = min(rows, num_features)  # where images are fewer than features, the fit is within the span of the images
    gradient = 4.0 * rows * columns * counts.classes
    fits = (num_fits + 1) * NUM_STRENGTHS * FIT_ITERATIONS * gradient / FIT_FLOPS
    return fits + 2 * (num_fits + 1) * 10.0 * columns**3 / EIGEN_FLOPS


def epoch_s(candidate: Candidate, counts: Counts, speeds: Speeds) -> float:
    """One epoch and its validation; 0 for a head alone."""
    return counts.train * speeds.networks[candidate.yardstick].step_s * candidate.cost + validation_s(
        candidate, counts, speeds
    )


def validation_s(candidate: Candidate, counts: Counts, speeds: Speeds) -> float:
    """That of one epoch; 0 for a head alone."""
    is_head = candidate.recipe == "head"
    return 0.0 if is_head else counts.val * speeds.networks[candidate.yardstick].eval_s * candidate.cost


def choose(candidates: Sequence[Candidate], counts: Counts, speeds: Speeds, *, left_s: float) -> Choice:
    """The candidate, with as many epochs as fit, that has the lowest expected error within `left_s` seconds.

    What fits a shorter time fits a longer one too, so more time never gives a higher expected error. NothingFitsError where none
    fits.
    """
    fitting = [choice for each in candidates for choice in _fit(each, counts, speeds, left_s)]
    if not fitting:
        raise NothingFitsError(min((_shortest(each, counts, speeds) for each in candidates), key=_expected))
    best = min(fitting, key=lambda choice: (choice.error, choice.expected_s))
    longest = min(each.error(_most_seen(each, counts)) for each in candidates)
    return Choice(**vars(best) | {"is_last": best.error <= longest})


class NothingFitsError(Exception):
    """`shortest` is the plan that takes least."""

    def __init__(self, shortest: Choice) -> None:
        super().__init__(f"the shortest plan takes {shortest.expected_s:.0f} s")
        self.shortest = shortest


def _expected(choice: Choice) -> float:
    return choice.expected_s


def _shortest(candidate: Candidate, counts: Counts, speeds: Speeds) -> Choice:
    return _choice(candidate, 0 if candidate.recipe == "head" else 1, counts, speeds)


def _most_seen(candidate: Candidate, counts: Counts) -> float:
    return 0.0 if candidate.recipe == "head" else float(MAX_EPOCHS * counts.train)


def _fit(candidate: Candidate, counts: Counts, speeds: Speeds, left_s: float) -> Iterator[Choice]:
    least = _shortest(candidate, counts, speeds)
    if least.expected_s > left_s:
        return
    if candidate.recipe == "head":
        yield least
        return
    spare = (left_s - least.expected_s) / epoch_s(candidate, counts, speeds)
    yield _choice(candidate, min(MAX_EPOCHS, 1 + int(spare)), counts, speeds)


def _choice(candidate: Candidate, epochs: int, counts: Counts, speeds: Speeds) -> Choice:
    after = after_training_s(candidate, counts, speeds)
    steps = epochs * epoch_s(candidate, counts, speeds)
    return Choice(
        candidate=candidate,
        epochs=epochs,
        expected_s=before_steps_s(candidate, counts, speeds) + steps + after,
        after_s=after + validation_s(candidate, counts, speeds),
        error=candidate.error(float(epochs * counts.train)),
    )


# error on flowers: docs/speed.md; one that costs more and gains no more than its interval is left out
HEADS = tuple(
    Candidate(
        recipe="head",
        network=each.name,
        image_size=each.image_size,
        measured_as=PRETRAINED,
        cost=each.cost,
        errors=((0.0, error),),
    )
    for each, error in (
        (HeadInput(name=PRETRAINED, side_px=160, cost=0.53), 0.135),
        (HEAD_INPUTS[0], 0.102),
        (HEAD_INPUTS[1], 0.091),
        (PHOTO_INPUT, 0.086),
    )
)
# network: (images seen, error) on CIFAR-10, from the smallest. Measured: the first two of resnet8 and of fastnet32, the third of
# fastnet32_wide. The others are expectations that order the networks until they are measured (docs/speed.md).
SCRATCH: Mapping[str, tuple[tuple[float, float], ...]] = MappingProxyType(
    {
        "resnet8": ((42_500, 0.424), (850_000, 0.190)),
        "fastnet32": ((42_500, 0.217), (135_000, 0.149), (600_000, 0.122)),
        "fastnet32_wide": ((42_500, 0.290), (135_000, 0.146), (617_500, 0.110), (1_200_000, 0.098)),
    }
)
ANY_STEPS = ((10_000.0, 0.5), (10_000_000.0, 0.05))  # of a network that was not measured: more epochs are better


def candidates_for(
    recipe: Recipe, network: str | None, image_size: tuple[int, int] | None, *, large: bool, usual: str
) -> list[Candidate]:
    """Those of `recipe`, which has `network` and `image_size` where the user has named them.

    `large`: the images are photos that a network takes at more than its own size. `usual` is the network without a budget; from
    scratch, none that is larger suits the data.
    """
    if recipe == "head" and network is None and image_size is None:
        return [each for each in HEADS if large or max(each.image_size or (0,)) <= 224]
    if recipe == "scratch" and network is None and usual in SCRATCH:
        names = list(SCRATCH)[: list(SCRATCH).index(usual) + 1]
        return [Candidate(recipe=recipe, network=name, errors=SCRATCH[name]) for name in names]
    errors = ((0.0, 1.0),) if recipe == "head" else SCRATCH.get(network or "", ANY_STEPS)
    return [Candidate(recipe=recipe, network=network or usual, errors=errors)]
