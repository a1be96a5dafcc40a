"""Learning, as a generator of events: a head on frozen features, all weights by gradient steps, or both."""

from __future__ import annotations

import contextlib
import copy
import math
import time
from collections.abc import Generator
from itertools import chain

import torch

from recog.core.errors import ConfigError
from recog.data.balance import training_weights
from recog.data.loader import TrainLoader
from recog.evaluation.measures.task import task_of
from recog.models.classifier import Classifier, first_reason
from recog.recipes.calibrate import HeldOut
from recog.recipes.events import (
    CutShort,
    EpochResult,
    FirstBatch,
    HeadChoice,
    LearnEvent,
    StartKept,
    TrainingSummary,
    ValScores,
    score_answers,
)
from recog.recipes.head import learn_frozen, without_suspects
from recog.recipes.labelled_images import LabelledImages
from recog.recipes.plan import StepsPlan
from recog.recipes.prepare import Prepared
from recog.recipes.resume import RANDOM_START, CheckpointKeeper, Progress, Rank, ResumePoint, StopAsked
from recog.training.device import choose_device
from recog.training.distributed import World, broadcast_tensors, synchronised_batch_norm
from recog.training.fit import EpochLog, SkippedStep, StepLog, attacked_logits, collect_logits, eval_mode, fit
from recog.training.losses import build_loss
from recog.training.schedule import EarlyStopped, build_schedule, early_stop
from recog.training.state import TrainState, build_state

CLEARLY_LEARNT = 0.8  # of the loss of answers by chance
StepsEvent = FirstBatch | StepLog | SkippedStep | EpochResult | CutShort | EarlyStopped | StartKept


def learn(
    prepared: Prepared, resume: ResumePoint, world: World, *, deadline: float = math.inf
) -> Generator[LearnEvent, None, tuple[TrainingSummary, HeldOut | None]]:
    """Train `prepared.model` and return the summary, and held-out predictions where only the head is trained.

    At `deadline`, in seconds of time.perf_counter, gradient steps end after the one that is being taken.
    """
    pruned: tuple[str, ...] = ()
    if prepared.plan.noisy_labels:
        prepared, pruned = yield from without_suspects(prepared, resume, world)
    plan, model, held_out, found = prepared.plan, prepared.model, None, None
    if resume.state is None and prepared.exact is not None:
        kept = copy.deepcopy(model.classifier.classifier.state_dict()) if model.has_head else None
        held_out, found = yield from learn_frozen(model.classifier, prepared, prepared.exact)
        if kept is not None and prepared.val is not None:
            yield _choose_head(model.classifier, kept, prepared.val)
    if prepared.larger is None or prepared.val is None or not isinstance(plan, StepsPlan):
        num_val = len(prepared.val.targets) if prepared.fits_val and prepared.val is not None else None
        return TrainingSummary(cross_validation=found, num_val_images=num_val, num_pruned=len(pruned)), held_out
    keeper = CheckpointKeeper(resume, world, found, pruned=pruned, deadline=deadline)
    size = model.preprocess.image_size
    summary = yield from learn_network(
        model.classifier, prepared.larger, prepared.val, plan, image_size=size, keeper=keeper
    )
    return summary, None


def _choose_head(classifier: Classifier, kept: dict[str, torch.Tensor], val: LabelledImages) -> HeadChoice:
    """Give `classifier` the last layer `kept` unless its own, which was just fitted, is better on the validation split."""

    def score() -> ValScores:
        return score_answers(collect_logits(classifier, val.store.rows(), precision="float32").logits, val.targets)

    layer = classifier.classifier
    fitted, fitted_score = copy.deepcopy(layer.state_dict()), score()
    layer.load_state_dict(kept)
    parent_score = score()
    keeps_parent = parent_score.rank >= fitted_score.rank
    if not keeps_parent:
        layer.load_state_dict(fitted)
    return HeadChoice(
        keeps_parent=keeps_parent, parent_score=parent_score.selection, fitted_score=fitted_score.selection
    )


