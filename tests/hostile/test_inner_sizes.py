"""Kind 55: what is allocated follows the size that the file states, and that size has a limit."""

import io
import re
import sys
from collections import Counter

import ledger
import pytest
from child_memory import peak_of
from image_bytes import encode
from inner_sizes import (
    MIB,
    cases,
    idx_of_zeros,
    parquet_of_large_pages,
    parquet_of_long_labels,
    parquet_of_long_texts,
    parquet_of_one_image,
    webp_of_few_bytes,
)
from PIL import Image

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="ru_maxrss is in KiB on Linux")

SETUP = """
import PIL.AvifImagePlugin, PIL.TiffImagePlugin, PIL.WebPImagePlugin, PIL.JpegImagePlugin, PIL.PngImagePlugin
import PIL.GifImagePlugin, PIL.BmpImagePlugin, PIL.PpmImagePlugin
from recog.core.images.decode import decode, probe
decode(open(sys.argv[2], "rb").read())
"""
DECODE = "decode(sys.argv[1]).shape"
MAX_BYTES_PER_PIXEL = 14  # as docs/data.md states: RGBA is the most, with 4 loaded, 4 + 3 converted and 3 copied
MEGAPIXELS = 6
SLACK = 24 * MIB  # of allocators and codecs' tables


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """Decoded first, so that no library is loaded within what is measured."""
    path = tmp_path_factory.mktemp("small") / "small.png"
    Image.new("RGB", (9, 9)).save(path)
    return path


def verdict_of(case, folder, small):
    path = folder / f"image{case.suffix}"
    path.write_bytes(case.build())
    num_bytes, answer = peak_of(DECODE, path, small, setup=SETUP)
    assert num_bytes < 64 * MIB, f"{case.name}: {num_bytes / MIB:.0f} MiB"
    if case.refused is None:
        assert answer == str((case.size[1], case.size[0], 3)), case.name
        return "read"
    assert answer.startswith("BadImage"), answer
    assert re.search(case.refused, answer), answer
    return "refused"


@pytest.mark.parametrize("case", list(cases()), ids=lambda case: case.name)
def test_a_part_larger_than_the_image_takes_little_memory(case, tmp_path, small):
    if case.suffix == ".heic":
        pytest.importorskip("pillow_heif")
    verdict_of(case, tmp_path, small)


SIZE = (3000, MEGAPIXELS * 1_000_000 // 3000)
HONEST = {
    "jpg": lambda: encode(Image.new("RGB", SIZE), "JPEG"),
    "progressive jpg": lambda: encode(Image.new("RGB", SIZE), "JPEG", progressive=True, subsampling=0),
    "CMYK jpg": lambda: encode(Image.new("CMYK", SIZE), "JPEG", progressive=True),
    "png": lambda: encode(Image.new("RGB", SIZE), "PNG", compress_level=1),
    "RGBA png": lambda: encode(Image.new("RGBA", SIZE), "PNG", compress_level=1),
    "16-bit png": lambda: encode(Image.new("I;16", SIZE), "PNG", compress_level=1),
    "gif": lambda: encode(Image.new("P", SIZE), "GIF"),
    "bmp": lambda: encode(Image.new("RGB", SIZE), "BMP"),
    "ppm": lambda: encode(Image.new("RGB", SIZE), "PPM"),
    "tif": lambda: encode(Image.new("RGBA", SIZE), "TIFF", compression="tiff_lzw"),
    "webp": lambda: encode(Image.new("RGB", SIZE), "WEBP", quality=50, method=0),
    "RGBA webp": lambda: encode(Image.new("RGBA", SIZE), "WEBP", lossless=True, method=0),
    "avif": lambda: encode(Image.new("RGB", SIZE), "AVIF", speed=10),
}


@pytest.mark.parametrize("name", HONEST)
def test_an_image_takes_at_most_so_many_bytes_per_pixel(name, tmp_path, small):
    path = tmp_path / f"image.{name.split()[-1]}"
    path.write_bytes(HONEST[name]())
    num_bytes, answer = peak_of(DECODE, path, small, setup=SETUP)
    assert answer == str((SIZE[1], SIZE[0], 3))
    assert num_bytes < MAX_BYTES_PER_PIXEL * MEGAPIXELS * 1_000_000 + path.stat().st_size + SLACK


def test_a_webp_of_36_bytes_takes_what_any_image_of_its_size_takes(tmp_path, small):
    path = tmp_path / "image.webp"
    path.write_bytes(webp_of_few_bytes())
    assert path.stat().st_size == 36
    num_bytes, answer = peak_of(DECODE, path, small, setup=SETUP)
    assert answer == "(7000, 7000, 3)"
    assert num_bytes < MAX_BYTES_PER_PIXEL * 49_000_000


def test_a_header_alone_takes_next_to_nothing(tmp_path, small):
    path = tmp_path / "image.webp"
    path.write_bytes(webp_of_few_bytes())
    num_bytes, answer = peak_of("probe(sys.argv[1]).width", path, small, setup=SETUP)
    assert answer == "7000"
    assert num_bytes < 8 * MIB


def test_a_heic_takes_no_more(tmp_path, small):
    pillow_heif = pytest.importorskip("pillow_heif")
    file = io.BytesIO()
    pillow_heif.from_pillow(Image.new("RGB", SIZE)).save(file, quality=10)
    path = tmp_path / "image.heic"
    path.write_bytes(file.getvalue())
    num_bytes, answer = peak_of(DECODE, path, small, setup=SETUP + "import pillow_heif")
    assert answer == str((SIZE[1], SIZE[0], 3))
    assert num_bytes < MAX_BYTES_PER_PIXEL * MEGAPIXELS * 1_000_000 + SLACK


SOURCES = {
    idx_of_zeros: ("taken for an archive bomb", 16),
    parquet_of_one_image: ("taken for an archive bomb", 320),
    parquet_of_long_texts: ("2000", 64),
    parquet_of_long_labels: ("a class has a name of 10,485,760 characters", 160),
    parquet_of_large_pages: ("300", 400),
}


def source_verdict(build, folder):
    says, max_mib = SOURCES[build]
    setup = "import zlib, pyarrow.parquet\nfrom recog.data.sources import open_source"
    num_bytes, answer = peak_of("len(open_source(sys.argv[1]).samples)", build(folder), setup=setup)
    assert says in answer
    assert num_bytes < max_mib * MIB
    return "refused" if answer.startswith("DataError") else "read"


@pytest.mark.parametrize("build", SOURCES, ids=lambda build: build.__name__)
def test_a_source_takes_little_memory(build, tmp_path):
    """Peaks of Parquet: what pyarrow and Python hold of the largest page, of the batch and of one row."""
    pytest.importorskip("pyarrow")
    source_verdict(build, tmp_path)


@pytest.mark.slow
def test_ledger(tmp_path, small, capsys):
    """`make ledger` prints it."""
    pytest.importorskip("pyarrow")
    pytest.importorskip("pillow_heif")
    counts = Counter(verdict_of(case, tmp_path, small) for case in cases())
    for number, build in enumerate(SOURCES):
        (tmp_path / str(number)).mkdir()
        counts[source_verdict(build, tmp_path / str(number))] += 1
    with capsys.disabled():
        print("", *ledger.lines({55: counts}), sep="\n")
