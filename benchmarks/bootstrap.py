"""95 % intervals of seven measures from 10,000 predictions of 10 classes: ours with 1,000 resamples beside a scikit-learn loop.

Each runs in a process of its own. Start-up and imports are measured with 0 or 1 resamples and taken off; the loop runs 20
resamples and is extrapolated to 1,000, which is fair to it, as its time is linear in them.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import numpy as np
from harness import peer, time_in_turn, write_result

from recog.evaluation.measures.probability import softmax

NUM_IMAGES, NUM_CLASSES, NUM_RESAMPLES, PEER_RESAMPLES = 10_000, 10, 1000, 20
OURS = """
import sys, numpy as np
from recog.evaluation.measures.bootstrap import bootstrap_intervals
arrays = np.load(sys.argv[1])
probs, labels = arrays["probs"], arrays["labels"]
print(bootstrap_intervals(probs, labels, -np.log(probs[np.arange(len(labels)), labels]), num_resamples=int(sys.argv[2])))
"""


def main() -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, NUM_CLASSES, NUM_IMAGES)
    probs = softmax(rng.normal(0, 1.5, (NUM_IMAGES, NUM_CLASSES)) + 3 * np.eye(NUM_CLASSES)[labels])
    with tempfile.TemporaryDirectory() as folder:
        data = str(Path(folder) / "predictions.npz")
        np.savez(data, probs=probs, labels=labels)

        def ours(num_resamples: int) -> list[str]:
            return [sys.executable, "-c", OURS, data, str(num_resamples)]

        timings = time_in_turn(
            {
                "recog": ours(NUM_RESAMPLES),
                "recog, start-up": ours(1),
                "loop": peer("sklearn_bootstrap.py", data, str(PEER_RESAMPLES + 1)),
                "loop, start-up": peer("sklearn_bootstrap.py", data, "1"),
            },
            runs=5,
        )
    taken = {
        name: [a - b for a, b in zip(timings[name].seconds, timings[f"{name}, start-up"].seconds, strict=True)]
        for name in ("recog", "loop")
    }
    taken["loop"] = [seconds * NUM_RESAMPLES / PEER_RESAMPLES for seconds in taken["loop"]]
    median = {name: float(np.median(seconds)) for name, seconds in taken.items()}
    rows = ["| | median s for 1,000 resamples | range | n | peak MiB | ratio |", "|---|---|---|---|---|---|"]
    says = {
        "recog": "recog, 1,000 resamples",
        "loop": f"scikit-learn loop, extrapolated from {PEER_RESAMPLES} resamples",
    }
    for name, seconds in taken.items():
        rows.append(
            f"| {says[name]} | {median[name]:.2f} | {min(seconds):.2f}-{max(seconds):.2f} | {len(seconds)} "
            f"| {timings[name].peak_mib:.0f} | {median[name] / median['recog']:.0f} |"
        )
    rows.append(
        f"\n{NUM_IMAGES:,} predictions, {NUM_CLASSES} classes; balanced accuracy, macro F1, Matthews, NLL, Brier, ECE and macro "
        "AUROC together; recog makes those of six further means and of each class besides. Start-up is taken off: for recog it "
        "includes the point estimates and one resample."
    )
    write_result("bootstrap", "Bootstrap intervals of seven measures", "\n".join(rows))


if __name__ == "__main__":
    main()
