import csv
import json
import tarfile

import numpy as np
import pytest
from containers import add
from PIL import Image

from recog.core.errors import ConfigError, DataError
from recog.data.data_layout import DataLayout
from recog.evaluation.results.read import parse_report
from recog.verbs.evaluate import evaluate


@pytest.fixture
def pictures(tmp_path):
    """40 images of two digits: those of camera b are larger and brighter."""
    for digit in ("3", "7"):
        for camera, side, level in (("a", 8, 40), ("b", 16, 200)):
            folder = tmp_path / "pictures" / digit / camera
            folder.mkdir(parents=True)
            for i in range(10):
                Image.fromarray(np.full((side, side), level + i, dtype=np.uint8)).save(folder / f"{i}.png")
    return tmp_path / "pictures"


def test_size_brightness_and_folder(bundle, pictures, tmp_path):
    result = evaluate(
        bundle,
        pictures,
        out=tmp_path / "out",
        slice_by=["size", "brightness", "source-folder", "size"],
        layout=DataLayout(classes_at_depth=1),
    )
    by_size, by_brightness, by_folder = result.report.slices
    assert {(part.name, part.num_images) for part in by_size.slices} == {("64 px", 20), ("256 px", 20)}
    assert {part.name for part in by_brightness.slices} == {
        "40 to 44 of 255", "45 to 49 of 255", "200 to 204 of 255", "205 to 209 of 255",
    }  # fmt: skip
    assert {part.name for part in by_folder.slices} == {"3/a", "3/b", "7/a", "7/b"}
    assert sum(part.num_correct for part in by_folder.slices) == result.report.num_correct
    table = json.loads((tmp_path / "out" / "report.json").read_text())
    assert parse_report(table) == result.report
    assert "Slices" in (tmp_path / "out" / "report.html").read_text()


def test_an_unknown_property_is_refused_before_anything_is_measured(bundle, pictures, monkeypatch):
    monkeypatch.setattr("recog.verbs.evaluate.measure", lambda *_, **__: pytest.fail("measured"))
    with pytest.raises(ConfigError, match="cannot be sliced by 'brigthness'. Did you mean 'brightness'"):
        evaluate(bundle, pictures, slice_by=["brigthness"], layout=DataLayout(classes_at_depth=1))


def listed(pictures, kind):
    """The pictures in a list with further columns: the camera, its exposure, and a patient as the group."""
    rows = [
        {
            "path": path.relative_to(pictures.parent).as_posix(),
            "label": path.parts[-3],
            "Camera": {"a": "phone, old", "b": ""}[path.parent.name],
            "exposure": round(0.001 * 2 ** (i % 10), 4),
            "group": f"patient {i % 4}",
        }
        for i, path in enumerate(sorted(pictures.rglob("*.png")))
    ]
    if kind == "csv":
        file = pictures.parent / "list.csv"
        with file.open("w", newline="") as lines:
            writer = csv.DictWriter(lines, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
        return file
    if kind == "jsonl":
        for row in rows:
            row["file_name"] = row.pop("path")
            row["boxes"] = [1, 2]
        (pictures.parent / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows)))
        return pictures.parent
    if kind == "shards":
        with tarfile.open(pictures.parent / "shard.tar", "w") as archive:
            for i, row in enumerate(rows):
                add(archive, f"{i:02d}.png", (pictures.parent / row.pop("path")).read_bytes())
                stated = {key: value for key, value in row.items() if value != ""}  # camera b is in no key at all
                add(archive, f"{i:02d}.json", json.dumps(stated).encode())
        return pictures.parent / "shard.tar"
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    for row in rows:
        row["image"] = {"bytes": (pictures.parent / row.pop("path")).read_bytes(), "path": None}
        row["exposure"] = None if row["Camera"] == "" and row["exposure"] == 0.001 else row["exposure"]
    pq.write_table(pa.Table.from_pylist(rows), pictures.parent / "rows.parquet")
    return pictures.parent / "rows.parquet"


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet", "shards"])
def test_a_column_of_the_list_by_name_and_by_value(bundle, pictures, tmp_path, kind):
    source = listed(pictures, kind)
    result = evaluate(bundle, source, out=tmp_path / "out", slice_by=["camera", "exposure", "group"])
    cameras, exposures, groups = (
        {part.name: part.num_images for part in slicing.slices} for slicing in result.report.slices
    )
    assert cameras == {"phone, old": 20, "(not stated)": 20}
    # ten exposures, each of four images: quartiles of 40 end at the 3rd, 5th and 8th of them, and the two of 8 are merged
    if kind == "parquet":  # where the shortest is not stated for the two of the second camera
        assert exposures.pop("(not stated)") == 2
        assert sum(exposures.values()) == 38
        assert min(exposures.values()) >= 10
    else:
        assert exposures == {"0.001 to 0.016": 20, "0.032 to 0.512": 20}
    assert groups == {f"patient {i}": 10 for i in range(4)}
    assert parse_report(json.loads((tmp_path / "out" / "report.json").read_text())) == result.report
    with pytest.raises(ConfigError, match="sliced by 'camra'. Did you mean 'Camera'"):
        evaluate(bundle, source, slice_by=["camra"])


def test_a_column_named_as_a_property_is_not_guessed(bundle, pictures):
    source = listed(pictures, "csv")
    source.write_text(source.read_text().replace("Camera", "size"))
    with pytest.raises(ConfigError, match="'size' is both a column of the data and an image property"):
        evaluate(bundle, source, slice_by=["size"])


def test_images_of_one_size_cannot_be_sliced_by_size(bundle):
    with pytest.raises(DataError, match="all 1797 images have the same size, 64 px"):
        evaluate(bundle, "digits", slice_by=["size"])
