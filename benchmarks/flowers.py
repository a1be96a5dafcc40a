"""Five kinds of flowers, 600 train and 200 test photos: `recog train` beside a linear probe and the tutorial's fine-tuning.

`python benchmarks/flowers.py FOLDER [STORE [NAME ...]]`. STORE, a file of JSON lines, keeps each completed measurement: run again
to continue. NAME limits what is measured now: head, probe, finetune, tutorial.
"""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import timm
from harness import peer, recog, time_in_turn, write_result

from recog.models.weights import find_packaged_weights

SEEDS = (0, 1, 2)
TUTORIAL_EPOCHS = 12  # after 7 its rate falls to a tenth
HEAD, FINETUNE = "recog train --recipe head", "recog train --recipe finetune"
PROBE, TUTORIAL = "linear probe: timm, DataLoader, scikit-learn", "fine-tuning as in PyTorch's tutorial"
NAMES = {"head": HEAD, "probe": PROBE, "finetune": FINETUNE, "tutorial": TUTORIAL}


def commands(data: str) -> dict[tuple[str, int], Sequence[str]]:
    """By name and seed. The peers have lite0, as the probe's usual network."""
    name = "tf_efficientnet_lite0"
    weights = str(find_packaged_weights(name, timm.create_model(name).state_dict()))
    found: dict[tuple[str, int], Sequence[str]] = {}
    for seed in SEEDS:
        found[HEAD, seed] = recog("train", data, "--recipe", "head", "--seed", str(seed), "--json")
        found[PROBE, seed] = peer("linear_probe.py", data, weights)
    for seed in SEEDS:
        found[FINETUNE, seed] = recog("train", data, "--recipe", "finetune", "--seed", str(seed), "--json")
    found[TUTORIAL, 0] = peer("tutorial_finetune.py", data, weights, str(TUTORIAL_EPOCHS))
    return found


def measure(name: str, seed: int, command: Sequence[str]) -> dict[str, Any]:
    """Seconds of the whole command, or of the tutorial until its best epoch had ended, and the accuracy on test."""
    with tempfile.TemporaryDirectory() as folder:
        timing = time_in_turn({name: command}, runs=1, warmup=0, cwd=Path(folder))[name]
    found: dict[str, Any] = {"name": name, "seed": seed, "seconds": timing.median_s, "peak_mib": timing.peak_mib}
    if name == TUTORIAL:
        epochs = [json.loads(line) for line in timing.stdout.splitlines()]
        best = max(epochs, key=lambda epoch: (epoch["accuracy"], -epoch["epoch"]))
        return found | {"seconds": best["seconds"], "accuracy": best["accuracy"], "epoch": best["epoch"]}
    if name == PROBE:
        return found | {"accuracy": float(timing.stdout)}
    return found | {"accuracy": json.loads(timing.stdout)["report"]["accuracy"]}


def row(name: str, found: Sequence[Mapping[str, Any]]) -> str:
    seconds, accuracies = ([each[key] for each in found] for key in ("seconds", "accuracy"))
    between = f"{min(accuracies):.1%}-{max(accuracies):.1%}" if len(found) > 1 else ""
    shown = f"{name}, until its best epoch, {found[0]['epoch']}" if name == TUTORIAL else name
    return (
        f"| {shown} | {len(found)} | {statistics.mean(accuracies):.1%} | {between} | {statistics.median(seconds):.1f} | "
        f"{min(seconds):.1f}-{max(seconds):.1f} | {max(each['peak_mib'] for each in found):,.0f} |"
    )


def main() -> None:
    store = Path(sys.argv[2]) if len(sys.argv) > 2 else None
    done = [json.loads(line) for line in store.read_text().splitlines()] if store and store.is_file() else []
    wanted = {NAMES[name] for name in sys.argv[3:] or NAMES}
    for (name, seed), command in commands(str(Path(sys.argv[1]).resolve())).items():
        if name in wanted and not any((each["name"], each["seed"]) == (name, seed) for each in done):
            done.append(measure(name, seed, command))
            print(done[-1], flush=True)
            if store is not None:
                store.write_text("\n".join(map(json.dumps, done)) + "\n")
    lines = [
        "| | n | test accuracy, mean of the seeds | range | median s | range | peak MiB |",
        "|---|---|---|---|---|---|---|",
    ]
    for name in (HEAD, PROBE, FINETUNE, TUTORIAL):
        if found := [each for each in done if each["name"] == name]:
            lines.append(row(name, found))
    lines.append(
        "\nWhole commands, from the start of the process; 200 test photos, of which one is 0.5 points. The tutorial selects its "
        "epoch on the test photos, which favours it."
    )
    write_result("flowers", "Flowers: accuracy and time of the whole command", "\n".join(lines))


if __name__ == "__main__":
    main()
