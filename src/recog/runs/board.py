"""What TensorBoard shows of a run: scalars, the first batch, weights, the confusion matrix, the graph, the settings."""

from __future__ import annotations

import contextlib
import io
import time
import warnings
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from recog.models.classifier import Classifier
from recog.report.pictures import confusion_picture, image_grid
from recog.training.fit import eval_mode

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

NOT_COMPARED = frozenset({"data", "split", "checkpoint", "reference", "calibration"})
MAX_HISTOGRAM_VALUES = 50_000  # of one tensor, evenly spread: binning millions an epoch would take longer than its use


class Board:
    """Writes event files into `folder`, after a run's first `steps_done` steps. Any method may raise, as a disk may be full."""

    def __init__(self, folder: Path, *, steps_done: int = 0) -> None:
        self._folder = folder
        self._steps_done = steps_done
        self._stepped_at: float | None = None

    @cached_property
    def _writer(self) -> SummaryWriter:
        from torch.utils.tensorboard import SummaryWriter  # half a second to import

        # what an earlier process wrote of steps that are taken again is not shown
        return SummaryWriter(str(self._folder), purge_step=self._steps_done + 1)

    def close(self) -> None:
        if "_writer" in self.__dict__:
            self._writer.close()

    def scalars(self, kind: str, step: int, values: Mapping[str, float | int | str]) -> None:
        """Each number of `values` as `kind/name`."""
        for name, value in values.items():
            if not isinstance(value, str):
                self._writer.add_scalar(f"{kind}/{name}", value, step)

    def speed(self, step: int, num_images: int) -> None:
        """Images per second since the step before, all that happened in between included."""
        now = time.perf_counter()
        if self._stepped_at is not None:
            self._writer.add_scalar("step/images_per_s", num_images / (now - self._stepped_at), step)
        self._stepped_at = now

    def batch(self, images: NDArray[np.uint8], step: int) -> None:
        """Training images uint8 [B, H, W, C] as the network sees them."""
        self._writer.add_image("batch/as_the_network_sees_it", image_grid(images), step, dataformats="HWC")

    def confusion(self, counts: NDArray[np.int64], class_names: Sequence[str], epoch: int) -> None:
        """Counts int64 [K, K] of the validation split, row = true class."""
        picture = confusion_picture(counts, class_names)
        self._writer.add_image("val/confusion_true_class_by_row", picture, epoch, dataformats="HWC")

    def weights(self, classifier: Classifier, epoch: int) -> None:
        for name, parameter in classifier.network.named_parameters():
            values = parameter.detach().float().cpu().reshape(-1)
            values = values[:: max(1, len(values) // MAX_HISTOGRAM_VALUES)]
            self._writer.add_histogram(f"weights/{name.replace('.', '/')}", values.numpy(), epoch)

    def graph(self, classifier: Classifier, images: NDArray[np.uint8]) -> None:
        """The operations on uint8 [B, H, W, C]; nothing of the classifier or of torch's chance is changed."""
        example = torch.from_numpy(images[:1].copy()).to(classifier.device)
        with (
            eval_mode(classifier),
            torch.random.fork_rng(devices=[]),
            warnings.catch_warnings(),
            contextlib.redirect_stdout(io.StringIO()),  # torch prints its failures to where a command's answer goes
        ):
            warnings.simplefilter("ignore")
            self._writer.add_graph(classifier, example, use_strict_trace=False)

    def settings(self, toml: str) -> None:
        """The text of run.toml."""
        self._writer.add_text("run.toml", f"```toml\n{toml}```")

    def outcome(self, table: Mapping[str, Any], measures: Mapping[str, float]) -> None:
        """The settings that people vary beside what they led to, for TensorBoard's comparison of runs."""
        varied = {key: value for key, value in table.items() if key not in NOT_COMPARED}
        flat = {name: value for name, value in _flatten(varied) if value or not name.startswith("augment.")}
        self._writer.add_hparams(flat, {f"outcome/{name}": value for name, value in measures.items()}, run_name=".")


def _flatten(table: Mapping[str, Any], prefix: str = "") -> list[tuple[str, bool | int | float | str]]:
    flat: list[tuple[str, bool | int | float | str]] = []
    for key, value in table.items():
        if isinstance(value, Mapping):
            flat += _flatten(value, f"{prefix}{key}.")
        else:
            flat.append((f"{prefix}{key}", value if isinstance(value, (bool, int, float, str)) else str(value)))
    return flat
