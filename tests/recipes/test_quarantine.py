"""--bad-images quarantine: as skip, and the bad files are listed by name and reason; none of them is touched."""

import shutil

import pytest
from containers import labelled_pngs, write_folder

from recog.data.dataset import Exclusion
from recog.recipes.config import ComputeConfig, DataConfig, TrainConfig
from recog.runs.splits import QUARANTINE, write_quarantine
from recog.training.config import OptimConfig
from recog.verbs.evaluate import evaluate
from recog.verbs.run import Run
from recog.verbs.train import train_events


def test_one_line_each_whatever_the_name(tmp_path):
    write_quarantine(tmp_path, [Exclusion(name="a\tb\nc\\d.png", reason="it is\nempty")])
    lines = (tmp_path / QUARANTINE).read_text().splitlines()
    assert lines[1:] == ["a\\tb\\nc\\\\d.png\tit is\\nempty"]


@pytest.mark.slow
def test_train_and_evaluate_list_the_same_bad_files(tmp_path):
    folder = write_folder(labelled_pngs(70), tmp_path / "data")
    bad = folder / "ant/000.png"
    bad.write_bytes(b"")
    config = TrainConfig(
        recipe="scratch",
        data=DataConfig(source=str(folder), bad_images="quarantine"),
        optim=OptimConfig(epochs=1),
        compute=ComputeConfig(num_threads=1),
    )
    *_, run = train_events(config, name="run", runs=tmp_path / "runs")
    assert isinstance(run, Run)
    expected = ["ant/000.png\tit is empty (0 bytes)"]
    assert (run.folder / QUARANTINE).read_text().splitlines()[1:] == expected
    assert bad.read_bytes() == b""
    other = shutil.copytree(run.bundle, tmp_path / "bundle")
    result = evaluate(other, folder, out=tmp_path / "evaluation", bad_images="quarantine")
    assert (tmp_path / "evaluation" / QUARANTINE).read_text().splitlines()[1:] == expected
    assert result.report.data.excluded == (("ant/000.png", "it is empty (0 bytes)"),)
