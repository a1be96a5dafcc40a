import ast
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chi2

import recog
from recog.core.chance import permutation, philox4x32, random_words, uniforms

# Random123's own file tests/kat_vectors, the lines 'philox4x32 10': counter, key, answer
KNOWN_ANSWERS = [
    ("00000000 00000000 00000000 00000000", "00000000 00000000", "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
    ("ffffffff ffffffff ffffffff ffffffff", "ffffffff ffffffff", "408f276d 41c83b0e a20bc7c6 6d5451fd"),
    ("243f6a88 85a308d3 13198a2e 03707344", "a4093822 299f31d0", "d16cfe09 94fdcceb 5001e420 24126ea1"),
]
SEEDS = st.integers(0, 2**63 - 1)


def words(text):
    return [int(word, 16) for word in text.split()]


def philox_of_one(counter, key):
    """The algorithm as the paper prints it (Salmon et al. 2011, section 3.3), one block, Python's own integers."""
    left0, right0, left1, right1 = counter
    key0, key1 = key
    for _ in range(10):
        high0, low0 = divmod(0xD2511F53 * left0, 2**32)
        high1, low1 = divmod(0xCD9E8D57 * left1, 2**32)
        left0, right0, left1, right1 = high1 ^ right0 ^ key0, low1, high0 ^ right1 ^ key1, low0
        key0, key1 = (key0 + 0x9E3779B9) % 2**32, (key1 + 0xBB67AE85) % 2**32
    return [left0, right0, left1, right1]


@pytest.mark.parametrize(("counter", "key", "answer"), KNOWN_ANSWERS, ids=["zeros", "ones", "pi"])
def test_philox_gives_the_known_answers(counter, key, answer):
    block = philox4x32(np.array([words(counter)], dtype=np.uint32), tuple(words(key)))
    assert block.dtype == np.uint32
    assert block.tolist() == [words(answer)]


@settings(deadline=None, max_examples=50)
@given(SEEDS, st.lists(st.tuples(*[st.integers(0, 2**32 - 1)] * 4), min_size=1, max_size=8))
def test_philox_over_many_counters_is_philox_of_each(seed, counters):
    key = (seed % 2**32, seed >> 32)
    blocks = philox4x32(np.array(counters, dtype=np.uint32), key)
    assert blocks.tolist() == [philox_of_one(counter, key) for counter in counters]


def test_what_is_counted_is_index_epoch_stream_and_block():
    """The layout of the counter is a promise: with another one, every run.toml that exists would train another network."""
    seed, epoch, index, stream = 0x0123456789ABCDEF, 7, 41, "crop"
    drawn = random_words(seed, epoch, np.array([index]), stream, 8)[0].tolist()
    counter, key = [index, epoch, zlib.crc32(b"crop")], (0x89ABCDEF, 0x01234567)
    assert drawn == philox_of_one([*counter, 0], key) + philox_of_one([*counter, 1], key)


@settings(deadline=None, max_examples=50)
@given(SEEDS, st.integers(0, 2**32 - 1), st.integers(1, 9), st.data())
def test_a_row_depends_on_its_own_index_alone(seed, epoch, num_words, data):
    indices = np.array(data.draw(st.lists(st.integers(0, 2**32 - 1), min_size=1, max_size=12)))
    everything = random_words(seed, epoch, indices, "crop", num_words)
    assert everything.shape == (len(indices), num_words)
    chosen = np.array(data.draw(st.permutations(range(len(indices)))))[: data.draw(st.integers(1, len(indices)))]
    assert (random_words(seed, epoch, indices[chosen], "crop", num_words) == everything[chosen]).all()
    cut = data.draw(st.integers(0, len(indices)))
    halves = [random_words(seed, epoch, part, "crop", num_words) for part in (indices[:cut], indices[cut:])]
    assert (np.concatenate(halves) == everything).all()
    fewer = data.draw(st.integers(1, num_words))
    assert (random_words(seed, epoch, indices, "crop", fewer) == everything[:, :fewer]).all()


def test_uniforms_are_words_over_two_to_the_32():
    drawn = uniforms(3, 1, np.arange(1000), "mirror", 5)
    assert drawn.dtype == np.float64
    assert (drawn * 2**32 == random_words(3, 1, np.arange(1000), "mirror", 5)).all()  # exact: 32 bits fit 53
    assert drawn.min() >= 0
    assert drawn.max() < 1


NUM_DRAWS = 1 << 14
DRAWS = {
    "indices": lambda: random_words(0, 0, np.arange(NUM_DRAWS), "crop", 1)[:, 0],
    "draws of one index": lambda: random_words(0, 0, np.array([5]), "crop", NUM_DRAWS)[0],
    "epochs": lambda: np.concatenate([random_words(0, e, np.arange(16), "crop", 1)[:, 0] for e in range(1024)]),
    "seeds": lambda: np.concatenate([random_words(s, 0, np.arange(16), "crop", 1)[:, 0] for s in range(1024)]),
    "streams": lambda: np.concatenate([random_words(0, 0, np.arange(16), f"{i}", 1)[:, 0] for i in range(1024)]),
}


@pytest.mark.parametrize("along", DRAWS)
@pytest.mark.parametrize("shift", [0, 12, 24], ids=["low bits", "middle bits", "high bits"])
def test_uniform_along_every_axis(along, shift):
    """256 equal bins, n / 256 = 64 expected in each: the statistic follows chi-square with 255 degrees of freedom.

    It must lie between the quantiles 1e-6 and 1 - 1e-6 (162 and 376): neither lumpy nor too even to be chance.
    """
    counts = np.bincount((DRAWS[along]() >> np.uint32(shift)) & np.uint32(255), minlength=256)
    expected = NUM_DRAWS / 256
    statistic = ((counts - expected) ** 2 / expected).sum()
    assert chi2.ppf(1e-6, 255) < statistic < chi2.ppf(1 - 1e-6, 255)


@pytest.mark.parametrize(
    "other",
    [
        lambda i: uniforms(0, 0, i, "mirror", 1),
        lambda i: uniforms(0, 1, i, "crop", 1),
        lambda i: uniforms(1, 0, i, "crop", 1),
        lambda i: uniforms(2**32, 0, i, "crop", 1),
        lambda i: uniforms(0, 0, i + 1, "crop", 1),
        lambda i: uniforms(0, 0, i, "crop", 2)[:, 1:],
        lambda i: uniforms(0, 0, i, "crop", 5)[:, 4:],
    ],
    ids=["stream", "epoch", "seed", "seed beyond 32 bits", "neighbour", "next draw", "next block"],
)
def test_uncorrelated_with_every_neighbour(other):
    """The correlation of n independent pairs has standard deviation 1 / sqrt(n): beyond 5 of them is no chance."""
    indices = np.arange(NUM_DRAWS)
    correlation = np.corrcoef(uniforms(0, 0, indices, "crop", 1)[:, 0], other(indices)[:, 0])[0, 1]
    assert abs(correlation) < 5 / NUM_DRAWS**0.5


def test_high_bits_of_the_seed_matter():
    seeds = [0, 1, 2**31, 2**32, 2**32 + 1, 2**62, 2**63 - 1]
    drawn = {tuple(random_words(seed, 0, np.arange(4), "split", 1)[:, 0].tolist()) for seed in seeds}
    assert len(drawn) == len(seeds)
    assert (permutation(7, 0, 50) != permutation(7 + 2**32, 0, 50)).any()


@given(SEEDS, st.integers(0, 1000), st.integers(0, 300))
@settings(deadline=None, max_examples=50)
def test_a_permutation_holds_every_index_once(seed, epoch, size):
    order = permutation(seed, epoch, size)
    assert order.dtype == np.int64
    assert sorted(order.tolist()) == list(range(size))
    assert (permutation(seed, epoch, size) == order).all()


def test_permutations_differ_by_seed_epoch_and_stream_and_are_not_identity():
    orders = [permutation(0, 0, 100), permutation(1, 0, 100), permutation(0, 1, 100), permutation(0, 0, 100, "mixup")]
    distinct = {tuple(order.tolist()) for order in orders} | {tuple(range(100))}
    assert len(distinct) == 5


def test_every_order_of_three_is_as_likely():
    """6,000 epochs, 6 orders, 1,000 expected of each: chi-square with 5 degrees of freedom, below its 1 - 1e-6 quantile."""
    orders = [tuple(permutation(0, epoch, 3).tolist()) for epoch in range(6000)]
    counts = np.array([orders.count(order) for order in set(orders)])
    assert len(counts) == 6
    assert ((counts - 1000) ** 2 / 1000).sum() < chi2.ppf(1 - 1e-6, 5)


DRAWING = ("uniforms", "random_words", "permutation", "coins", "signed")


def drawn_streams(tree):
    """Every text that a drawing function is called with."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and getattr(node.func, "id", getattr(node.func, "attr", "")) in DRAWING:
            yield from (a.value for a in node.args if isinstance(a, ast.Constant) and isinstance(a.value, str))


def passed_streams(tree):
    """Every text that is given as argument `stream`, or is its default: several callers may share one function's draws."""
    for node in ast.walk(tree):
        if isinstance(node, ast.keyword) and node.arg == "stream" and isinstance(node.value, ast.Constant):
            yield node.value.value
        elif isinstance(node, ast.arguments):
            defaults = [
                *zip(node.args[::-1], node.defaults[::-1], strict=False),
                *zip(node.kwonlyargs, node.kw_defaults, strict=True),
            ]
            yield from (d.value for a, d in defaults if a.arg == "stream" and isinstance(d, ast.Constant))


def test_no_two_streams_share_a_number():
    trees = [ast.parse(path.read_text(encoding="utf-8")) for path in Path(recog.__file__).parent.rglob("*.py")]
    passed = {stream for tree in trees for stream in passed_streams(tree)}
    streams = [*passed, *(stream for tree in trees for stream in drawn_streams(tree))]
    assert {"crop", "affine", "mirror", "split", "folds", "order"} <= set(streams)
    assert len(streams) == len(set(streams)), "two places draw from one stream, so their chances are the same"
    assert len({zlib.crc32(stream.encode()) for stream in streams}) == len(streams)
