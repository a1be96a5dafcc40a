"""A mirror on this machine that answers as the Hugging Face hub does, with one data set: someone/pets."""

import contextlib
import http.server
import json
import threading
from urllib.parse import unquote, urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@contextlib.contextmanager
def hub_of(root, *, asked=None, extra=()):
    """The address of a hub whose data set has the files below `root`, and lists the records `extra` too.

    `asked` collects the paths that are asked for.
    """
    asked = [] if asked is None else asked

    class Handler(http.server.BaseHTTPRequestHandler):
        def answer(self, status, body=b"", **headers):
            self.send_response(status)
            for key, value in {"Content-Length": str(len(body)), **headers}.items():
                self.send_header(key.replace("_", "-"), value)
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)

        def do_GET(self):  # noqa: N802  http.server's name
            path = unquote(urlsplit(self.path).path)
            asked.append(path)
            if path == f"/api/datasets/someone/pets/revision/{path.rpartition('/')[2]}":
                files = [
                    {"rfilename": p.relative_to(root).as_posix(), "size": p.stat().st_size} for p in root.rglob("*.*")
                ]
                return self.answer(
                    200, json.dumps({"id": "someone/pets", "sha": COMMIT, "siblings": [*files, *extra]}).encode()
                )
            prefix = f"/datasets/someone/pets/resolve/{COMMIT}/"
            file = root / path.removeprefix(prefix)
            if not path.startswith(prefix) or not file.is_file():
                return self.answer(404, X_Error_Code="RepoNotFound")
            return self.answer(200, file.read_bytes(), ETag=f'"{file.name}"', X_Repo_Commit=COMMIT)

        do_HEAD = do_GET  # noqa: N815

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{running.server_port}"
        running.shutdown()
