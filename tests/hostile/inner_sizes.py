"""Files whose parts are far larger than the image that they state, or than the file: as generators, nothing is kept in git."""

import gzip
import io
import math
import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from image_bytes import encode, tiff_file
from PIL import Image

MIB = 1 << 20


@dataclass(frozen=True)
class Inner:
    """`refused`: a pattern of the reason; None where the file is decoded, within little memory, to `size` (width, height)."""

    name: str
    suffix: str
    build: Callable[[], bytes]
    refused: str | None
    size: tuple[int, int] = (16, 16)


def zeros(num_bytes: int) -> bytes:
    packer = zlib.compressobj(9)
    blocks = b"".join(packer.compress(bytes(MIB)) for _ in range(num_bytes // MIB + 1))
    return blocks + packer.flush()


def _rgb_tiff(compression: int, data: bytes, *more: tuple[int, int, int, int | bytes]) -> bytes:
    """16 x 16 pixels, 8-bit RGB."""
    entries: list[tuple[int, int, int, int | bytes]] = [(256, 3, 1, 16), (257, 3, 1, 16), (277, 3, 1, 3)]
    entries += [(258, 3, 3, struct.pack("<3H", 8, 8, 8)), (259, 3, 1, compression), (262, 3, 1, 2)]
    return tiff_file([*entries, *more], data)


def tiff_of_one_tile(side: int, *, is_big: bool = False) -> bytes:
    """One deflated tile of side x side pixels. Written by hand, as tiff_file lays out strips; `is_big`: BigTIFF."""
    data = zeros(side * side * 3)
    entries = [(256, 3, 1, 16), (257, 3, 1, 16), (258, 3, 3, 0), (259, 3, 1, 8), (262, 3, 1, 2), (277, 3, 1, 3)]
    entries += [(322, 4, 1, side), (323, 4, 1, side), (324, 4, 1, 0), (325, 4, 1, len(data))]
    head, line = (16, "<HHQQ") if is_big else (8, "<HHII")
    start = head + (8 if is_big else 2) + struct.calcsize(line) * len(entries) + (8 if is_big else 4)
    bits = struct.pack("<3H", 8, 8, 8)
    places = {258: int.from_bytes(bits, "little") if is_big else start, 324: start + len(bits)}
    table = b"".join(struct.pack(line, tag, kind, n, places.get(tag, value)) for tag, kind, n, value in entries)
    front = (
        b"II+\0" + struct.pack("<HHQQ", 8, 0, 16, len(entries))
        if is_big
        else b"II*\0" + struct.pack("<IH", 8, len(entries))
    )
    return front + table + bytes(8 if is_big else 4) + bits + data


def tiff_of_a_long_strip() -> bytes:
    """40 million rows in a strip of an image that has 16."""
    data = zeros(16 * 40_000_000 * 3)
    return _rgb_tiff(8, data, (278, 4, 1, 40_000_000), (279, 4, 1, len(data)))


def tiff_around_a_jpeg() -> bytes:
    data = encode(Image.new("RGB", (7000, 7000)), "JPEG")
    return _rgb_tiff(7, data, (278, 4, 1, 16), (279, 4, 1, len(data)))


def webp_of_few_bytes() -> bytes:
    """36 bytes: a lossless image of 7 x 7 pixels whose header is changed to 7000 x 7000."""
    data = bytearray(encode(Image.new("RGB", (7, 7), "red"), "WEBP", lossless=True))
    at = data.index(b"VP8L") + 9
    (bits,) = struct.unpack_from("<I", data, at)
    struct.pack_into("<I", data, at, bits & ~((1 << 28) - 1) | 6999 | 6999 << 14)
    return bytes(data)


def _webp_canvas(width: int, height: int, file: bytes) -> bytes:
    """The image chunk of `file` below a VP8X header of another size."""
    sizes = struct.pack("<I", width - 1)[:3] + struct.pack("<I", height - 1)[:3]
    body = b"WEBPVP8X" + struct.pack("<I", 10) + bytes(4) + sizes + file[12:]
    return b"RIFF" + struct.pack("<I", len(body)) + body


def webp_of_a_larger_frame() -> bytes:
    return _webp_canvas(16, 16, encode(Image.new("RGB", (7000, 7000)), "WEBP", lossless=True))


def webp_of_a_larger_canvas() -> bytes:
    return _webp_canvas(16_383, 10_800, encode(Image.new("RGB", (16, 16)), "WEBP"))


def with_image_size(data: bytes, width: int, height: int) -> bytes:
    """An AVIF or HEIC file whose properties ('ispe') state another size than its frames have."""
    changed, at = bytearray(data), 0
    while (at := changed.find(b"ispe", at)) >= 0:
        struct.pack_into(">II", changed, at + 8, width, height)
        at += 4
    return bytes(changed)


def avif_of_a_larger_frame() -> bytes:
    return with_image_size(encode(Image.new("RGB", (7000, 7000)), "AVIF", speed=10), 16, 16)


def animated_avif(side: int) -> bytes:
    frames = [Image.new("RGB", (side, side), colour) for colour in ("black", "red")]
    return encode(frames[0], "AVIF", save_all=True, append_images=frames[1:], speed=10)


def avif_sequence_of_larger_frames() -> bytes:
    """The track states 16 x 16 (tkhd, in 16.16 fixed point, and av01), its frames have 3000 x 3000."""
    data = bytearray(with_image_size(animated_avif(3000), 16, 16))
    fixed, whole = struct.pack(">II", 3000 << 16, 3000 << 16), struct.pack(">HH", 3000, 3000)
    data = data.replace(fixed, struct.pack(">II", 16 << 16, 16 << 16)).replace(whole, struct.pack(">HH", 16, 16))
    return bytes(data)


def heic_of_a_larger_frame() -> bytes:
    import pillow_heif

    file = io.BytesIO()
    pillow_heif.from_pillow(Image.new("RGB", (7000, 7000))).save(file, quality=10)
    return with_image_size(file.getvalue(), 16, 16)


def cases() -> Iterator[Inner]:
    yield Inner("TIFF: one tile of 26,000 x 26,000", ".tif", lambda: tiff_of_one_tile(26_000), "a tile in it has 26000")
    yield Inner("BigTIFF: the same", ".tif", lambda: tiff_of_one_tile(26_000, is_big=True), "a tile in it has 26000")
    yield Inner("TIFF: a tile of 1,024 x 1,024", ".tif", lambda: tiff_of_one_tile(1024), None)
    yield Inner("TIFF: a strip of 40 million rows", ".tif", tiff_of_a_long_strip, None)
    yield Inner("TIFF: a JPEG of 49 megapixels in a strip", ".tif", tiff_around_a_jpeg, "decoder error")
    yield Inner("WebP: a frame larger than the canvas", ".webp", webp_of_a_larger_frame, "could not create decoder")
    yield Inner("WebP: a canvas larger than the frame", ".webp", webp_of_a_larger_canvas, "could not create decoder")
    yield Inner("AVIF: a frame larger than the image", ".avif", avif_of_a_larger_frame, "a frame in it has 7000 x 7000")
    yield Inner(
        "AVIF: frames larger than the sequence",
        ".avif",
        avif_sequence_of_larger_frames,
        "a frame in it has 3000 x 3000",
    )
    yield Inner("HEIC: a frame larger than the image", ".heic", heic_of_a_larger_frame, "Security limit exceeded")


def _write_parquet(folder, **options):
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns = options.pop("columns")
    pq.write_table(pa.table(columns), folder / "t.parquet", compression="zstd", **options)
    return folder / "t.parquet"


def parquet_of_one_image(folder):
    """40 rows of one image of 30 MB, which the file holds once, packed: 2 KB."""
    columns = {"image": [{"bytes": bytes(30 * MIB), "path": None}] * 40, "label": ["cat", "dog"] * 20}
    return _write_parquet(folder, columns=columns, dictionary_pagesize_limit=64 * MIB)


def parquet_of_long_texts(folder):
    """2,000 rows with a caption of 1 MB each: two pages of 1 GB, packed into 100 KB."""
    image = encode(Image.new("RGB", (8, 8)), "PNG")
    columns = {"image": [image] * 2000, "label": ["cat", "dog"] * 1000, "caption": ["x" * MIB] * 2000}
    return _write_parquet(folder, columns=columns, use_dictionary=["image", "label"])


def parquet_of_long_labels(folder):
    """2,000 lists of three labels of 10 MB, which the file holds once."""
    import pyarrow as pa

    image = encode(Image.new("RGB", (8, 8)), "PNG")
    names = pa.DictionaryArray.from_arrays(pa.array([0] * 6000, pa.int32()), pa.array(["x" * (10 * MIB)]))
    lists = pa.ListArray.from_arrays(pa.array(range(0, 6001, 3), pa.int32()), names)
    return _write_parquet(
        folder, columns={"image": [image] * 2000, "labels": lists}, dictionary_pagesize_limit=64 * MIB
    )


def parquet_of_large_pages(folder):
    """300 images of half a MB, none like another, in one page, as pyarrow writes them: an honest file."""
    import random

    images = [{"bytes": random.Random(i).randbytes(MIB // 2), "path": None} for i in range(300)]
    return _write_parquet(folder, columns={"image": images, "label": ["cat", "dog", "eel"] * 100})


def idx_of_zeros(folder):
    """80,000 images of 28 x 28 zeros, packed into 64 KB."""
    shape = (80_000, 28, 28)
    for name, axes in (("images-idx3", shape), ("labels-idx1", shape[:1])):
        header = bytes([0, 0, 8, len(axes)]) + b"".join(n.to_bytes(4, "big") for n in axes)
        packed = gzip.compress(header + bytes(math.prod(axes)))
        (folder / f"train-{name}-ubyte.gz").write_bytes(packed)
    return folder
