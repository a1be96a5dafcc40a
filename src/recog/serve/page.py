"""The page for people, the list of models that it shows, and the report in each bundle."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.resources import files
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated

from fastapi import FastAPI, Query
from starlette.responses import JSONResponse, Response

from recog.serve import schemas
from recog.serve.bodies import RequestError

if TYPE_CHECKING:
    from recog.serve.app import Service

CONTENT_SECURITY_POLICY = (
    "default-src 'self'; img-src 'self' blob: data:; media-src 'self' blob:; object-src 'none'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'"
)
_REPORT_POLICY = (
    "sandbox allow-scripts allow-popups; frame-ancestors 'none'"  # of no origin: a bundle may be a stranger's
)
_TYPES: Mapping[str, str] = MappingProxyType(
    {"index.html": "text/html", "app.js": "text/javascript", "service.js": "text/javascript", "app.css": "text/css"}
)


def add_page(app: FastAPI, service: Service) -> None:
    """The routes that a browser opens. All files are read here, so that no request opens one."""
    folder = files("recog.serve") / "page"
    contents = {name: (folder / name).read_bytes() for name in _TYPES}
    headers = {"Content-Security-Policy": CONTENT_SECURITY_POLICY, "Referrer-Policy": "no-referrer"}

    @app.get("/", include_in_schema=False)
    async def index() -> Response:
        return Response(contents["index.html"], headers=headers, media_type="text/html")

    @app.get("/page/{file}", include_in_schema=False)
    async def page_file(file: str) -> Response:
        if file not in contents or file == "index.html":
            raise RequestError(404, "Not Found")
        return Response(contents[file], headers=headers, media_type=_TYPES[file])

    @app.get(
        "/models", tags=["predict"], response_model=list[schemas.ModelFacts], responses=schemas.errors(400, 401, 503)
    )
    async def models() -> Response:
        """The models that are served, and what a request may hold."""
        limits = service.config.limits
        return JSONResponse(
            [
                {
                    "name": model.name,
                    "version": model.ready.version,
                    "digest": model.ready.digest,
                    "architecture": model.ready.architecture,
                    "task": model.ready.task,
                    "class_names": list(model.ready.class_names),
                    "has_report": bool(model.ready.report_html),
                    "has_maps": model.ready.map_size is not None,
                    "crop": {
                        "mode": model.ready.crop.mode,
                        "pct": model.ready.crop.pct,
                        "height": model.ready.image_shape[0],
                        "width": model.ready.image_shape[1],
                    },
                    "max_images": limits.max_images,
                    "max_body_bytes": limits.max_body_bytes,
                }
                for model in service.models.values()
            ]
        )

    @app.get(
        "/report",
        tags=["predict"],
        response_class=Response,
        responses={200: {"content": {"text/html": {}}}, **schemas.errors(400, 401, 404, 503)},
    )
    async def report(
        model: Annotated[str | None, Query(description="Name of a model; by default the first.")] = None,
    ) -> Response:
        """The evaluation in a bundle, as a page."""
        html = service.model(model).ready.report_html
        if not html:
            raise RequestError(404, "the bundle has no report")
        return Response(html, headers={"Content-Security-Policy": _REPORT_POLICY}, media_type="text/html")
