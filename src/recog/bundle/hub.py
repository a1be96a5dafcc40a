"""Bundles from and to the Hugging Face hub, by the address hf://OWNER/NAME or hf://OWNER/NAME@REVISION."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from recog.bundle.manifest import HUB_PREFIX, MANIFEST, find_bundle, read_manifest
from recog.bundle.reference import read_reference
from recog.bundle.seal import check_all_files
from recog.core.errors import BundleError, MissingExtraError, RecogError, one_line
from recog.core.files import cache_folder, staged_folder
from recog.core.hosts import endpoint, why_unreachable

_REPO = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}")
_REVISION = re.compile(r"[\w][\w./-]{0,199}")
_COMMIT = re.compile(r"[0-9a-f]{40}")
_TIMEOUT_S = 10.0  # for an answer of a hub that is there
T = TypeVar("T")


def fetch_bundle(address: str) -> Path:
    """The bundle at `address`, downloaded once for each commit into the user's cache, every hash checked.

    A full commit hash that is in the cache needs no network. BundleError with the reason where it cannot be had.
    """
    repo, _, revision = address.removeprefix(HUB_PREFIX).partition("@")
    check_repo(repo, address)
    if revision and not _REVISION.fullmatch(revision):
        raise BundleError(f"{address} has the revision '{revision}'; expected a branch, a tag or a commit.")
    places = cache_folder("hub") / repo.replace("/", "--")
    if _COMMIT.fullmatch(revision) and (places / revision / MANIFEST).is_file():
        return places / revision
    client = open_client(address)
    info = asked(lambda: client.model_info(repo, revision=revision or None, timeout=_TIMEOUT_S), address)
    commit = str(info.sha)
    if not _COMMIT.fullmatch(commit):
        raise BundleError(f"the hub names no commit of {address}.")
    folder = places / commit
    if not (folder / MANIFEST).is_file():
        _download(client, repo, commit, folder, address)
    return folder


def check_repo(repo: str, given: str) -> None:
    """BundleError unless `repo` is OWNER/NAME."""
    if not _REPO.fullmatch(repo):
        raise BundleError(f"{given} is not the name of a model on the hub; expected OWNER/NAME, such as anna/flowers.")


def open_client(address: str) -> Any:
    """huggingface_hub's HfApi, at HF_ENDPOINT if it is set, with the token that its login or HF_TOKEN has.

    BundleError where the hub does not answer.
    """
    try:
        from huggingface_hub import HfApi
    except ModuleNotFoundError:
        raise MissingExtraError("the hub needs huggingface_hub; run: pip install 'recog[hub]'") from None
    if (reason := why_unreachable(endpoint())) is not None:
        raise BundleError(f"{address}: {reason}. Check the network; offline, name the folder of a bundle.")
    return HfApi(endpoint=endpoint(), library_name="recog")


def asked(request: Callable[[], T], address: str) -> T:
    """The answer to `request`; BundleError where the hub cannot be reached, or refuses it."""
    try:
        return request()
    except RecogError:
        raise
    except Exception as error:  # noqa: BLE001  the client raises errors of its own, of its HTTP library and of the system
        raise BundleError(
            f"{address}: the hub did not answer as expected ({one_line(error)}). Check the name, the token (hf auth login) and "
            "the network; offline, name the folder of a bundle."
        ) from None


def _download(client: Any, repo: str, commit: str, folder: Path, address: str) -> None:
    folder.parent.mkdir(parents=True, exist_ok=True)
    with staged_folder(folder) as staging:

        def fetch(name: str) -> None:
            asked(lambda: client.hf_hub_download(repo, name, revision=commit, local_dir=staging), address)

        fetch(MANIFEST)
        manifest = read_manifest(staging)
        for name in manifest.files:
            fetch(name)
        shutil.rmtree(staging / ".cache", ignore_errors=True)  # the client's notes on its downloads
        check_all_files(staging, manifest)


@dataclass(frozen=True, kw_only=True)
class Push:
    """What is uploaded, or would be; `address` is that of the new commit, None of a dry run."""

    repo: str
    folder: Path
    files: tuple[tuple[str, int], ...]  # (name, bytes)
    num_reference_images: int  # of the user's own data, in reference.safetensors
    is_private: bool
    address: str | None = None

    @property
    def num_bytes(self) -> int:
        return sum(size for _, size in self.files)


def push(bundle: str | Path, repo: str, *, yes: bool = False, private: bool = False) -> Push:
    """Upload a bundle, run folder or run's name to the model `repo`, OWNER/NAME, of the hub; without `yes` nothing is sent.

    Every hash is checked before. The repository is made if there is none; files of others in it stay. BundleError where it
    is to be `private` and is public.
    """
    check_repo(repo, repo)
    folder = find_bundle(bundle)
    manifest = read_manifest(folder)
    check_all_files(folder, manifest)
    names = sorted([MANIFEST, *manifest.files])
    reference = read_reference(folder)
    plan = Push(
        repo=repo,
        folder=folder,
        files=tuple((name, (folder / name).stat().st_size) for name in names),
        num_reference_images=len(reference.images) if reference.kind == "images" else 0,
        is_private=private,
    )
    if not yes:
        return plan
    address = f"{HUB_PREFIX}{repo}"
    client = open_client(address)
    asked(lambda: client.create_repo(repo, private=private, exist_ok=True), address)
    if private and asked(lambda: client.model_info(repo, timeout=_TIMEOUT_S), address).private is False:
        raise BundleError(
            f"{address} is public, and --private makes new repositories private only; nothing was uploaded. Change it on its "
            "page, or name another repository."
        )
    done = asked(
        lambda: client.upload_folder(
            repo_id=repo,
            folder_path=str(folder),
            allow_patterns=names,
            commit_message=f"recog {manifest.recog_version}: {manifest.data.name}",
        ),
        address,
    )
    return Push(**(vars(plan) | {"address": f"{address}@{done.oid}"}))
