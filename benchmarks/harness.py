"""What every benchmark here shares: whole commands timed in turn with their peers, and one form of result file."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recog.core.hardware import read_hardware

RESULTS = Path(__file__).parent / "results"
PEERS = Path(__file__).parent / "peers"
PACKAGES = ("recog", "torch", "timm", "onnxruntime", "scikit-learn", "numpy", "pillow")


@dataclass(frozen=True, kw_only=True)
class Timing:
    """Wall seconds of `len(seconds)` runs and the largest peak memory of a run's process."""

    seconds: tuple[float, ...]
    peak_mib: float
    stdout: str  # of the last run
    cpu_s: tuple[float, ...] = ()  # of all threads and child processes; other load on the machine hardly changes it

    @property
    def median_s(self) -> float:
        return statistics.median(self.seconds)

    @property
    def median_cpu_s(self) -> float:
        return statistics.median(self.cpu_s)

    def row(self, name: str, base: Timing) -> str:
        low, high = min(self.seconds), max(self.seconds)
        return (
            f"| {name} | {self.median_s:.2f} | {low:.2f}-{high:.2f} | {len(self.seconds)} | {self.peak_mib:.0f} "
            f"| {self.median_s / base.median_s:.1f} |"
        )


TIMING_HEADER = "| | median s | range | n | peak MiB | ratio |\n|---|---|---|---|---|---|"


def recog(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "recog", *arguments]


def peer(name: str, *arguments: str) -> list[str]:
    return [sys.executable, str(PEERS / name), *arguments]


def time_in_turn(
    commands: Mapping[str, Sequence[str]],
    *,
    runs: int,
    warmup: int = 1,
    cwd: Path | None = None,
) -> dict[str, Timing]:
    """Every command once per round, so that a machine whose speed drifts is the same for all of them."""
    seconds: dict[str, list[float]] = {name: [] for name in commands}
    cpu: dict[str, list[float]] = {name: [] for name in commands}
    peaks = dict.fromkeys(commands, 0.0)
    outputs = dict.fromkeys(commands, "")
    for round_number in range(warmup + runs):
        for name, command in commands.items():
            run = run_once(command, cwd)
            peaks[name], outputs[name] = max(peaks[name], run.peak_mib), run.stdout
            if round_number >= warmup:
                seconds[name] += run.seconds
                cpu[name] += run.cpu_s
    return {
        name: Timing(seconds=tuple(values), peak_mib=peaks[name], stdout=outputs[name], cpu_s=tuple(cpu[name]))
        for name, values in seconds.items()
    }


@dataclass(frozen=True, kw_only=True)
class Repeats:
    """Completed runs in a file of JSON lines, so that a long benchmark goes on where it was stopped."""

    path: Path

    def timing(
        self, key: str, command: Sequence[str], *, cwd: Path | None = None, codes: Sequence[int] = (0,)
    ) -> Timing:
        """The run of `command` that `key` names: from the file, or run now and added to it."""
        known = self._known()
        return known[key] if key in known else self._add(key, run_once(command, cwd, codes=codes))

    def together(
        self, commands: Mapping[str, Sequence[str]], at_once: int, *, cwd: Path | None = None
    ) -> dict[str, Timing]:
        """The runs of `commands`, by key: from the file, or run now, `at_once` at any time, and added to it."""
        known = self._known()
        missing = {key: command for key, command in commands.items() if key not in known}
        with ThreadPoolExecutor(at_once) as pool:
            for key, run in zip(missing, pool.map(lambda each: run_once(each, cwd), missing.values()), strict=True):
                known[key] = self._add(key, run)
        return {key: known[key] for key in commands}

    def _known(self) -> dict[str, Timing]:
        lines = self.path.read_text(encoding="utf-8").splitlines() if self.path.exists() else []
        return {found.pop("key"): Timing(**found) for found in map(json.loads, lines)}

    def _add(self, key: str, run: Timing) -> Timing:
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"key": key, **asdict(run)}) + "\n")
        return run


def run_once(command: Sequence[str], cwd: Path | None = None, *, codes: Sequence[int] = (0,)) -> Timing:
    """One run, which ends with one of `codes`. wait4 gives the kernel's own account of that one process."""
    with tempfile.TemporaryFile("w+") as stdout, tempfile.TemporaryFile("w+") as stderr:
        started = time.perf_counter()
        process = subprocess.Popen(command, stdout=stdout, stderr=stderr, cwd=cwd)
        _, status, usage = os.wait4(process.pid, 0)
        elapsed = time.perf_counter() - started
        process.returncode = os.waitstatus_to_exitcode(status)
        stdout.seek(0)
        stderr.seek(0)
        if process.returncode not in codes:
            raise SystemExit(f"{' '.join(command)} ended with {process.returncode}:\n{stderr.read()[-2000:]}")
        cpu_s = usage.ru_utime + usage.ru_stime
        return Timing(seconds=(elapsed,), peak_mib=usage.ru_maxrss / 1024, stdout=stdout.read(), cpu_s=(cpu_s,))


def kept(name: str, compute: Callable[[], NDArray[Any]]) -> NDArray[Any]:
    """The array of `compute`, such as features, in the system's temporary folder from one benchmark to the next."""
    path = Path(tempfile.gettempdir()) / "recog-benchmarks" / f"{name}.npy"
    if not path.exists():
        found = compute()
        path.parent.mkdir(exist_ok=True)
        np.save(path, found)
    return np.load(path)


def write_result(name: str, title: str, body: str) -> None:
    """benchmarks/results/NAME.md: title, machine, versions, command, and the body; printed too."""
    hardware = read_hardware()
    versions = ", ".join(f"{package} {importlib.metadata.version(package)}" for package in PACKAGES)
    text = (
        f"# {title}\n\n"
        f"- machine: {hardware.cpu}, {hardware.num_cores} cores, {platform.system()} {platform.machine()}, "
        f"Python {platform.python_version()}\n"
        f"- versions: {versions}\n"
        f"- command: `python benchmarks/{Path(sys.argv[0]).name}{' DATA' if len(sys.argv) > 1 else ''}`, "
        f"threads: {os.environ.get('OMP_NUM_THREADS', 'all cores')}\n"
        f"- load average over the last 5 minutes, other work included: {os.getloadavg()[1]:.0f}\n\n{body.rstrip()}\n"
    )
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.md").write_text(text, encoding="utf-8")
    print(text)
