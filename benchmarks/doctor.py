"""The deep scan on planted faults: flipped labels beside cleanlab, and its time.

python benchmarks/doctor.py SHARED [PART ...]: SHARED holds flowers.zip and cifar10.zip; the parts are those of PARTS.
Near duplicates: doctor_duplicates.py.
"""

from __future__ import annotations

import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from cleanlab.rank import get_label_quality_scores
from doctor_duplicates import crop, features_of
from harness import kept, recog, time_in_turn, write_result
from numpy.typing import NDArray
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold, cross_val_predict

from recog.core.images.decode import decode_image
from recog.data.dataset import Sample
from recog.data.sources import open_source
from recog.doctor.examine import NUM_NEIGHBOURS
from recog.doctor.features import LARGE, SMALL, nearest_neighbours, standardised
from recog.doctor.label_errors import Ridge, judge_labels, log_probs, out_of_fold
from recog.evaluation.measures.probability import auroc_of

Labels = NDArray[np.int64]
RATES = (0.05, 0.1, 0.2)
SEEDS_OF_PHOTOS, SEEDS_OF_CIFAR = 5, 3
OF_FIVE = 2  # of every five CIFAR-10 files of the train split: 20,000
MAX_FOR_ALL_FEATURES = (
    5000  # of more images cleanlab's regression gets principal components: with all, it takes half an hour
)
NUM_COMPONENTS = 256
NUM_PHOTOS = 3000
NUM_LAST = 1280  # features of the last layer of the small network


def flip_uniform(labels: Labels, num_flipped: int, num_classes: int, rng: np.random.Generator) -> Labels:
    rows = rng.permutation(len(labels))[:num_flipped]
    flipped = labels.copy()
    flipped[rows] = (labels[rows] + rng.integers(1, num_classes, num_flipped)) % num_classes
    return flipped


def flip_by_class(labels: Labels, num_flipped: int, num_classes: int, rng: np.random.Generator) -> Labels:
    """Each class to the next one; some classes three times as often as others."""
    weights = np.linspace(0.5, 1.5, num_classes)[rng.permutation(num_classes)][labels]
    rows = rng.choice(len(labels), num_flipped, replace=False, p=weights / weights.sum())
    flipped = labels.copy()
    flipped[rows] = (labels[rows] + 1) % num_classes
    return flipped


FLIPS: Mapping[str, Callable[[Labels, int, int, np.random.Generator], Labels]] = {
    "uniform": flip_uniform,
    "by class": flip_by_class,
}


def cleanlab_suspicion(features: NDArray[np.float32], labels: Labels, seed: int) -> NDArray[np.float64]:
    """cleanlab's recipe for images: out-of-fold probabilities of a logistic regression on a network's features, scaled."""
    folds = StratifiedKFold(5, shuffle=True, random_state=seed)
    probs = cross_val_predict(LogisticRegression(max_iter=300), features, labels, cv=folds, method="predict_proba")
    return -get_label_quality_scores(labels, probs)


def for_cleanlab(features: NDArray[np.float32]) -> NDArray[np.float32]:
    scaled = (features - features.mean(axis=0)) / (features.std(axis=0) + 1e-6)
    if len(scaled) <= MAX_FOR_ALL_FEATURES:
        return scaled
    return PCA(NUM_COMPONENTS, svd_solver="covariance_eigh").fit_transform(scaled)


def scores_with_right_labels(features: NDArray[np.float32], true: Labels) -> NDArray[np.float32]:
    """Scores [N, K] of the ridge regression that recog fits out of fold, here fitted to the right labels.

    The ranking by them shows about how far the features go.
    """
    folds = np.zeros(len(true), dtype=np.int64)
    for fold, (_, test) in enumerate(StratifiedKFold(5, shuffle=True, random_state=0).split(features, true)):
        folds[test] = fold
    is_class = true[:, None] == np.arange(true.max() + 1)
    scores, _ = out_of_fold(Ridge.of(features), is_class, folds, np.ones(len(true), dtype=bool))
    return scores


def label_rows(name: str, features: NDArray[np.float32], last: slice, true: Labels, num_seeds: int) -> Iterator[str]:
    """AUROC and precision of all on the same flips; `last` are the columns of the last layer, which cleanlab is given."""
    num_classes, groups = int(true.max()) + 1, np.arange(len(true))
    standard, of_last = standardised(features), for_cleanlab(features[:, last])
    with_right_labels = scores_with_right_labels(standard, true)
    *_, neighbours = nearest_neighbours(standard, NUM_NEIGHBOURS)
    for kind, flip in FLIPS.items():
        for rate in RATES:
            found: dict[str, list[tuple[float, float]]] = {"recog": [], "cleanlab": [], "right labels": []}
            reported = []
            for seed in range(num_seeds):
                labels = flip(true, round(rate * len(true)), num_classes, np.random.default_rng(seed))
                is_wrong = labels != true
                ours = judge_labels(standard, labels, groups, neighbours, num_classes=num_classes, seed=seed)
                scores = {
                    "recog": ours.suspicion,
                    "cleanlab": cleanlab_suspicion(of_last, labels, seed),
                    "right labels": -log_probs(with_right_labels, labels),
                }
                for who, suspicion in scores.items():
                    top = np.argsort(-suspicion)[: is_wrong.sum()]
                    found[who].append((auroc_of(suspicion, is_wrong), float(is_wrong[top].mean())))
                reported.append((float(is_wrong[ours.is_suspect].mean()), float(ours.is_suspect[is_wrong].mean())))
            cells = []
            for figures in found.values():
                for values in zip(*figures, strict=True):
                    cells.append(f"{np.mean(values):.3f} +- {np.std(values):.3f}")
            precision, recall = np.mean(reported, axis=0)
            missed = 1 - np.mean([figure[1] for figure in found["recog"]])
            flips = f"{kind} {rate:.0%} | {num_seeds}"
            yield f"| {name} | {flips} | {' | '.join(cells)} | {missed:.3f} | {precision:.2f} / {recall:.2f} |"


