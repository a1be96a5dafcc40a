"""The notebooks of docs/notebooks run from top to bottom, on small data, with nothing on stderr but the progress."""

import os
from pathlib import Path

import nbclient
import nbformat
import pytest
from containers import labelled_pngs, write_folder

FOLDER = Path(__file__).parents[2] / "docs" / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))


@pytest.fixture
def small_data(tmp_path):
    """Three classes of 40 grey images of 28 px, split as for training."""
    return write_folder(labelled_pngs(40, classes=("boot", "coat", "shirt"), size=28), tmp_path / "fashion")


def test_there_are_two():
    assert [path.name for path in NOTEBOOKS] == ["quickstart.ipynb", "research.ipynb"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_has_no_outputs_and_no_place_of_a_machine(path):
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    assert all(not cell.get("outputs") for cell in notebook.cells)
    assert str(Path.home()) not in path.read_text()
    assert str(Path(__file__).parents[2]) not in path.read_text()


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs(path, small_data, tmp_path, monkeypatch):
    if path.stem == "research":
        monkeypatch.setenv("NOTEBOOK_DATA", str(small_data))
        monkeypatch.setenv("NOTEBOOK_EPOCHS", "1")
        monkeypatch.setenv("NOTEBOOK_ALEXNET", "64")
    monkeypatch.setenv("NOTEBOOK_RUN", "digits-notebook")
    source = str(Path(__file__).parents[2] / "src")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([source, os.environ.get("PYTHONPATH", "")]))
    notebook = nbformat.read(path, as_version=4)
    client = nbclient.NotebookClient(
        notebook, timeout=500, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}
    )
    client.execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    shown = [output for output in outputs if output.output_type in ("execute_result", "display_data")]
    html = "".join(output.data.get("text/html", "") for output in shown)
    pictures = [output for output in shown if "image/png" in output.data]
    assert len(pictures) == 2  # the figures
    assert "95% interval" in html
    assert all(output.output_type != "error" for output in outputs)
