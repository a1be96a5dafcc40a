"""How a network learns: a head on frozen features, or all of it by gradient steps. Both yield what happens as it happens."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from recog.core.errors import TrainingError
from recog.data.balance import class_sizes, head_weights, loss_weights
from recog.data.loader import TrainLoader
from recog.export.onnx import export_onnx
from recog.models.classifier import Classifier
from recog.recipes.calibrate import HeldOut, hold_out_head
from recog.recipes.collect import run_engine
from recog.recipes.keeping import Keeper, Kept, Progress
from recog.recipes.plan import TrainConfig
from recog.recipes.prepare import LabelledImages, Prepared
from recog.recipes.stopping import StopAsked
from recog.recipes.validation import ValScores, score_answers
from recog.runtime.engine import Engine, OnnxEngine
from recog.training.crossval import FEW_IMAGES, FewImages, cross_validate
from recog.training.device import choose_device
from recog.training.distributed import World, broadcast_tensors
from recog.training.early_stop import EarlyStopped, Measure, early_stop
from recog.training.fit import EpochLog, SkippedStep, StepLog, collect_logits, fit
from recog.training.head import LinearHead, fit_heads
from recog.training.losses import build_loss
from recog.training.parallel import synchronised_batch_norm
from recog.training.schedule import build_schedule
from recog.training.state import TrainState, build_state


@dataclass(frozen=True, kw_only=True)
class HeadLog:
    """One L2 strength tried, measured on the validation split, or by cross-validation where images are few."""

    trial: int  # from 1
    l2: float
    val_accuracy: float
    val_nll: float
    num_folds: int = 0  # 0: the validation split
    num_repeats: int = 0
    accuracy_std: float = 0.0  # over the repeats
    val_map: float | None = None  # multi-label; val_accuracy is then of whole images at a probability of 0.5


@dataclass(frozen=True, kw_only=True)
class CrossValidated:
    """Images were few: what cross-validation chose, and the accuracy that it found, each image held out once a repeat."""

    smallest_class: int  # images of train and val
    num_images: int
    num_folds: int
    num_repeats: int
    l2: float
    accuracy: float
    accuracy_std: float
    nll: float
    mean_average_precision: float | None = None  # multi-label

    def __str__(self) -> str:
        several = self.mean_average_precision
        found = (
            f"an accuracy of {self.accuracy:.1%}"
            if several is None
            else f"a mAP of {several:.1%}, all labels right on {self.accuracy:.1%}"
        )
        what = "class" if several is None else "label"
        return (
            f"a {what} has only {self.smallest_class} training and validation images, too few for one split to say much: "
            f"{self.num_repeats} times {self.num_folds}-fold stratified cross-validation over all {self.num_images} of them "
            f"chose L2 {self.l2:g} and found {found} (std {self.accuracy_std:.1%} over the "
            f"repeats), NLL {self.nll:.3f}; the choice of L2 from these images makes it slightly too good"
        )


@dataclass(frozen=True, kw_only=True)
class EpochResult:
    """An epoch, measured on the validation split."""

    log: EpochLog
    val_accuracy: float
    val_nll: float
    is_best: bool
    val_map: float | None = None  # multi-label; it chooses the epoch, and val_accuracy is of whole images at 0.5
    confusion: NDArray[np.int64] | None = field(default=None, compare=False)  # [K, K], row = true; of single labels

    @classmethod
    def of(cls, log: EpochLog, scores: ValScores, *, is_best: bool) -> EpochResult:
        return cls(
            log=log,
            val_accuracy=scores.accuracy,
            val_nll=scores.nll,
            is_best=is_best,
            val_map=scores.mean_average_precision,
            confusion=scores.confusion,
        )

    def measure(self, name: Measure) -> float:
        values = {
            "val_accuracy": self.val_accuracy,
            "val_nll": self.val_nll,
            "val_map": self.val_map or 0.0,
            "train_loss": self.log.train_loss,
        }
        return values[name]


@dataclass(frozen=True, kw_only=True)
class FirstBatch:
    """What the network sees first, augmented: images uint8 [B, H, W, C]."""

    step: int  # since the start of training, from 1
    images: NDArray[np.uint8]


@dataclass(frozen=True, kw_only=True)
class Learnt:
    """All steps are taken, those before a run was resumed included."""

    num_epochs: int
    best_epoch: int  # whose weights the network has now; 0: those that it began with
    num_steps: int


LearnEvent = (
    FirstBatch | StepLog | SkippedStep | EpochResult | HeadLog | CrossValidated | HeldOut | EarlyStopped | Learnt
)


def learn_frozen(classifier: Classifier, prepared: Prepared) -> Iterator[HeadLog | CrossValidated | HeldOut]:
    """Fit the head of `classifier` on its frozen features, where the recipe has one."""
    if prepared.exact is None:
        return
    preprocess, config = prepared.model.preprocess, prepared.config
    with tempfile.TemporaryDirectory(prefix="recog-") as folder:
        # features by the engine that will serve them: the same numbers, several times faster than torch on a CPU
        path = Path(folder) / "features.onnx"
        export_onnx(
            classifier,
            path,
            image_size=preprocess.image_size,
            channels=preprocess.channels,
            class_names=prepared.dataset.class_names,
        )
        engine = OnnxEngine(path, num_threads=config.compute.num_threads)
        yield from learn_head(classifier, engine, prepared.exact, prepared.val, config)


def learn_head(
    classifier: Classifier,
    engine: Engine,
    train: LabelledImages,
    val: LabelledImages,
    config: TrainConfig,
) -> Iterator[HeadLog | CrossValidated | HeldOut]:
    """Fit heads on the frozen features that `engine` gives, on train; the one with the lowest NLL goes into `classifier`.

    NLL is that of the validation split, or under 20 images in a class, of repeated cross-validation over both splits.
    Where the head is all that is learnt, the last event is the answers to calibrate on.
    """
    num_classes = classifier.classifier.out_features
    of_train, of_val = (run_engine(engine, split.store.rows()) for split in (train, val))
    features, val_features = of_train.features, of_val.features
    balanced = config.balance in ("weights", "sampler")
    weights = head_weights(train.targets, num_classes) if balanced else None
    head_config = config.head
    together = _pool(train, val, np.concatenate([features, val_features]), num_classes if balanced else None)
    smallest = int(class_sizes(together.targets, num_classes).min())
    if smallest < FEW_IMAGES:
        tried = list(_try_by_folds(together, config, num_classes))
        yield from tried
        chosen = min(tried, key=lambda log: log.val_nll)
        head_config = replace(head_config, l2=(chosen.l2,))
        yield CrossValidated(
            smallest_class=smallest,
            num_images=len(together.targets),
            num_folds=chosen.num_folds,
            num_repeats=chosen.num_repeats,
            l2=chosen.l2,
            accuracy=chosen.val_accuracy,
            accuracy_std=chosen.accuracy_std,
            nll=chosen.val_nll,
            mean_average_precision=chosen.val_map,
        )
    best: tuple[float, LinearHead] | None = None
    heads = fit_heads(features, train.targets, head_config, num_classes=num_classes, weights=weights)
    for trial, head in enumerate(heads, start=1):
        scores = score_answers(head(val_features), val.targets)
        if best is None or scores.nll < best[0]:
            best = (scores.nll, head)
        if head_config is config.head:
            yield HeadLog(
                trial=trial,
                l2=head.l2,
                val_accuracy=scores.accuracy,
                val_nll=scores.nll,
                val_map=scores.mean_average_precision,
            )
    if best is None:
        raise TrainingError("no L2 strength was tried; head.l2 is empty.")
    with torch.no_grad():
        classifier.classifier.weight.copy_(torch.from_numpy(best[1].weight))
        classifier.classifier.bias.copy_(torch.from_numpy(best[1].bias))
    if config.recipe == "head":
        coins = np.concatenate([of_train.coins, of_val.coins])
        yield hold_out_head(together, coins, best[1], config, num_train=len(train.targets))


def _pool(
    train: LabelledImages, val: LabelledImages, features: NDArray[np.float32], weigh_classes: int | None
) -> FewImages:
    targets = np.concatenate([train.targets, val.targets])
    weights = None if weigh_classes is None else head_weights(targets, weigh_classes)
    return FewImages(
        features=features, targets=targets, groups=np.concatenate([train.groups, val.groups]), weights=weights
    )


def _try_by_folds(data: FewImages, config: TrainConfig, num_classes: int) -> Iterator[HeadLog]:
    results = cross_validate(data, config.head, num_classes=num_classes, seed=config.seed)
    for trial, result in enumerate(results, start=1):
        scores = [score_answers(logits, data.targets) for logits in result.logits]
        accuracies = [score.accuracy for score in scores]
        maps = [score.mean_average_precision for score in scores if score.mean_average_precision is not None]
        yield HeadLog(
            trial=trial,
            l2=result.l2,
            val_accuracy=float(np.mean(accuracies)),
            val_nll=float(np.mean([score.nll for score in scores])),
            num_folds=result.num_folds,
            num_repeats=len(accuracies),
            accuracy_std=float(np.std(accuracies)),
            val_map=float(np.mean(maps)) if maps else None,
        )


def learn_network(
    classifier: Classifier,
    train: LabelledImages,
    val: LabelledImages,
    config: TrainConfig,
    *,
    image_size: tuple[int, int],
    kept: Kept | None = None,
    world: World | None = None,
) -> Iterator[FirstBatch | StepLog | SkippedStep | EpochResult | EarlyStopped | Learnt]:
    """Train all weights of `classifier` and leave it at the epoch with the best val accuracy, of equals the lowest val NLL.

    Of multi-label images it is the epoch with the best val mAP, of equals the lowest BCE.

    Goes on from what was `kept` and keeps what it does; TrainingStopped where SIGINT or SIGTERM asks to. The processes of
    `world` train together, from the weights of the first, and end with the same ones.
    """
    world = world or World()
    classifier.to(choose_device(config.compute.device, local_rank=world.local_rank))
    broadcast_tensors(world, [*classifier.parameters(), *classifier.buffers()])
    with synchronised_batch_norm(world, classifier):
        state, loader = start_training(classifier, train, config, image_size=image_size, world=world)
        yield from _train_and_keep_best(state, loader, val, config, Keeper(kept or Kept(), world))
    classifier.to("cpu")


def _train_and_keep_best(
    state: TrainState, loader: TrainLoader, val: LabelledImages, config: TrainConfig, keeper: Keeper
) -> Iterator[FirstBatch | StepLog | SkippedStep | EpochResult | EarlyStopped | Learnt]:
    epochs = config.optim.epochs or 1
    num_steps = epochs * loader.steps_per_epoch
    lr_at = build_schedule(config.schedule, num_steps=num_steps, peak_lr=config.optim.lr or 0.1)
    # the weights that training begins with are a candidate too, so that fine-tuning cannot end below its head
    progress = keeper.take_up(state) or Progress.begin(_scores(state.classifier, val, state).rank, state.classifier)
    stopped = early_stop(progress.measured, config.stop, num_epochs=epochs)
    before = [] if progress.unmeasured is None else [progress.unmeasured]
    if stopped is None and state.epoch < epochs:
        yield FirstBatch(step=state.num_steps_done + 1, images=loader.batch(state.epoch, state.step)[0].numpy())
    with keeper.listening():
        for log in chain(before, fit(state, loader, lr_at, epochs=epochs)) if stopped is None else ():
            if not isinstance(log, EpochLog):
                yield log
                keeper.keep(state, progress)
                continue
            progress.unmeasured, scores = log, None
            with contextlib.suppress(StopAsked), keeper.at_once():
                scores = _scores(state.answering, val, state)
            if scores is not None:
                result = EpochResult.of(log, scores, is_best=progress.offer(scores.rank, state.answering))
                yield result
                progress.close_epoch(result.measure(config.stop.measure))
                stopped = early_stop(progress.measured, config.stop, num_epochs=epochs)
            keeper.keep(state, progress, epoch_ended=True)
            if stopped is not None:
                yield stopped
                break
    state.classifier.load_state_dict(progress.best_weights)
    yield Learnt(num_epochs=len(progress.measured), best_epoch=progress.best_epoch, num_steps=state.num_steps_done)


def start_training(
    classifier: Classifier,
    train: LabelledImages,
    config: TrainConfig,
    *,
    image_size: tuple[int, int],
    world: World | None = None,
) -> tuple[TrainState, TrainLoader]:
    """`classifier` before its first step, and the batches that it learns from; a step's batch is all its parts together."""
    world = world or World()
    num_classes = classifier.classifier.out_features
    weights = loss_weights(train.targets, num_classes) if config.balance == "weights" else None
    loader = TrainLoader(
        store=train.store,
        targets=train.targets,
        augment=config.augment,
        image_size=image_size,
        batch_size=(config.loader.batch_size or 64) * config.optim.accumulation,
        seed=config.seed,
        num_workers=config.loader.num_workers,
        num_classes=num_classes,
        balanced=config.balance == "sampler",
        rank=world.rank,
        num_ranks=world.size,
        pin_memory=classifier.device.type == "cuda",
        names=train.names,
    )
    loss = build_loss(
        config.loss,
        task="multilabel" if train.targets.ndim == 2 else "multiclass",
        class_weights=None if weights is None else torch.from_numpy(weights).float(),
    )
    precision = config.compute.precision or "float32"
    return build_state(classifier, optim=config.optim, loss=loss, precision=precision, world=world), loader


def _scores(classifier: Classifier, val: LabelledImages, state: TrainState) -> ValScores:
    broadcast_tensors(state.world, classifier.buffers())  # BatchNorm's statistics are each process's own
    logits = collect_logits(classifier, val.store.rows(), precision=state.precision, world=state.world).logits
    return score_answers(logits, val.targets)
