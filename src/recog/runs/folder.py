"""The folder of a run: creating, locking and finding it."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from recog.bundle.manifest import BUNDLE, MANIFEST, RUNS
from recog.core.config import build_config, config_to_dict, dump_toml, load_toml
from recog.core.errors import BundleError, CheckpointError, ConfigError, DataError, DiskError
from recog.core.files import claim_folder, not_linked, open_regular, write_bytes_atomic
from recog.core.outputs import check_name
from recog.core.records import read_bytes
from recog.core.text import plural
from recog.data.names import is_decisions_file
from recog.data.places import is_pattern
from recog.data.sources import is_path
from recog.recipes.config import DataConfig, TrainConfig
from recog.runs.splits import SPLITS_FILE, read_splits

if TYPE_CHECKING:  # the command line finds and checks runs before torch is imported
    from recog.recipes.prepare import Prepared
    from recog.training.checkpoint import Checkpoints, Loaded
    from recog.training.distributed import World

if sys.platform != "win32":
    import fcntl

RUN_CONFIG = "run.toml"
CHECKPOINTS = "checkpoints"
LOCK = "train.lock"
LAUNCH = "launch.txt"


def load_run_config(path: Path) -> TrainConfig:
    """A TrainConfig from TOML; relative paths of data, images, weights and a parent are relative to the file's folder.

    Links are resolved.
    """
    config = build_config(TrainConfig, load_toml(path))
    folder = Path(os.path.realpath(path)).parent
    source = folder / config.data.source
    if config.data.source and (os.path.exists(source) or is_path(config.data.source)):
        config = replace(config, data=replace(config.data, source=os.path.relpath(source)))
    config = replace(config, data=_with_paths(config.data, lambda path: os.path.relpath(folder / path)))
    weights = folder / config.model.weights
    if config.model.weights not in ("auto", "none") and os.path.exists(weights):
        config = replace(config, model=replace(config.model, weights=os.path.relpath(weights)))
    parent = folder / config.model.parent
    if config.model.parent and os.path.exists(parent):
        config = replace(config, model=replace(config.model, parent=os.path.relpath(parent)))
    return config


def read_config(config: TrainConfig | str | Path | None) -> TrainConfig:
    """A TrainConfig, given as such or as a TOML file; the default where there is none. The user's own links are followed."""
    if isinstance(config, (str, Path)):
        path = Path(config)
        return load_run_config(Path(os.path.realpath(path)) if path.is_symlink() else path)
    if config is not None and not isinstance(config, TrainConfig):
        raise ConfigError(
            f"config is of type {type(config).__name__}; expected a TrainConfig or a TOML file. Images and labels are given as "
            "one: recog.train((images, labels))."
        )
    return config or TrainConfig()


def make_run_folder(runs: Path, name: str, *, fixed: bool, world: World | None = None) -> Path:
    """A new folder: runs/NAME for a `fixed` name, else the first free one of runs/NAME-1, -2, ...

    The folder of a fixed name may exist if torchrun restarted `world`.
    """
    try:
        if not fixed:
            return claim_folder(runs, name)
        runs.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _no_runs(runs, error.strerror) from None
    try:
        (runs / name).mkdir(exist_ok=world is not None and is_restart(runs / name, world))
    except FileExistsError:
        raise ConfigError(f"{runs / name} already exists; choose another --name or remove it.") from None
    return runs / name


def check_new_run(config: TrainConfig, name: str | None, runs: Path = RUNS, *, world: World | None = None) -> None:
    """ConfigError or DiskError where no run can be created in `runs`, under `name` or that of the data, and record its paths."""
    layout = config.data.layout
    files = (*layout.images, *layout.exclude_files, layout.relabel)
    for path in (config.data.source, config.model.weights, config.model.parent, *files):
        try:
            path.encode()
        except UnicodeEncodeError:
            raise ConfigError(f"the path {path} is not UTF-8, so {RUN_CONFIG} cannot record it. Rename it.") from None
    if name is not None:
        check_name(name, "--name")
        if os.path.lexists(runs / name) and (world is None or not is_restart(runs / name, world)):
            raise ConfigError(f"{runs / name} already exists; choose another --name or remove it.")
    above = next(folder for folder in (runs.absolute(), *runs.absolute().parents) if os.path.exists(folder))
    if not (above.is_dir() and os.access(above, os.W_OK | os.X_OK)):
        why = os.strerror(errno.EACCES if above.is_dir() else errno.ENOTDIR)
        raise _no_runs(runs, why)


