"""The least that can be done: one photo, squashed to size, through ONNX Runtime. No hashes, no calibration, no command line."""

import sys

import numpy as np
import onnxruntime
from PIL import Image

model, photo = sys.argv[1:]
session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
height, width = session.get_inputs()[0].shape[1:3]
image = np.asarray(Image.open(photo).convert("RGB").resize((width, height)))
logits = session.run(["logits"], {"images": image[None]})[0][0]
print(int(logits.argmax()))
