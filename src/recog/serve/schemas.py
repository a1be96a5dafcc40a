"""Shapes of bodies, for /openapi.json alone."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict


class Error(BaseModel):
    error: str


class Live(BaseModel):
    live: bool


class IsReady(BaseModel):
    ready: bool


class Server(BaseModel):
    name: str
    version: str
    extensions: list[str]


class TensorMetadata(BaseModel):
    name: str
    datatype: str
    shape: list[int]


class ModelMetadata(BaseModel):
    name: str
    versions: list[str]
    platform: str
    inputs: list[TensorMetadata]
    outputs: list[TensorMetadata]


class ModelReady(BaseModel):
    name: str
    ready: bool


class OutputTensor(BaseModel):
    name: str
    datatype: str
    shape: list[int]
    parameters: dict[str, int] | None = None
    data: list[Any] | None = None


class InferResponse(BaseModel):
    model_config = ConfigDict(protected_namespaces=())

    model_name: str
    model_version: str
    id: str | None = None
    parameters: dict[str, str]
    outputs: list[OutputTensor]


class ClassProbability(BaseModel):
    label: str
    prob: float


class Answer(BaseModel):
    """With one label per image: label, confidence, top; with several: labels, probs. Or an error.

    `maps`, with `explain`: rows of numbers by class, over the part of the image that the network sees.
    """

    name: str
    label: str | None = None
    confidence: float | None = None
    top: list[ClassProbability] | None = None
    label_set: list[str] | None = None
    is_unknown: bool | None = None
    unknown_score: float | None = None
    labels: list[str] | None = None
    probs: dict[str, float] | None = None
    maps: dict[str, list[list[float]]] | None = None
    error: str | None = None


class Predictions(BaseModel):
    model: str
    version: str
    digest: str
    predictions: list[Answer]


class Crop(BaseModel):
    """The part that the network sees: see Preprocess in docs/bundle.md."""

    mode: str
    pct: float
    height: int
    width: int


class ModelFacts(BaseModel):
    name: str
    version: str
    digest: str
    architecture: str
    task: str
    class_names: list[str]
    has_report: bool
    has_maps: bool
    crop: Crop
    max_images: int
    max_body_bytes: int


_WORDS = {
    400: "The request is not valid, or its image cannot be read.",
    401: "A valid token is needed.",
    403: "The request comes from a page of another host.",
    404: "There is no such model or version.",
    408: "The body did not arrive in time.",
    413: "The body is too large.",
    415: "The type or encoding of the body is not supported.",
    503: "The service is busy or not ready; Retry-After tells when to try again.",
}


def errors(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """`responses` of a route that may answer with these."""
    return {status: {"model": Error, "description": _WORDS[status]} for status in statuses}


_FILE = {"type": "string", "format": "binary"}
PREDICT_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "image/jpeg": {"schema": _FILE},
            "image/png": {"schema": _FILE},
            "application/octet-stream": {"schema": _FILE},
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "properties": {"image": {"type": "array", "items": _FILE, "minItems": 1, "maxItems": 16}},
                    "required": ["image"],
                }
            },
        },
    }
}

_PARAMETERS = {"type": "object", "additionalProperties": {"type": ["string", "number", "boolean", "null"]}}
INFER_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": {
                    "type": "object",
                    "required": ["inputs"],
                    "properties": {
                        "id": {"type": "string"},
                        "parameters": _PARAMETERS,
                        "inputs": {
                            "type": "array",
                            "minItems": 1,
                            "maxItems": 1,
                            "items": {
                                "type": "object",
                                "required": ["name", "shape", "datatype"],
                                "properties": {
                                    "name": {"enum": ["image", "pixels"]},
                                    "shape": {"type": "array", "items": {"type": "integer", "minimum": 1}},
                                    "datatype": {"enum": ["BYTES", "UINT8"]},
                                    "parameters": _PARAMETERS,
                                    "data": {"type": "array"},
                                },
                            },
                        },
                        "outputs": {
                            "type": "array",
                            "items": {
                                "type": "object",
                                "required": ["name"],
                                "properties": {"name": {"type": "string"}, "parameters": _PARAMETERS},
                            },
                        },
                    },
                }
            },
            "application/octet-stream": {"schema": _FILE},
        },
    }
}
