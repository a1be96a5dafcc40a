from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from PIL import Image

from recog.core.config import build_config, config_to_dict
from recog.core.errors import ConfigError, DataError
from recog.core.hardware import Hardware
from recog.data.augment.policies import AugmentConfig
from recog.data.dataset import Dataset, Sample
from recog.data.inspection import ImageFacts, describe_data, image_facts, inspect_images
from recog.data.split import SplitConfig
from recog.evaluation.trust.calibration import CalibrationConfig
from recog.models.config import ModelConfig
from recog.recipes.config import ComputeConfig, LoaderConfig, TrainConfig
from recog.recipes.plan import PRETRAINED, plan, plan_split
from recog.training.config import HeadConfig, LossConfig, LossPlan, OptimConfig
from recog.training.schedule import ScheduleConfig, StopConfig

HARDWARE = Hardware(num_cores=2, memory_bytes=8 << 30, cpu="test")
PHOTOS = ImageFacts(sizes=((333, 500), (500, 375)), all_grey=False)
TINY = ImageFacts(sizes=((8, 8),), all_grey=True)
COLOUR_32 = ImageFacts(sizes=((32, 32),) * 2000, all_grey=False)


def dataset(num_samples=100, **changes):
    samples = tuple(Sample(name=f"{i}", source=np.zeros((8, 8), np.uint8), labels=(i % 2,)) for i in range(num_samples))
    return Dataset(**{"name": "d", "layout": "test", "class_names": ("a", "b"), "samples": samples} | changes)


def planned(config, facts, data=None, **changes):
    return plan(config, data or dataset(**changes), facts, HARDWARE, has_bfloat16=True)


def test_photos_get_a_head_on_pretrained_features_with_the_reason():
    config, reasons = planned(TrainConfig(), PHOTOS)
    assert (config.recipe, config.model.name, config.model.weights) == ("head", "tf_efficientnet_lite1", "auto")
    assert any(reason.startswith("recipe head:") for reason in reasons)


@pytest.mark.parametrize(
    ("recipe", "sizes", "reason"),
    [
        (None, ((300, 500),) * 9, "network tf_efficientnet_lite1, 288 px: more accurate on photos than"),
        (None, ((120, 160),) * 9, "network tf_efficientnet_lite0, 224 px: half of the images have a shorter side of at most 120"),
        ("finetune", ((300, 500),) * 9, "network tf_efficientnet_lite0, 224 px: the fastest with packaged weights"),
    ],
)  # fmt: skip
def test_a_network_that_nobody_named_has_its_reason(recipe, sizes, reason):
    _, reasons = planned(TrainConfig(recipe=recipe), ImageFacts(sizes=sizes, all_grey=False))
    assert sum(text.startswith(reason) for text in reasons) == 1
    _, reasons = planned(
        TrainConfig(recipe=recipe, model=ModelConfig(name="resnet18")), ImageFacts(sizes=sizes, all_grey=False)
    )
    assert not any(text.startswith("network ") for text in reasons)


def test_small_grey_images_are_learnt_from_scratch_at_their_own_size():
    config, reasons = planned(TrainConfig(), TINY)
    assert (config.recipe, config.model.name, config.model.channels) == ("scratch", "resnet8", 1)
    assert config.model.image_size == (8, 8)
    assert (config.augment.policy, config.augment.geometry, config.loader.batch_size) == ("standard", "warp", 64)
    assert any("up to 8 px" in reason for reason in reasons)


@pytest.mark.parametrize(
    ("asked", "facts", "channels"), [(None, TINY, 1), (None, PHOTOS, 3), (3, TINY, 3), (1, PHOTOS, 1)]
)
def test_channels_are_planned_unless_they_are_set(asked, facts, channels):
    config, _ = planned(TrainConfig(model=ModelConfig(channels=asked)), facts)
    assert config.model.channels == channels


def test_what_the_user_sets_is_not_planned():
    asked = TrainConfig(recipe="finetune", model=ModelConfig(name="resnet18"))
    config, reasons = planned(
        dataclasses.replace(asked, optim=dataclasses.replace(asked.optim, epochs=3, lr=0.5)), TINY
    )
    assert (config.recipe, config.model.name, config.optim.epochs, config.optim.lr) == ("finetune", "resnet18", 3, 0.5)
    assert not any(reason.startswith("recipe") for reason in reasons)


