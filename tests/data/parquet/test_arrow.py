"""Arrow files as `datasets` saves them, and damaged or hostile ones."""

import json
import struct

import pytest
from containers import labelled_pngs, write_folder, write_saved

from recog.core.errors import DataError
from recog.data.inspection import fingerprint, hash_samples
from recog.data.parquet.arrow import ArrowFile
from recog.data.sources import open_source

pa = pytest.importorskip("pyarrow")

IMAGES = labelled_pngs(3)
PNG = IMAGES["ant", 0]


def content_of(dataset):
    names = [sample.name for sample in dataset.samples]
    return fingerprint(dataset, dict(zip(names, hash_samples(dataset.samples), strict=True)))


def write(path, batches=1, new=pa.ipc.new_stream, options=None, **columns):
    path.parent.mkdir(parents=True, exist_ok=True)
    table = pa.table(columns)
    with new(path, table.schema, options=options) as writer:
        for _ in range(batches):
            writer.write_table(table)
    return path


def test_a_saved_dataset_is_the_folder_of_its_images_and_is_not_copied(tmp_path):
    saved = open_source(write_saved(IMAGES, tmp_path / "saved"))
    assert content_of(saved) == content_of(open_source(write_folder(IMAGES, tmp_path / "folder")))
    assert (saved.class_names, saved.layout) == (("ant", "bee", "cow"), "1 Arrow file")
    assert saved.samples[3].name == "data-00000-of-00001.arrow/000003/0.png"
    assert {sample.source.path for sample in saved.samples} == {tmp_path / "saved" / "data-00000-of-00001.arrow"}
    assert [sample.source.read() for sample in saved.samples] == list(IMAGES.values())


def test_a_saved_dict_has_its_splits(tmp_path):
    for split in ("train", "validation", "test"):
        write_saved(labelled_pngs(2), tmp_path / split)
    (tmp_path / "dataset_dict.json").write_text(json.dumps({"splits": ["train", "validation"]}))
    data = open_source(tmp_path)
    assert data.given_splits == ("train", "val")
    assert len(data.samples) == 12
    (tmp_path / "dataset_dict.json").write_text(json.dumps({"splits": ["train", "dev"]}))
    with pytest.raises(DataError, match="there is no folder .*dev"):
        open_source(tmp_path)
    for splits in (["../train"], "train", [7], None):
        (tmp_path / "dataset_dict.json").write_text(json.dumps({"splits": splits}))
        with pytest.raises(DataError, match="does not name the splits"):
            open_source(tmp_path)


def test_only_the_files_that_state_json_names_are_read(tmp_path):
    folder = write_saved(IMAGES, tmp_path)
    write(folder / "data-00000-of-00002.arrow", image=[PNG], label=[0])
    write(folder / "cache-0123.arrow", image=[PNG], label=[0])
    assert len(open_source(folder).samples) == 9
    (folder / "data-00000-of-00001.arrow").unlink()
    with pytest.raises(DataError, match="lacks data-00000-of-00001.arrow, which state.json names"):
        open_source(folder)


def test_one_file_and_the_random_access_form(tmp_path):
    rows = {"image": [{"bytes": PNG, "path": None}] * 2, "label": ["a", "b"], "camera": ["x", "y"]}
    for new in (pa.ipc.new_stream, pa.ipc.new_file):
        data = open_source(write(tmp_path / f"{new.__name__}.arrow", batches=2, new=new, **rows))
        assert [data.class_names[s.label] for s in data.samples] == ["a", "b", "a", "b"]
        assert data.samples[1].columns == (("camera", "y"),)
        assert all(sample.source.read() == PNG for sample in data.samples)


def test_images_that_are_coded_by_a_dictionary_or_short(tmp_path):
    coded = pa.array([PNG, PNG], pa.binary()).dictionary_encode()
    data = open_source(write(tmp_path / "a.arrow", image=coded, label=["a", "b"]))
    assert [s.source.read() for s in data.samples] == [PNG, PNG]
    data = open_source(write(tmp_path / "b.arrow", image=pa.array([b"tiny", PNG], pa.binary_view()), label=["a", "b"]))
    assert [s.source.read() for s in data.samples] == [b"tiny", PNG]


def test_rows_without_an_image_or_a_label_are_named(tmp_path):
    rows = [{"bytes": PNG, "path": "a.png"}, {"bytes": None, "path": "/far/b.png"}, None]
    data = open_source(write(tmp_path / "x.arrow", image=rows, label=["a", "b", "b"]))
    assert [s.name for s in data.samples] == ["x.arrow/000000/a.png"]
    assert [e.reason for e in data.exclusions] == ["no bytes: the image is a path to another machine"] * 2


@pytest.mark.parametrize("codec", ["lz4", "zstd"])
def test_compressed_files_are_refused_as_they_may_unpack_to_any_size(tmp_path, codec):
    options = pa.ipc.IpcWriteOptions(compression=codec)
    with pytest.raises(DataError, match="is compressed, which is not read. Save it without"):
        open_source(write(tmp_path / "x.arrow", options=options, image=[PNG], label=["a"]))


def test_a_compressed_dictionary_is_refused_too(tmp_path):
    options = pa.ipc.IpcWriteOptions(compression="zstd")
    coded = pa.array([bytes(1 << 20)], pa.binary()).dictionary_encode()
    with pytest.raises(DataError, match="is compressed"):
        open_source(write(tmp_path / "x.arrow", options=options, image=coded, label=["a"]))


def test_every_cut_and_every_changed_byte_is_an_error_in_a_sentence_or_read(tmp_path):
    """One byte in 7 set to 255, and every 50th length: nothing but a DataError, or images that are within the file."""
    whole = write(
        tmp_path / "x.arrow", batches=2, image=[{"bytes": PNG, "path": "a"}] * 2, label=["a", "b"]
    ).read_bytes()
    damaged = [whole[:end] for end in range(0, len(whole), 50)]
    damaged += [whole[:at] + b"\xff" + whole[at + 1 :] for at in range(0, len(whole), 7)]
    num_refused = 0
    for data in damaged:
        (tmp_path / "y.arrow").write_bytes(data)
        try:
            read = open_source(tmp_path / "y.arrow", one_class_map=False)
        except DataError:
            num_refused += 1
        else:
            assert all(s.source.offset + s.source.size <= len(data) or s.source.owner for s in read.samples)
    assert num_refused > len(damaged) // 4


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"hello, world", "a message begins wrongly"),
        (b"\xff\xff\xff\xff" + struct.pack("<i", 1 << 30), "a message begins wrongly"),
        (b"\xff\xff\xff\xff" + struct.pack("<i", 16) + b"\xff" * 16, "the header of a message is malformed"),
        (b"", "a message begins wrongly"),
    ],
)
def test_what_is_no_arrow_file(tmp_path, data, says):
    (tmp_path / "x.arrow").write_bytes(data)
    with pytest.raises(DataError, match=says):
        ArrowFile(tmp_path / "x.arrow")
