"""`recog serve`."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from recog.cli.guard import Threads, guarded
from recog.cli.output import print_json, print_note
from recog.core.errors import ConfigError
from recog.report.text import plural

if TYPE_CHECKING:
    from recog.serve.inference import Model

TOKEN_VARIABLE = "RECOG_TOKEN"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_MAX_TOKEN_BYTES = 4096


@guarded
def serve(
    bundles: Annotated[
        list[str],
        typer.Argument(metavar="BUNDLE", help="Bundles, run folders or runs' names; NAME=BUNDLE gives one a name."),
    ],
    host: Annotated[str, typer.Option(help="Address to listen on. Others than this machine's own need a token.")] = (
        "127.0.0.1"
    ),
    port: Annotated[int, typer.Option(help="Port; 0: any free one.", min=0, max=65_535)] = 8000,
    token_file: Annotated[
        Path | None,
        typer.Option(help=f"File with the token that requests must carry; or set {TOKEN_VARIABLE}."),
    ] = None,
    insecure: Annotated[bool, typer.Option("--insecure", help="Let other machines in without a token.")] = False,
    allowed_host: Annotated[
        list[str] | None, typer.Option(help="Name that requests may use for this host; repeatable.")
    ] = None,
    engine: Annotated[
        str, typer.Option(help="What runs the network: auto, or an engine that recog bench lists.")
    ] = "auto",
    threads: Threads = None,
    limits: Annotated[
        list[str] | None,
        typer.Option("--limit", metavar="NAME=VALUE", help="A limit, such as max_images=32; repeatable."),
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="Write no access log.")] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Once ready, print the address and the models as JSON on stdout.")
    ] = False,
) -> None:
    """Serve bundles over HTTP: a page for people, POST /predict, Open Inference Protocol V2, Prometheus metrics.

    SIGTERM and Ctrl-C stop it when all requests are answered; SIGHUP reloads the bundles without losing a request.
    """
    from recog.core.config import build_config, override
    from recog.runtime.engine import check_engine_name
    from recog.serve.access import check_access
    from recog.serve.config import ServeConfig, ServeLimits
    from recog.serve.server import open_socket, run

    if engine != "auto":
        check_engine_name(engine)
    given = {
        "host": host,
        "port": port,
        "token": _read_token(token_file),
        "allowed_hosts": [name.lower() for name in allowed_host or ()],
        "engine": engine,
        "num_threads": threads,
        "access_log": not quiet,
    }
    config = replace(
        build_config(ServeConfig, given), limits=build_config(ServeLimits, override({}, limits or [], option="--limit"))
    )
    check_access(config, is_insecure=insecure)
    sources = name_bundles(bundles)
    listener = open_socket(config.host, config.port)
    address = listener.getsockname()
    url = f"http://{f'[{address[0]}]' if ':' in address[0] else address[0]}:{address[1]}"

    def on_ready(models: Mapping[str, Model]) -> None:
        if as_json:
            facts = [
                {"name": m.name, "version": m.ready.version, "digest": m.ready.digest, "engine": m.ready.engine}
                for m in models.values()
            ]
            print_json({"url": url, "models": facts})
        for model in models.values():
            ready = model.ready
            print_note(
                f"{model.name}: {ready.architecture} with {plural(len(ready.class_names), 'class', 'classes')}, version "
                f"{ready.version}, run by {ready.engine}; predictions checked on {plural(ready.num_reference_images, 'image')} "
                "of the bundle"
            )
        print_note(
            f"ready: open {url} in a browser, or: curl --data-binary @photo.jpg {url}/predict",
            "Ctrl-C stops the service",
        )

    run(sources, config, listener, on_ready)


def name_bundles(bundles: Sequence[str]) -> dict[str, str]:
    """{name: what it stands for} of BUNDLE and NAME=BUNDLE. ConfigError or BundleError where one is not there or has no name."""
    from recog.bundle.manifest import find_bundle, read_manifest, run_of

    sources: dict[str, str] = {}
    for text in bundles:
        name, equals, source = text.partition("=")
        if not equals or os.path.lexists(text):
            name, source = "", text
        folder = find_bundle(source)
        read_manifest(folder)
        name = name or (run_of(folder) or folder).absolute().name
        if not _NAME.fullmatch(name):
            raise ConfigError(
                f"'{name}' cannot be a model's name: it takes 1 to 64 letters, digits, '.', '_' and '-'. Name it: NAME={source}."
            )
        if name in sources:
            raise ConfigError(f"two bundles are called '{name}'. Name one of them: NAME={source}.")
        sources[name] = source
    return sources


def _read_token(path: Path | None) -> str:
    from recog.core.records import read_bytes

    if path is None:
        return os.environ.get(TOKEN_VARIABLE, "").strip()
    token = read_bytes(path, max_bytes=_MAX_TOKEN_BYTES, error=ConfigError).decode("utf-8", "replace").strip()
    if not token:
        raise ConfigError(f"{path} is empty; expected a token.")
    return token
