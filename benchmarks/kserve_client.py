"""The transcript of KServe's client with `recog serve`: python benchmarks/kserve_client.py BUNDLE IMAGE ...

RECOG_KSERVE_PYTHON is the Python of an environment of its own with the package kserve, which needs pandas < 3.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

from harness import PEERS, write_result

from recog.runtime.predictor import load

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "serve"))
from service import serving  # noqa: E402  of the tests


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bundle")
    parser.add_argument("images", nargs="+")
    arguments = parser.parse_args()
    python = os.environ.get("RECOG_KSERVE_PYTHON")
    if not python:
        sys.exit("set RECOG_KSERVE_PYTHON to a Python that has the package kserve.")
    with serving(f"model={arguments.bundle}", "--quiet") as service:
        command = [
            python,
            str(PEERS / "kserve_client.py"),
            f"http://127.0.0.1:{service.port}",
            "model",
            *arguments.images,
        ]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    answer = json.loads(done.stdout)
    expected = load(arguments.bundle).predict(arguments.images)
    ours = [prediction.probs.tolist() for prediction in expected]
    theirs = answer["outputs"]["probabilities"]
    difference = max(abs(a - b) for rows in zip(ours, theirs, strict=True) for a, b in zip(*rows, strict=True))
    same = sum(a.label == b for a, b in zip(expected, answer["outputs"]["label"], strict=True))
    body = (
        f"{len(expected)} images: labels as `recog.load` predicts them on {same}, probabilities differ by at most "
        f"{difference:.1e}.\n\n"
        f"What the client was given:\n\n```json\n{json.dumps(answer, indent=1)}\n```"
    )
    write_result("kserve_client", "KServe's client with recog serve", body)


if __name__ == "__main__":
    main()