def _no_runs(runs: Path, why: str | None) -> DiskError:
    return DiskError(
        f"cannot create the folder {runs.absolute()} for runs: {why}. Change to a folder with write access."
    )


def write_launch(folder: Path, world: World) -> None:
    """Record torchrun's launch, so that a restart recognises the run."""
    if world.launch:
        write_bytes_atomic(folder / LAUNCH, f"{world.launch}\n".encode())


def has_begun(folder: Path, world: World) -> bool:
    """Whether torchrun restarted `world` after the run in `folder` was planned, so that it can be resumed."""
    return is_restart(folder, world) and (folder / RUN_CONFIG).is_file()


def is_restart(folder: Path, world: World) -> bool:
    """Whether torchrun restarted `world`, which was training in `folder`, after it lost a process or a machine."""
    if world.num_restarts:
        return folder.is_dir()
    try:  # torchrun does not count a change of machines as a restart
        return bool(world.launch) and read_bytes(folder / LAUNCH, max_bytes=4096).strip() == world.launch.encode()
    except BundleError:
        return False


def write_run_config(folder: Path, config: TrainConfig, file: str = RUN_CONFIG) -> None:
    """Write run.toml, or `file`, with paths relative to it, so that a run folder can be moved together with its data."""
    source, weights, parent = config.data.source, config.model.weights, config.model.parent
    if is_path(source):
        source = _relative(source, folder)
    if weights not in ("auto", "none"):
        weights = _relative(weights, folder)
    if parent:
        parent = _relative(parent, folder)
    model = replace(config.model, weights=weights, parent=parent)
    data = _with_paths(replace(config.data, source=source), lambda path: _relative(path, folder))
    config = replace(config, data=data, model=model)
    write_bytes_atomic(folder / file, dump_toml(config_to_dict(config)).encode())


def _with_paths(data: DataConfig, moved: Callable[[str], str]) -> DataConfig:
    """`data` with `moved` applied to the paths in it, but for its source."""
    exclude = tuple(
        moved(entry) if is_decisions_file(entry) or is_decisions_file(moved(entry)) else entry for entry in data.exclude
    )
    relabel = moved(data.relabel) if data.relabel else ""
    return replace(data, images=tuple(map(moved, data.images)), exclude=exclude, relabel=relabel)


def _relative(path: str, folder: Path) -> str:
    """`path` relative to `folder`, both as they are without links: '..' leads from where a link points to."""
    parent, name = os.path.split(os.path.abspath(path))
    return os.path.relpath(os.path.join(os.path.realpath(parent), name), os.path.realpath(folder))


def resumed_config(folder: Path, source: str | None) -> TrainConfig:
    """The config of the run in `folder`, with `source` in place of its data where that is given.

    DataError, with the remedy, where the data are not where the config has them.
    """
    config = load_run_config(folder / RUN_CONFIG)
    if source is not None:
        return replace(config, data=replace(config.data, source=source))
    place = Path(config.data.source)
    if (
        is_path(config.data.source)
        and not is_pattern(config.data.source)
        and "{" not in place.name
        and not os.path.exists(place)
    ):
        raise DataError(
            f"the data of {folder} are not at {place.absolute()}: they or the run were moved. Name their new place: "
            f"recog train PLACE --resume {folder}"
        )
    return config


def open_checkpoints(folder: Path, config: TrainConfig) -> Checkpoints:
    """The checkpoints of the run in `folder`, valid for the settings of `config` that the weights depend on."""
    table = config_to_dict(config)
    del table["checkpoint"], table["loader"]["num_workers"]
    table["stop"].pop("max_steps", None)  # when training ends makes no difference to the steps before
    for key in ("source", "images", "exclude", "relabel"):
        del table["data"][key]  # the fingerprint identifies the data, wherever they are
    table["model"]["weights"] = Path(config.model.weights).name
    del table["model"]["parent"]  # its digest identifies it
    from recog.training.checkpoint import Checkpoints

    return Checkpoints(not_linked(folder / CHECKPOINTS, error=CheckpointError), {"config": table}, config.checkpoint)


