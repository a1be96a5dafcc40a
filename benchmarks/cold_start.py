"""One photo from a cold start to its answer: `recog predict` beside a timm script and a bare ONNX Runtime script."""

from __future__ import annotations

import sys
from pathlib import Path

from harness import TIMING_HEADER, peer, recog, time_in_turn, write_result


def main() -> None:
    run, photo = (Path(argument).resolve() for argument in sys.argv[1:])
    bundle = run / "bundle"
    commands = {
        "recog predict": recog("predict", str(bundle), str(photo)),
        "bare ONNX Runtime script": peer("onnx_predict.py", str(bundle / "model.onnx"), str(photo)),
        "timm script": peer("timm_predict.py", str(bundle), str(photo)),
        "recog --help": recog("--help"),
        "import torch": [sys.executable, "-c", "import torch"],
    }
    timings = time_in_turn(commands, runs=9)
    rows = [timings[name].row(name, timings["recog predict"]) for name in commands]
    write_result("cold_start", "One photo, cold start to answer", "\n".join([TIMING_HEADER, *rows]))


if __name__ == "__main__":
    main()
