"""`ImageClassifier`: training and prediction by scikit-learn's contract, for cross-validation, grid search and pipelines."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.validation import check_is_fitted

from recog.core.errors import DataError
from recog.core.files import staged_folder
from recog.core.outputs import check_new_path
from recog.data.balance import Balance
from recog.data.dataset import Dataset
from recog.data.inspection import hash_samples
from recog.data.readers.own import hold_images
from recog.data.sources import open_source
from recog.data.split import join_groups, split_dataset
from recog.recipes.config import Recipe, TrainConfig, given_options, with_options
from recog.runtime.predictor import Predictor, load
from recog.training.config import Device, OptimizerName
from recog.verbs.python.embedded import finish
from recog.verbs.python.wording import as_typed, in_python, reworded
from recog.verbs.train import train_events


class ImageClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """An image classifier with fit, predict, predict_proba and score. The parameters are options of `recog.train`.

    `X` are N images: paths, or arrays or tensors of 8-bit levels, such as uint8 [N, H, W] or [N, H, W, C]. `y` are N classes,
    numbers or names. A fitted ImageClassifier holds its bundle, so that it can be pickled; `save` writes it for `recog.load`.

    `threshold` ('f1', 'recall>=0.95', 'cost=5:1'), for two classes, is the aim by which a threshold for `positive`, the second
    of them by default, is chosen on the validation part; `predict` then decides by it.
    """

    def __init__(  # noqa: PLR0913  keywords of a public class
        self,
        *,
        recipe: Recipe | None = None,
        model: str | None = None,
        weights: str | Path | None = None,
        channels: Literal[1, 3] | None = None,
        epochs: int | None = None,
        lr: float | None = None,
        batch_size: int | None = None,
        optimizer: OptimizerName | None = None,
        seed: int | None = None,
        balance: Balance | None = None,
        threshold: str | None = None,
        positive: str | int | None = None,
        workers: int | None = None,
        device: Device | None = None,
        threads: int | None = None,
        settings: Mapping[str, Any] | None = None,
        verbose: bool = False,
    ) -> None:
        self.recipe = recipe
        self.model = model
        self.weights = weights
        self.channels = channels
        self.epochs = epochs
        self.lr = lr
        self.batch_size = batch_size
        self.optimizer = optimizer
        self.seed = seed
        self.balance = balance
        self.threshold = threshold
        self.positive = positive
        self.workers = workers
        self.device = device
        self.threads = threads
        self.settings = settings
        self.verbose = verbose

    def fit(self, X: Iterable[Any], y: Iterable[Any]) -> ImageClassifier:  # noqa: N803  scikit-learn's name
        """Train on images `X` and classes `y`; a part of them (split.val_fraction) selects and calibrates the model.

        There is no test part: scikit-learn's splits are the test. Sets `classes_`, and `report_` on the validation part, or
        cross-validated with split.mode none.
        """
        positive = None if self.positive is None else str(self.positive)
        options = given_options(self.get_params() | {"positive": positive})
        with reworded(lambda text: in_python(as_typed(text, options), {*self.get_params()})):
            return self._fit(X, y, with_options(TrainConfig(), options, self.settings or {}))

    def _fit(self, X: Iterable[Any], y: Iterable[Any], config: TrainConfig) -> ImageClassifier:  # noqa: N803
        images, labels = list(X), np.asarray(y)
        if not labels.shape or labels.shape[1:] not in ((), (1,)):
            raise DataError(
                f"y has shape {labels.shape}; expected one class per image. recog.train takes several labels."
            )
        self.classes_, numbers = np.unique(labels.ravel(), return_inverse=True)
        names = [str(name) for name in self.classes_.tolist()]
        dataset = _with_validation(open_source((images, numbers), class_names=names), config)
        with tempfile.TemporaryDirectory() as folder:
            events = train_events(config, runs=Path(folder), dataset=dataset)
            run = finish(events, notes=dataset.notes, verbose=self.verbose)
            self.report_ = run.report
            self.bundle_ = {file.name: file.read_bytes() for file in sorted(run.bundle.iterdir())}
        self._predictor: Predictor | None = None
        return self

    def predict(self, X: Iterable[Any]) -> NDArray[Any]:  # noqa: N803
        """The class of each image [N], one of `classes_`."""
        check_is_fitted(self)
        answers = [answer.preds for answer in self._load().predict(hold_images(X))]
        places = np.array(answers, dtype=bool).reshape(len(answers), len(self.classes_)).argmax(axis=1)
        return np.asarray(self.classes_[places])

    def predict_proba(self, X: Iterable[Any]) -> NDArray[np.float64]:  # noqa: N803
        """Calibrated probabilities [N, K], in the order of `classes_`."""
        check_is_fitted(self)
        return self._load().predict_proba(hold_images(X))

    def save(self, folder: str | Path) -> Path:
        """Write the bundle into a new folder, for `recog.load`, `recog predict` and so on."""
        check_is_fitted(self)
        path = Path(folder)
        check_new_path(path, "the folder of the bundle")
        with staged_folder(path) as staging:
            for name, content in self.bundle_.items():
                (staging / name).write_bytes(content)
        return path

    def _load(self) -> Predictor:
        if self._predictor is None:
            with tempfile.TemporaryDirectory() as folder:  # what answers needs of the bundle is in memory afterwards
                self._predictor = load(self.save(Path(folder) / "bundle"), num_threads=self.threads)
        return self._predictor

    def __getstate__(self) -> dict[str, Any]:
        state = dict(super().__getstate__())
        if "_predictor" in state:
            state["_predictor"] = None  # loaded again where the copy predicts
        return state

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = False
        tags.input_tags.three_d_array = True
        tags.input_tags.string = True
        return tags


def _with_validation(dataset: Dataset, config: TrainConfig) -> Dataset:
    """The data with train and val, and what would be test in train. Copies of an image stay in one split."""
    groups = join_groups(hash_samples(dataset.samples, config.limits), [None] * len(dataset.samples))
    split = split_dataset(dataset, config.split, seed=config.seed, groups=groups)
    return split.with_splits(["val" if sample.split == "val" else "train" for sample in split.samples])
