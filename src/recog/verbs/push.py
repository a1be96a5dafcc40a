"""`recog push`: a bundle to the Hugging Face hub."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from recog.bundle.hub import asked, check_repo, open_client
from recog.bundle.locate import HUB_PREFIX, find_bundle
from recog.bundle.manifest import MANIFEST, read_manifest
from recog.bundle.reference import read_reference
from recog.bundle.seal import check_all_files


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

    Every hash is checked before. The repository is made if there is none; files of others in it stay.
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
    client, address = open_client(), f"{HUB_PREFIX}{repo}"
    asked(lambda: client.create_repo(repo, private=private, exist_ok=True), address)
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