def test_random_weights_that_were_asked_for_are_no_head():
    config, _ = planned(TrainConfig(model=ModelConfig(name="resnet18", weights="none")), PHOTOS)
    assert config.recipe == "scratch"


@pytest.mark.parametrize("facts", [PHOTOS, TINY, COLOUR_32])
@pytest.mark.parametrize("recipe", [None, "head", "finetune", "scratch"])
def test_a_planned_config_is_planned_to_itself(recipe, facts):
    """So that run.toml gives the same run: planning twice is planning once, also through TOML's types."""
    once, _ = planned(TrainConfig(recipe=recipe), facts)
    from_toml = build_config(TrainConfig, config_to_dict(once))
    assert config_to_dict(from_toml) == config_to_dict(once)
    assert planned(from_toml, facts)[0] == once


@pytest.mark.parametrize("recipe", ["head", "finetune", "scratch"])
def test_nothing_that_training_reads_is_left_open(recipe):
    once, _ = planned(TrainConfig(recipe=recipe), TINY)
    parts = (once, once.compute) if recipe == "head" else (once, once.compute, once.loader, once.loss, once.optim)
    assert [type(part).__name__.removesuffix("Plan") for part in parts[2:]] in ([], ["Loader", "Loss", "Optim"])
    assert not [(part, name) for part in parts for name, value in vars(part).items() if value is None]


def test_the_sources_customary_test_fraction_holds_unless_the_user_splits():
    data = dataset(test_fraction=0.2)
    assert plan_split(SplitConfig(), data) == SplitConfig(test_fraction=0.2)
    assert plan_split(SplitConfig(test_fraction=0.3), data) == SplitConfig(test_fraction=0.3)
    assert plan_split(SplitConfig(), dataset()) == SplitConfig()


def test_of_many_images_2500_validate_and_of_many_classes_5_of_each():
    data = dataset(40_000)
    assert plan_split(SplitConfig(), data).val_fraction == 0.0625
    many = dataclasses.replace(data, class_names=tuple(map(str, range(1000))))
    assert plan_split(SplitConfig(), many).val_fraction == 0.125
    assert plan_split(SplitConfig(val_fraction=0.2), data).val_fraction == 0.2


CIFAR10_NAMES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


@pytest.mark.parametrize(
    ("config", "facts", "changes", "mirror", "degrees"),
    [
        (TrainConfig(), TINY, {}, False, 0),  # may show letters: a mirrored b is a d, a turned 6 is a 9
        (TrainConfig(), COLOUR_32, {}, False, 0),
        (TrainConfig(), COLOUR_32, {"class_names": CIFAR10_NAMES}, True, 0),
        (TrainConfig(recipe="finetune"), TINY, {}, True, 0),  # the crop policy does not rotate
        (TrainConfig(recipe="scratch"), PHOTOS, {}, True, 0),
        (TrainConfig(augment=AugmentConfig(mirror=True, max_rotation_degrees=9)), TINY, {}, True, 9),
        (TrainConfig(augment=AugmentConfig(mirror=False), recipe="finetune"), PHOTOS, {}, False, 0),
    ],
)
def test_small_images_from_random_weights_are_not_mirrored_or_rotated_unless_asked(
    config, facts, changes, mirror, degrees
):
    planned_config, reasons = planned(config, facts, dataset(**changes))
    assert planned_config.augment.mirror is mirror
    assert planned_config.augment.max_rotation_degrees == degrees
    (said,) = [reason for reason in reasons if reason.startswith("augmentation standard: ")]
    assert f"images are {'' if mirror else 'not '}mirrored" in said
    assert (f"rotated by up to {degrees} degrees" if degrees else "not rotated") in said


def test_bfloat16_only_where_the_cpu_has_it():
    config = TrainConfig(recipe="finetune")
    assert plan(config, dataset(), PHOTOS, HARDWARE, has_bfloat16=True)[0].compute.precision == "bfloat16"
    assert plan(config, dataset(), PHOTOS, HARDWARE, has_bfloat16=False)[0].compute.precision == "float32"


