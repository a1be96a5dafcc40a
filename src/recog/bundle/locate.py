"""One resolver for RUN, BUNDLE, path and name: an existing path before a name."""

from __future__ import annotations

import difflib
import os
import shlex
from pathlib import Path

from recog.bundle.manifest import MANIFEST
from recog.core.errors import BundleError
from recog.core.files import not_linked, user_path

HUB_PREFIX = "hf://"
RUNS = Path("runs")
BUNDLE = "bundle"


def find_bundle(name: str | Path) -> Path:
    """The bundle folder that `name` means: itself, the one in a run folder, or that of the run of this name below runs/.

    Or the one at an address hf://OWNER/NAME@REVISION, from the user's cache or the hub. A path may begin with '~', the user's
    home. BundleError where there is none.
    """
    if not isinstance(name, (str, Path)) or not str(name).strip():
        raise BundleError(f"the bundle is {name!r}; expected the path of a bundle or run, or a run's name.")
    if str(name).startswith(HUB_PREFIX):
        from recog.bundle.hub import fetch_bundle  # only where it is asked for

        return fetch_bundle(str(name))
    tried = [user_path(name)]
    if len(Path(name).parts) == 1:
        tried.append(RUNS / name)
    for path in tried:
        for folder in (path, path / BUNDLE):
            if os.path.isfile(folder / MANIFEST):  # never raises, whatever the name
                return folder if folder == path else not_linked(folder, error=BundleError)
    for path in tried:
        if os.path.isfile(path / "run.toml") and not os.path.lexists(path / BUNDLE):
            raise BundleError(
                f"{path} is unfinished and has no bundle yet. To resume: recog train --resume {shlex.quote(str(path))}"
            )
        if os.path.exists(path):
            raise BundleError(
                f"{path} is neither a bundle nor a finished run: it holds no {MANIFEST} and no {BUNDLE}/{MANIFEST}."
            )
    runs = sorted(run.name for run in RUNS.glob("*") if (run / BUNDLE / MANIFEST).is_file())
    near = difflib.get_close_matches(str(name), runs, n=1)
    hint = f" Did you mean '{near[0]}'?" if near else (f" Runs here: {', '.join(runs[:10])}." if runs else "")
    raise BundleError(f"there is no bundle or run '{name}'.{hint}")


def run_of(bundle: Path) -> Path | None:
    """The run folder that `bundle` stands in, or None where it stands alone."""
    run = bundle.absolute().parent
    return run if (run / "run.toml").is_file() and bundle.absolute().name == BUNDLE else None
