"""One answer per image, in the order of the images, and the counts over all of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

from recog.core.errors import BadImage, ConfigError
from recog.evaluation.trust.unknown import UNKNOWN
from recog.runtime.prediction import Prediction
from recog.runtime.predictor import ImageSource, Predictor

UNSURE = "unsure"  # in place of the label of an image below --min-confidence
_MAX_GROUPS = 20  # of bad images, by reason
_MAX_NAMES = 9  # that are kept of each group
_OTHER = ("for other reasons", "--json and --output give the reason of each.")


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """Images in the order of their answers: `sources[i]` is called `names[i]`. `name` is that of the whole."""

    name: str = ""
    names: Sequence[str] = ()
    sources: Sequence[ImageSource] = ()
    notes: tuple[str, ...] = ()

    def shard(self, index: int, count: int) -> Inputs:
        """Part `index` of `count` parts in this order, the first is 1; their lengths differ by one image at most."""
        part = self.shard_range(index, count)
        which = f"images {part.start + 1:,} to {part.stop:,}" if part.stop > part.start else "no images"
        note = f"shard {index} of {count}: {which} of {len(self.names):,}"
        return replace(self, names=self.names[part], sources=self.sources[part], notes=(*self.notes, note))

    def shard_range(self, index: int, count: int) -> slice:
        """The places of that part."""
        total = len(self.names)
        return slice(total * (index - 1) // count, total * index // count)


@dataclass(frozen=True)
class Unusable:
    """Stands for an input that holds no image: reading it raises the reason."""

    error: BadImage

    def read(self) -> bytes:
        """Raises BadImage."""
        raise self.error


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """`result` is the image's Prediction, or why there is none; `labels` are its answer, which --min-confidence may change."""

    name: str
    source: ImageSource
    result: Prediction | BadImage
    labels: tuple[str, ...] = ()
    num_dropped: int = 0  # labels below --min-confidence


@dataclass(frozen=True, kw_only=True)
class BadGroup:
    """Images that could not be used for one reason; `names` are the first of them."""

    reason: str
    remedy: str
    count: int
    names: tuple[str, ...]


@dataclass(kw_only=True)
class Summary:
    """Counts over all answers."""

    num_images: int = 0
    num_bad: int = 0
    num_dropped: int = 0  # labels below --min-confidence; with one label per image: images answered 'unsure'
    num_sorted: int = 0  # files made by --sort-into
    num_of_label: Counter[str] = field(default_factory=Counter)
    _bad: dict[tuple[str, str], list[str]] = field(default_factory=dict)
    _num_of_reason: Counter[tuple[str, str]] = field(default_factory=Counter)

    @property
    def num_unknown(self) -> int:
        return self.num_of_label[UNKNOWN]

    @property
    def bad(self) -> Sequence[BadGroup]:
        """By reason, the most frequent first."""
        groups = (
            BadGroup(reason=key[0], remedy=key[1], count=count, names=tuple(self._bad[key]))
            for key, count in self._num_of_reason.most_common()
        )
        return tuple(groups)

    def add(self, answer: Answer) -> None:
        self.num_images += 1
        self.num_dropped += answer.num_dropped
        if isinstance(answer.result, Prediction):
            self.num_of_label.update(answer.labels)
            return
        self.num_bad += 1
        key = (answer.result.reason, answer.result.remedy)
        if key not in self._bad and len(self._bad) >= _MAX_GROUPS:
            key = _OTHER
        self._num_of_reason[key] += 1
        names = self._bad.setdefault(key, [])
        if len(names) < _MAX_NAMES:
            names.append(answer.name)


def check_min_confidence(min_confidence: float | None, class_names: Sequence[str]) -> None:
    """ConfigError where 'unsure' would be mistaken for a class."""
    if min_confidence is not None and UNSURE in class_names:
        raise ConfigError(
            f"--min-confidence answers '{UNSURE}', which is a class of this bundle; use --json and compare there."
        )


def answer_each(
    predictor: Predictor,
    inputs: Inputs,
    *,
    reject: bool = False,
    explain: bool = False,
    min_confidence: float | None = None,
) -> Iterator[Answer]:
    """The answers in the order of `inputs`, with maps if `explain`.

    Below `min_confidence` an image is 'unsure'; with several labels per image, a label below it is left out.
    """
    results = predictor.predict_each(inputs.sources, reject=reject, explain=explain)
    return _with_labels(inputs, results, min_confidence)


def _with_labels(
    inputs: Inputs, results: Iterator[Prediction | BadImage], min_confidence: float | None
) -> Iterator[Answer]:
    for name, source, result in zip(inputs.names, inputs.sources, results, strict=True):
        if isinstance(result, BadImage):
            yield Answer(name=name, source=source, result=result)
            continue
        labels = result.labels
        if min_confidence is not None:
            labels = result.confident_labels(min_confidence, otherwise=UNSURE)
        num_dropped = int(labels == (UNSURE,)) or len(result.labels) - len(labels)
        yield Answer(name=name, source=source, result=result, labels=labels, num_dropped=num_dropped)
