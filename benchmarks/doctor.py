"""The deep scan on planted faults: flipped labels beside cleanlab, near duplicates beside perceptual hashes, and its time.

python benchmarks/doctor.py SHARED [PART ...]: SHARED holds flowers.zip and cifar10.zip; the parts are those of PARTS.
"""

from __future__ import annotations

import io
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import imagehash
import numpy as np
from cleanlab.rank import get_label_quality_scores
from harness import recog, time_in_turn, write_result
from numpy.typing import NDArray
from PIL import Image, ImageEnhance
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold, cross_val_predict

from recog.core.images.decode import DEFAULT_LIMITS, decode_image, probe
from recog.data.dataset import Sample
from recog.data.sources import open_source
from recog.data.store import read_images
from recog.doctor.examine import NUM_NEIGHBOURS
from recog.doctor.features import LARGE, SMALL, Extractor, nearest_neighbours, pretrained_extractor, standardised
from recog.doctor.label_errors import judge_labels
from recog.doctor.near_duplicates import Match, find_near_duplicates
from recog.doctor.traits import measure_traits
from recog.evaluation.measures.probability import auroc_of

Labels = NDArray[np.int64]
RATES, NUM_SEEDS = (0.05, 0.1, 0.2), 3
NUM_CIFAR = 2000
NUM_LAST = 1280  # features of the last layer of the small network
NUM_PLANTED = 200


def features_of(samples: Sequence[Sample], extractor: Extractor) -> NDArray[np.float32]:
    """float32 [N, D], the features of each network side by side."""
    columns = []
    for network in extractor.networks:
        read = lambda sample, fit=network.preprocess: fit.read(sample.source, name=sample.name)  # noqa: E731
        images = np.stack(list(read_images(samples, read)))
        rows = [network.engine(images[start : start + 32]).features for start in range(0, len(images), 32)]
        columns.append(np.concatenate(rows))
    return np.concatenate(columns, axis=1)


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
    """cleanlab's recipe for images: out-of-fold probabilities of a logistic regression on a network's features."""
    scaled = (features - features.mean(axis=0)) / (features.std(axis=0) + 1e-6)
    folds = StratifiedKFold(5, shuffle=True, random_state=seed)
    probs = cross_val_predict(LogisticRegression(max_iter=300), scaled, labels, cv=folds, method="predict_proba")
    return -get_label_quality_scores(labels, probs)


