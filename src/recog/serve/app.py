"""The application: routes of the service, with their documentation for /openapi.json."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import replace
from typing import Annotated, Any

import msgspec
from fastapi import FastAPI, Path, Query, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse, Response

from recog.core.version import __version__
from recog.runtime.prediction import PREDICTIONS, Prediction
from recog.serve import schemas
from recog.serve.access import CLIENT_LEFT, Gate, error_response
from recog.serve.bodies import Admission, RequestError, deadline_of, uploaded_images
from recog.serve.config import ServeConfig
from recog.serve.inference import Model, Part, Unavailable
from recog.serve.messages import Image, rows
from recog.serve.metrics import CONTENT_TYPE, Metrics
from recog.serve.page import add_page
from recog.serve.protocol import EXTENSIONS, HEADER_LENGTH, encode_inference, metadata, parse_inference

DESCRIPTION = "Image classification with calibrated probabilities. Open Inference Protocol V2 and POST /predict."


class Service:
    """The models that are served, and what their routes share."""

    def __init__(self, bundles: Mapping[str, str], config: ServeConfig) -> None:
        self.config = config
        self.models = {name: Model(name, source, config) for name, source in bundles.items()}
        self.metrics = Metrics(self.models.values())
        for model in self.models.values():
            model.on_batch = self.metrics.count_batch
        self.admission = Admission(config.limits)
        self.metrics.open_requests.set_function(lambda: self.admission.num_open)
        self.is_draining = False

    def model(self, name: str | None, version: str | None = None) -> Model:
        """The model `name`, None for the only one or the first. RequestError where there is none of that name and version."""
        if name is None:
            return next(iter(self.models.values()))
        if name not in self.models:
            raise RequestError(404, "there is no model of this name")
        model = self.models[name]
        if version is not None and version != model.ready.version:
            raise RequestError(404, f"the model '{name}' has version {model.ready.version}")
        return model

    @property
    def is_ready(self) -> bool:
        return not self.is_draining and all(model.is_ready for model in self.models.values())

    async def answer(self, request: Request, model: Model, images: Sequence[Image], deadline: float) -> Part:
        """The answer to `images`, unless the client leaves before: then nothing is computed for it that is not begun."""
        work = asyncio.create_task(model.answer(images, timeout_s=deadline - time.monotonic()))
        gone = asyncio.create_task(_left(request))
        try:
            await asyncio.wait((work, gone), return_when=asyncio.FIRST_COMPLETED)
            if not work.done():
                raise ClientDisconnect
            return work.result()
        finally:
            work.cancel()
            gone.cancel()


async def _left(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def predictions_of(part: Part, images: Sequence[Image]) -> list[Prediction | str]:
    """Per image of a request its Prediction, or why there is none."""
    ready, answered = part.ready, part.answered
    num_classes = len(ready.class_names)
    logits, probs = rows(answered.logits, "<f4", num_classes), rows(answered.probs, "<f8", num_classes)
    preds = rows(answered.preds, bool, num_classes)
    sets = None if answered.sets is None else rows(answered.sets, bool, num_classes)
    unknown = None if answered.is_unknown is None else rows(answered.is_unknown, bool)
    scores = None if answered.unknown_scores is None else rows(answered.unknown_scores, "<f8")
    maps = {place: rows(data, "<f4").reshape(-1, *(ready.map_size or ())) for place, data in answered.maps.items()}
    row = part.places.start - sum(place < part.places.start for place in answered.errors)
    found: list[Prediction | str] = []
    for place, image in zip(part.places, images, strict=True):
        if place in answered.errors:
            found.append(answered.errors[place])
            continue
        found.append(
            PREDICTIONS[ready.task](
                name=image.name,
                class_names=ready.class_names,
                probs=probs[row],
                logits=logits[row],
                preds=preds[row],
                in_set=None if sets is None else sets[row],
                is_unknown=None if unknown is None else bool(unknown[row]),
                unknown_score=None if scores is None else float(scores[row]),
                maps=maps.get(place),
            )
        )
        row += 1
    return found


def plain(prediction: Prediction, top: int | None) -> dict[str, Any]:
    """As `recog predict --json` prints it, so with the class as label; whether the image is unknown stands beside it."""
    table = replace(prediction, is_unknown=None).to_dict(top=top)
    if prediction.is_unknown is not None:
        table |= {"is_unknown": prediction.is_unknown, "unknown_score": prediction.unknown_score}
    return table


def build_app(service: Service, start: Callable[[], None] = lambda: None) -> Gate:
    """The whole application. `start` is called on the loop once it runs."""

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        start()
        yield
        await asyncio.gather(*(model.close() for model in service.models.values()))

    app = FastAPI(
        title="recog", version=__version__, description=DESCRIPTION, docs_url=None, redoc_url=None, lifespan=lifespan
    )
    _add_health(app, service)
    _add_inference(app, service)
    _add_predict(app, service)
    add_page(app, service)
    _add_errors(app)
    return Gate(app, service.config, _observe(service.metrics))


def _observe(metrics: Metrics) -> Callable[[str, int, float], None]:
    def done(route: str, status: int, seconds: float) -> None:
        metrics.requests.labels(route, str(status)).inc()
        metrics.duration.labels(route).observe(seconds)

    return done


def _add_errors(app: FastAPI) -> None:
    @app.exception_handler(RequestError)
    async def bad_request(request: Request, error: RequestError) -> Response:
        return error_response(error.status, str(error))

    @app.exception_handler(Unavailable)
    async def unavailable(request: Request, error: Unavailable) -> Response:
        reason = f"{error}; retry in {error.retry_after_s} s"
        return error_response(503, reason, headers={"Retry-After": str(error.retry_after_s)})

    @app.exception_handler(HTTPException)
    async def not_found(request: Request, error: HTTPException) -> Response:
        allowed = (error.headers or {}).get("Allow") if error.status_code == 405 else None
        reason = f"{request.method} is not for this path; use {allowed}" if allowed else str(error.detail)
        return error_response(error.status_code, reason, headers=dict(error.headers or {}))

    @app.exception_handler(RequestValidationError)
    async def not_valid(request: Request, error: RequestValidationError) -> Response:
        first = error.errors()[0]
        return error_response(400, f"{first['loc'][-1]}: {first['msg']}")

    @app.exception_handler(ClientDisconnect)
    async def left(request: Request, error: ClientDisconnect) -> Response:
        return Response(status_code=CLIENT_LEFT)

    @app.exception_handler(Exception)
    async def fault(request: Request, error: Exception) -> Response:
        return error_response(500, "internal error")


ModelName = Annotated[str, Path(description="Name of a model.")]
Version = str | None  # as the metadata of the model names it


def _add_health(app: FastAPI, service: Service) -> None:
    @app.get("/v2/health/live", tags=["health"], response_model=schemas.Live, responses=schemas.errors(400))
    async def live() -> Response:
        """Whether the service runs."""
        return JSONResponse({"live": True})

    @app.get(
        "/v2/health/ready",
        tags=["health"],
        response_model=schemas.IsReady,
        responses=schemas.errors(400)
        | {503: {"model": schemas.IsReady, "description": "Loading, restarting or draining."}},
    )
    async def ready() -> Response:
        """Whether all models answer."""
        return JSONResponse({"ready": service.is_ready}, 200 if service.is_ready else 503)

    @app.get("/metrics", tags=["health"], responses={200: {"content": {"text/plain": {}}}, **schemas.errors(400, 401)})
    async def metrics() -> Response:
        """Counters in Prometheus' text format."""
        return Response(service.metrics.text(), headers={"Content-Type": CONTENT_TYPE})