def test_image_facts_from_headers(tmp_path):
    sources = []
    for i, size in enumerate([(30, 20), (40, 10)]):
        path = tmp_path / f"{i}.png"
        Image.new("L", size).save(path)
        sources.append(Sample(name=path.name, source=path, labels=(0,)))
    (tmp_path / "bad.png").write_bytes(b"x")
    sources.append(Sample(name="bad.png", source=tmp_path / "bad.png", labels=(0,)))
    data = dataclasses.replace(dataset(), samples=tuple(sources))
    facts = image_facts(data, inspect_images(data.samples))
    assert facts == ImageFacts(sizes=((20, 30), (10, 40)), all_grey=True)
    assert facts.one_size is None
    assert facts.largest_side == 40
    assert "3 images (of which 1 cannot be used), 30-40 x 10-20 px, grey" in describe_data(data, facts, num_bad=1)[0]
    with pytest.raises(DataError, match="no file of d is a usable image; the first: bad.png"):
        image_facts(data, inspect_images(sources[2:]))


def test_an_optimiser_that_is_named_gets_its_usual_rate_with_the_reason():
    for recipe, rate in (("scratch", 1e-3), ("finetune", 1e-4)):
        config, reasons = planned(TrainConfig(recipe=recipe, optim=OptimConfig(name="adamw")), TINY)
        assert (config.optim.lr, config.optim.weight_decay) == (rate, 0.05)
        assert any(
            reason.startswith(f"optimiser adamw: learning rate {rate:g}, the default from") for reason in reasons
        )
    config, reasons = planned(TrainConfig(recipe="scratch", optim=OptimConfig(lr=0.2)), TINY)
    assert (config.optim.name, config.optim.lr, config.schedule.warmup_fraction) == ("sgd", 0.2, 0.15)
    assert not any(reason.startswith("optimiser") for reason in reasons)


def test_the_loss_suits_the_task():
    assert planned(TrainConfig(), TINY)[0].loss == LossPlan(name="cross-entropy", label_smoothing=0.1)
    several = dataset(task="multilabel")
    assert planned(TrainConfig(recipe="scratch"), TINY, several)[0].loss.name == "bce"


def test_a_measure_of_several_labels_does_not_stop_training_on_one():
    with pytest.raises(ConfigError, match="stop.measure is val_map, .* use val_nll or val_accuracy"):
        planned(TrainConfig(recipe="scratch", stop=StopConfig(measure="val_map")), TINY)


def test_a_seed_that_cannot_be():
    with pytest.raises(ConfigError, match="seed is -1"):
        TrainConfig(seed=-1)


@pytest.mark.parametrize(
    ("name", "facts", "image_size", "channels"),
    [
        ("lenet5", ImageFacts(sizes=((28, 28),), all_grey=True), (28, 28), 1),
        ("lenet5", TINY, None, 1),  # 8 px are too few for it, so it takes its own 32
        ("cnn_32_64", COLOUR_32, (32, 32), 3),
        ("fastnet32", PHOTOS, None, 3),
    ],
)
def test_a_network_without_published_weights_learns_from_scratch_in_the_images_size(name, facts, image_size, channels):
    config, reasons = planned(TrainConfig(model=ModelConfig(name=name)), facts)
    assert (config.recipe, config.model.weights) == ("scratch", "none")
    assert (config.model.image_size, config.model.channels) == (image_size, channels)
    assert f"recipe scratch: {name} has no published weights" in reasons


def test_channels_that_are_set_stay():
    config, _ = planned(TrainConfig(model=ModelConfig(name="lenet5", channels=3)), TINY)
    assert config.model.channels == 3


@pytest.mark.parametrize(
    ("recipe", "setting", "other"),
    [
        ("head", {"optim": OptimConfig(epochs=5)}, "optim.epochs. Remove optim.epochs, or use --recipe finetune"),
        ("head", {"optim": OptimConfig(lr=0.1, name="adamw")}, "optim.name, optim.lr"),
        ("head", {"loader": LoaderConfig(batch_size=8)}, "loader.batch_size"),
        ("head", {"augment": AugmentConfig(policy="trivial")}, "augment.policy"),
        ("head", {"loss": LossConfig(label_smoothing=0.1)}, "loss.label_smoothing"),
        ("head", {"schedule": ScheduleConfig(name="step")}, "schedule.name"),
        ("head", {"stop": StopConfig(patience=3)}, "stop.patience"),
        ("head", {"model": ModelConfig(drop_rate=0.1)}, "model.drop_rate"),
        ("head", {"compute": ComputeConfig(precision="bfloat16")}, "compute.precision"),
        (
            "scratch",
            {"model": ModelConfig(weights="w.safetensors")},
            "model.weights.*use --recipe head or --recipe finetune",
        ),
        ("scratch", {"head": HeadConfig(l2=(1.0,))}, "head.l2"),
    ],
)
def test_a_setting_that_the_recipe_would_ignore_is_refused(recipe, setting, other):
    with pytest.raises(ConfigError, match=f"recipe {recipe} does not use .*{other}"):
        planned(TrainConfig(recipe=recipe, **setting), PHOTOS)


