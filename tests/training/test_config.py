"""What a setting may hold is tested beside the code that reads it: test_optim, test_losses, test_head, test_checkpoint."""

import subprocess
import sys

import pytest

from recog.core.errors import ConfigError
from recog.training.config import CheckpointConfig, HeadConfig, LossConfig, OptimConfig


def test_the_settings_of_a_run_import_no_torch():
    code = "import sys, recog.recipes.config; print(*{name.partition('.')[0] for name in sys.modules})"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert "recog" in loaded
    assert not {"torch", "torchvision", "timm", "sklearn"} & set(loaded)


@pytest.mark.parametrize(
    ("build", "setting"),
    [
        (lambda: OptimConfig(epochs=0), "optim.epochs"),
        (lambda: OptimConfig(momentum=1.0), "optim.momentum"),
        (lambda: LossConfig(label_smoothing=1.5), "loss.label_smoothing"),
        (lambda: HeadConfig(l2=()), "head.l2"),
        (lambda: CheckpointConfig(keep=1), "checkpoint.keep"),
    ],
)
def test_a_value_out_of_range_is_refused_by_its_whole_name(build, setting):
    with pytest.raises(ConfigError, match=setting):
        build()
