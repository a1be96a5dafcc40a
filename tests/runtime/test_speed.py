import numpy as np

from recog.runtime.speed import NUM_ROUNDS, measure_speed


def test_networks_take_turns_at_each_batch_size():
    calls = []
    images = np.zeros((3, 2, 2, 1), np.uint8)
    networks = {name: lambda batch, name=name: calls.append((name, len(batch))) for name in ("a", "b")}
    speeds = measure_speed(networks, images, (1, 5), seconds=1e-9)
    # one call to warm up, then one in each round, as the time is over at once; 3 images are repeated to 5
    turn = [("a", 1), ("b", 1)]
    assert calls[:4] == turn + turn
    assert len(calls) == 2 * 2 * (1 + NUM_ROUNDS)
    assert set(calls) == {("a", 1), ("b", 1), ("a", 5), ("b", 5)}
    assert all(0 < speed.least <= speed.median <= speed.most for by in speeds.values() for speed in by.values())
