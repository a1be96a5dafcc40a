"""DICOM files by pydicom: the first frame, rescaled and windowed as the file states, as 8-bit grey or colour.

DICOM PS3.3: C.7.6.3 (pixels), C.11.1 (rescale), C.11.2 (window). What a compressed frame would allocate is compared with the
header's rows and columns before it is decoded.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import struct
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from recog.core.errors import BadImage
from recog.core.images.image_file import REPLACE
from recog.core.images.jpeg2000 import check_jpeg2000

_DEFLATED = ("1.2.840.10008.1.2.1.99", "1.2.840.10008.1.2.8.1")  # the whole file or each frame may unpack to any size
_RLE = "1.2.840.10008.1.2.5"
_GREY, _COLOUR = (
    ("MONOCHROME1", "MONOCHROME2"),
    ("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT", "PALETTE COLOR"),
)
_UNPACK = "Unpack it, as with: gdcmconv --raw"
_INSTALL = (
    "Run: pip install 'recog[dicom-jpeg]' (JPEG-LS, lossless and 12-bit JPEG), or unpack it, as with: gdcmconv --raw"
)
_FRAME_MARKERS = frozenset({*range(0xC0, 0xD0), 0xF7}) - {0xC4, 0xC8, 0xCC}  # of JPEG and JPEG-LS: the size follows
_MAX_GREY_BITS = 16  # without a window
_MAX_RLE_SEGMENTS = 15


def open_dicom(file: BinaryIO, name: str) -> Image.Image:
    """An image of the header's size and mode 'L' or 'RGB' without pixels, for `load_dicom`. BadImage where it cannot be shown."""
    try:
        reader: Any = importlib.import_module("pydicom.filereader")
    except ImportError:
        raise BadImage(
            name,
            "it is a DICOM file, which needs the extra dicom",
            "Run: pip install 'recog[dicom]', or convert it to PNG.",
        ) from None
    file.seek(0)
    data = io.BytesIO(file.read())
    reader.read_preamble(data, False)
    if reader._read_file_meta_info(data).get("TransferSyntaxUID") in _DEFLATED:
        raise BadImage(name, "it is a deflated DICOM file, which may unpack to any size", _UNPACK)
    data.seek(0)
    dataset = reader.dcmread(data)
    missing = [key for key in ("Rows", "Columns", "PhotometricInterpretation", "PixelData") if key not in dataset]
    if missing:
        raise BadImage(name, f"it is a DICOM file without {missing[0]}, so it holds no image", "Remove it.")
    kind = str(dataset.PhotometricInterpretation)
    if kind not in (*_GREY, *_COLOUR):
        raise BadImage(
            name, f"its photometric interpretation is {kind[:40]!r}, which is not read", "Convert it to PNG."
        )
    image: Any = Image.Image()
    image._size, image._mode = (int(dataset.Columns), int(dataset.Rows)), "L" if kind in _GREY else "RGB"
    if min(image._size) < 1:
        raise BadImage(name, f"it has {image._size[0]} x {image._size[1]} pixels", REPLACE)
    image.format, image.dataset = "DICOM", dataset
    image.n_frames = int(dataset.get("NumberOfFrames") or 1)
    image.is_animated = image.n_frames > 1
    return image  # type: ignore[no-any-return]


def load_dicom(image: Image.Image, name: str) -> Image.Image:
    """The first frame of what `open_dicom` gave."""
    pixels: Any = importlib.import_module("pydicom.pixels")
    dataset = image.dataset  # type: ignore[attr-defined]
    syntax = dataset.file_meta.TransferSyntaxUID
    if syntax.is_compressed:
        _check_frame(dataset, image.size, name)
    try:
        frame = pixels.pixel_array(dataset, index=0)
    except (NotImplementedError, RuntimeError, AttributeError) as error:
        if syntax.is_compressed:
            missing = pixels.get_decoder(syntax).missing_dependencies
            remedy = _INSTALL if any("libjpeg" in text for text in missing) else _UNPACK
            raise BadImage(name, f"its compression cannot be decoded ({syntax.name[:60]})", remedy) from None
        raise BadImage(name, f"its pixels cannot be read ({' '.join(str(error).split())[:100]})", REPLACE) from None
    if image.mode == "L":
        return Image.fromarray(_grey(frame, dataset, pixels, name))
    if dataset.PhotometricInterpretation == "PALETTE COLOR":
        frame = pixels.apply_color_lut(frame, dataset)
        return Image.fromarray(frame if frame.dtype == np.uint8 else (frame >> 8).astype(np.uint8))
    bits = int(dataset.BitsStored)
    return Image.fromarray(frame if bits == 8 else np.rint(frame * (255 / (2**bits - 1))).astype(np.uint8))


def _check_frame(dataset: Any, size: tuple[int, int], name: str) -> None:
    """BadImage where the first frame is an image of another size than the header's, or run lengths that make more of it."""
    encaps: Any = importlib.import_module("pydicom.encaps")
    frame = encaps.get_frame(dataset.PixelData, 0, number_of_frames=int(dataset.get("NumberOfFrames") or 1))
    if dataset.file_meta.TransferSyntaxUID == _RLE:
        _check_run_lengths(frame, size[0] * size[1], name)
        return
    inner = _frame_size(frame)
    if inner not in (None, size):
        reason = f"its header has {size[0]} x {size[1]} pixels, but its first frame has {inner[0]} x {inner[1]}"
        raise BadImage(name, reason, REPLACE)
    if frame.startswith((b"\xff\x4f\xff\x51", b"\0\0\0\x0cjP  ")):
        check_jpeg2000(frame, size, name)


