import multiprocessing
import os
import signal
import socket

import numpy as np
import pytest
import torch

from recog.core.errors import ConfigError, DataError, PeerError, RecogError
from recog.training.distributed import (
    World,
    any_of,
    barrier,
    broadcast,
    broadcast_bytes,
    broadcast_tensors,
    check_agreement,
    gather_rows,
    joined,
    read_world,
    sums,
)


def environment(rank, size, port=0):
    names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
    return dict(zip(names, map(str, (rank, size, rank, size, "127.0.0.1", port)), strict=True))


def in_processes(work, size, *, num_killed=0):
    """What `work(world)` returned, or the error that left `joined`, in each of `size` connected processes that lived."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    # forked, as importing torch anew takes seconds
    context = multiprocessing.get_context("fork")
    answers = context.Queue()

    def run(rank):
        os.environ.update(environment(rank, size, port))
        try:
            with joined() as world:
                answer = work(world)
        except RecogError as error:
            answer = error
        answers.put((rank, answer))

    processes = [context.Process(target=run, args=(rank,)) for rank in range(size)]
    for process in processes:
        process.start()
    found = dict(answers.get(timeout=60) for _ in range(size - num_killed))
    for process in processes:
        process.join(timeout=60)
    return [found[rank] for rank in sorted(found)]


# reading the environment


def test_without_torchrun_there_is_a_world_of_one():
    assert read_world({"PATH": "/bin"}) == World(rank=0, size=1, local_rank=0, local_size=1)
    assert World().is_writer


def test_torchruns_variables_are_read():
    variables = {"RANK": "5", "WORLD_SIZE": "8", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "4"}
    world = read_world(variables)
    assert world == World(rank=5, size=8, local_rank=1, local_size=4)
    assert not world.is_writer


def test_restarts_and_the_launch_are_read():
    said = {"TORCHELASTIC_RESTART_COUNT": "2", "TORCHELASTIC_MAX_RESTARTS": "3", "TORCHELASTIC_RUN_ID": "job-7"}
    world = read_world(environment(1, 2) | said)
    assert (world.num_restarts, world.max_restarts, world.launch) == (2, 3, "job-7")
    assert read_world(environment(1, 2) | {"TORCHELASTIC_RUN_ID": "none"}).launch == ""


@pytest.mark.parametrize(
    "changes", [{"RANK": "2"}, {"RANK": "-1"}, {"RANK": "one"}, {"LOCAL_RANK": None}, {"LOCAL_WORLD_SIZE": "3"}]
)
def test_an_environment_that_cannot_be_is_refused(changes):
    variables = {name: value for name, value in (environment(0, 2) | changes).items() if value is not None}
    with pytest.raises(ConfigError, match="Start the.* with torchrun, or unset RANK and WORLD_SIZE"):
        read_world(variables)


def test_alone_everything_is_as_it_was():
    alone = World()
    value, rows = {"a": (1, 2)}, torch.arange(3)
    with joined() as world:
        assert world == alone
        assert not torch.distributed.is_initialized()
    barrier(alone)
    broadcast_tensors(alone, [rows])
    check_agreement(alone, "data", value)
    assert broadcast(alone, value) is value
    assert broadcast_bytes(alone, b"x") == b"x"
    assert any_of(alone, True)
    assert not any_of(alone, False)
    assert sums(alone, [2.5]) == [2.5]
    assert gather_rows(alone, rows, 3) is rows


# three processes on one machine, connected by gloo


def test_what_the_first_process_says_all_know():
    def work(world):
        barrier(world)
        weights = torch.full((2, 3), float(world.rank)).t()  # not contiguous
        broadcast_tensors(world, [weights])
        return (
            broadcast(world, {"lr": 0.1 + world.rank, "name": "größe", "none": None}),
            broadcast_bytes(world, bytes([world.rank, 7])),
            broadcast_bytes(world, b""),
            weights.tolist(),
        )

    expected = ({"lr": 0.1, "name": "größe", "none": None}, b"\0\x07", b"", [[0.0, 0.0]] * 3)
    assert in_processes(work, 3) == [expected] * 3


def test_one_flag_is_enough_and_numbers_are_added_up():
    def work(world):
        return any_of(world, world.rank == 2), any_of(world, False), sums(world, [0.5 + world.rank, 1])

    assert in_processes(work, 3) == [(True, False, [4.5, 3])] * 3


@pytest.mark.parametrize("num_rows", [2, 3, 7, 9])
def test_rows_come_together_in_order(num_rows):
    rows = np.arange(2.0 * num_rows, dtype=np.float32).reshape(num_rows, 2)

    def work(world):
        start, end = (num_rows * r // 3 for r in (world.rank, world.rank + 1))
        return gather_rows(world, torch.from_numpy(rows[start:end]), num_rows).numpy()

    for found in in_processes(work, 3):
        np.testing.assert_array_equal(found, rows)


def test_processes_that_differ_say_so_and_which():
    def work(world):
        check_agreement(world, "settings", {"seed": 1})
        check_agreement(world, "data", "abc" if world.rank < 2 else "abd")

    errors = in_processes(work, 3)
    spoken = [error for error in errors if not isinstance(error, PeerError)]
    assert [type(error) for error in spoken] == [DataError]
    assert "the 3 processes do not have the same data: process 2 differs from process 0" in str(spoken[0])


def test_one_process_fails_and_the_others_end_in_silence():
    def work(world):
        if world.rank == 1:
            raise DataError("this disk is broken")
        barrier(world)

    errors = in_processes(work, 3)
    assert str(errors[1]) == "this disk is broken"
    assert [type(error) for error in errors] == [PeerError, DataError, PeerError]


def test_a_process_that_is_killed_is_named_by_one_of_the_others():
    def work(world):
        barrier(world)
        if world.rank == 2:
            os.kill(os.getpid(), signal.SIGKILL)
        barrier(world)

    errors = in_processes(work, 3, num_killed=1)
    assert sorted(type(error).__name__ for error in errors) == ["PeerError", "TrainingError"]
    assert any("another process of this training has ended" in str(error) for error in errors)
