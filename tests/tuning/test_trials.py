import numpy as np
import pytest
from PIL import Image

from recog.core.errors import TrainingError
from recog.data import cache
from recog.recipes.config import DataConfig, TrainConfig, with_options
from recog.recipes.prepare import prepare_data
from recog.training.distributed import World
from recog.tuning import trials
from recog.tuning.optimism import estimate
from recog.tuning.trials import TrialEndedError, TrialRunner, config_of, measured_out_of_fold, planned, without_test

NO_REPORT = lambda epoch, score: ""  # noqa: E731


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Two classes of 10 photos each for training, and 2 for testing: dark and bright ones."""
    folder, rng = tmp_path_factory.mktemp("photos"), np.random.default_rng(0)
    for split, count in (("train", 10), ("test", 2)):
        for label, level in (("dark", 60), ("bright", 190)):
            (folder / split / label).mkdir(parents=True)
            for i in range(count):
                pixels = np.clip(rng.normal(level, 40, (48, 48, 3)), 0, 255).astype(np.uint8)
                Image.fromarray(pixels).save(folder / split / label / f"{i}.png")
    return folder


@pytest.fixture
def decoded(monkeypatch):
    """The names of the images that are decoded for a trial, one entry for each time."""
    names, read = [], cache.read_images

    def counted(samples, reader):
        names.extend(sample.name for sample in samples)
        return read(samples, reader)

    monkeypatch.setattr(cache, "read_images", counted)
    monkeypatch.setattr(cache, "_from_cache", lambda *_: None)  # what other processes left there
    return names


def test_heads_share_decoded_images_and_features_and_no_test_image_is_read(photos, decoded, tmp_path):
    config = TrainConfig(recipe="head", data=DataConfig(source=str(photos)))
    config = with_options(
        config, {}, {"model.image_size": 32, "model.name": "tf_efficientnet_lite0", "compute.num_threads": 1}
    )
    data = without_test(prepare_data(config, world=World()))
    runner = TrialRunner(data, tmp_path / "features", out_of_fold=measured_out_of_fold(data, ("head",)))
    found = [
        runner.run(config_of(config, data, "head", settings), NO_REPORT)
        for settings in (
            {},
            {"head.method": "ridge", "head.ridge_l2": 1.0},
            {"head.method": "logistic", "head.l2": 0.1},
        )
    ]
    assert sorted(decoded) == sorted(sample.name for sample in data.dataset.samples)  # each once, for three trials
    assert len(decoded) == 20
    assert all(each.score == 1.0 for each in found)  # dark and bright are easy
    assert found[1].plan["head"]["ridge_l2"] == [1.0]
    assert len(runner.targets) == 20  # cross-validated on train and val
    assert estimate([each.answers for each in found], [each.nll for each in found], runner.targets).corrected == 1.0
    again = TrialRunner(data, tmp_path / "features", out_of_fold=True)
    assert again.run(config_of(config, data, "head", {}), NO_REPORT).score == found[0].score
    assert len(decoded) == 20  # another process finds the features in the folder


def test_gradient_training_reports_every_epoch_and_can_be_ended(digits, decoded):
    config = with_options(
        TrainConfig(data=DataConfig(source="digits")), {}, {"compute.num_threads": 1, "compute.precision": "float32"}
    )
    data = without_test(digits)
    runner, told = TrialRunner(data, None, out_of_fold=False), []
    few = config_of(
        config,
        data,
        "scratch",
        {"optim.lr": 0.5, "optim.epochs": 0.5},
        factors=frozenset({"optim.lr", "optim.epochs"}),
        max_epochs=4,
    )
    assert few.optim.epochs == 2
    assert few.optim.lr == pytest.approx(0.05)  # half of SGD's 0.1

    def report(epoch, score):
        told.append((epoch, score))
        return "enough" if epoch == 1 else ""

    with pytest.raises(TrialEndedError) as ended:
        runner.run(few, report)
    assert (ended.value.reason, ended.value.epochs, ended.value.has_failed) == ("enough", 1, False)
    outcome = runner.run(
        with_options(few, {}, {"optim.epochs": 1}), lambda epoch, score: told.append((epoch, score)) or ""
    )
    assert [epoch for epoch, _ in told] == [1, 1]
    assert outcome.score == told[-1][1]
    assert outcome.plan["optim"]["epochs"] == 1
    assert len(decoded) == len(data.dataset.samples)  # once, for two trials


def test_failures_are_told_from_faults(digits, monkeypatch):
    runner = TrialRunner(digits, None, out_of_fold=False)
    config = TrainConfig(recipe="scratch", data=DataConfig(source="digits"))
    for error in (TrainingError("loss is NaN"), MemoryError(), RuntimeError("DefaultCPUAllocator: not enough memory")):
        monkeypatch.setattr(trials, "prepare_model", lambda *args, error=error, **options: (_ for _ in ()).throw(error))
        with pytest.raises(TrialEndedError) as ended:
            runner.run(config, NO_REPORT)
        assert ended.value.has_failed
    monkeypatch.setattr(trials, "prepare_model", lambda *args, **options: (_ for _ in ()).throw(RuntimeError("fault")))
    with pytest.raises(RuntimeError, match="fault"):
        runner.run(config, NO_REPORT)


def test_trials_see_no_test_split(digits):
    data = without_test(digits)
    assert data.dataset.given_splits == ("train", "val")
    assert planned(TrainConfig(), data).optim == planned(TrainConfig(), digits).optim
    assert not measured_out_of_fold(data, ("head", "finetune"))
    assert measured_out_of_fold(data, ("head",))
