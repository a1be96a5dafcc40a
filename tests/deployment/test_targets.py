import importlib.util
import io
import tarfile
from pathlib import Path

import pytest

from recog.core.errors import ConfigError, DataError, MissingExtraError
from recog.deployment import targets as browser
from recog.deployment.targets import TARGETS, find_runtime, find_target, model_name, write_triton


def test_every_target_is_found():
    assert list(TARGETS) == ["onnx", "openvino", "torch", "triton", "browser", "tensorrt"]
    assert all(find_target(name, int8=False) is TARGETS[name] for name in TARGETS)


@pytest.mark.parametrize(
    ("name", "int8", "message"),
    [
        ("onx", False, r"--to is 'onx'; it must be one of onnx, openvino.*Did you mean 'onnx'\?"),
        ("", False, "--to is ''; it must be one of onnx"),
        (
            "torch",
            True,
            "--int8 quantises the ONNX network, which --to torch does not use; it works for onnx, openvino",
        ),
    ],
)
def test_others_are_refused(name, int8, message):
    with pytest.raises(ConfigError, match=message):
        find_target(name, int8=int8)


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


def model_config_schema():
    """Triton's own protobuf messages, which tritonclient carries, without its gRPC client."""
    spec = importlib.util.find_spec("tritonclient")
    if spec is None:
        pytest.skip("no tritonclient")
    path = Path(next(iter(spec.submodule_search_locations))) / "grpc" / "model_config_pb2.py"
    if not path.is_file():
        pytest.skip("this tritonclient has no schema of the configuration")
    found = importlib.util.spec_from_file_location("triton_model_config", path)
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module


def test_the_configuration_is_a_model_config_of_triton(tmp_path):
    from google.protobuf import text_format

    schema = model_config_schema()
    network = write_triton(
        tmp_path, "flowers", image_shape=(224, 200, 3), class_names=("daisy", "Löwen\nzahn"), num_features=1280
    )
    assert network == tmp_path / "flowers" / "1" / "model.onnx"
    text = (tmp_path / "flowers" / "config.pbtxt").read_text(encoding="utf-8")
    config = text_format.Parse(text, schema.ModelConfig())  # an unknown field or a wrong type is an error
    assert (config.name, config.backend, config.max_batch_size) == ("flowers", "onnxruntime", 32)
    (images,) = config.input
    assert (images.name, images.data_type, list(images.dims)) == ("images", schema.TYPE_UINT8, [224, 200, 3])
    outputs = {output.name: (output.data_type, list(output.dims)) for output in config.output}
    assert outputs == {"logits": (schema.TYPE_FP32, [2]), "features": (schema.TYPE_FP32, [1280])}
    labels = (tmp_path / "flowers" / config.output[0].label_filename).read_text(encoding="utf-8")
    assert labels == "daisy\nLöwen\\nzahn\n"


@pytest.mark.parametrize(
    ("text", "name"),
    [("flowers-1", "flowers-1"), ("my flowers/2", "my-flowers-2"), ("../x", "x"), ("蒲公英", "classifier")],
)
def test_names_are_folders_and_parts_of_addresses(text, name):
    assert model_name(text) == name
