"""DICOM: the files that pydicom ships, and grey values computed by hand from the standard's formulas."""

import io
import struct
import sys
import warnings

import numpy as np
import pytest
from small_pictures import picture

from recog.core.errors import BadImage
from recog.core.images.decode import decode, probe

pydicom = pytest.importorskip("pydicom")


def shipped(name):
    from pydicom.data import get_testdata_file

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        path = get_testdata_file(name, download=False)
    assert path, name
    return path


@pytest.mark.parametrize(
    ("name", "shape", "mode"),
    [
        ("CT_small.dcm", (128, 128), "L"),  # signed, rescaled, no window; the preamble is the header of a TIFF
        ("MR_small.dcm", (64, 64), "L"),  # windowed
        ("MR_small_bigendian.dcm", (64, 64), "L"),
        ("MR_small_implicit.dcm", (64, 64), "L"),
        ("MR_small_RLE.dcm", (64, 64), "L"),
        ("MR_small_jp2klossless.dcm", (64, 64), "L"),
        ("693_J2KI.dcm", (512, 512), "L"),
        ("examples_rgb_color.dcm", (240, 320), "RGB"),
        ("examples_palette.dcm", (350, 800), "RGB"),
        ("examples_jpeg2k.dcm", (480, 640), "RGB"),
        ("SC_rgb_rle_16bit.dcm", (100, 100), "RGB"),
        ("SC_rgb_dcmtk_+eb+cy+s2.dcm", (100, 100), "RGB"),
        ("SC_ybr_full_422_uncompressed.dcm", (100, 100), "RGB"),
        ("liver_1frame.dcm", (512, 512), "L"),  # one bit
    ],
)
def test_files_that_pydicom_ships(name, shape, mode):
    path = shipped(name)
    info = probe(path)
    assert ((info.height, info.width), info.mode, info.format) == (shape, mode, "DICOM")
    assert decode(path).shape == (*shape, 3)


def test_one_image_in_several_encodings_is_one_image():
    expected = decode(shipped("MR_small.dcm"), channels=1)
    for name in ("MR_small_bigendian.dcm", "MR_small_implicit.dcm", "MR_small_RLE.dcm", "MR_small_padded.dcm"):
        assert np.array_equal(decode(shipped(name), channels=1), expected), name


def test_the_first_of_several_frames_is_taken_and_their_number_is_known():
    info = probe(shipped("examples_ybr_color.dcm"))
    assert (info.is_animated, info.num_frames) == (True, 30)
    one, two = shipped("SC_rgb_rle.dcm"), shipped("SC_rgb_rle_2frame.dcm")
    assert np.array_equal(decode(two), decode(one))


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("JPEG-lossy.dcm", r"compression cannot be decoded \(JPEG Extended"),
        ("image_dfl.dcm", "deflated"),
        ("rtdose_1frame.dcm", "32 bits for each pixel and no window"),
        ("MR_truncated.dcm", "damaged|cut|read"),
        ("badVR.dcm", "damaged"),
    ],
)
def test_shipped_files_that_cannot_be_shown(name, says):
    with pytest.raises(BadImage, match=says):
        decode(shipped(name))


def dicom(frame, **elements):
    """An explicit little endian file of one frame [H, W] or [H, W, 3]; `elements` add to or replace its header."""
    dataset = pydicom.Dataset()
    dataset.Rows, dataset.Columns = frame.shape[:2]
    dataset.SamplesPerPixel = 1 if frame.ndim == 2 else 3
    dataset.PhotometricInterpretation = "MONOCHROME2" if frame.ndim == 2 else "RGB"
    dataset.BitsAllocated = dataset.BitsStored = 8 * frame.dtype.itemsize
    dataset.HighBit, dataset.PixelRepresentation = dataset.BitsStored - 1, int(frame.dtype.kind == "i")
    if frame.ndim == 3:
        dataset.PlanarConfiguration = 0
    dataset.PixelData = frame.tobytes()
    dataset["PixelData"].VR = "OW" if frame.dtype.itemsize > 1 else "OB"
    syntax = elements.pop("syntax", pydicom.uid.ExplicitVRLittleEndian)
    for key, value in elements.items():
        setattr(dataset, key, value)
    dataset.file_meta = pydicom.dataset.FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.7"
    dataset.file_meta.MediaStorageSOPInstanceUID = "1.2.3"
    if syntax.is_compressed:
        dataset["PixelData"].is_undefined_length = True
    file = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dataset.save_as(file, enforce_file_format=True)
    return file.getvalue()


