"""The page of `recog serve` as a folder that answers in the browser, with ONNX Runtime's build for WebAssembly from npm."""

from __future__ import annotations

import base64
import hashlib
import shutil
import subprocess
import tarfile
import tempfile
from importlib.resources import files
from pathlib import Path

from recog.core.errors import DataError, MissingExtraError, one_line
from recog.core.files import cache_folder

VERSION = "1.30.0"
_ARCHIVE = f"onnxruntime-web-{VERSION}.tgz"
_SHA512 = (
    "q0y+JrrtukXSzsBWEMccVfqX25LRmosXHF+CaRJmg8pZClzcV7svNc4rKY3jL02Vb7QmRMDs1SigqR4CXAfKYQ=="  # npm's dist.integrity
)
_RUNTIME = ("ort.wasm.min.mjs", "ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm")  # without WebGPU and WebGL
_PAGE = ("app.js", "app.css")
_SECONDS = 300


def write_page(folder: Path) -> None:
    """Write index.html, page/ and ort/ into `folder`, beside its model.onnx, contract.json and pixels.mjs."""
    page, served = folder / "page", files("recog.serve") / "page"
    page.mkdir()
    for name in _PAGE:
        (page / name).write_bytes((served / name).read_bytes())
    (page / "service.js").write_bytes((files("recog.deployment") / "programs" / "service.js").read_bytes())
    (folder / "index.html").write_bytes((served / "index.html").read_bytes())
    (folder / "ort").mkdir()
    with tarfile.open(find_runtime()) as archive:
        for name in _RUNTIME:
            member = archive.extractfile(f"package/dist/{name}")
            if member is None:
                raise DataError(f"{_ARCHIVE} holds no {name}.")
            with member, (folder / "ort" / name).open("wb") as target:
                shutil.copyfileobj(member, target)


def find_runtime() -> Path:
    """onnxruntime-web's archive in the user's cache, fetched from npm where it is not there yet; its hash is checked.

    MissingExtraError where npm is missing, DataError where it cannot fetch the archive or gives another one.
    """
    archive = cache_folder("web") / _ARCHIVE
    if not archive.is_file():
        _fetch(archive)
    with archive.open("rb") as file:
        digest = hashlib.file_digest(file, "sha512").digest()
    if base64.b64encode(digest).decode() != _SHA512:
        raise DataError(
            f"{archive} is not onnxruntime-web {VERSION} as npm published it (its sha512 differs); remove it."
        )
    return archive


def _fetch(archive: Path) -> None:
    npm = shutil.which("npm")
    if npm is None:
        raise MissingExtraError(
            f"--to browser needs npm once, for onnxruntime-web {VERSION}: install Node.js, or place npm's {_ARCHIVE} in "
            f"{archive.parent}."
        )
    with tempfile.TemporaryDirectory(prefix="recog-") as folder:
        command = [npm, "pack", f"onnxruntime-web@{VERSION}"]
        try:
            subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True, timeout=_SECONDS)
        except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
            reason = one_line(Exception(error.stderr or f"no answer within {_SECONDS} s"))
            raise DataError(
                f"npm cannot fetch onnxruntime-web {VERSION}: {reason}. Without a network, place npm's {_ARCHIVE} in "
                f"{archive.parent}."
            ) from None
        shutil.move(Path(folder) / _ARCHIVE, archive)
