import importlib.util
from pathlib import Path

import pytest

from recog.deployment.triton import model_name, write_triton


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
