import os
import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from recog.core.errors import TrainingError
from recog.models.classifier import Classifier
from recog.models.networks.resnet import resnet8
from recog.training import fit
from recog.training.config import LossConfig
from recog.training.distributed import World, parallel, seed_own_chance, synchronised, synchronised_batch_norm
from recog.training.losses import build_loss
from recog.training.state import TrainState

STEPS = Path(__file__).parent / "parallel_steps.py"


def torchrun(script, *arguments, num_processes, timeout=240):
    """Run `script` in processes that torchrun starts on this machine, each with one thread."""
    command = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={num_processes}", script, *arguments]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    done = subprocess.run(
        [sys.executable, *map(str, command)], env=environment, capture_output=True, text=True, timeout=timeout
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done


def classifier():
    torch.manual_seed(0)
    return Classifier(resnet8(num_classes=3, in_chans=1), mean=(0.5,), std=(0.25,))


def test_alone_nothing_is_wrapped_and_chance_goes_its_way():
    network = classifier()
    assert parallel(World(), network) is None
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    with synchronised_batch_norm(World(), network), synchronised(None, is_last_part=False):
        assert [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)] == norms
    torch.manual_seed(3)
    before = torch.get_rng_state()
    seed_own_chance(World(), seed=1, step=2)
    assert torch.equal(torch.get_rng_state(), before)


def test_dropout_differs_by_process_and_step_and_can_be_had_again():
    draws = {}
    for rank in (0, 1):
        for step in (0, 1, 0):
            seed_own_chance(World(rank=rank, size=2, local_rank=rank, local_size=2), seed=7, step=step)
            draw = torch.rand(4)
            assert torch.equal(draws.setdefault((rank, step), draw), draw)
    assert len({tuple(draw.tolist()) for draw in draws.values()}) == 4


def test_batch_norm_is_synchronised_on_gpus_and_comes_back(monkeypatch):
    """The layers put in hold the same tensors; afterwards the old ones stand in their places with what was learnt."""
    network = classifier()
    old = dict(network.named_modules())
    world = World(rank=0, size=2, local_rank=0, local_size=2)
    with synchronised_batch_norm(world, network):
        assert dict(network.named_modules()).keys() == old.keys()
        assert not any(isinstance(module, nn.SyncBatchNorm) for module in network.modules())  # on a CPU it cannot run
    monkeypatch.setattr(Classifier, "device", torch.device("cuda", 0))
    with synchronised_batch_norm(world, network):
        synced = [module for module in network.modules() if isinstance(module, nn.SyncBatchNorm)]
        assert len(synced) == sum(isinstance(module, nn.BatchNorm2d) for module in old.values()) > 0
        with torch.no_grad():
            synced[0].weight.fill_(5)
            synced[0].running_mean.fill_(6)
    new = dict(network.named_modules())
    assert all(new[name] is old[name] for name in old)
    first = next(module for module in network.modules() if isinstance(module, nn.BatchNorm2d))
    assert (first.weight == 5).all()
    assert (first.running_mean == 6).all()


@pytest.mark.slow
def test_steps_of_three_processes_are_those_of_one(tmp_path):
    """Uneven shares, class weights, parts of a batch, clipping, mixed targets: losses and weights within 1e-5 of one process."""
    torchrun(STEPS, tmp_path / "together", num_processes=3)
    runpy.run_path(str(STEPS))["main"](tmp_path / "alone")
    alone = np.load(tmp_path / "alone-0.npz")
    assert {"plain/losses", "weighted/losses", "soft/losses"} <= set(alone)
    for rank in range(3):
        together = np.load(tmp_path / f"together-{rank}.npz")
        for name in alone:
            np.testing.assert_allclose(together[name], alone[name], atol=1e-5, rtol=1e-4, err_msg=name)


def test_too_little_memory_is_an_error_with_its_remedy_where_several_train(monkeypatch):
    """A lone process puts the batch through in parts; several cannot agree on that in the middle of a step."""

    def out_of_memory(images):
        raise torch.OutOfMemoryError("CUDA out of memory")

    network = classifier()
    state = TrainState(
        classifier=network,
        optimizer=torch.optim.SGD([{"params": network.parameters(), "lr_factor": 1.0}], lr=0.1),
        loss=build_loss(LossConfig()),
        world=World(rank=1, size=2, local_rank=1, local_size=2),
    )
    monkeypatch.setattr(fit, "sums", lambda world, values: list(values))
    monkeypatch.setattr(network, "forward", out_of_memory)
    with pytest.raises(TrainingError, match=r"the 4 images per step of process 1.*optim\.accumulation=2"):
        fit.train_step(state, torch.zeros(4, 8, 8, 1, dtype=torch.uint8), torch.arange(4) % 3, lr=0.1)
