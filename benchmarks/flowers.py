"""Five kinds of flowers, 600 train and 200 test photos: `recog train` with head and finetune beside the usual linear probe."""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

import timm
from harness import TIMING_HEADER, peer, recog, time_in_turn, write_result

from recog.models.weights import find_packaged_weights


def main() -> None:
    data = str(Path(sys.argv[1]).resolve())
    name = "tf_efficientnet_lite0"
    weights = str(find_packaged_weights(name, timm.create_model(name).state_dict()))
    with tempfile.TemporaryDirectory() as folder:
        fast = time_in_turn(
            {
                "recog train --recipe head": recog("train", data, "--recipe", "head", "--json"),
                "linear probe with timm, DataLoader, scikit-learn": peer("linear_probe.py", data, weights),
            },
            runs=3,
            cwd=Path(folder),
        )
        slow = time_in_turn(
            {"recog train --recipe finetune": recog("train", data, "--recipe", "finetune", "--json")},
            runs=1,
            warmup=0,
            cwd=Path(folder),
        )
    timings = {**fast, **slow}
    base = fast["recog train --recipe head"]
    lines = [TIMING_HEADER, *(timing.row(name, base) for name, timing in timings.items()), ""]
    lines += ["| | test accuracy | 95 % interval | n |", "|---|---|---|---|"]
    for name, timing in timings.items():
        if name.startswith("recog"):
            report = json.loads(timing.stdout)["report"]
            low, high = report["accuracy_ci95"]
            lines.append(f"| {name} | {report['accuracy']:.1%} | {low:.1%}-{high:.1%} | {report['num_images']} |")
        else:
            lines.append(f"| {name} | {float(timing.stdout):.1%} | | 200 |")
    lines.append("\nThe probe fits on all 600 training photos; recog holds 90 of them back to choose with.")
    write_result("flowers", "Flowers: accuracy and time of the whole command", "\n".join(lines))


if __name__ == "__main__":
    main()
