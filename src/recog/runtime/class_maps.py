"""Class-activation maps from the feature map of a bundle's ONNX file: what each position adds to a class's logit. No torch.

Zhou et al. (2016), "Learning deep features for discriminative localization".
"""

from __future__ import annotations

from pathlib import Path
from typing import cast

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from recog.bundle.manifest import Manifest
from recog.bundle.seal import WEIGHTS, check_files
from recog.core.errors import BundleError, ConfigError
from recog.runtime.engine import Engine, FileEngine, Outputs
from recog.runtime.views import ViewsEngine


class MapMaker:
    """Makes maps of (h, w) = `size` by the engine of the bundle in `folder`.

    The last layer's weights are read when they are first needed.
    """

    def __init__(self, engine: Engine, folder: Path | None, manifest: Manifest) -> None:
        if isinstance(engine, ViewsEngine):
            raise ConfigError("maps show one view of an image, and views of it are averaged. Use views=one for maps.")
        size = getattr(engine, "map_size", None)
        if size is None or folder is None:
            raise ConfigError(
                "this bundle carries no feature map, from which maps are drawn without torch. Train with --set "
                "export.feature_map=true, or use recog explain."
            )
        self.size: tuple[int, int] = size
        self._engine, self._folder, self._manifest = cast("FileEngine", engine), folder, manifest
        self._weights: NDArray[np.float32] | None = None

    def run(self, images: NDArray[np.uint8]) -> Outputs:
        """The engine's outputs for `images` uint8 [B, H, W, C], with the feature map."""
        return self._engine(images, feature_map=True)

    def maps(self, outputs: Outputs, row: int, labels: NDArray[np.int64]) -> NDArray[np.float32]:
        """float32 [M, h, w] of image `row` for `labels` int64 [M]: shares of the logit, those that count against it as 0."""
        if outputs.feature_map is None:
            raise ConfigError("the outputs hold no feature map; ask the engine for it.")
        if self._weights is None:
            self._weights = self._read_weights()
        found = np.tensordot(self._weights[labels], outputs.feature_map[row], axes=1) / (self.size[0] * self.size[1])
        return np.maximum(found, 0, dtype=np.float32)

    def _read_weights(self) -> NDArray[np.float32]:
        check_files(self._folder, self._manifest, (WEIGHTS,))
        name = self._engine.class_weights
        try:
            with safe_open(self._folder / WEIGHTS, framework="numpy") as file:
                weights: NDArray[np.float32] = np.asarray(file.get_tensor(name), dtype=np.float32)
        except (SafetensorError, OSError) as error:
            raise BundleError(f"{self._folder / WEIGHTS} gives no weights '{name}' for maps: {error}") from None
        if weights.ndim != 2 or len(weights) != self._engine.num_classes:
            raise BundleError(
                f"{self._folder / WEIGHTS} has '{name}' of shape {weights.shape}; expected one row for each class."
            )
        return weights