def learn_network(
    classifier: Classifier,
    train: LabelledImages,
    val: LabelledImages,
    plan: StepsPlan,
    *,
    image_size: tuple[int, int],
    keeper: CheckpointKeeper | None = None,
) -> Generator[StepsEvent, None, TrainingSummary]:
    """Train all weights of `classifier`; it ends with those of the epoch with the best val accuracy, of equals the lowest NLL.

    For multi-label images it is the epoch with the best val mAP, of equals the lowest BCE.

    `keeper` resumes and saves; TrainingStopped after SIGINT or SIGTERM. The processes of its world train together, from the
    weights of the first, and end with the same ones.
    """
    keeper = keeper or CheckpointKeeper(ResumePoint(), World())
    world = keeper.world
    classifier.to(choose_device(plan.compute.device, local_rank=world.local_rank))
    broadcast_tensors(world, [*classifier.parameters(), *classifier.buffers()])
    with synchronised_batch_norm(world, classifier):
        state, loader = start_training(classifier, train, plan, image_size=image_size, world=world)
        summary = yield from _train_and_keep_best(state, loader, val, plan, keeper)
    classifier.to("cpu")
    return summary


def _train_and_keep_best(
    state: TrainState, loader: TrainLoader, val: LabelledImages, plan: StepsPlan, keeper: CheckpointKeeper
) -> Generator[StepsEvent, None, TrainingSummary]:
    epochs = plan.optim.epochs
    num_steps = epochs * loader.steps_per_epoch
    lr_at = build_schedule(plan.schedule, num_steps=num_steps, peak_lr=plan.optim.lr)
    progress = keeper.restore(state) or Progress.begin(_start_rank(state, val, plan), state.classifier)
    stopped = early_stop(progress.measured, plan.stop, num_epochs=epochs)
    end, was_warned = _End(plan.stop.max_steps, keeper.deadline), False
    before = [] if progress.unmeasured is None else [progress.unmeasured]
    if stopped is None and state.epoch < epochs:
        yield FirstBatch(step=state.num_steps_done + 1, images=loader.batch(state.epoch, state.step)[0].numpy())
    with keeper.listening():
        for log in chain(before, fit(state, loader, lr_at, epochs=epochs, is_over=end)) if stopped is None else ():
            if not isinstance(log, EpochLog):
                yield log
                keeper.keep(state, progress)
                continue
            progress.unmeasured, scores = log, None
            with contextlib.suppress(StopAsked), keeper.at_once():
                scores = _scores(state.answering, val, state)
            if scores is not None:
                notes = () if was_warned else describe_attack_overfit(state, log, scores)
                was_warned |= bool(notes)
                is_best = progress.update_best(scores.rank, state.answering)
                result = EpochResult.of(log, scores, is_best=is_best, notes=notes)
                yield result
                progress.close_epoch(result.measure(plan.stop.measure))
                stopped = early_stop(progress.measured, plan.stop, num_epochs=epochs)
            if end.cuts(num_steps):
                yield CutShort(step=state.num_steps_done, num_steps=num_steps)
            keeper.keep(state, progress, epoch_ended=True)
            if stopped is not None:
                yield stopped
                break
    if progress.measured and not progress.best_epoch:
        score, minus_nll = progress.best_rank
        yield StartKept(num_epochs=len(progress.measured), score=score, nll=-minus_nll)
    state.classifier.load_state_dict(progress.best_weights)
    return TrainingSummary(
        num_epochs=len(progress.measured),
        best_epoch=progress.best_epoch,
        num_steps=state.num_steps_done,
        cross_validation=keeper.cross_validation,
        cut_at_step=end.step if end.cuts(num_steps) else None,
        num_pruned=len(keeper.pruned),
    )


def describe_attack_overfit(state: TrainState, log: EpochLog, scores: ValScores) -> tuple[str, ...]:
    """A warning where the network has learnt against the attack of training and is at chance against ten steps of PGD.

    Catastrophic overfitting, which one-step attacks can bring about: Wong et al. (2020, arXiv:2001.03994), section 5.
    """
    num_classes = state.classifier.classifier.out_features
    if state.adversarial is None or scores.confusion is None or num_classes < 2:
        return ()
    is_learning = log.train_loss < CLEARLY_LEARNT * math.log(num_classes)
    if (
        state.num_steps_done < state.num_adversarial_warmup_steps
        or scores.accuracy > 1 / num_classes
        or not is_learning
    ):
        return ()
    return (
        f"warning: epoch {log.epoch}: val accuracy under ten steps of PGD is {scores.accuracy:.1%}, though the loss of training "
        f"fell to {log.train_loss:.3f}: the network resists the attack of training alone (catastrophic overfitting). Use "
        "adversarial.method=pgd, more adversarial.steps, or a lower rate (--lr).",
    )


