"""Near duplicates of the deep scan: planted copies beside the peers' perceptual hashes, and every other pair that is reported.

python benchmarks/doctor_duplicates.py SHARED [SET ...]: SHARED holds flowers.zip, cifar10.zip and mnist.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import imagehash
import numpy as np
from harness import kept, write_result
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageEnhance
from sklearn.datasets import load_digits

from recog.core.images.decode import DEFAULT_LIMITS, decode_image, probe
from recog.data.sources import open_source
from recog.doctor.examine import NUM_NEIGHBOURS
from recog.doctor.features import LARGE, SMALL, Neighbours, nearest_neighbours, pretrained_extractor, standardised
from recog.doctor.near_duplicates import find_near_duplicates
from recog.doctor.traits import DECODED_PX, Traits, measure_traits

HELD_OUT = ("cifar_others",)  # sets that no threshold was set on, with changes by another seed
NUM_PLANTED = 400  # half light, half strong; of small sets half of the images
Pairs = set[tuple[int, int]]
Change = Callable[[Image.Image, np.random.Generator], Image.Image]


def crop(image: Image.Image, share: float, rng: np.random.Generator) -> Image.Image:
    """A part with `share` of each side, anywhere."""
    left, top = (rng.uniform(0, 1 - share) * side for side in image.size)
    return image.crop((int(left), int(top), int(left + share * image.width), int(top + share * image.height)))


LIGHT: Mapping[str, Change] = {
    "resize to 60 %": lambda image, rng: image.resize((int(0.6 * image.width), int(0.6 * image.height))),
    "JPEG quality 30": lambda image, rng: image,
    "5 % crop": lambda image, rng: crop(image, 0.975, rng),  # 5 % of the area
    "brightness x 0.7 or 1.3": lambda image, rng: ImageEnhance.Brightness(image).enhance(rng.choice([0.7, 1.3])),
    "mirror": lambda image, rng: image.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
}
STRONG: Mapping[str, Change] = {
    "crop to 70 % of each side": lambda image, rng: crop(image, 0.7, rng),
    "flip left-right": LIGHT["mirror"],
    "flip top-bottom": lambda image, rng: image.transpose(Image.Transpose.FLIP_TOP_BOTTOM),
    "rotation by 25 degrees": lambda image, rng: image.rotate(25, resample=Image.Resampling.BICUBIC),
    "height x 0.7": lambda image, rng: image.resize((image.width, int(0.7 * image.height))),
}
CHANGES = {**LIGHT, **STRONG}


def plant(image: Image.Image, kind: str, rng: np.random.Generator) -> bytes:
    buffer = io.BytesIO()
    CHANGES[kind](image, rng).save(buffer, "JPEG", quality=30 if kind == "JPEG quality 30" else 90)
    return buffer.getvalue()


@dataclass(frozen=True, kw_only=True)
class Pool:
    """Images, the last of them changed copies: `planted[i, j]` is the change from i to j."""

    name: str
    contents: list[bytes]
    planted: dict[tuple[int, int], str]

    @classmethod
    def of(cls, name: str, originals: Sequence[bytes]) -> Pool:
        rng = np.random.default_rng(2 if name in HELD_OUT else 1)
        chosen = rng.permutation(len(originals))[: min(NUM_PLANTED, len(originals) // 2)].tolist()
        kinds = [list(CHANGES)[number % len(CHANGES)] for number in range(len(chosen))]
        copies = [
            plant(decode_image(originals[i], name="image"), kind, rng) for i, kind in zip(chosen, kinds, strict=True)
        ]
        planted = {(i, len(originals) + number): kinds[number] for number, i in enumerate(chosen)}
        return cls(name=name, contents=[*originals, *copies], planted=planted)

    def unplanted(self, found: Pairs) -> list[tuple[int, int]]:
        """Pairs of originals that are reported, of copies for their originals."""
        original = {j: i for i, j in self.planted}
        pairs = {tuple(sorted((original.get(i, i), original.get(j, j)))) for i, j in found}
        return sorted((i, j) for i, j in pairs if i != j)

    def recall(self, found: Pairs, kinds: Sequence[str]) -> float:
        pairs = {pair for pair, kind in self.planted.items() if kind in kinds}
        return len(pairs & found) / len(pairs)


def reported(pool: Pool, networks: Sequence[tuple[str, int]]) -> Pairs:
    """As the deep scan finds them."""
    traits: list[Traits] = []
    for content in pool.contents:
        image = decode_image(content, name="image", min_side=max(DECODED_PX, *(size for _, size in networks)))
        traits.append(measure_traits(image, probe(content), content))
    features = kept(f"duplicates_{pool.name}", lambda: neighbours_of(features_of(pool.contents, networks)))
    neighbours = Neighbours(rows=features[0].astype(np.int64), cosines=features[1].astype(np.float32))
    grey, colours = (np.stack(each) for each in zip(*((t.thumbnail, t.colours) for t in traits), strict=True))
    *_, compared = find_near_duplicates(grey, colours, [(t.width, t.height) for t in traits], neighbours)
    return {(match.first, match.second) for match in compared.matches}


def neighbours_of(features: NDArray[np.float32]) -> NDArray[np.float64]:
    """Rows and cosines [2, N, k] of the nearest neighbours."""
    *_, neighbours = nearest_neighbours(standardised(features), NUM_NEIGHBOURS)
    return np.stack([neighbours.rows.astype(np.float64), neighbours.cosines.astype(np.float64)])


def features_of(contents: Sequence[bytes], networks: Sequence[tuple[str, int]]) -> NDArray[np.float32]:
    """float32 [N, D] of image files, as the deep scan computes them: those of each network side by side."""
    features = []
    with pretrained_extractor(networks, DEFAULT_LIMITS) as extractor:
        for start in range(0, len(contents), 32):
            images = [
                decode_image(content, name="image", min_side=extractor.min_side)
                for content in contents[start : start + 32]
            ]
            parts = [
                network.features(np.stack([network.preprocess.fit(image, "image") for image in images]))
                for network in extractor.networks
            ]
            features.append(np.concatenate(parts, axis=1))
    return np.concatenate(features)


def hash_pairs(hashes: Sequence[NDArray[np.bool_]], max_bits: int = 10) -> Pairs:
    """At the distance that is usual for a perceptual hash of 64 bits."""
    bits = np.stack([each.reshape(-1) for each in hashes]).astype(np.int32)
    apart = bits @ (1 - bits).T + (1 - bits) @ bits.T
    return {(int(i), int(j)) for i, j in np.argwhere(apart <= max_bits) if i < j}


def peers_of(contents: Sequence[bytes]) -> Iterator[tuple[str, Pairs]]:
    images = [Image.open(io.BytesIO(content)).convert("RGB") for content in contents]
    yield "ImageHash pHash", hash_pairs([imagehash.phash(image).hash for image in images])
    if find_spec("imagededup"):  # its network needs weights from the internet
        from imagededup.methods import PHash

        texts = [PHash(verbose=False).encode_image(image_array=np.asarray(image)) for image in images]
        yield (
            "imagededup PHash",
            hash_pairs([np.array([bit == "1" for bit in f"{int(text, 16):064b}"]) for text in texts]),
        )


def drawings(*, is_coloured: bool, noise: float = 0.0, count: int = 160) -> list[bytes]:
    """A disc, square, triangle or turned pentagon on a plain ground, 128 x 128 px: in two colours, or black on white."""
    rng = np.random.default_rng(0)
    found = []
    for i in range(count):
        ground, colour = (tuple(int(level) for level in rng.integers(0, 256, 3)) for _ in range(2))
        if not is_coloured:
            ground, colour = (255, 255, 255), (0, 0, 0)
        image = Image.new("RGB", (128, 128), ground)
        radius = rng.uniform(15, 45)
        x, y = rng.uniform(radius, 128 - radius, 2)
        _draw(ImageDraw.Draw(image), i % 4, (x, y, radius), colour, rng)
        if noise:
            noisy = np.asarray(image) + rng.normal(0, noise, (128, 128, 3))
            image = Image.fromarray(np.clip(noisy, 0, 255).astype(np.uint8))
        found.append(_png(image))
    return found


def _draw(
    draw: ImageDraw.ImageDraw,
    shape: int,
    place: tuple[float, float, float],
    colour: tuple[int, ...],
    rng: np.random.Generator,
) -> None:
    x, y, radius = place
    box = (x - radius, y - radius, x + radius, y + radius)
    if shape == 0:
        draw.ellipse(box, fill=colour)
    elif shape == 1:
        draw.rectangle(box, fill=colour)
    elif shape == 2:
        draw.polygon([(x, y - radius), (x - radius, y + radius), (x + radius, y + radius)], fill=colour)
    else:
        angles = rng.uniform(0, 2 * np.pi) + np.arange(5) * 2 * np.pi / 5
        draw.polygon([(x + radius * np.cos(a), y + radius * np.sin(a)) for a in angles], fill=colour)


def _png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def flowers(shared: Path) -> list[bytes]:
    return [sample.source.read() for sample in open_source(str(shared / "flowers.zip")).samples]


def cifar(shared: Path) -> list[bytes]:
    samples = open_source(str(shared / "cifar10.zip")).samples
    chosen = np.sort(np.random.default_rng(0).permutation(len(samples))[:5000])
    return [samples[i].source.read() for i in chosen]


def cifar_others(shared: Path) -> list[bytes]:
    samples = open_source(str(shared / "cifar10.zip")).samples
    chosen = np.sort(np.random.default_rng(0).permutation(len(samples))[5000:7000])
    return [samples[i].source.read() for i in chosen]


def mnist(shared: Path) -> list[bytes]:
    samples = open_source(str(shared / "mnist")).samples[:1000]
    return [_png(Image.fromarray(np.asarray(decode_image(sample.source, name=sample.name)))) for sample in samples]


def digits(shared: Path) -> list[bytes]:
    return [_png(Image.fromarray(np.uint8(image * 15.9375))) for image in load_digits().images]


SETS: Mapping[str, tuple[str, Callable[[Path], list[bytes]]]] = {
    "flowers": ("flowers, photos", flowers),
    "cifar": ("CIFAR-10, 32 x 32 px", cifar),
    "cifar_others": ("CIFAR-10, other images and changes than the thresholds were set on", cifar_others),
    "mnist": ("MNIST, 28 x 28 px", mnist),
    "digits": ("digits, 8 x 8 px", digits),
    "shapes_colour": ("drawings, two colours", lambda shared: drawings(is_coloured=True)),
    "shapes_bw": ("drawings, black on white", lambda shared: drawings(is_coloured=False)),
    "shapes_noise": ("drawings, noisy", lambda shared: drawings(is_coloured=True, noise=12)),
}


def measure(shared: Path, names: Sequence[str]) -> Iterator[str]:
    for name in names:
        title, read = SETS[name]
        originals = read(shared)
        pool = Pool.of(name, originals)
        found = {
            "recog": reported(pool, (SMALL, LARGE) if name == "flowers" else (SMALL,)),
            **dict(peers_of(pool.contents)),
        }
        yield f"### {title}: {len(originals):,} images and {len(pool.planted)} changed copies\n"
        yield f"| change | n | {' | '.join(f'{who} recall' for who in found)} |\n|---|---|{'---|' * len(found)}"
        for kind in CHANGES:
            yield _row(kind, pool, found, [kind])
        yield _row("all light", pool, found, list(LIGHT))
        yield _row("all strong", pool, found, list(STRONG))
        counts = [f"{who} {len(pool.unplanted(pairs)):,}" for who, pairs in found.items()]
        yield f"\nPairs of originals reported: {', '.join(counts)}.\n"
        others = pool.unplanted(found["recog"])
        if others:
            yield f"Those of recog: {', '.join(f'{i}-{j}' for i, j in others)}.\n"
            _write_sheet(pool, others, Path(f"doctor_duplicates_{name}.png"))


def _row(title: str, pool: Pool, found: Mapping[str, Pairs], kinds: Sequence[str]) -> str:
    number = sum(kind in kinds for kind in pool.planted.values())
    return f"| {title} | {number} | {' | '.join(f'{pool.recall(pairs, kinds):.3f}' for pairs in found.values())} |"


def _write_sheet(pool: Pool, pairs: Sequence[tuple[int, int]], path: Path) -> None:
    """The pairs side by side, six a row, to be judged by eye; into the current folder."""
    sheet = Image.new("RGB", (6 * 208, -(-len(pairs) // 6) * 104), "white")
    for number, pair in enumerate(pairs):
        for side, i in enumerate(pair):
            tile = Image.open(io.BytesIO(pool.contents[i])).convert("RGB").resize((98, 98))
            sheet.paste(tile, (208 * (number % 6) + 98 * side, 104 * (number // 6)))
    sheet.save(path)


if __name__ == "__main__":
    shared_folder, *wanted = sys.argv[1:]
    lines = []
    for line in measure(Path(shared_folder), wanted or list(SETS)):
        print(line, flush=True)
        lines.append(line)
    write_result("doctor_duplicates", "Deep scan: near duplicates", "\n".join(lines))
