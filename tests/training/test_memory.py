import pytest
import torch
from torch import nn

from recog.core.errors import TrainingError
from recog.training.device import describe_parts, is_out_of_memory, more_parts


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"), True),
        (MemoryError(), True),
        (
            RuntimeError("[enforce fail at alloc_cpu.cpp:117] err == 0. DefaultCPUAllocator: can't allocate memory"),
            True,
        ),
        (RuntimeError("not enough memory: you tried to allocate 1 bytes."), True),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), False),
        (ValueError("out of memory"), False),
    ],
)
def test_which_errors_mean_it(error, expected):
    assert is_out_of_memory(error) is expected


def test_torch_s_own_error_on_this_machine_is_recognised():
    with pytest.raises(RuntimeError) as caught:
        torch.empty(1 << 60, dtype=torch.uint8)
    assert is_out_of_memory(caught.value)


def test_parts_double_four_times_at_most():
    found, parts = [], 1
    for _ in range(4):
        parts = more_parts(parts, 64, planned=1)
        found.append(parts)
    assert found == [2, 4, 8, 16]
    with pytest.raises(TrainingError, match=r"64 images of a step processed in 16 parts.*--batch-size"):
        more_parts(16, 64, planned=1)


def test_a_part_holds_an_image_at_least():
    assert more_parts(4, 6, planned=4) == 6
    with pytest.raises(TrainingError, match="out of memory"):
        more_parts(6, 6, planned=4)


def test_what_is_given_up_is_said():
    assert "those of the whole batch" in describe_parts(2, nn.Linear(1, 1))
    assert "in 2 parts (BatchNorm uses the statistics of a part" in describe_parts(2, nn.Sequential(nn.BatchNorm2d(1)))
