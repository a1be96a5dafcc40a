"""Learning, as a generator of events: a head on frozen features, all weights by gradient steps, or both."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from itertools import chain

import torch

from recog.data.balance import loss_weights
from recog.data.loader import TrainLoader
from recog.models.classifier import Classifier
from recog.recipes.events import EpochResult, FirstBatch, LearnEvent, Learnt, ValScores, score_answers
from recog.recipes.head import learn_frozen
from recog.recipes.plan import StepsPlan
from recog.recipes.prepare import LabelledImages, Prepared
from recog.recipes.resume import Keeper, Kept, Progress, StopAsked
from recog.training.device import choose_device
from recog.training.distributed import World, broadcast_tensors, synchronised_batch_norm
from recog.training.fit import EpochLog, SkippedStep, StepLog, collect_logits, fit
from recog.training.losses import build_loss
from recog.training.schedule import EarlyStopped, build_schedule, early_stop
from recog.training.state import TrainState, build_state


def learn_network(
    classifier: Classifier,
    train: LabelledImages,
    val: LabelledImages,
    plan: StepsPlan,
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
    classifier.to(choose_device(plan.compute.device, local_rank=world.local_rank))
    broadcast_tensors(world, [*classifier.parameters(), *classifier.buffers()])
    with synchronised_batch_norm(world, classifier):
        state, loader = start_training(classifier, train, plan, image_size=image_size, world=world)
        yield from _train_and_keep_best(state, loader, val, plan, Keeper(kept or Kept(), world))
    classifier.to("cpu")


def _train_and_keep_best(
    state: TrainState, loader: TrainLoader, val: LabelledImages, plan: StepsPlan, keeper: Keeper
) -> Iterator[FirstBatch | StepLog | SkippedStep | EpochResult | EarlyStopped | Learnt]:
    epochs = plan.optim.epochs
    num_steps = epochs * loader.steps_per_epoch
    lr_at = build_schedule(plan.schedule, num_steps=num_steps, peak_lr=plan.optim.lr)
    # the weights that training begins with are a candidate too, so that fine-tuning cannot end below its head
    progress = keeper.take_up(state) or Progress.begin(_scores(state.classifier, val, state).rank, state.classifier)
    stopped = early_stop(progress.measured, plan.stop, num_epochs=epochs)
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
                progress.close_epoch(result.measure(plan.stop.measure))
                stopped = early_stop(progress.measured, plan.stop, num_epochs=epochs)
            keeper.keep(state, progress, epoch_ended=True)
            if stopped is not None:
                yield stopped
                break
    state.classifier.load_state_dict(progress.best_weights)
    yield Learnt(num_epochs=len(progress.measured), best_epoch=progress.best_epoch, num_steps=state.num_steps_done)


def start_training(
    classifier: Classifier,
    train: LabelledImages,
    plan: StepsPlan,
    *,
    image_size: tuple[int, int],
    world: World | None = None,
) -> tuple[TrainState, TrainLoader]:
    """`classifier` before its first step, and the batches that it learns from; a step's batch is all its parts together."""
    world = world or World()
    num_classes = classifier.classifier.out_features
    weights = loss_weights(train.targets, num_classes) if plan.balance == "weights" else None
    loader = TrainLoader(
        store=train.store,
        targets=train.targets,
        augment=plan.augment,
        image_size=image_size,
        batch_size=plan.images_per_step,
        seed=plan.seed,
        num_workers=plan.loader.num_workers,
        num_classes=num_classes,
        balanced=plan.balance == "sampler",
        rank=world.rank,
        num_ranks=world.size,
        pin_memory=classifier.device.type == "cuda",
        names=train.names,
    )
    loss = build_loss(
        plan.loss,
        task="multilabel" if train.targets.ndim == 2 else "multiclass",
        class_weights=None if weights is None else torch.from_numpy(weights).float(),
    )
    state = build_state(classifier, optim=plan.optim, loss=loss, precision=plan.compute.precision, world=world)
    return state, loader


def _scores(classifier: Classifier, val: LabelledImages, state: TrainState) -> ValScores:
    broadcast_tensors(state.world, classifier.buffers())  # BatchNorm's statistics are each process's own
    logits = collect_logits(classifier, val.store.rows(), precision=state.precision, world=state.world).logits
    return score_answers(logits, val.targets)


def count_steps(prepared: Prepared) -> int:
    """All steps of the plan; 0 if nothing is learnt by steps."""
    if prepared.larger is None or not isinstance(prepared.plan, StepsPlan):
        return 0
    return prepared.plan.optim.epochs * max(1, len(prepared.larger.targets) // prepared.plan.images_per_step)


def learn(prepared: Prepared, kept: Kept, world: World) -> Iterator[LearnEvent]:
    plan, model = prepared.plan, prepared.model
    if kept.state is None:
        yield from learn_frozen(model.classifier, prepared)
    if prepared.larger is not None and isinstance(plan, StepsPlan):
        yield from learn_network(
            model.classifier,
            prepared.larger,
            prepared.val,
            plan,
            image_size=model.preprocess.image_size,
            kept=kept,
            world=world,
        )
