"""Training batches from photos whose pixels do not fit: a limit is set on the process (RLIMIT_DATA), its memory is watched.

FLOWERS: a folder that holds train/CLASS/*. The photos are listed several times over, decoded and augmented for some epochs, once
with a disk to hold the decoded pixels and once without, where every epoch decodes again.
"""

from __future__ import annotations

import dataclasses
import json
import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from harness import write_result

from recog.core.files import sha256_bytes
from recog.core.preprocess import Preprocess
from recog.data import cache
from recog.data.augment.policies import AugmentConfig
from recog.data.loader import TrainLoader
from recog.data.readers.folders import read_folder
from recog.data.store import read_larger

WORKER = "child"
TIMES, EPOCHS, LIMIT_MIB, SIDE_PX = 10, 3, 256, 224


def status_mib(field: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{field}:")) >> 10


def child(flowers: str, place: str) -> None:
    """One JSON line: what fits where, and the MiB of the process's own memory beyond the imports after each epoch."""
    if place == "stream":
        cache.MIN_FREE_DISK_BYTES = 1 << 60  # as on a full disk
    photos = read_folder(Path(flowers)).samples
    samples = [dataclasses.replace(s, name=f"{turn}/{s.name}") for turn in range(TIMES) for s in photos]
    limit = (status_mib("VmData") + LIMIT_MIB) << 20
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    before = status_mib("RssAnon")
    hashes = [sha256_bytes(sample.name.encode()) for sample in samples]
    reader = read_larger(Preprocess(image_size=(SIDE_PX, SIDE_PX)))
    (decoded,) = cache.decode_for_each(samples, [reader], hashes, name="limited")
    loader = TrainLoader(
        store=decoded.images,
        targets=np.array([sample.label for sample in samples])[decoded.rows],
        augment=AugmentConfig(policy="standard", geometry="crop", mirror=True),
        image_size=(SIDE_PX, SIDE_PX),
        batch_size=32,
        seed=0,
    )
    grown, num_images = [], 0
    for epoch in range(EPOCHS):
        num_images += sum(len(images) for images, _ in loader.batches(epoch))
        grown.append(status_mib("RssAnon") - before)
    num_bytes = sum(image.nbytes for row in range(len(photos)) for image in decoded.images.fetch(np.array([row])))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
    print(json.dumps([type(decoded.images).__name__, num_images, num_bytes * TIMES >> 20, grown, peak]))


def main() -> None:
    flowers = str(Path(sys.argv[1]).resolve() / "train")
    body = [
        f"Limit: {LIMIT_MIB} MiB of data beyond what the imports took (RLIMIT_DATA). Own memory: RssAnon, which a limit",
        "counts; pages of a mapped file are the system's to take back, and stand in the peak only.",
        "",
        "| decoded pixels | MiB of pixels | images drawn | epochs | own MiB after each | peak resident MiB |",
        "|---" * 6 + "|",
    ]
    for place, words in (("file", "mapped file"), ("stream", "decoded again each epoch")):
        with tempfile.TemporaryDirectory() as folder:
            command = [sys.executable, __file__, WORKER, flowers, place]
            environment = os.environ | {"XDG_CACHE_HOME": folder}
            done = subprocess.run(command, capture_output=True, text=True, env=environment)
        if done.returncode:
            raise SystemExit(done.stderr[-2000:])
        kind, num_images, pixels_mib, grown, peak = json.loads(done.stdout)
        after = ", ".join(map(str, grown))
        body.append(f"| {words} ({kind}) | {pixels_mib:,} | {num_images:,} | {EPOCHS} | {after} | {peak:,} |")
    write_result("limited_memory", "Photos larger than the memory that the process may have", "\n".join(body))


if __name__ == "__main__":
    if sys.argv[1] == WORKER:
        child(*sys.argv[2:])
    else:
        main()
