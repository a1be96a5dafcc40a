"""The deep scan: every image is read once for its traits and features, then each check looks at all of them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from recog.core.errors import BadImage, DataError
from recog.core.images.decode import ImageInfo
from recog.core.task import Task
from recog.core.text import plural
from recog.data.dataset import SPLITS, Dataset, Exclusion, Sample
from recog.data.decisions import LABELS_JOINED_BY
from recog.data.inspection import Inspected, find_overlap, read_content
from recog.data.sources import look_alike_notes
from recog.data.split import join_groups
from recog.data.store import read_images
from recog.doctor.features import NUM_NEIGHBOURS, Extractor, Neighbours, nearest_neighbours, standardised
from recog.doctor.findings import KINDS, Finding, Findings, Shortcut, excluded_copies, label_of
from recog.doctor.image_checks import image_findings, small_classes
from recog.doctor.label_errors import confusable_classes, judge_label_sets, judge_labels
from recog.doctor.near_duplicates import Compared, Match, find_near_duplicates
from recog.doctor.shortcuts import WARNING_AUROC, find_shortcuts
from recog.doctor.traits import DECODED_PX, Traits, measure_traits
from recog.evaluation.measures.task import TASK_MEASURES

MIN_IMAGES = 10
_BATCH = 32
_SHOWN_EVERY = 96
_MAX_NAMED = 10


@dataclass(frozen=True, kw_only=True)
class DeepProgress:
    stage: str
    num_done: int
    num_all: int


@dataclass(frozen=True, kw_only=True)
class Examination:
    """Findings on the usable images of `dataset`, whose numbers they name."""

    dataset: Dataset
    findings: Findings


@dataclass(frozen=True, kw_only=True, eq=False)
class _Images:
    """The images of `dataset`, all of them usable."""

    dataset: Dataset
    hashes: list[str]
    traits: list[Traits]
    features: NDArray[np.float32]  # [N, D] standardised


Reading = Generator[DeepProgress, None, _Images]


def examine(
    dataset: Dataset, inspected: Sequence[Inspected], extractor: Extractor
) -> Iterator[DeepProgress | Examination]:
    """The Examination last. `inspected[i]` is about sample i. DataError where under 10 images are usable."""
    images = yield from _read(dataset, inspected, extractor)
    neighbours = yield from _neighbours(images.features)
    compared = yield from _matches(images, neighbours)
    matches = compared.matches
    yield DeepProgress(stage="judging labels", num_done=0, num_all=1)
    samples = images.dataset.samples
    numbers = _copy_numbers(images.hashes, matches)
    joined = join_groups([str(number) for number in numbers.tolist()], [sample.group for sample in samples])
    groups, dataset = np.array(joined, dtype=np.int64), images.dataset
    found, notes = _JUDGES[dataset.task](images, groups, neighbours)
    targets = TASK_MEASURES[dataset.task].targets([sample.labels for sample in samples], len(dataset.class_names))
    shortcuts = find_shortcuts(images.traits, targets, groups, dataset.class_names)
    of_images, typical = image_findings(images.traits, neighbours)
    found = [
        *found,
        *(_shortcut_finding(shortcut) for shortcut in shortcuts if shortcut.worst_auroc >= WARNING_AUROC),
        *_copy_findings(images, numbers, matches),
        *_group_leaks(images),
        *(Finding(kind="look_alike_names", reason=note) for note in look_alike_notes(dataset.class_names)),
        *small_classes(dataset),
        *of_images,
    ]
    order = list(KINDS)
    found.sort(key=lambda finding: (order.index(finding.kind), -(finding.score or 0)))
    yield Examination(
        dataset=dataset,
        findings=Findings(
            data=dataset.name,
            task=dataset.task,
            class_names=dataset.class_names,
            names=tuple(sample.name for sample in samples),
            labels=tuple(label_of(dataset, sample) for sample in samples),
            splits=tuple(sample.split or "" for sample in samples),
            findings=tuple(found),
            shortcuts=shortcuts,
            notes=(*notes, *typical, *_not_compared(compared)),
        ),
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class _Seen:
    traits: Traits
    pixels: tuple[NDArray[np.uint8], ...]  # for each network


def _read(dataset: Dataset, inspected: Sequence[Inspected], extractor: Extractor) -> Reading:
    """Read and decode each file once; features batch by batch, so that no more than a few images are in memory."""
    facts = {sample.name: each for sample, each in zip(dataset.samples, inspected, strict=True) if each.bad is None}
    samples = [sample for sample in dataset.samples if sample.name in facts]

    def see(sample: Sample) -> _Seen:
        info = facts[sample.name].info
        if info is None:
            raise BadImage(sample.name, "its header cannot be read", "Check the file.")
        return _see(sample, info, extractor)

    kept, bad, traits = [], [], []
    rows: list[NDArray[np.float32]] = []
    batch: list[tuple[NDArray[np.uint8], ...]] = []
    for number, (sample, seen) in enumerate(zip(samples, read_images(samples, see), strict=True), start=1):
        if isinstance(seen, BadImage):
            bad.append(Exclusion(name=seen.name, reason=seen.reason))
        else:
            kept.append(sample)
            traits.append(seen.traits)
            batch.append(seen.pixels)
        if batch and (len(batch) == _BATCH or number == len(samples)):
            rows.append(_features(extractor, batch))
            batch = []
        if number % _SHOWN_EVERY == 0 or number == len(samples):
            yield DeepProgress(stage="computing features", num_done=number, num_all=len(samples))
    if len(kept) < MIN_IMAGES:
        raise DataError(
            f"{dataset.name} has {plural(len(kept), 'usable image')}; --deep compares images with each other and needs "
            f"{MIN_IMAGES} or more. Leave --deep out."
        )
    return _Images(
        dataset=replace(dataset.without(bad), samples=tuple(kept)),
        hashes=[facts[sample.name].sha256 for sample in kept],
        traits=traits,
        features=standardised(np.concatenate(rows)),
    )


def _see(sample: Sample, info: ImageInfo, extractor: Extractor) -> _Seen:
    preprocess = extractor.preprocess
    content = read_content(sample, preprocess.limits)
    image = preprocess.decode(content, name=sample.name, min_side=max(DECODED_PX, extractor.min_side))
    pixels = tuple(network.preprocess.fit(image, sample.name) for network in extractor.networks)
    return _Seen(traits=measure_traits(image, info, content), pixels=pixels)


def _features(extractor: Extractor, batch: Sequence[tuple[NDArray[np.uint8], ...]]) -> NDArray[np.float32]:
    parts = zip(extractor.networks, zip(*batch, strict=True), strict=True)
    return np.concatenate([network.features(np.stack(pixels)) for network, pixels in parts], axis=1)


def _neighbours(features: NDArray[np.float32]) -> Generator[DeepProgress, None, Neighbours]:
    for step in nearest_neighbours(features, NUM_NEIGHBOURS):
        if isinstance(step, Neighbours):
            return step
        yield DeepProgress(stage="comparing images", num_done=step, num_all=len(features))
    raise DataError("the images were not compared.")  # nearest_neighbours ends with a Neighbours


def _matches(images: _Images, neighbours: Neighbours) -> Generator[DeepProgress, None, Compared]:
    thumbnails = np.stack([each.thumbnail for each in images.traits])
    colours = np.stack([each.colours for each in images.traits])
    sizes = [(each.width, each.height) for each in images.traits]
    for step in find_near_duplicates(thumbnails, colours, sizes, neighbours):
        if isinstance(step, Compared):
            return step
        yield DeepProgress(stage="looking for near duplicates", num_done=step[0], num_all=step[1])
    raise DataError("the images were not compared.")  # find_near_duplicates ends with Compared


def _not_compared(compared: Compared) -> list[str]:
    if not compared.num_left_out:
        return []
    return [
        f"near duplicates: of {plural(compared.num_pairs, 'likely pair')}, the {compared.num_left_out:,} least likely were not "
        "compared; copies may be missing"
    ]


def _copy_numbers(hashes: Sequence[str], matches: Sequence[Match]) -> NDArray[np.int64]:
    """Equal numbers [N] for images that show one picture: equal files, and `matches`, whose chains are one picture."""
    first = {digest: i for i, digest in reversed(list(enumerate(hashes)))}
    pairs = [*((first[digest], i) for i, digest in enumerate(hashes)), *((m.first, m.second) for m in matches)]
    ones, rows, columns = np.ones(len(pairs)), *np.array(pairs).T
    _, numbers = connected_components(coo_matrix((ones, (rows, columns)), shape=(len(hashes),) * 2), directed=False)
    found: NDArray[np.int64] = numbers.astype(np.int64)
    return found


def _latest_copies(images: _Images) -> list[int]:
    """For each image the number of an equal file, itself or another, in the latest split."""
    latest: dict[str, int] = {}
    for i in sorted(
        range(len(images.hashes)), key=lambda i: SPLITS.index(images.dataset.samples[i].split or SPLITS[0])
    ):
        latest[images.hashes[i]] = i
    return [latest[digest] for digest in images.hashes]


def _copy_findings(images: _Images, numbers: NDArray[np.int64], matches: Sequence[Match]) -> Iterator[Finding]:
    dataset, hashes = images.dataset, images.hashes
    latest = _latest_copies(images)
    pairs: dict[int, list[tuple[int, int]]] = defaultdict(list)
    lowest: dict[int, float] = {}
    for i, copy in enumerate(latest):
        pairs[int(numbers[i])].append((i, copy))
    for match in matches:  # not their chains, along which a picture may change
        number = int(numbers[match.first])
        lowest[number] = min(match.similarity, lowest.get(number, 1.0))
        pairs[number] += [(match.first, latest[match.second]), (match.second, latest[match.first])]
    for number in np.flatnonzero(np.bincount(numbers) > 1).tolist():
        rows = np.flatnonzero(numbers == number).tolist()
        samples = [dataset.samples[i] for i in rows]
        same_file = len({hashes[i] for i in rows}) == 1
        what = "identical files" if same_file else f"the same picture (similarity {lowest[number]:.2f})"
        splits, labels = ({sample.split for sample in samples}, {sample.labels for sample in samples})
        score = 1.0 if same_file else lowest[number]
        if len(splits) > 1:
            yield Finding(
                kind="leak",
                reason=f"{what} in {' and '.join(split for split in SPLITS if split in splits)}",
                images=tuple(rows),
                score=score,
                actions=excluded_copies(dataset, pairs[number]),
            )
        if len(labels) > 1:
            classes = _quoted(sorted({label_of(dataset, sample) for sample in samples}))
            yield Finding(kind="label_conflict", reason=f"{what} as {classes}", images=tuple(rows), score=score)
        if len(splits) == 1 and len(labels) == 1:
            rows.sort(key=lambda i: -images.traits[i].width * images.traits[i].height)
            yield Finding(kind="near_duplicate", reason=what, images=tuple(rows), score=score)


def _group_leaks(images: _Images) -> Iterator[Finding]:
    samples = images.dataset.samples
    for group in find_overlap(samples, images.hashes).groups_across_splits:
        rows = [i for i, sample in enumerate(samples) if sample.group == group]
        splits = {samples[i].split for i in rows}
        named = " and ".join(split for split in SPLITS if split in splits)
        yield Finding(
            kind="group_leak",
            reason=f"group '{group}' has {plural(len(rows), 'image')} in {named}",
            images=tuple(rows),
            score=float(len(rows)),
        )


def _quoted(names: Iterable[str]) -> str:
    return " and ".join(f"'{name}'" for name in names)


_Judgement = tuple[list[Finding], list[str]]


def _judge(images: _Images, groups: NDArray[np.int64], neighbours: Neighbours) -> _Judgement:
    """Where each image has one label: label errors and confusable classes; and what could not be judged."""
    dataset = images.dataset
    labels, names = np.array([sample.label for sample in dataset.samples]), dataset.class_names
    evidence = judge_labels(images.features, labels, groups, neighbours, num_classes=len(names))
    if evidence is None:
        return [], ["labels are not judged: fewer than two classes have two different images"]
    found = [
        Finding(
            kind="confusable",
            reason=f"out of fold, {share:.0%} or more of '{names[a]}' and of '{names[b]}' are taken for the other",
            score=share,
        )
        for a, b, share in confusable_classes(evidence, labels)
    ]
    found += [
        Finding(
            kind="label_error",
            reason=f"labelled '{names[labels[i]]}', looks like '{names[evidence.suggested[i]]}'",
            images=(i,),
            score=float(evidence.suspicion[i]),
            suggested_label=names[evidence.suggested[i]],
        )
        for i in np.flatnonzero(evidence.is_suspect).tolist()
    ]
    return found, []


def _judge_sets(images: _Images, groups: NDArray[np.int64], neighbours: Neighbours) -> _Judgement:
    """Where an image has any number of labels: labels that seem to be missing or wrong; and what could not be judged."""
    dataset = images.dataset
    names = np.array(dataset.class_names, dtype=object)
    is_label = np.array([np.isin(np.arange(len(names)), sample.labels) for sample in dataset.samples])
    evidence = judge_label_sets(images.features, is_label, groups, neighbours)
    found = []
    for i in np.flatnonzero(evidence.is_suspect.any(axis=1)).tolist():
        cells = evidence.is_suspect[i]
        missing, wrong = names[cells & ~is_label[i]], names[cells & is_label[i]]
        parts = [f"looks like {_quoted(missing)} as well"] if len(missing) else []
        parts += [f"does not look like {_quoted(wrong)}"] if len(wrong) else []
        found.append(
            Finding(
                kind="label_error",
                reason=f"labelled {_quoted(names[is_label[i]]) or 'nothing'}, {' and '.join(parts)}",
                images=(i,),
                score=float(evidence.suspicion[i, cells].max()),
                suggested_label=LABELS_JOINED_BY.join(names[is_label[i] ^ cells]),
            )
        )
    notes = []
    left = names[np.isnan(evidence.suspicion[0])]
    if len(left):
        listed = f"{_quoted(left[:_MAX_NAMED])}{' and more' if len(left) > _MAX_NAMED else ''}"
        notes.append(
            f"{plural(len(left), 'label')} not judged, as too few images have or lack them or the features do not tell them: "
            f"{listed}"
        )
    return found, notes


_JUDGES: Mapping[Task, Callable[[_Images, NDArray[np.int64], Neighbours], _Judgement]] = MappingProxyType(
    {"multiclass": _judge, "multilabel": _judge_sets}
)


def _shortcut_finding(shortcut: Shortcut) -> Finding:
    return Finding(
        kind="shortcut",
        reason=f"the {shortcut.fact} alone tells images of '{shortcut.worst_class}' from the others with an AUROC of "
        f"{shortcut.worst_auroc:.2f}",
        score=shortcut.worst_auroc,
    )
