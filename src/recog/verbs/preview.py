"""`recog scan --preview`: a picture of an augmented batch as the network sees it."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from PIL.PngImagePlugin import PngInfo

from recog.core.errors import BadImage, DataError
from recog.core.files import write_bytes_atomic
from recog.core.hardware import read_hardware
from recog.core.outputs import PREVIEW_SOFTWARE, check_preview
from recog.core.preprocess import Preprocess
from recog.core.text import visible
from recog.data.augment.policies import AugmentConfig
from recog.data.data_layout import DETECTED, DataLayout
from recog.data.dataset import Dataset, Sample, targets_of
from recog.data.inspection import image_facts, inspect_images
from recog.data.lists.label_format import AS_FOUND, LabelFormat
from recog.data.loader import TrainLoader
from recog.data.sources import open_source
from recog.data.split import SplitConfig
from recog.data.store import ImageStore, read_exact, read_images, read_larger
from recog.models.build import build_model
from recog.models.config import with_bundle, with_known_name
from recog.recipes.config import TrainConfig
from recog.recipes.plan import choose_recipe, plan
from recog.recipes.prepare import choose_grey16_max
from recog.training.losses import one_hot

NUM_ROWS, NUM_COLUMNS = 4, 8
TRAINING = (None, "train")  # the splits whose images are drawn
MIN_CELL_PX = 96  # smaller images are enlarged in whole steps, so that their pixels show
_TEXT_PX = 18


def preview(
    source: str | Path,
    path: Path,
    config: TrainConfig | None = None,
    *,
    labels: LabelFormat = AS_FOUND,
    layout: DataLayout = DETECTED,
) -> AugmentConfig:
    """Draw a batch of `source` into the PNG `path` as training by steps would see it; returns the augmentation drawn.

    Where the plan is a head on frozen features, which sees no augmented image, it is that of fine-tuning.
    """
    check_preview(path)
    config = config or TrainConfig()
    dataset = open_source(source, labels=labels, layout=layout)
    inspected = list(inspect_images(dataset.samples, config.limits))
    facts = image_facts(dataset, inspected)
    config = replace(config, model=with_known_name(config.model))
    recipe, _ = choose_recipe(config, facts)
    config = replace(config, recipe="finetune" if recipe == "head" else recipe, split=SplitConfig())
    planned, _ = plan(
        replace(config, model=with_bundle(config.model)), dataset, facts, read_hardware(), has_bfloat16=False
    )
    # only the network's Preprocess is wanted, so that its weights need not be at hand
    model = build_model(replace(planned.model, weights="none"), num_classes=len(dataset.class_names))
    training = [i for i, s in zip(inspected, dataset.samples, strict=True) if s.split in TRAINING]
    grey16_max, _ = choose_grey16_max(planned.data, training)
    preprocess = replace(model.preprocess, grey16_max=grey16_max, limits=planned.limits)
    draw_preview(dataset, planned.augment, path, preprocess=preprocess, seed=planned.seed)
    return planned.augment


def draw_preview(
    dataset: Dataset, augment: AugmentConfig, path: Path, *, preprocess: Preprocess, seed: int = 0
) -> None:
    """Write a PNG of 32 training images of `dataset` in the first epoch, spread over its classes, with class names.

    Mixed images carry both names with their weights. `augment` is planned: policy and geometry are set. DataError where
    no image can be used.
    """
    samples, images = _read_spread(dataset, augment, preprocess)
    store = ImageStore(images)
    targets = targets_of(samples, len(dataset.class_names), dataset.task)
    loader = TrainLoader(
        store=store,
        targets=targets,
        augment=augment,
        image_size=preprocess.image_size,
        batch_size=len(samples),
        seed=seed,
        num_classes=len(dataset.class_names),
    )
    pixels, drawn = next(loader.batches(epoch=0))
    captions = [_caption(target, dataset.class_names) for target in one_hot(drawn, len(dataset.class_names))]
    sheet = _draw(pixels.numpy(), [visible(caption) for caption in captions])
    path.parent.mkdir(parents=True, exist_ok=True)
    write_bytes_atomic(path, _png(sheet))


def _read_spread(
    dataset: Dataset, augment: AugmentConfig, preprocess: Preprocess
) -> tuple[list[Sample], list[NDArray[np.uint8]]]:
    """Up to 32 usable training images, class by class in turn."""
    by_class: dict[tuple[int, ...], list[Sample]] = {}
    for sample in (sample for sample in dataset.samples if sample.split in TRAINING):
        by_class.setdefault(sample.labels, []).append(sample)
    most = max((len(members) for members in by_class.values()), default=0)
    turns = [members[turn] for turn in range(most) for members in by_class.values() if turn < len(members)]
    reader = read_larger(preprocess) if augment.needs_larger_images else read_exact(preprocess)
    samples, images = [], []
    for sample, image in zip(turns, read_images(turns, reader), strict=False):
        if not isinstance(image, BadImage):
            samples.append(sample)
            images.append(image)
        if len(samples) == NUM_ROWS * NUM_COLUMNS:
            break
    if not samples:
        raise DataError(f"{dataset.name} has no usable training image to draw.")
    return samples, images


def _caption(target: torch.Tensor, class_names: tuple[str, ...]) -> str:
    present = sorted(np.flatnonzero(target.numpy()), key=lambda k: -float(target[k]))
    if len(present) == 1 and target[present[0]] == 1:
        return class_names[present[0]]
    if not present:
        return "(no label)"
    if all(target[k] == 1 for k in present):
        return ", ".join(class_names[k] for k in present)
    return " + ".join(f"{float(target[k]):.0%} {class_names[k]}" for k in present)


def _draw(images: NDArray[np.uint8], captions: list[str]) -> Image.Image:
    """uint8 [B, H, W, C] as one sheet, a caption under each image."""
    count, height, width, channels = images.shape
    zoom = max(1, -(-MIN_CELL_PX // max(height, width)))
    columns = min(NUM_COLUMNS, count)
    cell_width, cell_height = width * zoom + 4, height * zoom + 4 + _TEXT_PX
    sheet = Image.new("RGB", (columns * cell_width, -(-count // columns) * cell_height), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(12)
    for number, (pixels, caption) in enumerate(zip(images, captions, strict=True)):
        left, top = number % columns * cell_width, number // columns * cell_height
        picture = Image.fromarray(pixels[:, :, 0] if channels == 1 else pixels)
        sheet.paste(picture.resize((width * zoom, height * zoom), Image.Resampling.NEAREST), (left + 2, top + 2))
        while caption and draw.textlength(caption, font=font) > cell_width - 4:
            caption = caption[:-1]
        draw.text((left + 2, top + height * zoom + 4), caption, fill="black", font=font)
    return sheet


def _png(sheet: Image.Image) -> bytes:
    buffer = io.BytesIO()
    mark = PngInfo()
    mark.add_text("Software", PREVIEW_SOFTWARE)
    sheet.save(buffer, "PNG", pnginfo=mark)
    return buffer.getvalue()
