"""CIFAR-10 from scratch: `recog train` beside the tutorial of pytorch.org, clocks from process start to exit.

    python benchmarks/cifar10_scratch.py FOLDER [--stages short,full,start,peer] [--repeats 1] [--peer-epochs 1]

`start` is the peer with no epoch: start, listing and test; `peer` has one more epoch, and ten are counted from the two.
FOLDER has train/CLASS and test/CLASS. Each completed run is a line of results/cifar10_scratch.jsonl, so that a long benchmark can
be continued with another call; the table is made of all lines.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import sys
import tempfile
import tomllib
from pathlib import Path

import torch
from harness import PEERS, RESULTS, recog, time_in_turn, write_result
from torch.utils.flop_counter import FlopCounterMode

from recog.models.table import own_network

LINES = RESULTS / "cifar10_scratch.jsonl"
PEER_EPOCHS = 10  # that the comparison is about
SIDE_PX = 32
ONE_EPOCH = [
    *("--model", "fastnet32", "--epochs", "1"),
    *("--set", "schedule.small_fraction=0", "--set", "augment.geometry=translate"),
]
STAGES = {
    "short": ("recog, fastnet32, 1 epoch at 20 px", [*ONE_EPOCH, "--set", "model.image_size=[20, 20]"]),
    "shorter": ("recog, fastnet32, 1 epoch at 16 px", [*ONE_EPOCH, "--set", "model.image_size=[16, 16]"]),
    "narrow": ("recog, fastnet32, 15 epochs", ["--model", "fastnet32", "--epochs", "15"]),
    "full": ("recog, default", []),
}
VIEWS = dict.fromkeys(STAGES, ()) | dict.fromkeys(("narrow", "full"), ("mirror", "selective"))


def run_recog(folder: Path, stage: str, seed: int) -> dict[str, float | str]:
    with tempfile.TemporaryDirectory() as place:
        command = recog("train", str(folder), *STAGES[stage][1], "--seed", str(seed), "--name", stage, "--json")
        timing = time_in_turn({stage: command}, runs=1, warmup=0, cwd=Path(place))[stage]
        run = Path(place) / "runs" / stage
        report = json.loads(timing.stdout)["report"]
        training = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
        epochs = [line for line in training if line["kind"] == "epoch"]
        plan = tomllib.loads((run / "run.toml").read_text())
        views = {f"accuracy, {views}": accuracy_with(views, stage, folder, Path(place)) for views in VIEWS[stage]}
    schedule, sides = plan["schedule"], plan["model"]["image_size"]
    small = schedule["small_fraction"] * (1 - schedule["small_scale"] ** 2)
    step_cost = (1 - small) * math.prod(sides) / SIDE_PX**2  # over a step at the full size, in proportion to the pixels
    return {
        "seconds": timing.median_s,
        "accuracy": report["accuracy"],
        "num_test": report["num_images"],
        "epochs": len(epochs),
        "num_train": report["training"]["num_images"],
        "network": report["training"]["network"],
        "step_cost": step_cost,
        "seed": seed,
        **views,
    }


def accuracy_with(views: str, stage: str, folder: Path, place: Path) -> float:
    """On the test images, each averaged over several views."""
    command = recog("evaluate", stage, str(folder / "test"), "--views", views, "--json")
    timing = time_in_turn({views: command}, runs=1, warmup=0, cwd=place)[views]
    return float(json.loads(timing.stdout)["accuracy"])


def run_peer(folder: Path, epochs: int) -> dict[str, float | str]:
    command = [sys.executable, str(PEERS / "cifar10_tutorial.py"), str(folder), str(epochs)]
    timing = time_in_turn({"peer": command}, runs=1, warmup=0)["peer"]
    return {"seconds": timing.median_s, "accuracy": float(timing.stdout), "epochs": epochs}


def ten_epochs_s(starts: list[dict[str, float]], peers: list[dict[str, float]]) -> float | None:
    if not starts or not peers:
        return None
    start_s = statistics.median(run["seconds"] for run in starts)
    epoch_s = statistics.median((run["seconds"] - start_s) / run["epochs"] for run in peers)
    return start_s + PEER_EPOCHS * epoch_s


def step_flop(name: str) -> int:
    """Of a training step on one image of 32 px: forward and backward, a multiplication and an addition being two."""
    with torch.device("meta"):
        network = own_network(name).build(num_classes=10, in_chans=3, image_size=(32, 32))
        images = torch.zeros(2, 3, 32, 32)
    with FlopCounterMode(display=False) as counter:
        network(images).sum().backward()
    return counter.get_total_flops() // len(images)


def row(stage: str, runs: list[dict[str, float]], peer_s: float | None) -> str:
    seconds, accuracy = [run["seconds"] for run in runs], [run["accuracy"] for run in runs]
    median = statistics.median(seconds)
    name = STAGES[stage][0] if stage in STAGES else f"tutorial, {runs[0]['epochs']} epoch(s)"
    work = "-"
    if stage in STAGES:
        run = runs[0]
        flop = step_flop(str(run["network"])) * run["num_train"] * run["epochs"] * run["step_cost"]
        work = f"{flop / 1e15:.3f} PFLOP, {flop / median / 1e9:.0f} GFLOP/s of the whole command"
    ratio = "-" if peer_s is None else f"{peer_s / median:.1f}"
    spread = f"{min(accuracy):.2%} to {max(accuracy):.2%}"
    return (
        f"| {name} | {runs[0]['epochs']} | {statistics.mean(accuracy):.2%} | {spread} | {len(runs)} | {median:.0f} "
        f"| {min(seconds):.0f}-{max(seconds):.0f} | {ratio} | {work} |"
    )


def completed() -> list[dict[str, float]]:
    return [json.loads(line) for line in LINES.read_text().splitlines()]


def views_note(stage: str, runs: list[dict[str, float]]) -> str:
    means = {
        views: statistics.mean(run[f"accuracy, {views}"] for run in runs if f"accuracy, {views}" in run)
        for views in VIEWS[stage]
        if any(f"accuracy, {views}" in run for run in runs)
    }
    found = ", ".join(f"{views} {accuracy:.2%}" for views, accuracy in means.items())
    return f"\n\n{STAGES[stage][0]}, averaged over several views of each test image: {found}." if found else ""


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--stages", default="short,full,start,peer")
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--peer-epochs", type=int, default=1)
    options = parser.parse_args()
    for _ in range(options.repeats):
        for stage in filter(None, options.stages.split(",")):
            epochs = {"start": 0, "peer": options.peer_epochs}.get(stage)
            seed = sum(result["stage"] == stage for result in completed())
            result = run_recog(options.folder, stage, seed) if epochs is None else run_peer(options.folder, epochs)
            with LINES.open("a", encoding="utf-8") as file:
                file.write(json.dumps({"stage": stage, **result}) + "\n")
    runs: dict[str, list[dict[str, float]]] = {}
    for result in completed():
        runs.setdefault(result["stage"], []).append(result)
    peer_s = ten_epochs_s(runs.get("start", []), runs.get("peer", []))
    table = [
        f"| | epochs | accuracy, mean | range | n | seconds, median | range | {PEER_EPOCHS} peer epochs / this | work |",
        "|---|---|---|---|---|---|---|---|---|",
        *(row(stage, found, peer_s) for stage, found in runs.items()),
    ]
    note = f"\n\nTen epochs of the tutorial are counted from runs of none and of one: {peer_s:.0f} s." if peer_s else ""
    write_result(
        "cifar10_scratch",
        "CIFAR-10 from scratch, 10,000 test images",
        "\n".join(table) + note + "".join(views_note(stage, runs.get(stage, [])) for stage in ("narrow", "full")),
    )


if __name__ == "__main__":
    main()
