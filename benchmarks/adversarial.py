"""Adversarial training beside plain training, both under the whole attack suite of `recog robustness`.

    python benchmarks/adversarial.py mnist DATA [--epochs 20] [--limit 1000]
    python benchmarks/adversarial.py cifar10 DATA [--epochs 3]

DATA is the folder with mnist/ and cifar10.zip. Two runs of `recog train` with the same network and optimiser, then
`recog robustness RUN DATA --attacks all` on test images that neither has seen. Each result is a line of
results/adversarial.jsonl, so that the next call goes on where one was interrupted; the table is made of all lines.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness import RESULTS, recog, write_result

LINES = RESULTS / "adversarial.jsonl"
COMMON = ("--set", "loss.label_smoothing=0", "--set", "schedule.small_fraction=0")


@dataclass(frozen=True, kw_only=True)
class Task:
    """What is trained on, how, and what it is attacked with."""

    source: str
    eps: str
    epochs: int
    settings: tuple[str, ...]
    adversarial: tuple[str, ...] = ()


TASKS = {
    # PGD-AT (Madry et al., 2018) with few steps, on the small network of Wong and Kolter (2018)
    "mnist": Task(
        source="mnist",
        eps="0.3",
        epochs=20,
        settings=(
            *("--model", "cnn_16_32", "--optimizer", "adam", "--lr", "0.002", "--batch-size", "128"),
            *("--set", "augment.policy=none"),
        ),
        adversarial=("--set", "adversarial.steps=7"),
    ),
    "cifar10": Task(
        source="cifar10.zip",
        eps="8/255",
        epochs=3,
        settings=("--model", "fastnet32"),
        adversarial=("--set", "adversarial.steps=3"),  # by fgsm-rs, val under PGD was at 0 % from the first epoch on
    ),
}


def run(command: Sequence[str], place: Path) -> dict[str, Any]:
    """The JSON that a command of recog prints, in the folder `place`."""
    done = subprocess.run(command, cwd=place, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}\n{done.stderr[-2000:]}")
    table: dict[str, Any] = json.loads(done.stdout)
    return table


def measure(name: str, kind: str, options: argparse.Namespace) -> dict[str, Any]:
    task, place = TASKS[name], options.work
    place.mkdir(parents=True, exist_ok=True)
    data = str((options.data / task.source).absolute())
    epochs = str(options.epochs or task.epochs)
    own = (*task.adversarial, "--set", f"adversarial.eps={task.eps}") if kind == "adversarial" else ()
    folder = f"{name}-{kind}"
    started = time.perf_counter()
    trained = place / "runs" / folder / "report.json"
    if not trained.exists():
        unfinished = trained.with_name("run.toml").exists()
        train = ("train", data, *task.settings, *COMMON, *own, "--epochs", epochs, "--name", folder, "--json")
        run(recog("train", "--resume", folder, "--json") if unfinished else recog(*train), place)
    train_s, started = time.perf_counter() - started, time.perf_counter()
    attack = (
        "robustness",
        folder,
        data,
        "--attacks",
        "all",
        "--eps",
        task.eps,
        "--limit",
        str(options.limit),
        "--json",
    )
    report = run(recog(*attack), place)["attacks"]
    return {
        "task": name,
        "kind": kind,
        "epochs": epochs,
        "settings": [*task.settings, *own],
        "eps": task.eps,
        "train_s": train_s,
        "attack_s": time.perf_counter() - started,
        "clean": report["clean"],
        "robust": report["robust"],
        "rows": {row["name"]: row["robust"]["accuracy"] for row in report["rows"]},
        "flags": report["flags"],
    }


def table(lines: Sequence[dict[str, Any]]) -> list[str]:
    def rate(found: dict[str, Any]) -> str:
        low, high = found["accuracy_ci95"]
        return f"{found['accuracy']:.1%} ({low:.1%}-{high:.1%})"

    rows = [
        "One run each, seed 0; robust accuracy under fgsm, pgd, apgd-ce, apgd-dlr and square together, with 95 % intervals.",
        "",
        "| data | training | epochs | eps | n | accuracy as they are | robust accuracy, at most | training, min | attacks, min |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for line in lines:
        minutes = (f"{line[key] / 60:.0f}" for key in ("train_s", "attack_s"))
        cells = (line["task"], line["kind"], line["epochs"], line["eps"], str(line["clean"]["num_images"]))
        rows.append(f"| {' | '.join((*cells, rate(line['clean']), rate(line['robust']), *minutes))} |")
    settings = {f"{line['task']}, {line['kind']}": line for line in lines}
    rows += ["", *(f"- {name}: `{' '.join(line['settings'])}`" for name, line in settings.items())]
    return [*rows, *(f"- {name}: warning, {flag}" for name, line in settings.items() for flag in line["flags"])]


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("task", choices=TASKS)
    parser.add_argument("data", type=Path)
    parser.add_argument("--epochs", type=int, help="default: 20, of cifar10 3")
    parser.add_argument("--limit", type=int, default=1000, help="test images to attack")
    parser.add_argument("--kinds", nargs="+", choices=("plain", "adversarial"), default=("plain", "adversarial"))
    parser.add_argument("--work", type=Path, default=Path("/tmp/recog-adversarial"), help="folder of the runs")
    options = parser.parse_args(arguments)
    lines = [json.loads(line) for line in LINES.read_text().splitlines()] if LINES.exists() else []
    for kind in options.kinds:
        line = measure(options.task, kind, options)
        lines = [known for known in lines if (known["task"], known["kind"]) != (options.task, kind)] + [line]
        LINES.write_text("".join(json.dumps(each) + "\n" for each in lines))
        print(f"{options.task}, {kind}: {line['robust']}", flush=True)
    write_result("adversarial", "Adversarial training", "\n".join(table(lines)))


if __name__ == "__main__":
    main()
