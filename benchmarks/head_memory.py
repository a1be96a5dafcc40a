"""Peak memory of `recog train --recipe head` on 3,670 photos: those of FLOWERS.zip, shifted a little and encoded again.

`python benchmarks/head_memory.py FLOWERS.zip [NUM_PHOTOS ...]`. The command is one process; the kernel states its peak.
"""

from __future__ import annotations

import io
import itertools
import os
import sys
import tempfile
import zipfile
from pathlib import Path, PurePosixPath

from harness import recog, time_in_turn, write_result
from PIL import Image

NUM_PHOTOS = 3670  # of the whole data set that the photos of flowers are from
QUALITY = 90


def write_photos(archive: Path, folder: Path, num_photos: int) -> None:
    """Class folders of `num_photos` photos; a photo's further copies lack some of its left columns, so that no two are equal."""
    with zipfile.ZipFile(archive) as file:
        names = [name for name in file.namelist() if name.endswith(".jpg")]
        for number, name in zip(range(num_photos), itertools.cycle(names), strict=False):
            target = folder / PurePosixPath(name).parent.name / f"{number}.jpg"
            target.parent.mkdir(parents=True, exist_ok=True)
            with Image.open(io.BytesIO(file.read(name))) as photo:
                cut = photo.convert("RGB").crop((4 * (number // len(names)), 0, *photo.size))
            cut.save(target, quality=QUALITY)


def main() -> None:
    archive = Path(sys.argv[1]).resolve()
    rows = ["| photos | peak MiB | seconds |", "|---|---|---|"]
    for num_photos in map(int, sys.argv[2:] or [NUM_PHOTOS]):
        with tempfile.TemporaryDirectory(prefix="recog-memory-") as place:
            folder = Path(place)
            write_photos(archive, folder / "photos", num_photos)
            os.environ["XDG_CACHE_HOME"] = str(folder / "cache")  # an empty one
            command = recog("train", "photos", "--recipe", "head")
            timing = time_in_turn({"train": command}, runs=1, warmup=0, cwd=folder)["train"]
        rows.append(f"| {num_photos:,} | {timing.peak_mib:,.0f} | {timing.median_s:.0f} |")
        print(rows[-1], flush=True)
    body = "Resident memory, shared libraries included.\n\n" + "\n".join(rows)
    write_result("head_memory", "Memory of a head on frozen features", body)


if __name__ == "__main__":
    main()
