import numpy as np
import pytest
from PIL import Image

from recog.data.dataset import Sample


@pytest.fixture
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def samples(tmp_path):
    generator = np.random.default_rng(0)
    made = []
    for i in range(12):
        path = tmp_path / f"{i}.png"
        Image.fromarray(generator.integers(0, 256, (30 + i, 40, 3), dtype=np.uint8)).save(path)
        made.append(Sample(name=path.name, source=path, labels=(i % 2,)))
    (tmp_path / "5.png").write_bytes(b"no image")
    return made
