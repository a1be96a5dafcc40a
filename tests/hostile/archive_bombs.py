"""Archives that are small and unpack, or claim to unpack, to far more: as generators, nothing of them is kept in git."""

import gzip
import lzma
import struct
import tarfile
import zipfile
import zlib

from containers import labelled_pngs

MIB = 1 << 20


def write_zip(path, extra=()):
    """Eight images of two classes, and what `extra` holds behind them."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for (name, i), data in labelled_pngs(4, classes=("cat", "dog")).items():
            archive.writestr(f"{name}/{i}.png", data)
        for name, data in extra:
            archive.writestr(name, data)
    return path


def zip_of_zeros(folder):
    return write_zip(folder / "pets.zip", [("cat/bomb.png", bytes(64 * MIB))])


def zip_of_small_zeros(folder):
    """Forty members, each below what is let pass by itself."""
    return write_zip(folder / "pets.zip", [(f"cat/bomb{i}.png", bytes(3 * MIB)) for i in range(40)])


def zip_of_a_deep_name(folder):
    """Its folders' names alone would take 30,000 x 30,000 bytes."""
    return write_zip(folder / "pets.zip", [("a/" * 30_000 + "1.png", b"x")])


def last_entry(data):
    return data.rfind(b"PK\x01\x02")


def zip_that_claims(folder, *, packed=None, size=None, offset=None, extra=()):
    """The last member's entry in the directory says what it likes."""
    path = write_zip(folder / "pets.zip", extra)
    data = bytearray(path.read_bytes())
    for value, place in ((packed, 20), (size, 24), (offset, 42)):
        if value is not None:
            struct.pack_into("<L", data, last_entry(data) + place, value)
    path.write_bytes(data)
    return path


def zip_that_claims_less(folder):
    """64 MiB of zeros whose entry says 1,000 bytes."""
    return zip_that_claims(folder, size=1000, extra=[("cat/bomb.png", bytes(64 * MIB))])


def zip_that_claims_much_packed(folder):
    return zip_that_claims(folder, packed=0xFFFF_FFF0)


def zip_that_claims_much(folder):
    return zip_that_claims(folder, size=0x7FFF_FFFF)


def zip_that_points_far(folder):
    """The offset of the last member, in a 64-bit field, is more than a file can have."""
    path = zip_that_claims(folder, offset=0xFFFF_FFFF)
    data = bytearray(path.read_bytes())
    entry = last_entry(data)
    end = data.rfind(b"PK\x05\x06")
    wide = struct.pack("<HHQ", 1, 8, (1 << 63) + 5)
    struct.pack_into("<H", data, entry + 30, len(wide))
    struct.pack_into("<L", data, end + 12, struct.unpack_from("<L", data, end + 12)[0] + len(wide))
    data[end:end] = wide  # the last entry ends where the end record begins
    path.write_bytes(data)
    return path


def tar_header(name, size, kind=b"0"):
    info = tarfile.TarInfo(name)
    info.size, info.type = size, kind
    return info.tobuf(tarfile.USTAR_FORMAT)


def padded(data):
    return data + bytes(-len(data) % 512)


def pax_record(key, value):
    """b'LENGTH KEY=VALUE\\n', in which LENGTH counts itself, here always in six digits."""
    return b"%06d %b=%b\n" % (len(key) + len(value) + 9, key, value)


def write_tar_gz(folder, blocks):
    path = folder / "pets.tar.gz"
    with gzip.open(path, "wb", compresslevel=1) as file:
        for block in blocks:
            file.write(block)
        file.write(bytes(1024))
    return path


def tar_gz_of_zeros(folder):
    zeros = (bytes(MIB) for _ in range(64))
    return write_tar_gz(folder, (tar_header("cat/bomb.png", 64 * MIB), *zeros))


def gz_of_zeros(folder):
    return write_tar_gz(folder, (bytes(MIB) for _ in range(64)))


def tar_gz_of_pax_headers(folder):
    """64 MiB of keys and values before one member of no bytes."""
    records = (pax_record(b"key%d" % i, b"v" * (MIB // 2)) for i in range(128))
    blocks = [tar_header("pax", len(record), b"x") + padded(record) for record in records]
    return write_tar_gz(folder, [*blocks, tar_header("cat/1.png", 0)])


def tar_gz_of_long_names(folder):
    """128 members of no bytes, with names of half a MiB each."""
    names = (b"cat/%03d" % i + b"n" * (MIB // 2) for i in range(128))
    blocks = (tar_header("name", len(name), b"L") + padded(name) + tar_header("x", 0) for name in names)
    return write_tar_gz(folder, blocks)


def tar_of_a_deep_name(folder):
    name = b"a/" * 30_000 + b"1.png"
    path = folder / "pets.tar"
    path.write_bytes(tar_header("name", len(name), b"L") + padded(name) + tar_header("x", 0) + bytes(1024))
    return path


def tar_xz_with_dictionary(folder, size_code):
    """`size_code` as the xz format has it: 40 asks for 4 GiB - 1, 28 for 64 MiB."""
    path = folder / "pets.tar.xz"
    with tarfile.open(path, "w:xz") as archive:
        archive.addfile(tarfile.TarInfo("cat/1.png"))
    data = bytearray(path.read_bytes())
    start, length = 12, (data[12] + 1) * 4  # the first block's header lies behind the stream's
    assert data[start + 2 : start + 4] == b"\x21\x01"  # LZMA2, with one byte of properties
    data[start + 4] = size_code
    struct.pack_into("<L", data, start + length - 4, zlib.crc32(data[start : start + length - 4]))
    path.write_bytes(data)
    assert size_code > 28 or lzma.decompress(bytes(data))
    return path


def tar_xz_of_4_gib(folder):
    return tar_xz_with_dictionary(folder, 40)


def write_pax_tar(folder, record):
    path = folder / "pets.tar"
    path.write_bytes(tar_header("pax", len(record), b"x") + padded(record) + tar_header("cat/1.png", 0) + bytes(1024))
    return path


def tar_with_a_size_of_5000_digits(folder):
    return write_pax_tar(folder, pax_record(b"size", b"9" * 5000))


def tar_with_a_size_in_superscript(folder):
    return write_pax_tar(folder, pax_record(b"size", "²".encode()))


def tar_with_a_length_of_5000_digits(folder):
    return write_pax_tar(folder, b"9" * 5000 + b" size=1\n")


BOMB = "taken for an archive bomb"
REFUSED = (
    (zip_of_zeros, BOMB),
    (zip_of_small_zeros, BOMB),
    (zip_that_claims_much, BOMB),
    (zip_that_claims_much_packed, "'dog/3.png' ends behind the members' end"),
    (zip_that_points_far, "'dog/3.png' ends behind the members' end"),
    (zip_of_a_deep_name, "bytes; at most 536,870,912 are read"),
    (tar_gz_of_zeros, BOMB),
    (gz_of_zeros, "is a file; expected a folder"),
    (tar_gz_of_pax_headers, BOMB),
    (tar_gz_of_long_names, BOMB),
    (tar_of_a_deep_name, "bytes; at most 536,870,912 are read"),
    (tar_xz_of_4_gib, "needs more than 256 MiB of memory to be unpacked"),
    (tar_with_a_size_of_5000_digits, "the size of 'cat/1.png' is no number"),
    (tar_with_a_size_in_superscript, "the size of 'cat/1.png' is no number"),
    (tar_with_a_length_of_5000_digits, "a pax header is malformed"),
)
