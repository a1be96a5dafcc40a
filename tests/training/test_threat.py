"""Allowed changes by hand."""

from __future__ import annotations

import torch

from recog.training.threat import Threat


def test_projection_by_hand():
    image = torch.full((1, 1, 1, 2), 0.5)
    far = torch.tensor([[[[0.8, 0.1]]]])
    torch.testing.assert_close(Threat(norm="linf", eps=0.1).project(far, image), torch.tensor([[[[0.6, 0.4]]]]))
    # (0.3, -0.4) has length 0.5
    torch.testing.assert_close(Threat(norm="l2", eps=0.1).project(far, image), torch.tensor([[[[0.56, 0.42]]]]))
    assert Threat(norm="linf", eps=1.0).project(far + 2, image).max() == 1