def test_settings_of_training_steps_plan_the_recipe_that_uses_them():
    config, reasons = planned(TrainConfig(optim=OptimConfig(epochs=5)), PHOTOS)
    assert (config.recipe, config.optim.epochs) == ("finetune", 5)
    assert any("recipe finetune: set by optim.epochs, for the whole network" in reason for reason in reasons)


def test_weights_that_are_named_are_never_left_unread():
    small = TrainConfig(model=ModelConfig(weights="w.safetensors"))
    assert planned(small, TINY)[0].recipe == "head"


def test_small_images_are_not_mirrored_for_a_network_that_learnt_small_images():
    for name, mirror in (("resnet8", False), ("resnet18", True)):
        config = TrainConfig(recipe="finetune", model=ModelConfig(name=name, weights="w.safetensors"))
        assert planned(config, TINY)[0].augment.mirror is mirror


@pytest.mark.parametrize(
    ("mode", "geometry"), [(None, "crop"), ("center", "crop"), ("border", "crop"), ("squash", "warp")]
)
def test_images_that_are_squashed_are_trained_whole(mode, geometry):
    config = TrainConfig(recipe="scratch", model=ModelConfig(name="resnet8", image_size=(32, 32), crop_mode=mode))
    assert planned(config, PHOTOS)[0].augment.geometry == geometry


@pytest.mark.parametrize("recipe", ["finetune", "scratch"])
def test_training_by_steps_needs_a_validation_split(recipe):
    split = SplitConfig(mode="none")
    with pytest.raises(ConfigError, match=f"recipe {recipe} selects the best epoch on a validation split"):
        planned(TrainConfig(recipe=recipe, split=split), PHOTOS)
    data = dataset()
    given = dataclasses.replace(data, samples=tuple(dataclasses.replace(s, split="val") for s in data.samples))
    assert "the given validation split" in " ".join(planned(TrainConfig(recipe=recipe, split=split), PHOTOS, given)[1])


@pytest.mark.parametrize(
    ("given", "says"), [(None, "is cross-validated"), ("test", "the given test split measures it")]
)
def test_without_a_validation_split_small_images_have_a_head_too(given, says):
    data = dataset()
    data = dataclasses.replace(data, samples=tuple(dataclasses.replace(s, split=given) for s in data.samples))
    config, reasons = planned(TrainConfig(split=SplitConfig(mode="none")), COLOUR_32, data)
    assert config.recipe == "head"
    assert "recipe head: it needs no validation split" in reasons
    assert says in next(reason for reason in reasons if reason.startswith("--split none: "))


def test_a_mirrored_view_is_for_recipe_head():
    with pytest.raises(ConfigError, match=r"head.mirror is for recipe head"):
        planned(TrainConfig(recipe="finetune", head=HeadConfig(mirror=True)), PHOTOS)


def test_finetune_trains_the_plain_network_unless_inner_layers_are_named():
    assert planned(TrainConfig(recipe="finetune"), PHOTOS)[0].head.layers == "last"
    config = TrainConfig(recipe="finetune", head=HeadConfig(layers="multi"))
    assert planned(config, PHOTOS)[0].head.layers == "multi"


def test_finetune_starts_from_a_logistic_head():
    """Ridge regression's logits have no scale: training from them diverged."""
    assert planned(TrainConfig(recipe="finetune"), PHOTOS)[0].head.method == "logistic"
    with pytest.raises(ConfigError, match=r"head.method is ridge, but recipe finetune .* or use --recipe head"):
        planned(TrainConfig(recipe="finetune", head=HeadConfig(method="ridge")), PHOTOS)


LARGE = ("tf_efficientnet_lite1", (288, 288))


