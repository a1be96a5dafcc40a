import pytest

from recog.core.errors import ConfigError
from recog.deployment.targets import TARGETS, find_target


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