def table(first, values):
    """An item of a VOI LUT Sequence of 8 bits, PS3.3, C.11.2.1.1: the first stored value that is mapped, and its outputs."""
    item = pydicom.Dataset()
    item.add_new("LUTDescriptor", "US", [len(values), first, 8])
    item.add_new("LUTData", "US", values)
    return item


GREY = np.array([[0, 100, 200], [300, 400, 1000]], np.int16)
FORMULAS = {  # PS3.3, C.11.2.1.2.1: y = ((x - (c - 0.5)) / (w - 1) + 0.5) * 255, then kept in 0..255
    "linear": ({"WindowCenter": 200.5, "WindowWidth": 401}, [[0, 63.75, 127.5], [191.25, 255, 255]]),
    "the first of two windows": (
        {"WindowCenter": [200.5, 9], "WindowWidth": [401, 9]},
        [[0, 63.75, 127.5], [191.25, 255, 255]],
    ),
    "linear, exact": (
        {"WindowCenter": 200, "WindowWidth": 400, "VOILUTFunction": "LINEAR_EXACT"},
        [[0, 63.75, 127.5], [191.25, 255, 255]],
    ),
    "sigmoid": (  # 255 / (1 + exp(-4 (x - c) / w))
        {"WindowCenter": 200, "WindowWidth": 400, "VOILUTFunction": "SIGMOID"},
        [[30.40, 68.58, 127.5], [186.42, 224.60, 254.91]],
    ),
    "rescaled": (  # x is 2 * stored - 100
        {"WindowCenter": 200.5, "WindowWidth": 401, "RescaleSlope": 2, "RescaleIntercept": -100},
        [[0, 63.75, 191.25], [255, 255, 255]],
    ),
    "inverted": (
        {"WindowCenter": 200.5, "WindowWidth": 401, "PhotometricInterpretation": "MONOCHROME1"},
        [[255, 191.25, 127.5], [63.75, 0, 0]],
    ),
    "no window": (  # -2048 to 2047 of 12 signed bits: (x + 2048) / 4095 * 255
        {"BitsStored": 12, "HighBit": 11},
        [[127.53, 133.76, 139.99], [146.21, 152.44, 189.80]],
    ),
    "a table": (  # of the rescaled values 0, 2, 4, 6, 8, 20: its entries are for 2 to 7, its ends for what is beyond
        {"RescaleSlope": 0.02, "RescaleIntercept": 0, "VOILUTSequence": [table(2, [0, 10, 20, 40, 80, 255])]},
        [[0, 0, 20], [80, 255, 255]],
    ),
    "a step": ({"WindowCenter": 300.5, "WindowWidth": 1}, [[0, 0, 0], [0, 255, 255]]),
}


@pytest.mark.parametrize(("elements", "expected"), FORMULAS.values(), ids=FORMULAS)
def test_grey_values_by_the_standards_formulas(elements, expected):
    found = decode(dicom(GREY, **elements), channels=1)[:, :, 0]
    assert np.abs(found - np.array(expected)).max() <= 0.51


def test_colour_is_read_as_it_is_and_16_bits_are_scaled():
    assert np.array_equal(decode(dicom(picture())), picture())
    assert np.array_equal(decode(dicom(picture().astype(np.uint16) * 257)), picture())