def _add_inference(app: FastAPI, service: Service) -> None:
    @app.get("/v2", tags=["inference"], response_model=schemas.Server, responses=schemas.errors(400, 401))
    async def server() -> Response:
        """Metadata of the service."""
        return JSONResponse({"name": "recog", "version": __version__, "extensions": list(EXTENSIONS)})

    for_model: dict[str, Any] = {"tags": ["inference"], "responses": schemas.errors(400, 401, 404, 503)}
    for_infer: dict[str, Any] = {
        "tags": ["inference"],
        "responses": schemas.errors(400, 401, 403, 404, 408, 413, 415, 503),
    }
    at, at_version = "/v2/models/{model}", "/v2/models/{model}/versions/{version}"

    @app.get(at_version, response_model=schemas.ModelMetadata, **for_model)
    @app.get(at, response_model=schemas.ModelMetadata, **for_model)
    async def describe(model: ModelName, version: Version = None) -> Response:
        """Metadata of a model: its inputs and outputs."""
        found = service.model(model, version)
        return JSONResponse(metadata(model, found.ready))

    @app.get(f"{at_version}/ready", response_model=schemas.ModelReady, **for_model)
    @app.get(f"{at}/ready", response_model=schemas.ModelReady, **for_model)
    async def model_ready(model: ModelName, version: Version = None) -> Response:
        """Whether a model answers."""
        if not service.model(model, version).is_ready or service.is_draining:
            raise Unavailable(f"the model '{model}' is not ready")
        return JSONResponse({"name": model, "ready": True})

    @app.post(
        f"{at_version}/infer", response_model=schemas.InferResponse, openapi_extra=schemas.INFER_BODY, **for_infer
    )
    @app.post(f"{at}/infer", response_model=schemas.InferResponse, openapi_extra=schemas.INFER_BODY, **for_infer)
    async def infer(request: Request, model: ModelName, version: Version = None) -> Response:
        """Classify images: `image`, encoded files as base64 or binary data, or `pixels`, as the network takes them."""
        deadline = deadline_of(request, service.config.limits)
        found = service.model(model, version)
        with service.admission.admit():
            async with service.admission.body(request, timeout_s=deadline - time.monotonic()) as body:
                inference = parse_inference(
                    body, request.headers.get(HEADER_LENGTH), found.ready, service.config.limits
                )
                part = await service.answer(request, found, inference.images, deadline)
        answers = predictions_of(part, inference.images)
        request.state.logged = {"model": model, "version": part.ready.version, "images": len(answers)}
        service.metrics.count(model, answers)
        predictions = [answer for answer in answers if isinstance(answer, Prediction)]
        for image, answer in zip(inference.images, answers, strict=True):
            if isinstance(answer, str):
                raise RequestError(400, f"{image.name}: {answer}")
        content, header_length = encode_inference(model, part.ready, inference, predictions)
        if header_length is None:
            return Response(content, media_type="application/json")
        return Response(content, media_type="application/octet-stream", headers={HEADER_LENGTH: str(header_length)})


