import pytest

from recog.core.errors import DataError
from recog.data.parquet.cells import num_rows, open_table, read_cells

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")

COLUMNS = {
    "img": [{"bytes": b"x", "path": "1.png", "depth": 8}, {"bytes": None, "path": "2.png", "depth": 8}],
    "label": [1, None],
    "tags": [["a", "a"], []],
}


@pytest.mark.parametrize("suffix", ["parquet", "arrow"])
def test_rows_of_the_columns_that_are_asked_for(tmp_path, suffix):
    path, table = tmp_path / f"x.{suffix}", pa.table(COLUMNS)
    if suffix == "parquet":
        pq.write_table(table, path)
    else:
        with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, table.schema) as writer:
            writer.write_table(table)
    opened = open_table(path)
    assert num_rows(opened) == 2
    rows = list(read_cells(opened, path, "x", ["label", "tags"]))
    assert rows == [("x/000000", {"label": 1, "tags": ["a", "a"]}), ("x/000001", {"label": None, "tags": []})]
    images = [row["img"] for _, row in read_cells(opened, path, "x", ["img"], "img")]
    assert [sorted(image) for image in images] == [["bytes", "path"]] * 2
    assert [image["path"] for image in images] == ["1.png", "2.png"]


def test_a_damaged_file_is_named(tmp_path):
    (tmp_path / "x.parquet").write_bytes(b"PAR1 and no more")
    with pytest.raises(DataError, match="x.parquet is damaged or cut off .*Download it again"):
        open_table(tmp_path / "x.parquet")
