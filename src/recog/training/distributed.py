"""Training by several processes, as torchrun starts them: the process group, its collectives, gradients and BatchNorm.

Without torchrun there is a `World` of one, no process group, and every function here returns at once. Processes exchange
tensors and JSON, never pickle.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from types import TracebackType
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch.distributed.distributed_c10d import PrefixStore, Store
from torch.distributed.rendezvous import rendezvous
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parallel import DistributedDataParallel

from recog.core.chance import random_words
from recog.core.errors import ConfigError, DataError, PeerError, RecogError, TrainingError
from recog.core.files import canonical_json, sha256_bytes
from recog.data.loader import share
from recog.models.classifier import Classifier

TIMEOUT = timedelta(
    days=1
)  # the first process may export for hours; a dead process is noticed at once, without the timeout
PEER_EXIT_DELAY_S = 1.0  # before a process exits after another failed: torchrun then ends all, also the one that prints
_ENDED = (
    "another process of this training has ended: see its own message; without one, the system ended it, as it does when "
    "memory runs out. With torchrun --max-restarts N, training resumes from its last checkpoint."
)


@dataclass(frozen=True, kw_only=True)
class World:
    """One of `size` processes that train together; `local_rank` and `local_size` count those on its machine."""

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    local_size: int = 1
    num_restarts: int = 0  # of all processes by torchrun so far, as one of them had ended
    max_restarts: int = 0
    launch: str = ""  # torchrun's --rdzv-id, the same before and after a restart; empty where there is none

    @property
    def is_writer(self) -> bool:
        """Whether this process writes files and prints; one of them does."""
        return self.rank == 0


def read_world(environ: Mapping[str, str] | None = None) -> World:
    """The world that torchrun (or another launcher that sets the same variables) describes; of one where there is none."""
    environ = os.environ if environ is None else environ
    if "RANK" not in environ and "WORLD_SIZE" not in environ:
        return World()
    names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")
    try:
        rank, size, local_rank, local_size = (int(environ[name]) for name in names)
    except (KeyError, ValueError) as error:
        raise ConfigError(
            f"RANK or WORLD_SIZE is set, for training by several processes, but {', '.join(names)} are not all integers "
            f"({error}). Start the processes with torchrun, or unset RANK and WORLD_SIZE to train in one process."
        ) from None
    if not (0 <= rank < size and 0 <= local_rank < local_size <= size):
        raise ConfigError(
            f"the environment variables give process {rank} of {size}, and {local_rank} of {local_size} on this machine, which "
            "is impossible. Start the processes with torchrun, or unset RANK and WORLD_SIZE to train in one process."
        )
    launch = environ.get("TORCHELASTIC_RUN_ID", "")
    return World(
        rank=rank,
        size=size,
        local_rank=local_rank,
        local_size=local_size,
        num_restarts=int(environ.get("TORCHELASTIC_RESTART_COUNT", "0")),
        max_restarts=int(environ.get("TORCHELASTIC_MAX_RESTARTS", "0")),
        launch="" if launch == "none" else launch,  # torchrun's word for it
    )


@contextlib.contextmanager
def joined() -> Iterator[World]:
    """The world for the block, its processes connected: gloo for what is on a CPU, NCCL for what is on a GPU.

    The first process to fail raises its own error, the others PeerError, which is not printed. A process group that exists
    already is used and kept.
    """
    world = read_world()
    if world.size == 1 or dist.is_initialized():
        yield world
        return
    with_gpu = torch.cuda.is_available() and dist.is_nccl_available()
    store: Store | None = None
    try:
        store, _, _ = next(rendezvous("env://", timeout=timedelta(minutes=10)))
        # torchrun's store outlives a restart, and the addresses in it are those of processes that are gone
        store = PrefixStore(f"recog-{world.num_restarts}-of-{world.size}", store)
        dist.init_process_group(
            "cpu:gloo,cuda:nccl" if with_gpu else "gloo",
            store=store,
            rank=world.rank,
            world_size=world.size,
            timeout=TIMEOUT,
        )
    except (RuntimeError, ValueError) as error:
        if store is not None and not _fails_first(store):  # another process left while this one was still connecting
            time.sleep(PEER_EXIT_DELAY_S)
            raise PeerError(_ENDED) from error
        raise TrainingError(
            f"process {world.rank} cannot reach the others ({_first_line(error)}). Start all of them with torchrun, with the "
            "same --rdzv-endpoint on every machine, and check that its port is open between them."
        ) from None
    with contextlib.ExitStack() as stack:
        stack.push(partial(_leave, store))
        yield world
        barrier(world)  # no process leaves while another still needs the store or the connections


def _leave(
    store: Store, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
) -> None:
    """Disconnect. The process that failed first keeps its error; those that fail because of it raise PeerError."""
    is_first = error is not None and not isinstance(error, GeneratorExit) and _fails_first(store)
    dist.destroy_process_group()
    if error is None or isinstance(error, GeneratorExit):
        return
    if not is_first:
        time.sleep(PEER_EXIT_DELAY_S)
        raise PeerError(_ENDED) from error
    if _is_lost_connection(error):
        raise TrainingError(_ENDED) from error


def _fails_first(store: Store) -> bool:
    try:
        return bool(store.add("failed", 1) == 1)
    except RuntimeError:
        return False  # the process that held the store is gone, and printed the reason


def _is_lost_connection(error: BaseException) -> bool:
    if isinstance(error, RecogError) or not isinstance(error, RuntimeError):
        return False
    # gloo has no error of its own
    return isinstance(error, dist.DistError) or "gloo" in str(error) or "Connection closed by peer" in str(error)


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def barrier(world: World) -> None:
    """Wait until all processes are here."""
    any_of(world, False)


@contextlib.contextmanager
def first_on_machine(world: World) -> Iterator[None]:
    """The first process of each machine runs the block before the others, which then find its results in the cache."""
    if world.local_rank:
        barrier(world)
    yield
    if not world.local_rank:
        barrier(world)


def any_of(world: World, flag: bool) -> bool:
    """Whether `flag` is set in any process, so that all act alike."""
    if world.size == 1:
        return flag
    flags = torch.tensor([int(flag)], dtype=torch.int32)
    dist.all_reduce(flags, op=dist.ReduceOp.MAX)
    return bool(flags.item())


def broadcast(world: World, value: Any) -> Any:
    """`value` of process 0, of plain JSON types, in all processes; that of the others is ignored."""
    if world.size == 1:
        return value
    data = json.dumps(value).encode() if world.is_writer else b""
    return json.loads(broadcast_bytes(world, data))


def broadcast_bytes(world: World, data: bytes) -> bytes:
    """`data` of process 0 in all processes."""
    if world.size == 1:
        return data
    length = torch.tensor([len(data)], dtype=torch.int64)
    dist.broadcast(length, src=0)
    buffer = torch.zeros(int(length.item()), dtype=torch.uint8)
    if world.is_writer and data:
        buffer.copy_(torch.frombuffer(bytearray(data), dtype=torch.uint8))
    dist.broadcast(buffer, src=0)
    return buffer.numpy().tobytes()


def broadcast_tensors(world: World, tensors: Iterable[torch.Tensor]) -> None:
    """Overwrite `tensors` with those of process 0."""
    if world.size == 1:
        return
    with torch.no_grad():
        for tensor in tensors:
            whole = tensor.detach().contiguous()
            dist.broadcast(whole, src=0)
            tensor.copy_(whole)


def sums(world: World, values: Sequence[float]) -> list[float]:
    """Each of `values` added up over the processes, the same numbers in all."""
    if world.size == 1:
        return list(values)
    totals = torch.tensor(values, dtype=torch.float64)
    dist.all_reduce(totals)
    return totals.tolist()


def gather_rows(world: World, rows: torch.Tensor, num_rows: int) -> torch.Tensor:
    """[num_rows, ...] in order, in all processes, of which `rows` are this one's `share`."""
    if world.size == 1:
        return rows
    lengths = [len(range(num_rows)[share(num_rows, rank, world.size)]) for rank in range(world.size)]
    padded = rows.new_zeros((max(lengths), *rows.shape[1:]))  # a collective takes equal shapes
    padded[: len(rows)] = rows
    gathered = [torch.empty_like(padded) for _ in lengths]
    dist.all_gather(gathered, padded)
    return torch.cat([part[:length] for part, length in zip(gathered, lengths, strict=True)])