def encapsulated(frame):
    """One item with an empty offset table, PS3.5, annex A.4."""
    item = b"\xfe\xff\x00\xe0"
    frame += b"\0" * (len(frame) % 2)
    return item + bytes(4) + item + struct.pack("<I", len(frame)) + frame


def test_a_frame_of_another_size_or_with_endless_run_lengths_is_refused():
    from small_pictures import encode

    jpeg = encapsulated(encode(picture(300, 400), "JPEG"))
    with pytest.raises(BadImage, match="header has 40 x 30 pixels, but its first frame has 400 x 300"):
        decode(dicom(picture(), PixelData=jpeg, syntax=pydicom.uid.JPEGBaseline8Bit))
    runs = struct.pack("<16I", 1, 64, *[0] * 14) + b"\x81\x00" * 100_000  # each pair is 128 bytes
    with pytest.raises(BadImage, match="unpack to more than its 1,200 pixels"):
        decode(dicom(picture()[:, :, 0].copy(), PixelData=encapsulated(runs), syntax=pydicom.uid.RLELossless))


def test_limits_hold_before_a_pixel_is_read():
    with pytest.raises(BadImage, match="60000 x 60000"):
        decode(dicom(GREY, Rows=60_000, Columns=60_000))


def test_without_pydicom_the_extra_is_named(monkeypatch):
    data = dicom(GREY)
    monkeypatch.setitem(sys.modules, "pydicom.filereader", None)
    with pytest.raises(BadImage, match=r"DICOM.*'recog\[dicom\]'"):
        decode(data)


def test_every_cut_is_a_bad_image_or_an_image():
    data = dicom(GREY)
    for end in range(128, len(data) - 1, 7):
        with pytest.raises(BadImage):
            decode(data[:end])


DECODED = [  # of pydicom's files, the compression, and one with the same pixels
    ("MR_small_jpeg_ls_lossless.dcm", "MR_small.dcm", 0),
    ("SC_rgb_jpeg_gdcm.dcm", "SC_rgb_rle.dcm", 0),  # lossless JPEG
    ("SC_rgb_jls_lossy_line.dcm", "SC_rgb_rle.dcm", 8),
]


@pytest.mark.parametrize(("name", "same", "tolerance"), DECODED)
def test_jpeg_ls_and_lossless_jpeg(name, same, tolerance):
    pytest.importorskip("libjpeg", reason="the extra 'dicom-jpeg' is not installed")
    found, expected = (decode(shipped(each)).astype(int) for each in (name, same))
    assert np.abs(found - expected).max() <= tolerance
    assert decode(shipped("JPGExtended.dcm")).any()  # 12 bits


@pytest.mark.parametrize("name", ["JPEGLSNearLossless_08.dcm", "SC_rgb_jpeg_gdcm.dcm"])
def test_without_a_decoder_the_extra_is_named(name, monkeypatch):
    decoder = pydicom.pixels.get_decoder(pydicom.dcmread(shipped(name)).file_meta.TransferSyntaxUID)
    monkeypatch.setattr(decoder, "_available", {})
    monkeypatch.setattr(decoder, "_unavailable", {"pylibjpeg": ("pylibjpeg>=2.0", "pylibjpeg-libjpeg>=2.1")})
    with pytest.raises(BadImage, match=r"compression cannot be decoded \(JPEG.*'recog\[dicom-jpeg\]'"):
        decode(shipped(name))


@pytest.mark.parametrize("name", ["MR_small_jpeg_ls_lossless.dcm", "SC_rgb_jpeg_gdcm.dcm"])
def test_a_frame_of_jpeg_ls_or_lossless_jpeg_of_another_size_is_refused(name):
    dataset = pydicom.dcmread(shipped(name))
    dataset.Rows = 20
    file = io.BytesIO()
    dataset.save_as(file)
    with pytest.raises(BadImage, match="header has .* x 20 pixels, but its first frame has"):
        decode(file.getvalue())
