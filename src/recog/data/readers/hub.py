"""Data sets of the Hugging Face hub, hf://datasets/OWNER/NAME@REVISION, downloaded once into the user's cache."""

from __future__ import annotations

import re
import shutil
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from recog.core.errors import DataError, missing_extra
from recog.core.files import cache_folder, write_bytes_atomic
from recog.core.hosts import endpoint, why_unreachable

_SOURCE = re.compile(r"^hf:/{1,2}datasets/([\w.-]+/[\w.-]+)(?:@([\w./-]+))?/?$", re.IGNORECASE)
_COMMIT = re.compile(r"[0-9a-f]{40}")
_NOT_DATA = (".py", ".ipynb", ".md", ".gitattributes", ".gitignore")  # scripts of a data set are never run
_COMPLETE = ".complete"
_NUM_DOWNLOADS = 8  # at once
_TIMEOUT_S = 10.0


def fetch_from_hub(source: str) -> tuple[Path, str]:
    """The folder of the files of `source` at one revision, and a note that names it. DataError where they cannot be had.

    A revision of 40 digits that was downloaded before needs no network.
    """
    match = _SOURCE.match(source)
    if match is None:
        raise DataError(
            f"{source} is no data set of the hub; expected hf://datasets/OWNER/NAME, or with @REVISION behind it."
        )
    name, revision = match[1], match[2] or "main"
    root = cache_folder("datasets/hub") / name.replace("/", "--")
    if _COMMIT.fullmatch(revision) and (root / revision / _COMPLETE).is_file():
        return root / revision, f"{source}: downloaded before"
    try:
        import huggingface_hub
        from huggingface_hub.errors import HfHubHTTPError
    except ModuleNotFoundError as error:
        raise missing_extra(error) or error from None
    try:
        if (reason := why_unreachable(endpoint())) is not None:
            raise ConnectionError(reason)
        api = huggingface_hub.HfApi(endpoint=endpoint())
        info = api.dataset_info(name, revision=revision, files_metadata=True, timeout=_TIMEOUT_S)
        files, num_bytes = _choose(info, source)
        folder = root / str(info.sha)
        if not (folder / _COMPLETE).is_file():
            _check_room(root, num_bytes, source)
            _download(name, files, folder)
    except DataError:
        raise
    except HfHubHTTPError as error:
        status = int(error.response.status_code)
        raise DataError(
            f"{source} cannot be downloaded: {_REASONS.get(status, f'the hub answers {status}')}."
        ) from None
    except Exception as error:  # noqa: BLE001  of whichever library the client uses
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise DataError(
            f"{source} cannot be downloaded ({reason}). Offline, name a folder, or a revision had before."
        ) from None
    note = f"{source}: revision {info.sha}, {len(files):,} files, {num_bytes / 1e6:,.1f} MB"
    pin = "" if revision == info.sha else f"; to have the same again: hf://datasets/{name}@{info.sha}"
    return folder, note + pin


_REASONS = {
    401: "it does not exist, or it is private; log in with 'hf auth login' if it is yours",
    403: "it asks for consent to its terms; give it on its page, and log in with 'hf auth login'",
    404: "there is no such data set or revision",
}


def _choose(info: Any, source: str) -> tuple[list[str], int]:
    """The files to download and their bytes. DataError where a name leads out of the folder, or there is none."""
    files = list(info.siblings or ())
    chosen = [f for f in files if not f.rfilename.lower().endswith(_NOT_DATA) and not f.rfilename.startswith(".")]
    for file in files:
        parts = file.rfilename.split("/")
        if "\\" in file.rfilename or ":" in parts[0] or not {"", ".", ".."}.isdisjoint(parts):
            raise DataError(f"{source} has a file whose name leads elsewhere: {file.rfilename[:80]!r}.")
    if not chosen or _COMMIT.fullmatch(str(info.sha)) is None:
        raise DataError(f"{source} holds no files of data.")
    return [file.rfilename for file in chosen], sum(file.size or 0 for file in chosen)


def _check_room(root: Path, num_bytes: int, source: str) -> None:
    root.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(root).free
    if num_bytes > free // 2:
        raise DataError(
            f"{source} has {num_bytes:,} bytes, and {free:,} are free in {root}; at most half of them are used. Set "
            "XDG_CACHE_HOME to a larger disk."
        )


def _download(name: str, files: Sequence[str], folder: Path) -> None:
    """Write `files` of the commit that `folder` is named for; it counts as complete when all are there."""
    from huggingface_hub import hf_hub_download
    from huggingface_hub.utils.tqdm import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

    def fetch(file: str) -> None:
        hf_hub_download(name, file, repo_type="dataset", revision=folder.name, local_dir=folder, endpoint=endpoint())

    had_bars = not are_progress_bars_disabled()
    disable_progress_bars()
    try:
        with ThreadPoolExecutor(_NUM_DOWNLOADS) as pool:
            list(pool.map(fetch, files))
    finally:
        if had_bars:
            enable_progress_bars()
    write_bytes_atomic(folder / _COMPLETE, b"")
