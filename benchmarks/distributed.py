"""The loss curve of two processes beside that of one, on the same data in the same batches: python benchmarks/distributed.py"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

from harness import recog, time_in_turn, write_result

EPOCHS = 5
# batches of 101 images, which two processes have to share unevenly
SETTINGS = (
    "train",
    "digits",
    "--recipe",
    "scratch",
    "--epochs",
    str(EPOCHS),
    "--batch-size",
    "101",
    "--set",
    "compute.num_threads=1",
    "--json",
)
LIMIT = 1e-4  # for a network without BatchNorm


def torchrun(*arguments: str, num_processes: int) -> list[str]:
    launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={num_processes}"]
    return [sys.executable, *launcher, "-m", "recog", *arguments]


def curves(folder: Path, model: str, lr: str) -> tuple[list[list[float]], list[dict[str, float]]]:
    """(step losses, report) of one process and of two."""
    losses, reports = [], []
    for num_processes in (1, 2):
        name = f"{model}-{num_processes}"
        arguments = (*SETTINGS, "--model", model, "--lr", lr, "--name", name)
        command = recog(*arguments) if num_processes == 1 else torchrun(*arguments, num_processes=num_processes)
        done = time_in_turn({name: command}, runs=1, warmup=0, cwd=folder)[name]
        reports.append(json.loads(done.stdout)["report"])
        lines = (folder / "runs" / name / "metrics.jsonl").read_text().splitlines()
        losses.append([record["loss"] for record in map(json.loads, lines) if record["kind"] == "step"])
    return losses, reports


def section(title: str, losses: list[list[float]], reports: list[dict[str, float]]) -> tuple[str, float]:
    one, two = losses
    gaps = [abs(a - b) for a, b in zip(one, two, strict=True)]
    shown = sorted({*range(0, len(one), max(1, len(one) // 12)), len(one) - 1})
    rows = [f"| {i + 1} | {one[i]:.6f} | {two[i]:.6f} | {gaps[i]:.1e} |" for i in shown]
    tested = [
        f"accuracy {report['accuracy']:.4f}, NLL {report['nll']:.5f}, n = {report['num_images']}" for report in reports
    ]
    text = "\n".join(
        [
            f"## {title}",
            "",
            f"n = {len(one)} steps; the losses differ by {max(gaps):.1e} at most.",
            f"Test split: one process {tested[0]}; two {tested[1]}.",
            "",
            "| step | one process | two processes | difference |",
            "|---|---|---|---|",
            *rows,
            "",
        ]
    )
    return text, max(gaps)


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="recog-distributed-") as name:
        plain, gap = section("LeNet-5, which has no BatchNorm", *curves(Path(name), "lenet5", "0.05"))
        normed, _ = section(
            "ResNet-8: BatchNorm normalises over each process's own images on a CPU, so the curves part",
            *curves(Path(name), "resnet8", "0.1"),
        )
    body = (
        f"Handwritten digits, batches of 101 images (50 and 51 for two processes), {EPOCHS} epochs, gloo, one thread a process, "
        "both processes on one machine.\n"
        f"A network without BatchNorm must agree within {LIMIT:g}: {'it does' if gap <= LIMIT else 'IT DOES NOT'}.\n\n"
    )
    write_result("distributed", "The loss curve of two processes beside that of one", body + plain + "\n" + normed)
    if gap > LIMIT:
        raise SystemExit(f"the loss curves differ by {gap:.1e}")


if __name__ == "__main__":
    main()