def describe_loaded(loaded: Loaded | None) -> list[str]:
    """The checkpoint that a run resumes from and why newer ones were skipped, as lines of text."""
    if loaded is None:
        return []
    lines = [f"skipped a newer checkpoint: {skipped}" for skipped in loaded.skipped]
    lines.append(
        f"resuming from {loaded.path}: {plural(loaded.epoch, 'epoch')} and {plural(loaded.step, 'step')} of the next are done"
    )
    from recog.training.checkpoint import describe_versions

    versions = describe_versions(loaded)
    if versions is not None:
        lines.append(f"it was written by other versions, so results may differ in the last digits: {versions}")
    return lines


def remove_leftovers(folder: Path) -> None:
    """Remove partial files of a process that was killed in this run; of a link, the link."""
    for path in folder.glob("*.tmp-*"):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """An exclusive lock on the run in `folder`; CheckpointError if another process trains there.

    The lock ends with its process; the file that remains has no meaning by itself.
    """
    with open_regular(folder / LOCK, "a+b", error=CheckpointError) as file:
        _lock(file.fileno(), folder)
        file.truncate(0)
        file.write(f"{os.getpid()}\n".encode())
        file.flush()
        yield


def _lock(descriptor: int, folder: Path) -> None:
    if sys.platform == "win32":
        return  # without a lock
    try:
        # not flock, which loader workers would inherit and hold for a while after a killed run
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno not in (errno.EACCES, errno.EAGAIN):
            raise
        with contextlib.suppress(BundleError):
            who = read_bytes(folder / LOCK, max_bytes=100).decode(errors="replace").strip()
            raise CheckpointError(
                f"another process ({who or 'unknown'}) is training in {folder}; wait for it, stop it, or choose another --name."
            ) from None
        raise


def find_unfinished(name: str | Path, runs: Path = RUNS) -> Path:
    """The folder of an unfinished run, by its path or its name. CheckpointError if there is none."""
    for folder in (Path(name), runs / name):
        if os.path.isfile(folder / BUNDLE / MANIFEST):
            raise CheckpointError(
                f"{folder} is finished: there is nothing to resume. To train again with the same "
                f"settings: recog train --config {folder / RUN_CONFIG}"
            )
        if os.path.isfile(folder / RUN_CONFIG):
            return folder
    raise CheckpointError(
        f"there is no run '{name}' to resume: neither {name} nor {runs / name} holds a {RUN_CONFIG}, which is written when "
        "training starts. To start a run: recog train DATA"
    )


def check_same_data(folder: Path, planned_for: str | None, prepared: Prepared) -> None:
    """DataError, with the changes, if images, labels or splits differ from those that the run in `folder` was planned for."""
    if planned_for == prepared.fingerprint:
        return
    changes = list(_changes(folder, prepared))
    shown = "; ".join(changes[:5]) + (f"; and {len(changes) - 5:,} more" if len(changes) > 5 else "")
    raise DataError(
        f"the data of {folder} have changed since it started, and a run can be resumed only with the same images: "
        f"{shown or 'see ' + SPLITS_FILE}. Restore them, or start a new run: "
        f"recog train --config {folder / RUN_CONFIG}"
    )


def _changes(folder: Path, prepared: Prepared) -> Iterator[str]:
    """Images that are gone or new, then those that differ."""
    dataset = prepared.dataset
    now = {
        s.name: ([dataset.class_names[label] for label in s.labels], prepared.hashes[s.name], s.split)
        for s in dataset.samples
    }
    before = {
        row.name: (list(row.classes) if row.label is None else [row.label], row.sha256, split)
        for split, rows in read_splits(folder).splits.items()
        for row in rows
    }
    yield from (f"{name} is gone" for name in before if name not in now)
    yield from (f"{name} is new" for name in now if name not in before)
    for name in sorted(before.keys() & now.keys()):
        parts = zip(("class", "content", "split"), before[name], now[name], strict=True)
        others = [what for what, was, is_now in parts if was != is_now]
        if others:
            yield f"{name} has another {' and '.join(others)}"