HEADER = (
    "Mean and standard deviation over sets of flips, the same for all; cleanlab has the features of the last layer{reduced}. "
    "Precision at the number flipped; its complement is the false-negative rate at the noise rate. 'Right labels' is the ranking "
    "by the ridge regression that recog uses, fitted out of fold to the labels before any was flipped: about what the features "
    "allow. 'Listed' are the images that all three views suspect: precision / recall.",
    "",
    "| data | flips | n | recog AUROC | recog precision | cleanlab AUROC | cleanlab precision | right labels AUROC "
    "| right labels precision | missed at the rate | listed |",
    "|---|---|---|---|---|---|---|---|---|---|---|",
)


def labels_of_flowers(shared: Path) -> list[str]:
    samples = open_source(str(shared / "flowers.zip")).samples
    return _labels("flowers, 800", samples, (SMALL, LARGE), SEEDS_OF_PHOTOS)


def labels_of_cifar(shared: Path) -> list[str]:
    samples = [sample for sample in open_source(str(shared / "cifar10.zip")).samples if sample.split == "train"]
    chosen = [sample for number, sample in enumerate(samples) if number % 5 < OF_FIVE]
    return _labels(f"CIFAR-10, {len(chosen):,}", chosen, (SMALL,), SEEDS_OF_CIFAR)


def _labels(name: str, samples: Sequence[Sample], networks: Sequence[tuple[str, int]], num_seeds: int) -> list[str]:
    contents = [sample.source.read() for sample in samples]
    features = kept(f"labels_{name.split(',')[0]}_{len(samples)}", lambda: features_of(contents, networks))
    num_small = features_of(contents[:1], (SMALL,)).shape[1]
    reduced = f", their first {NUM_COMPONENTS} principal components" if len(samples) > MAX_FOR_ALL_FEATURES else ""
    lines = [line.replace("{reduced}", reduced) for line in HEADER]
    true = np.array([sample.label for sample in samples])
    for row in label_rows(name, features, slice(num_small - NUM_LAST, num_small), true, num_seeds):
        print(row, flush=True)
        lines.append(row)
    return lines


def time_of(shared: Path) -> list[str]:
    lines = ["The whole command, one run each.", "", "| data | seconds | CPU seconds | peak MiB |", "|---|---|---|---|"]
    for name, data in write_timed(shared).items():
        with tempfile.TemporaryDirectory() as folder:
            timing = time_in_turn({name: recog("scan", str(data), "--deep")}, runs=1, warmup=0, cwd=Path(folder))[name]
        lines.append(f"| {name} | {timing.seconds[0]:.0f} | {timing.cpu_s[0]:.0f} | {timing.peak_mib:.0f} |")
        print(lines[-1], flush=True)
    return lines


def write_timed(shared: Path) -> dict[str, Path]:
    """Folders of 3,000 photos, those of flowers several times, each a different part and quality, and of 10,000 small images.

    In the system's temporary folder, as writing them takes a minute.
    """
    root = Path(tempfile.gettempdir()) / "recog-benchmarks"
    photos, small = root / "photos", root / "small"
    samples = open_source(str(shared / "flowers.zip")).samples
    for number in range(NUM_PHOTOS):
        sample, rng = samples[number % len(samples)], np.random.default_rng(number)
        path = photos / sample.name.split("/")[-2] / f"{number:05d}.jpg"
        if not path.exists():
            image = crop(decode_image(sample.source, name=sample.name), rng.uniform(0.5, 0.95), rng)
            path.parent.mkdir(parents=True, exist_ok=True)
            image.resize((500, 375)).save(path, quality=int(rng.integers(70, 95)))
    with zipfile.ZipFile(shared / "cifar10.zip") as archive:
        for name in [name for name in archive.namelist() if "/train/" in name and name.endswith(".jpg")][::5]:
            path = small / Path(name).parent.name / Path(name).name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(archive.read(name))
    return {"3,000 photos": photos, "10,000 images of 32 px": small}


PARTS: Mapping[str, tuple[str, Callable[[Path], list[str]]]] = {
    "labels_flowers": ("Deep scan: flipped labels of photos", labels_of_flowers),
    "labels_cifar": ("Deep scan: flipped labels of CIFAR-10", labels_of_cifar),
    "time": ("Deep scan: time and memory", time_of),
}


if __name__ == "__main__":
    shared_folder, *wanted = sys.argv[1:]
    for part in wanted or PARTS:
        title, measure = PARTS[part]
        write_result(f"doctor_{part}", title, "\n".join(measure(Path(shared_folder))))
