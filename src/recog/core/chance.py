"""Counted randomness: every random number is a pure function of (seed, epoch, index, stream), never of what was drawn before.

So the number of workers, the batch size, the processes and a resume cannot change what a run sees. The generator is
Philox4x32-10 (Salmon et al., 2011, "Parallel random numbers: as easy as 1, 2, 3"), vectorised over the counters.
"""

from __future__ import annotations

import zlib

import numpy as np
from numpy.typing import NDArray

_ROUNDS = 10
_MULTIPLIERS = (np.uint64(0xD2511F53), np.uint64(0xCD9E8D57))
_KEY_STEPS = (0x9E3779B9, 0xBB67AE85)
_LOW_32 = np.uint64(0xFFFFFFFF)
_SHIFT_32 = np.uint64(32)


def philox4x32(counters: NDArray[np.uint32], key: tuple[int, int]) -> NDArray[np.uint32]:
    """Ten rounds of Philox over `counters` uint32 [N, 4] with a `key` of two 32-bit words: uint32 [N, 4]."""
    word0, word1, word2, word3 = (counters[:, i].astype(np.uint64) for i in range(4))
    key0, key1 = key
    for _ in range(_ROUNDS):
        product0, product1 = word0 * _MULTIPLIERS[0], word2 * _MULTIPLIERS[1]
        word0, word2 = (
            (product1 >> _SHIFT_32) ^ word1 ^ np.uint64(key0),
            (product0 >> _SHIFT_32) ^ word3 ^ np.uint64(key1),
        )
        word1, word3 = product1 & _LOW_32, product0 & _LOW_32
        key0, key1 = (key0 + _KEY_STEPS[0]) & 0xFFFFFFFF, (key1 + _KEY_STEPS[1]) & 0xFFFFFFFF
    return np.stack([word0, word1, word2, word3], axis=1).astype(np.uint32)


def random_words(seed: int, epoch: int, indices: NDArray[np.int64], stream: str, num_words: int) -> NDArray[np.uint32]:
    """uint32 [B, num_words], row b from (seed, epoch, indices[b], stream) alone; `indices` int64 [B] in [0, 2^32)."""
    num_blocks = -(-num_words // 4)
    counters = np.empty((len(indices), num_blocks, 4), dtype=np.uint32)
    counters[:, :, 0] = np.asarray(indices)[:, None]
    counters[:, :, 1] = epoch
    counters[:, :, 2] = zlib.crc32(stream.encode())
    counters[:, :, 3] = np.arange(num_blocks)
    words = philox4x32(counters.reshape(-1, 4), (seed & 0xFFFFFFFF, (seed >> 32) & 0xFFFFFFFF))
    return words.reshape(len(indices), num_blocks * 4)[:, :num_words]


def uniforms(seed: int, epoch: int, indices: NDArray[np.int64], stream: str, num_draws: int) -> NDArray[np.float64]:
    """float64 [B, num_draws] uniform in [0, 1), in steps of 2^-32; arguments as in `random_words`."""
    return random_words(seed, epoch, indices, stream, num_draws).astype(np.float64) * 2.0**-32


def permutation(seed: int, epoch: int, size: int, stream: str = "order") -> NDArray[np.int64]:
    """A random order of `range(size)`, int64 [size]: the order of 64-bit random keys, ties by index."""
    words = random_words(seed, epoch, np.arange(size), stream, 2).astype(np.uint64)
    return np.argsort((words[:, 0] << _SHIFT_32) | words[:, 1], kind="stable")
