"""Continuing an earlier bundle (`--from`): its recipe and network as settings of the new run. Imports no torch."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import get_args

from recog.bundle.manifest import read_manifest
from recog.bundle.seal import RUN_CONFIG, check_files
from recog.core.config import load_toml
from recog.core.images.colour import FULL_SCALE_16
from recog.models import config as models
from recog.recipes.config import Recipe, TrainConfig, unused_settings


def with_parent(config: TrainConfig) -> tuple[TrainConfig, list[str]]:
    """`config` with the network of the bundle that `config.model.parent` names, and its recipe where none is set; with reasons.

    Unchanged without a parent. ConfigError or BundleError where it cannot be continued.
    """
    model = models.with_parent(config.model)
    config = replace(config, model=model)
    if not model.parent:
        return config, []
    white = read_manifest(Path(model.parent)).preprocess.grey16_max
    if config.data.grey16_max is None and white != FULL_SCALE_16:
        config = replace(config, data=replace(config.data, grey16_max=white))
    if config.recipe is not None:
        return config, []
    earlier = _recipe_of(Path(model.parent))
    by_steps = [name for name, recipes in unused_settings(config, "head").items() if "finetune" in recipes]
    if earlier == "head" and not by_steps:
        reason = "recipe head: the parent was trained by it; --recipe finetune trains its whole network"
        return replace(config, recipe="head"), [reason]
    why = f"as the parent was trained by {earlier or 'another program'}"
    if by_steps:
        why = f"as head does not use {', '.join(by_steps)}"
    return replace(config, recipe="finetune"), [f"recipe finetune, {why}; it starts from the parent's whole network"]


def _recipe_of(bundle: Path) -> Recipe | None:
    check_files(bundle, read_manifest(bundle), (RUN_CONFIG,))
    recipe = load_toml(bundle / RUN_CONFIG).get("recipe")
    return next((known for known in get_args(Recipe) if known == recipe), None)