def _frame_size(frame: bytes) -> tuple[int, int] | None:
    """(width, height) that a frame of JPEG, JPEG 2000 or JPEG-LS states; None for what is none of them."""
    if not frame.startswith(b"\xff\xd8"):
        with contextlib.suppress(OSError), Image.open(io.BytesIO(frame), formats=("JPEG2000",)) as inner:
            return inner.size
        return None
    position = 2
    while position + 9 <= len(frame) and frame[position] == 0xFF:
        if frame[position + 1] in _FRAME_MARKERS:  # length, precision, height, width: ITU-T T.81, B.2.2; T.87, C.2.2
            height, width = struct.unpack(">HH", frame[position + 5 : position + 9])
            return width, height
        is_filling = frame[position + 1] == 0xFF
        position += 1 if is_filling else 2 + int.from_bytes(frame[position + 2 : position + 4])
    return None


def _check_run_lengths(frame: bytes, num_pixels: int, name: str) -> None:
    """DICOM PS3.5, annex G: 64 bytes of offsets, then segments of one byte for each pixel, as PackBits."""
    offsets = np.frombuffer(frame[:64], dtype="<u4")
    num_segments = int(offsets[0]) if len(offsets) == 16 else 0
    if not 1 <= num_segments <= _MAX_RLE_SEGMENTS:
        raise BadImage(name, "the file is damaged: its run lengths have no segments", REPLACE)
    bounds = [*offsets[1 : num_segments + 1].tolist(), len(frame)]
    for start, end in zip(bounds[:-1], bounds[1:], strict=True):
        position, num_bytes = start, 0
        while position < min(end, len(frame)) and num_bytes <= num_pixels + 1:
            count = frame[position]
            num_bytes += count + 1 if count < 128 else 257 - count if count > 128 else 0
            position += count + 2 if count < 128 else 2 if count > 128 else 1
        if num_bytes > num_pixels + 1:
            raise BadImage(name, f"its run lengths unpack to more than its {num_pixels:,} pixels", REPLACE)


def _grey(frame: NDArray[Any], dataset: Any, pixels: Any, name: str) -> NDArray[np.uint8]:
    """uint8 [H, W] of stored values [H, W]: rescaled, windowed, and MONOCHROME1 turned so that 0 is black."""
    values = pixels.apply_modality_lut(frame, dataset).astype(np.float64)
    window = _first(dataset, "WindowCenter"), _first(dataset, "WindowWidth")
    if dataset.get("VOILUTSequence"):
        bits = int(dataset.VOILUTSequence[0].LUTDescriptor[2])
        table = pixels.apply_voi(np.rint(values).astype(np.int64), dataset)  # C.11.2.1.1: of the rescaled values
        share = table.astype(np.float64) / (2**bits - 1)
    elif window[0] is not None and window[1] is not None:
        share = _windowed(values, window[0], window[1], str(dataset.get("VOILUTFunction") or "LINEAR"))
    else:
        low, high = _stored_range(dataset, pixels, name)
        share = (values - low) / (high - low)
    share = np.clip(share, 0, 1)
    if not np.isfinite(share).all():
        raise BadImage(name, "its rescaled values are not finite numbers", REPLACE)
    share = 1 - share if dataset.PhotometricInterpretation == "MONOCHROME1" else share
    return np.asarray(np.rint(255 * share), dtype=np.uint8)


def _first(dataset: Any, key: str) -> float | None:
    """The first of several values, such as that of the first window."""
    value = dataset.get(key)
    if value is None or value == "" or (not isinstance(value, (int, float, str)) and not len(value)):
        return None
    return float(value if isinstance(value, (int, float, str)) else value[0])


def _windowed(values: NDArray[np.float64], center: float, width: float, function: str) -> NDArray[np.float64]:
    """C.11.2.1.2 and C.11.2.1.3: where black is 0 and white is 1."""
    if function == "SIGMOID":
        return np.asarray(1 / (1 + np.exp(np.clip(-4 * (values - center) / width, -700, 700))))
    if function == "LINEAR_EXACT":
        return (values - (center - width / 2)) / width
    if width <= 1:
        return (values > center - 0.5).astype(np.float64)
    return (values - (center - 0.5)) / (width - 1) + 0.5


def _stored_range(dataset: Any, pixels: Any, name: str) -> tuple[float, float]:
    """Without a window: all that the stored bits can hold, rescaled, which is one scale for all images of a device."""
    bits = int(dataset.BitsStored)
    if not 1 <= bits <= _MAX_GREY_BITS:
        reason = f"it has {bits} bits for each pixel and no window, so nothing states what is white"
        raise BadImage(name, reason, "Convert it to PNG with one scale for the whole data set.")
    is_signed = int(dataset.PixelRepresentation) == 1
    ends = np.array([-(2 ** (bits - 1)), 2 ** (bits - 1) - 1] if is_signed else [0, 2**bits - 1])
    if dataset.get("ModalityLUTSequence"):
        return 0.0, float(2 ** int(dataset.ModalityLUTSequence[0].LUTDescriptor[2]) - 1)
    low, high = sorted(float(value) for value in pixels.apply_rescale(ends, dataset))
    return low, high if high > low else low + 1