class _End:
    """Whether training ends after a step, by the plan or by the clock; once it does, it stays so."""

    def __init__(self, max_steps: int | None, deadline: float) -> None:
        self._max_steps, self._deadline = max_steps, deadline
        self.step: int | None = None

    def __call__(self, num_steps_done: int) -> bool:
        is_last = self._max_steps is not None and num_steps_done >= self._max_steps
        if self.step is None and (is_last or time.perf_counter() >= self._deadline):
            self.step = num_steps_done
        return self.step is not None

    def cuts(self, num_steps: int) -> bool:
        """Whether it ends training before the last of `num_steps`."""
        return self.step is not None and self.step < num_steps


def _start_rank(state: TrainState, val: LabelledImages, plan: StepsPlan) -> Rank:
    """The rank of the weights that training begins with, so that fine-tuning cannot end below its head."""
    return RANDOM_START if plan.recipe == "scratch" else _scores(state.classifier, val, state).rank


def start_training(
    classifier: Classifier,
    train: LabelledImages,
    plan: StepsPlan,
    *,
    image_size: tuple[int, int],
    world: World | None = None,
) -> tuple[TrainState, TrainLoader]:
    """The state before the first step, and the loader; its batches are those of whole steps."""
    world = world or World()
    num_classes = classifier.classifier.out_features
    is_balanced = plan.balance == "weights"
    weights = training_weights(train.targets, num_classes, is_balanced=is_balanced, factors=train.class_factors)
    num_steps = plan.optim.epochs * max(1, len(train.targets) // plan.images_per_step)
    num_small_steps, small_size = round(plan.schedule.small_fraction * num_steps), plan.schedule.small_size(image_size)
    if num_small_steps:
        _check_takes(classifier, small_size)
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
        num_small_steps=num_small_steps,
        small_size=small_size,
    )
    loss = build_loss(
        plan.loss,
        task=task_of(train.targets).task,
        class_weights=None if weights is None else torch.from_numpy(weights).float(),
    )
    state = build_state(
        classifier,
        optim=plan.optim,
        loss=loss,
        precision=plan.compute.precision,
        world=world,
        adversarial=plan.adversarial,
        num_steps=num_steps,
    )
    return state, loader


def _check_takes(classifier: Classifier, image_size: tuple[int, int]) -> None:
    """ConfigError where the network cannot be trained on images of `image_size`."""
    images = torch.zeros(1, *image_size, len(classifier.mean), dtype=torch.uint8, device=classifier.device)
    try:
        with eval_mode(classifier), torch.inference_mode():
            classifier(images)
    except (RuntimeError, ValueError, AssertionError) as error:
        raise ConfigError(
            f"schedule.small_fraction begins with images of {image_size[1]} x {image_size[0]} px, which this network does not "
            f"take ({first_reason(error)}). Use --set schedule.small_fraction=0, or a schedule.small_scale nearer to 1."
        ) from None


def _scores(classifier: Classifier, val: LabelledImages, state: TrainState) -> ValScores:
    broadcast_tensors(state.world, classifier.buffers())  # BatchNorm's statistics are each process's own
    if state.adversarial is not None:
        logits = attacked_logits(classifier, val.store.rows(), val.targets, state)
    else:
        logits = collect_logits(classifier, val.store.rows(), precision=state.precision, world=state.world).logits
    return score_answers(logits, val.targets)


def count_steps(prepared: Prepared) -> int:
    """All steps of the plan; 0 if no gradient steps are taken."""
    if prepared.larger is None or not isinstance(prepared.plan, StepsPlan):
        return 0
    return prepared.plan.optim.epochs * max(1, len(prepared.larger.targets) // prepared.plan.images_per_step)