def _add_predict(app: FastAPI, service: Service) -> None:
    @app.post(
        "/predict",
        tags=["predict"],
        response_model=schemas.Predictions,
        responses=schemas.errors(400, 401, 403, 404, 408, 413, 415, 503),
        openapi_extra=schemas.PREDICT_BODY,
    )
    async def predict(
        request: Request,
        model: Annotated[str | None, Query(description="Name of a model; by default the first.")] = None,
        top: Annotated[int | None, Query(ge=1, description="Number of classes; by default all.")] = None,
        explain: Annotated[bool, Query(description="Add maps of where each image counts for its answer.")] = False,
    ) -> Response:
        """Classify one image (the body) or several (a multipart body with one per part)."""
        limits = service.config.limits
        deadline = deadline_of(request, limits)
        found = service.model(model)
        if explain and found.ready.map_size is None:
            raise RequestError(400, f"the model '{found.name}' carries no feature map, so explain is not possible")
        with service.admission.admit():
            async with service.admission.body(request, timeout_s=deadline - time.monotonic()) as body:
                images = uploaded_images(body, request.headers.get("content-type", ""), limits)
                images = [msgspec.structs.replace(image, is_explained=explain) for image in images]
                part = await service.answer(request, found, images, deadline)
        answers = predictions_of(part, images)
        request.state.logged = {"model": found.name, "version": part.ready.version, "images": len(answers)}
        service.metrics.count(found.name, answers)
        if len(answers) == 1 and isinstance(answers[0], str):
            raise RequestError(400, answers[0])
        table: dict[str, Any] = {"model": found.name, "version": part.ready.version, "digest": part.ready.digest}
        table["predictions"] = [
            {"name": image.name, **({"error": answer} if isinstance(answer, str) else plain(answer, top))}
            for image, answer in zip(images, answers, strict=True)
        ]
        return Response(msgspec.json.encode(table), media_type="application/json")
