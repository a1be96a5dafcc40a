import io
import tarfile

import pytest

from recog.core.errors import DataError, MissingExtraError
from recog.deployment import browser
from recog.deployment.browser import find_runtime


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "recog" / "web"


def test_without_npm_it_is_stated_where_the_archive_may_be_placed(monkeypatch, cache):
    monkeypatch.setattr(browser.shutil, "which", lambda name: None)
    with pytest.raises(MissingExtraError, match=rf"needs npm once.*onnxruntime-web-1\.30\.0\.tgz in {cache}"):
        find_runtime()


def test_npm_that_fails_is_quoted(monkeypatch, tmp_path):
    npm = tmp_path / "npm"
    npm.write_text("#!/bin/sh\necho no network >&2\nexit 1\n")
    npm.chmod(0o755)
    monkeypatch.setattr(browser.shutil, "which", lambda name: str(npm))
    with pytest.raises(DataError, match="npm cannot fetch onnxruntime-web.*: no network. Without a network"):
        find_runtime()


def test_another_archive_of_that_name_is_refused(cache):
    cache.mkdir(parents=True)
    with tarfile.open(cache / "onnxruntime-web-1.30.0.tgz", "w:gz") as archive:
        archive.addfile(tarfile.TarInfo("package/dist/ort.wasm.min.mjs"), io.BytesIO())
    with pytest.raises(DataError, match="is not onnxruntime-web 1.30.0 as npm published it"):
        find_runtime()