def label_rows(name: str, features: NDArray[np.float32], last: slice, true: Labels) -> Iterator[str]:
    """AUROC and precision of both on the same flips; `last` are the columns of the last layer, which cleanlab is given."""
    num_classes, groups = int(true.max()) + 1, np.arange(len(true))
    standard = standardised(features)
    *_, neighbours = nearest_neighbours(standard, NUM_NEIGHBOURS)
    for kind, flip in FLIPS.items():
        for rate in RATES:
            found: dict[str, list[tuple[float, float]]] = {"recog": [], "cleanlab": []}
            reported = []
            for seed in range(NUM_SEEDS):
                labels = flip(true, round(rate * len(true)), num_classes, np.random.default_rng(seed))
                is_wrong = labels != true
                ours = judge_labels(standard, labels, groups, neighbours, num_classes=num_classes, seed=seed)
                scores = {
                    "recog": ours.suspicion,
                    "cleanlab": cleanlab_suspicion(features[:, last], labels, seed),
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
            yield (
                f"| {name} | {kind} {rate:.0%} | {' | '.join(cells)} | {missed:.3f} | {precision:.2f} / {recall:.2f} |"
            )


HEADER = (
    f"Mean and standard deviation of {NUM_SEEDS} sets of flips, the same for both; cleanlab has the features of the last layer. "
    "Precision at the number flipped; its complement is the false-negative rate at the noise rate. 'Listed' are the images that "
    "all three views suspect: precision / recall.",
    "",
    "| data | flips | recog AUROC | recog precision | cleanlab AUROC | cleanlab precision | missed at the rate | listed |",
    "|---|---|---|---|---|---|---|---|",
)


def labels_of_flowers(shared: Path) -> list[str]:
    samples = open_source(str(shared / "flowers.zip")).samples
    return _labels("flowers, 800", samples, (SMALL, LARGE))


def labels_of_cifar(shared: Path) -> list[str]:
    samples = [sample for sample in open_source(str(shared / "cifar10.zip")).samples if sample.split == "train"]
    chosen = np.sort(np.random.default_rng(0).permutation(len(samples))[:NUM_CIFAR])
    return _labels(f"CIFAR-10, {NUM_CIFAR:,}", [samples[i] for i in chosen], (SMALL,))


def _labels(name: str, samples: Sequence[Sample], networks: Sequence[tuple[str, int]]) -> list[str]:
    with pretrained_extractor(networks, DEFAULT_LIMITS) as extractor:
        features = features_of(samples, extractor)
        size = SMALL[1]
        num_small = extractor.networks[0].engine(np.zeros((1, size, size, 3), np.uint8)).features.shape[1]
    lines = list(HEADER)
    true = np.array([sample.label for sample in samples])
    for row in label_rows(name, features, slice(num_small - NUM_LAST, num_small), true):
        print(row, flush=True)
        lines.append(row)
    return lines


def _crop(image: Image.Image, share: float, rng: np.random.Generator) -> Image.Image:
    """A part with `share` of each side, anywhere."""
    left, top = (rng.uniform(0, 1 - share) * side for side in image.size)
    return image.crop((int(left), int(top), int(left + share * image.width), int(top + share * image.height)))


Change = Callable[[Image.Image, np.random.Generator], Image.Image]
LIGHT: Mapping[str, Change] = {
    "resize to 60 %": lambda image, rng: image.resize((int(0.6 * image.width), int(0.6 * image.height))),
    "JPEG quality 30": lambda image, rng: image,
    "5 % crop": lambda image, rng: _crop(image, 0.975, rng),  # 5 % of the area
    "brightness x 0.7 or 1.3": lambda image, rng: ImageEnhance.Brightness(image).enhance(rng.choice([0.7, 1.3])),
    "mirror": lambda image, rng: image.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
}
STRONG: Mapping[str, Change] = {
    "crop to 70 % of each side": lambda image, rng: _crop(image, 0.7, rng),
    "flip left-right": LIGHT["mirror"],
    "flip top-bottom": lambda image, rng: image.transpose(Image.Transpose.FLIP_TOP_BOTTOM),
    "rotation by 25 degrees": lambda image, rng: image.rotate(25, resample=Image.Resampling.BICUBIC),
    "height x 0.7": lambda image, rng: image.resize((image.width, int(0.7 * image.height))),
}


def plant(image: Image.Image, kind: str, change: Change, rng: np.random.Generator) -> bytes:
    buffer = io.BytesIO()
    change(image, rng).save(buffer, "JPEG", quality=30 if kind == "JPEG quality 30" else 90)
    return buffer.getvalue()


def matches_of(contents: Sequence[bytes], extractor: Extractor) -> list[Match]:
    """As the deep scan finds them."""
    traits, features = [], []
    for start in range(0, len(contents), 32):
        decoded = [decode_image(c, name="image", min_side=extractor.min_side) for c in contents[start : start + 32]]
        for content, image in zip(contents[start : start + 32], decoded, strict=True):
            traits.append(measure_traits(image, probe(content), content))
        parts = [
            network.engine(np.stack([network.preprocess.fit(image, "image") for image in decoded])).features
            for network in extractor.networks
        ]
        features.append(np.concatenate(parts, axis=1))
    *_, neighbours = nearest_neighbours(standardised(np.concatenate(features)), NUM_NEIGHBOURS)
    thumbnails = np.stack([each.thumbnail for each in traits])
    *_, matches = find_near_duplicates(thumbnails, [each.width / each.height for each in traits], neighbours)
    return matches


def hash_matches(contents: Sequence[bytes], max_bits: int = 10) -> set[tuple[int, int]]:
    """ImageHash's pHash, at the distance that is usual for it."""
    hashes = [imagehash.phash(Image.open(io.BytesIO(content))) for content in contents]
    bits = np.stack([each.hash.reshape(-1) for each in hashes]).astype(np.int32)
    apart = bits @ (1 - bits).T + (1 - bits) @ bits.T
    return {(int(i), int(j)) for i, j in np.argwhere(apart <= max_bits) if i < j}


def duplicates(shared: Path) -> list[str]:
    samples = open_source(str(shared / "flowers.zip")).samples
    originals = [sample.source.read() for sample in samples]
    lines = [f"800 photos and {NUM_PLANTED} changed copies of some of them.", ""]
    for title, kinds in (("Light changes", LIGHT), ("Strong changes", STRONG)):
        rng = np.random.default_rng(1)
        chosen = rng.permutation(len(originals))[:NUM_PLANTED]
        names = list(kinds)
        copies = [
            plant(decode_image(originals[i], name="image"), names[n % len(names)], kinds[names[n % len(names)]], rng)
            for n, i in enumerate(chosen)
        ]
        contents = [*originals, *copies]
        with pretrained_extractor((SMALL, LARGE), DEFAULT_LIMITS) as extractor:
            found = {(match.first, match.second) for match in matches_of(contents, extractor)}
        hashed = hash_matches(contents)
        planted = {(int(i), len(originals) + n): names[n % len(names)] for n, i in enumerate(chosen)}
        lines += [f"### {title}", "", "| change | recog recall | pHash recall | n |", "|---|---|---|---|"]
        for name in names:
            pairs = {pair for pair, kind in planted.items() if kind == name}
            lines.append(
                f"| {name} | {len(pairs & found) / len(pairs):.3f} | {len(pairs & hashed) / len(pairs):.3f} | {len(pairs)} |"
            )
        both = [len(planted.keys() & each) / len(planted) for each in (found, hashed)]
        lines += [
            f"| all | {both[0]:.3f} | {both[1]:.3f} | {len(planted)} |",
            "",
            "Reported pairs that were not planted:",
            "",
        ]
        original_of = {len(originals) + n: int(i) for n, i in enumerate(chosen)}
        others = {tuple(sorted((original_of.get(i, i), original_of.get(j, j)))) for i, j in found - planted.keys()}
        lines += [f"- {samples[i].name} and {samples[j].name}" for i, j in sorted(others) if i != j] or ["- none"]
        lines.append("")
        print("\n".join(lines), flush=True)
    return lines


def time_of(shared: Path) -> list[str]:
    lines = ["The whole command, one run each.", "", "| data | seconds | peak MiB |", "|---|---|---|"]
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        photos, small = root / "photos", root / "small"
        for n in range(3000):
            write_photo(shared, photos, n)
        with zipfile.ZipFile(shared / "cifar10.zip") as archive:
            names = [name for name in archive.namelist() if "/train/" in name and name.endswith(".jpg")][::5]
            for name in names:
                path = small / Path(name).parent.name / Path(name).name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(archive.read(name))
        for name, data in (("3,000 photos", photos), (f"{len(names):,} images of 32 px", small)):
            timings = time_in_turn({name: recog("scan", str(data), "--deep")}, runs=1, warmup=0, cwd=root)
            lines.append(f"| {name} | {timings[name].seconds[0]:.0f} | {timings[name].peak_mib:.0f} |")
            print(lines[-1], flush=True)
    return lines


def write_photo(shared: Path, folder: Path, number: int) -> None:
    """Photo `number` of as many as are wanted: those of flowers, each a different part and quality."""
    samples = _photos(shared)
    sample, rng = samples[number % len(samples)], np.random.default_rng(number)
    image = _crop(decode_image(sample.source, name=sample.name), rng.uniform(0.5, 0.95), rng)
    path = folder / sample.name.split("/")[-2] / f"{number:05d}.jpg"
    path.parent.mkdir(parents=True, exist_ok=True)
    image.resize((500, 375)).save(path, quality=int(rng.integers(70, 95)))


def _photos(shared: Path) -> tuple[Sample, ...]:
    return open_source(str(shared / "flowers.zip")).samples


PARTS: Mapping[str, tuple[str, Callable[[Path], list[str]]]] = {
    "labels_flowers": ("Deep scan: flipped labels of photos", labels_of_flowers),
    "labels_cifar": ("Deep scan: flipped labels of CIFAR-10", labels_of_cifar),
    "duplicates": ("Deep scan: near duplicates", duplicates),
    "time": ("Deep scan: time and memory", time_of),
}


if __name__ == "__main__":
    shared_folder, *wanted = sys.argv[1:]
    for part in wanted or PARTS:
        title, measure = PARTS[part]
        write_result(f"doctor_{part}", title, "\n".join(measure(Path(shared_folder))))
