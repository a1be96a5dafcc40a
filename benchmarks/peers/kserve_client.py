"""KServe's REST client with a recog service: python kserve_client.py URL MODEL IMAGE ...; prints what it gets as JSON.

It runs in an environment of its own, as the package kserve needs pandas < 3: pip install kserve.
"""

from __future__ import annotations

import asyncio
import importlib.metadata
import json
import sys
from pathlib import Path

import numpy as np
from kserve import InferenceRESTClient, InferInput, InferRequest, RESTConfig

VERSIONS = ("kserve", "pandas", "httpx", "numpy")


def request_of(model: str, files: list[bytes], *, binary: bool) -> InferRequest:
    """The images as BYTES; in JSON as base64, as the protocol's content_type tells."""
    images = InferInput("image", [len(files)], "BYTES")
    images.set_data_from_numpy(np.array(files, object), binary_data=binary)
    return InferRequest(model_name=model, infer_inputs=[images], request_id="from-kserve")


async def main(url: str, model: str, paths: list[str]) -> None:
    files = [Path(path).read_bytes() for path in paths]
    async with InferenceRESTClient(RESTConfig(protocol="v2", timeout=60)) as client:
        response = await client.infer(url, request_of(model, files, binary=True), model_name=model)
        answer = {
            "versions": {name: importlib.metadata.version(name) for name in VERSIONS},
            "server_live": await client.is_server_live(url),
            "server_ready": await client.is_server_ready(url),
            "model_ready": await client.is_model_ready(url, model),
            "other_model_ready": await client.is_model_ready(url, "another"),
            "model_version": response.model_version,
            "id": response.id,
            "outputs": {output.name: plain(output.as_numpy()) for output in response.outputs},
        }
        try:
            await client.infer(url, request_of(model, [b"no image"], binary=True), model_name=model)
        except Exception as error:  # noqa: BLE001  whatever it raises is what is shown
            answer["error"] = f"{type(error).__name__}: {error}"
    print(json.dumps(answer))


def plain(values: np.ndarray) -> list:
    return [value.decode() if isinstance(value, bytes) else value for value in values.tolist()]


if __name__ == "__main__":
    if len(sys.argv) < 4:
        sys.exit(__doc__)
    asyncio.run(main(sys.argv[1], sys.argv[2], sys.argv[3:]))
