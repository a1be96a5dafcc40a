"""The ledger of bad inputs: what each kind is, numbered as in the plan for reliability, and how verdicts are printed."""

from collections import Counter

KINDS = {
    1: "zero bytes",
    2: "one byte",
    3: "truncated JPEG",
    4: "truncated progressive JPEG",
    5: "truncated PNG",
    6: "PNG with wrong checksum",
    7: "random bytes as .jpg",
    8: "web page or text as .jpg",
    9: "PNG named .jpg",
    10: "SVG",
    11: "EPS, PDF, PSD, FITS as .png",
    12: "bomb of 50,000 x 50,000 pixels",
    13: "PNG with compressed text bombs",
    14: "TIFF directories in a loop, nowhere, or huge",
    15: "GIF of 10,000 frames",
    16: "APNG and animated WebP",
    17: "CMYK and YCCK",
    18: "16-bit, 1-bit, palette, transparency, float",
    19: "EXIF orientations 1 to 8",
    20: "broken EXIF and colour profile",
    21: "1 x 1, 1 x N, 65,500 x 1",
    22: "MPO, HEIC, AVIF, video",
    23: "junk or a ZIP behind the image",
    24: "arithmetic, 12-bit, lossless JPEG",
    25: "JPEG of 1,000 scans",
    26: "constant, NaN, infinite arrays",
    27: "empty folder",
    28: "one class",
    29: "empty class folder",
    30: "class with one image",
    31: "class maps of the splits differ",
    32: "the same file in train and test",
    33: "the same image under two labels",
    34: "names in two Unicode forms, emoji, newline, 255 bytes",
    35: "names that differ by case only",
    36: "links in a circle, out of the data, broken",
    37: "unreadable file, pipe, device, socket",
    38: "litter of file managers",
    39: "CSV and other lists: columns, rows, paths, encodings, labels, a million rows",
    40: "Parquet and shards cut off, without labels, with pickles",
    41: "a file or archive that changes after it was listed",
    42: "archives: bombs, nested, hostile names, links, devices, a million entries",
    43: "ONNX files: loops, custom operators, data elsewhere, wrong shapes",
    44: "images of other suffixes, without one, of formats that are not read",
    45: "folders above or below the classes, and words for splits",
    46: "what belongs together: sub-folders, clips, series",
    47: "classes called null, NaN, None, NA",
    48: "numbers as labels of a torch Dataset",
    49: "settings and options that nothing would read",
    50: "a value in any file of a bundle: wrong type, huge, NaN, absent, twice",
    51: "control, bidirectional and line characters in names",
    52: "outputs in other encodings",
    53: "names of runs and paths of outputs",
    54: "run folders from strangers",
    55: "tiles, frames and pages that are larger than what states them",
    56: "caches with damage and strange entries",
    57: "lines and containers: column types, joined archives, methods, names",
    58: "signals, full disks and closed streams",
}
NUM_IMAGE_KINDS = 26
DATASET_KINDS = (*range(27, 43), 44)


def lines(verdicts: dict[int, Counter[str]]) -> list[str]:
    """One line per kind: number, what it is, how many cases were tried, and what became of them."""
    return [
        f"{kind:3}  {KINDS[kind]:66.66}  {sum(counts.values()):3} tried: "
        + ", ".join(f"{count} {verdict}" for verdict, count in sorted(counts.items()))
        for kind, counts in sorted(verdicts.items())
    ]
