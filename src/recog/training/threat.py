"""What an attacker may change: pixels in [0, 1] within a distance of the image, by the largest change or the Euclidean length."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch

Norm = Literal["linf", "l2"]


@dataclass(frozen=True, kw_only=True)
class Threat:
    """Images float [B, C, H, W] in [0, 1] may be changed by at most `eps` in `norm`."""

    norm: Norm
    eps: float

    def project(self, changed: torch.Tensor, images: torch.Tensor) -> torch.Tensor:
        """The nearest allowed images to `changed`: within `eps` of `images` and in [0, 1]."""
        change = changed - images
        if self.norm == "linf":
            change = change.clamp(-self.eps, self.eps)
        else:
            change = change * (self.eps / _length(change).clamp(min=1e-12)).clamp(max=1.0)
        return (images + change).clamp(0, 1)

    def direction(self, gradient: torch.Tensor) -> torch.Tensor:
        """The change of size 1 that raises the loss most, to first order."""
        return gradient.sign() if self.norm == "linf" else gradient / _length(gradient).clamp(min=1e-12)

    def start(self, images: torch.Tensor, uniforms: torch.Tensor) -> torch.Tensor:
        """Random allowed images: uniform in the cube; of l2, on the sphere. `uniforms` in [0, 1) are shaped as the images."""
        if self.norm == "linf":
            return (images + self.eps * (2 * uniforms - 1)).clamp(0, 1)
        normal = math.sqrt(2) * torch.erfinv((2 * uniforms - 1).clamp(-1 + 1e-6, 1 - 1e-6))
        return (images + self.eps * self.direction(normal)).clamp(0, 1)


def _length(change: torch.Tensor) -> torch.Tensor:
    """[B, 1, 1, 1]."""
    length: torch.Tensor = torch.linalg.vector_norm(change, dim=(1, 2, 3), keepdim=True)
    return length