def check_agreement(world: World, what: str, value: Any) -> None:
    """DataError in all processes if `value`, of plain JSON types, differs between them; `what` names it."""
    if world.size == 1:
        return
    digest = torch.frombuffer(bytearray.fromhex(sha256_bytes(canonical_json(value))), dtype=torch.uint8)
    gathered = [torch.empty_like(digest) for _ in range(world.size)]
    dist.all_gather(gathered, digest)
    others = [str(rank) for rank, found in enumerate(gathered) if not torch.equal(found, gathered[0])]
    if others:
        raise DataError(
            f"the {world.size} processes do not have the same {what}: process {', '.join(others)} differs from process 0. "
            "Every machine needs the same data, settings and version of recog."
        )


def parallel(world: World, classifier: Classifier, *, will_freeze: bool = False) -> DistributedDataParallel | None:
    """`classifier` as several processes train it: the gradient is the mean of theirs. None for a single process.

    It starts with the weights of process 0. Each process has its own buffers; see `broadcast_tensors`. With `will_freeze`,
    parameters that require a gradient now may not for some steps.
    """
    if world.size == 1:
        return None
    devices = [classifier.device] if classifier.device.type == "cuda" else None
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore", FutureWarning
        )  # its new name for broadcast_buffers is unknown to older releases
        return DistributedDataParallel(
            classifier, device_ids=devices, broadcast_buffers=False, find_unused_parameters=will_freeze
        )


@contextlib.contextmanager
def synchronised_batch_norm(world: World, classifier: Classifier) -> Iterator[None]:
    """BatchNorm uses statistics of the whole batch in the block, if the processes train on GPUs (SyncBatchNorm needs them).

    The layers that replace it share its parameters and buffers; the old ones are restored when the block ends.
    """
    if world.size == 1 or classifier.device.type != "cuda":
        yield
        return
    old = {name: module for name, module in classifier.named_modules() if isinstance(module, _BatchNorm)}
    from timm.layers.norm_act import convert_sync_batchnorm

    convert_sync_batchnorm(classifier)  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        for name, module in old.items():
            module.train(classifier.training)
            classifier.set_submodule(name, module)


def synchronised(
    network: DistributedDataParallel | None, *, is_last_part: bool
) -> contextlib.AbstractContextManager[None]:
    """Around forward and backward of a part of a batch: gradients are exchanged with the last part only."""
    if network is None or is_last_part:
        return contextlib.nullcontext()
    no_sync: contextlib.AbstractContextManager[None] = network.no_sync()
    return no_sync


def seed_own_chance(world: World, *, seed: int, step: int) -> None:
    """If several processes train, seed torch's generator (dropout) by process and step.

    So their masks differ, and a resumed step has the same masks. A single process keeps its stream of numbers.
    """
    if world.size > 1:
        low, high = random_words(seed, step, np.array([world.rank]), "dropout", 2)[0].tolist()
        torch.manual_seed(high << 32 | low)
