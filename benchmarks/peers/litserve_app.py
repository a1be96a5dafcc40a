"""LitServe with the ONNX file of a bundle: `python litserve_app.py BUNDLE PORT`; images as base64 in JSON, as in its guide."""

from __future__ import annotations

import base64
import io
import json
import sys
from pathlib import Path

import litserve
import numpy as np
import onnxruntime
from PIL import Image, ImageOps


class Classifier(litserve.LitAPI):
    def setup(self, device):
        bundle = Path(sys.argv[1])
        manifest = json.loads((bundle / "recog.json").read_text())
        self.names = manifest["class_names"]
        self.size = tuple(manifest["preprocess"]["image_size"])
        self.crop_pct = manifest["preprocess"]["crop_pct"]
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(
            str(bundle / "model.onnx"), options, providers=["CPUExecutionProvider"]
        )

    def decode_request(self, request):
        image = Image.open(io.BytesIO(base64.b64decode(request["image"])))
        height, width = self.size
        short = round(height / self.crop_pct)
        image.draft("RGB", (2 * short, 2 * short))
        image = ImageOps.exif_transpose(image).convert("RGB")
        scale = short / min(image.size)
        image = image.resize(
            (max(width, round(image.width * scale)), max(height, round(image.height * scale))), Image.BICUBIC
        )
        left, top = (image.width - width) // 2, (image.height - height) // 2
        return np.asarray(image.crop((left, top, left + width, top + height)))

    def predict(self, batch):
        return self.session.run(["logits"], {"images": np.stack(batch)})[0]

    def batch(self, inputs):
        return inputs

    def unbatch(self, output):
        return list(output)

    def encode_response(self, output):
        probs = np.exp(output - output.max())
        probs /= probs.sum()
        best = int(probs.argmax())
        return {"label": self.names[best], "confidence": float(probs[best])}


if __name__ == "__main__":
    api = Classifier(max_batch_size=64, batch_timeout=0.005)
    server = litserve.LitServer(api, accelerator="cpu", workers_per_device=1, timeout=60)
    server.run(host="127.0.0.1", port=int(sys.argv[2]), generate_client_file=False, log_level="error")