@pytest.mark.parametrize(
    ("recipe", "model", "facts", "expected"),
    [
        ("head", {}, PHOTOS, LARGE),
        ("finetune", {}, PHOTOS, (PRETRAINED, None)),
        ("head", {"image_size": (224, 224)}, PHOTOS, ("tf_efficientnet_lite0", (224, 224))),
        ("head", {"name": "resnet18"}, PHOTOS, ("resnet18", None)),  # the network's own size
        ("head", {}, ImageFacts(sizes=((150, 300), (199, 199), (500, 500)), all_grey=False), (PRETRAINED, None)),
        ("head", {}, ImageFacts(sizes=((150, 300), (200, 200), (500, 500)), all_grey=False), LARGE),
    ],
)
def test_large_photos_have_a_larger_network(recipe, model, facts, expected):
    config, reasons = planned(TrainConfig(recipe=recipe, model=ModelConfig(**model)), facts)
    assert (config.model.name, config.model.image_size) == expected
    assert any("at 2.3 times its cost" in reason for reason in reasons) == (expected == LARGE)


def with_threshold(**changes):
    return TrainConfig(recipe="scratch", calibration=CalibrationConfig(threshold="f1", **changes))


def test_the_positive_class_is_the_second_one_and_stated():
    config, reasons = planned(with_threshold(), TINY)
    assert config.calibration.positive == "b"
    assert "threshold f1: positive class b, the second of the two (--positive a for the other)" in reasons
    again, reasons = planned(config, TINY)
    assert again == config
    assert "threshold f1: positive class b" in reasons


@pytest.mark.parametrize(
    ("changes", "data", "part"),
    [
        ({}, {"class_names": ("a", "b", "c")}, "d has 3 classes"),
        ({}, {"task": "multilabel"}, "has a threshold for every label already"),
        ({"positive": "c"}, {}, "the two classes are a, b"),
    ],
)
def test_a_threshold_is_for_two_classes(changes, data, part):
    with pytest.raises(ConfigError, match=part):
        planned(with_threshold(**changes), TINY, **data)


@pytest.mark.parametrize(
    ("size", "number", "all_grey", "options", "recipe"),
    [
        ((64, 48), 1999, False, {}, "head"),
        ((64, 48), 2000, False, {}, "scratch"),
        ((32, 32), 200, True, {}, "scratch"),  # digits, letters and signs
        ((12, 12), 200, False, {}, "scratch"),
        ((64, 48), 200, False, {"optim": OptimConfig(epochs=3)}, "scratch"),
        ((64, 48), 200, False, {"recipe": "scratch"}, "scratch"),
    ],
)
def test_few_small_photos_go_by_pretrained_features(size, number, all_grey, options, recipe):
    config, reasons = planned(TrainConfig(**options), ImageFacts(sizes=(size,) * number, all_grey=all_grey))
    assert config.recipe == recipe
    assert any("--recipe scratch trains one" in reason for reason in reasons) == (recipe == "head")


def test_colour_images_of_32_px_get_the_recipe_of_the_speed_records():
    names = {"class_names": ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")}
    config, reasons = planned(TrainConfig(), COLOUR_32, dataset(25_000, **names))
    assert (config.model.name, config.model.image_size) == ("fastnet32_wide", (32, 32))
    assert (config.optim.name, config.optim.normalise_filters, config.images_per_step) == ("muon", True, 512)
    assert (config.schedule.name, config.schedule.warmup_fraction, config.loss.label_smoothing) == ("linear", 0, 0.2)
    assert (config.augment.geometry, config.augment.translate_px, config.augment.max_zoom) == ("translate", 2, 0)
    assert any("fastnet32 takes about half the time" in reason for reason in reasons)
    again, _ = planned(build_config(TrainConfig, config_to_dict(config)), COLOUR_32, dataset(25_000, **names))
    assert again == config


def test_settings_over_the_recipe_of_the_speed_records_are_kept():
    wanted = TrainConfig(
        model=ModelConfig(name="fastnet32"),
        optim=OptimConfig(name="adamw", accumulation=1),
        schedule=ScheduleConfig(name="cosine"),
    )
    config, _ = planned(wanted, COLOUR_32, dataset(25_000))
    assert (config.model.name, config.optim.name, config.optim.lr) == ("fastnet32", "adamw", 1e-3)
    assert (config.optim.normalise_filters, config.schedule.name, config.schedule.warmup_fraction) == (
        False,
        "cosine",
        0.15,
    )
