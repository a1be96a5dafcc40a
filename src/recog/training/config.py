"""Settings of training, apart from the code that uses them: checking a configuration must not import torch."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from types import MappingProxyType
from typing import Literal

from recog.bundle.seal import HeadLayers
from recog.core.errors import ConfigError
from recog.core.task import Task

SMOOTHING = 0.1  # of cross-entropy, after Szegedy et al. (2016), section 7


OptimizerName = Literal["sgd", "adam", "adamw", "rmsprop", "muon"]


OnNonFinite = Literal["stop", "skip"]


@dataclass(frozen=True, kw_only=True)
class OptimConfig:
    name: OptimizerName | None = None  # planned if None
    epochs: int | None = None  # planned if None
    lr: float | None = None  # peak, reached after warm-up; planned if None
    head_lr_factor: float | None = None  # the last layer's learning rate over the others'; planned if None
    bias_lr_factor: float | None = None  # that of the other layers' biases, also BatchNorm's; planned if None
    layer_decay: float = (
        1.0  # each layer's learning rate over that of the next one towards the head; 1 is the same for all
    )
    momentum: float | None = None  # beta1 of adam and adamw; the optimiser's default if None
    nesterov: bool = True  # of sgd and muon
    normalise_filters: bool | None = (
        None  # of muon, where BatchNorm follows every convolution: keep the norm of its weights; planned if None
    )
    beta2: float | None = None  # of adam, adamw, muon's AdamW; rmsprop's alpha; the optimiser's default if None
    weight_decay: float | None = None  # only on parameters with two axes or more; planned if None
    on_nonfinite: OnNonFinite = "stop"  # at a loss or gradient that is not finite: stop, or skip the step and count it
    accumulation: int | None = None  # batches of loader.batch_size that one step is made of; planned if None
    max_grad_norm: float = 0.0  # a longer gradient is shortened to this; 0 leaves it as it is
    ema_decay: float = 0.0  # of the moving average of the weights, which is then evaluated and shipped; 0 keeps none
    freeze_layers: int = 0  # the first layers, which keep their weights throughout
    freeze_epochs: int = 0  # the first epochs, in which only the head learns
    freeze_batch_norm: bool | None = (
        None  # keep the pretrained running statistics, as small data spoil them; planned if None
    )

    def __post_init__(self) -> None:
        for name, least in (("epochs", 1), ("accumulation", 1), ("freeze_layers", 0), ("freeze_epochs", 0)):
            value = getattr(self, name)
            if value is not None and value < least:
                raise ConfigError(f"optim.{name} is {value}; it must be {least} or more.")
        if self.lr is not None and not 0 < self.lr < math.inf:
            raise ConfigError(f"optim.lr is {self.lr}; it must be above 0 (0.1 suits SGD, 1e-3 AdamW).")
        for name in ("momentum", "beta2", "ema_decay"):
            value = getattr(self, name)
            if value is not None and not 0 <= value < 1:
                raise ConfigError(f"optim.{name} is {value}; it must be at least 0 and below 1.")
        for name in ("weight_decay", "head_lr_factor", "bias_lr_factor", "max_grad_norm"):
            value = getattr(self, name)
            if value is not None and not 0 <= value < math.inf:
                raise ConfigError(f"optim.{name} is {value}; it must be 0 or more.")
        if not 0 < self.layer_decay <= 1:
            raise ConfigError(
                f"optim.layer_decay is {self.layer_decay}; it must be above 0 and at most 1 (0.75 suits ViT)."
            )

    def filled(self, *, epochs: int, fine_tuning: bool = False, usual: Defaults | None = None) -> OptimPlan:
        """With SGD where no optimiser is named, `epochs` and the `usual` settings where nothing is set.

        ConfigError for a setting that the optimiser does not have.
        """
        name: OptimizerName = self.name or "sgd"
        usual = usual or DEFAULTS[name]
        planned = {
            "name": name,
            "epochs": epochs,
            "lr": usual.fine_tuning_lr if fine_tuning else usual.lr,
            "momentum": usual.momentum,
            "beta2": usual.beta2,
            "weight_decay": usual.weight_decay,
            "head_lr_factor": usual.head_lr_factor,
            "bias_lr_factor": usual.bias_lr_factor,
            "normalise_filters": usual.normalise_filters,
            "accumulation": usual.accumulation,
            "freeze_batch_norm": fine_tuning,
        }
        if self.normalise_filters and name != "muon":
            raise ConfigError(
                f"optim.normalise_filters is true, which only muon has, and the optimiser is {name}. Remove it, or use "
                "--optimizer muon."
            )
        return OptimPlan(**planned | {key: value for key, value in vars(self).items() if value is not None})


@dataclass(frozen=True, kw_only=True)
class OptimPlan(OptimConfig):
    """Every setting has a value."""

    name: OptimizerName
    epochs: int
    lr: float
    momentum: float
    beta2: float
    weight_decay: float
    head_lr_factor: float
    bias_lr_factor: float
    normalise_filters: bool
    accumulation: int
    freeze_batch_norm: bool


@dataclass(frozen=True, kw_only=True)
class Defaults:
    """The usual settings of an optimiser."""

    lr: float  # of small networks from random weights
    fine_tuning_lr: float
    momentum: float
    beta2: float
    weight_decay: float
    head_lr_factor: float = 1.0
    bias_lr_factor: float = 1.0
    normalise_filters: bool = False
    accumulation: int = 1


DEFAULTS: Mapping[OptimizerName, Defaults] = MappingProxyType(
    {
        # momentum and decay: He et al. (2015), section 3.4, with the decay that small images are usually trained with
        "sgd": Defaults(lr=0.1, fine_tuning_lr=0.003, momentum=0.9, beta2=0.0, weight_decay=5e-4),
        # Kingma and Ba (2015), algorithm 1
        "adam": Defaults(lr=1e-3, fine_tuning_lr=1e-4, momentum=0.9, beta2=0.999, weight_decay=0.0),
        # decay: Liu et al. (2022), "A ConvNet for the 2020s", table 5
        "adamw": Defaults(lr=1e-3, fine_tuning_lr=1e-4, momentum=0.9, beta2=0.999, weight_decay=0.05),
        # Tieleman and Hinton (2012), lecture 6e; decay: Tan and Le (2019), EfficientNet, section 5.2
        "rmsprop": Defaults(lr=1e-3, fine_tuning_lr=1e-4, momentum=0.0, beta2=0.9, weight_decay=1e-5),
        # Jordan (2024), "Muon": momentum 0.95 and rate 0.02, which is 0.02 / (0.2 sqrt(400)) as the update is scaled here, after
        # Liu et al. (2025), "Muon is Scalable", section 2.2, for the 400 or so inputs of a 3 x 3 convolution of 48 channels
        "muon": Defaults(lr=5e-3, fine_tuning_lr=5e-4, momentum=0.95, beta2=0.95, weight_decay=0.01),
    }
)


HEAD_METHODS: Mapping[Task, tuple[HeadMethod, ...]] = MappingProxyType(  # ridge regression needs one class per image
    {"multiclass": ("logistic", "ridge"), "multilabel": ("logistic",)}
)
LossName = Literal["cross-entropy", "focal", "gce", "bce", "mse"]
LOSSES: Mapping[Task, tuple[LossName, ...]] = MappingProxyType(  # that suit the task, its usual one first
    {"multiclass": ("cross-entropy", "focal", "gce", "bce", "mse"), "multilabel": ("bce", "focal", "mse")}
)


@dataclass(frozen=True, kw_only=True)
class LossConfig:
    name: LossName | None = None  # planned if None
    label_smoothing: float | None = None  # share of each target spread over the classes; planned if None
    focal_gamma: float = 2.0  # how much less well-classified images count; 0 is cross-entropy
    gce_q: float = (
        0.7  # of gce: how much less images count whose label the network contradicts; near 0 it is cross-entropy
    )
    class_weights: Mapping[str, float] = field(
        default_factory=dict
    )  # how often an image of a class counts; 1 if not named

    def __post_init__(self) -> None:
        if self.label_smoothing is not None and not 0 <= self.label_smoothing < 1:
            raise ConfigError(f"loss.label_smoothing is {self.label_smoothing}; it must be at least 0 and below 1.")
        if not 0 <= self.focal_gamma < math.inf:
            raise ConfigError(f"loss.focal_gamma is {self.focal_gamma}; it must be 0 or more (the paper's is 2).")
        if not 0 < self.gce_q <= 1:
            raise ConfigError(f"loss.gce_q is {self.gce_q}; it must be above 0 and at most 1 (the paper's is 0.7).")
        for name, weight in self.class_weights.items():
            if not 0 < weight < math.inf:
                raise ConfigError(
                    f"loss.class_weights.{name} is {weight}; it must be above 0. To leave a class out, remove its images."
                )

    def filled(self, task: Task, *, smoothing: float = SMOOTHING) -> LossPlan:
        """The loss that suits the task where none is named; cross-entropy with `smoothing` where none is set.

        ConfigError for a loss that does not support the task.
        """
        name = self.name or LOSSES[task][0]
        usual = smoothing if name == "cross-entropy" else 0.0
        smoothing = usual if self.label_smoothing is None else self.label_smoothing
        if name not in LOSSES[task]:
            raise ConfigError(
                f"loss.name is {name}, which is for images with exactly one class; these images have any number of "
                "labels. Use bce, or focal or mse: --set loss.name=bce."
            )
        return LossPlan(**vars(self) | {"name": name, "label_smoothing": smoothing})


@dataclass(frozen=True, kw_only=True)
class LossPlan(LossConfig):
    """Every setting has a value."""

    name: LossName
    label_smoothing: float


AdversarialMethod = Literal["pgd", "trades", "fgsm-rs"]
ADVERSARIAL_METHODS: Mapping[Task, tuple[AdversarialMethod, ...]] = MappingProxyType(
    {"multiclass": ("pgd", "trades", "fgsm-rs"), "multilabel": ("pgd", "fgsm-rs")}
)


@dataclass(frozen=True, kw_only=True)
class AdversarialConfig:
    """Training on images that were changed to raise the loss, each value by at most `eps`."""

    eps: float = 0.0  # of pixels in [0, 1], such as 8/255; 0 trains on the images as they are
    method: AdversarialMethod = "pgd"
    steps: int = 10  # of pgd and trades; fgsm-rs takes one
    step_size: float | None = None  # 2.5 eps / steps if None; of fgsm-rs 1.25 eps
    beta: float = 6.0  # of trades: what the divergence on changed images counts
    warmup_fraction: float = 0.15  # of all steps, the first ones, in which eps grows from 0

    def __post_init__(self) -> None:
        if not 0 <= self.eps <= 1:
            raise ConfigError(
                f"adversarial.eps is {self.eps}; it must be from 0 to 1, as pixels are in [0, 1] (8 levels of 255 are 8/255)."
            )
        if self.steps < 1:
            raise ConfigError(f"adversarial.steps is {self.steps}; it must be 1 or more.")
        if self.step_size is not None and not 0 < self.step_size <= 1:
            raise ConfigError(f"adversarial.step_size is {self.step_size}; it must be above 0 and at most 1.")
        if not 0 < self.beta < math.inf:
            raise ConfigError(f"adversarial.beta is {self.beta}; it must be above 0 (the paper's is 6).")
        if not 0 <= self.warmup_fraction < 1:
            raise ConfigError(
                f"adversarial.warmup_fraction is {self.warmup_fraction}; it must be at least 0 and below 1."
            )
        if self.eps == 0 and any(getattr(self, field.name) != field.default for field in fields(self)):
            raise ConfigError("adversarial settings need adversarial.eps above 0, such as --set adversarial.eps=8/255.")

    @property
    def num_steps(self) -> int:
        return 1 if self.method == "fgsm-rs" else self.steps

    @property
    def size(self) -> float:
        """Of a step. Wong et al. (2020), section 5: 1.25 eps for one step."""
        usual = 1.25 if self.method == "fgsm-rs" else 2.5 / self.steps
        return usual * self.eps if self.step_size is None else self.step_size

    def at(self, step: int, num_warmup_steps: int) -> AdversarialConfig:
        """With the eps and size of `step`, from 0: eps 0.3 from the first step keeps a small network at one answer for all."""
        if step >= num_warmup_steps:
            return self
        share = (step + 1) / num_warmup_steps
        return replace(self, eps=share * self.eps, step_size=share * self.size)

    def reasons(self, task: Task) -> list[str]:
        """What it means for a run. ConfigError for a method that does not suit `task`."""
        if not self.eps:
            return []
        if self.method not in ADVERSARIAL_METHODS[task]:
            raise ConfigError(
                f"adversarial.method is {self.method}, which needs one class per image; use "
                f"{' or '.join(ADVERSARIAL_METHODS[task])}."
            )
        return [
            f"adversarial training by {self.method}, eps {self.eps:.4g}: a step costs about {self.num_steps + 1} times as much; "
            "val is measured under 10 steps of PGD and chooses the epoch"
        ]


HeadMethod = Literal["logistic", "ridge"]


@dataclass(frozen=True, kw_only=True)
class HeadConfig:
    layers: HeadLayers | None = None  # multi: the means of inner layers beside the last one; planned if None
    compare: bool = False  # choose network, input size and mirror by cross-validation, see recipes.choose_input
    mirror: bool = False  # average the features with those of the mirror image: twice the cost, also in prediction
    method: HeadMethod | None = None  # both are compared if None; multi-label: logistic
    l2: tuple[float, ...] = (3e-3, 1e-2, 3e-2, 0.1, 0.3)  # strengths to try, per image, on standardised features
    ridge_l2: tuple[float, ...] = (0.1, 0.3, 1.0, 3.0, 10.0)  # of ridge regression, which squares its errors
    max_iterations: int = 300

    def __post_init__(self) -> None:
        for name, strengths in (("l2", self.l2), ("ridge_l2", self.ridge_l2)):
            if not strengths or not all(0 < strength < math.inf for strength in strengths):
                raise ConfigError(f"head.{name} is {strengths}; it must list one strength or more, all above 0.")
        if self.max_iterations < 1:
            raise ConfigError(f"head.max_iterations is {self.max_iterations}; it must be 1 or more.")

    @property
    def strengths(self) -> list[float]:
        """From the strongest to the weakest, as they are tried."""
        return sorted(self.l2, reverse=True)

    @property
    def ridge_strengths(self) -> list[float]:
        return sorted(self.ridge_l2, reverse=True)


@dataclass(frozen=True, kw_only=True)
class CheckpointConfig:
    every_s: float = 60.0  # seconds between two checkpoints within an epoch; one more at its end, but not within 2 s
    every_steps: int | None = None  # also after so many steps
    keep: int = 2  # the newest ones; older ones go once a new one is safely on disk

    def __post_init__(self) -> None:
        if not self.every_s > 0:
            raise ConfigError(
                f"checkpoint.every_s is {self.every_s}; it must be above 0 (inf: at each epoch's end only)."
            )
        if self.every_steps is not None and self.every_steps < 1:
            raise ConfigError(f"checkpoint.every_steps is {self.every_steps}; it must be 1 or more.")
        if self.keep < 2:
            raise ConfigError(
                f"checkpoint.keep is {self.keep}; it must be 2 or more, as the newest may turn out to be damaged."
            )


Device = Literal["auto", "cpu", "cuda"]  # auto: a GPU where there is one


Precision = Literal["float32", "bfloat16", "float16"]  # of the forward pass; float16 is for GPUs that lack bfloat16
