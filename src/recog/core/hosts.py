"""Whether a host of downloads answers, found out within seconds and without other libraries' lines."""

from __future__ import annotations

import http.client
import os
import ssl
import threading
import urllib.error
import urllib.request
from urllib.parse import urlsplit

DEADLINE_S = 2.0  # for an answer from a host


def endpoint() -> str:
    """The Hugging Face hub, or its mirror."""
    return os.environ.get("HF_ENDPOINT") or "https://huggingface.co"


def why_unreachable(url: str) -> str | None:
    """Why nothing can be downloaded from the host of `url`; None if it answers in time. Proxies of the environment are used."""
    found: list[str | None] = []
    # in a thread, as looking a name up has no time limit of its own
    thread = threading.Thread(target=lambda: found.append(_ask(url)), daemon=True)
    thread.start()
    thread.join(DEADLINE_S)
    reason = found[0] if found else f"no answer within {DEADLINE_S:g} s"
    return reason and f"no connection to {urlsplit(url).hostname}: {reason}"


def _ask(url: str) -> str | None:
    parts = urlsplit(url)
    request = urllib.request.Request(f"{parts.scheme}://{parts.netloc}/", method="HEAD")
    try:
        urllib.request.build_opener().open(request, timeout=DEADLINE_S).close()
    except urllib.error.HTTPError as error:
        is_refused = error.code >= 500 or error.code == http.HTTPStatus.PROXY_AUTHENTICATION_REQUIRED
        return f"HTTP status {error.code}" if is_refused else None
    except urllib.error.URLError as error:
        if isinstance(error.reason, ssl.SSLCertVerificationError) and url == endpoint():
            return _ask_as_client(url)
        return str(getattr(error.reason, "strerror", None) or error.reason)
    except (OSError, http.client.HTTPException, ValueError) as error:
        return str(getattr(error, "strerror", None) or error) or type(error).__name__
    return None


def _ask_as_client(url: str) -> str | None:
    """As `_ask`, with the certificates of the hub's client, which are not those of Python."""
    from huggingface_hub import get_session

    try:
        get_session().head(url, timeout=DEADLINE_S)
    except Exception as error:  # noqa: BLE001  of whichever library the client uses
        return str(error) or type(error).__name__
    return None
