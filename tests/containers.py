"""The same labelled images in every container that recog reads, each written by the container's own usual tool."""

import csv
import io
import json
import re
import tarfile
import zipfile
from pathlib import Path

import numpy as np
from PIL import Image

CLASSES = ("ant", "bee", "cow")


def png(pixels):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def labelled_pngs(per_class=20, classes=CLASSES, size=12):
    """{(class, i): PNG bytes}, all different: noise, with a bright bar whose place tells the class."""
    rng = np.random.default_rng(0)
    images = {}
    for label, name in enumerate(classes):
        for i in range(per_class):
            pixels = rng.integers(0, 90, (size, size, 3), dtype=np.uint8)
            pixels[3 * label % size : 3 * label % size + 3] += 140
            images[name, i] = png(pixels)
    return images


def write_folder(images, folder):
    for (name, i), data in images.items():
        path = folder / name / f"{i:03d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return folder


def write_csv(images, folder):
    (folder / "files").mkdir(parents=True)
    with (folder / "list.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["label", "path"])
        for number, ((name, _), data) in enumerate(images.items()):
            (folder / "files" / f"{number}.png").write_bytes(data)
            writer.writerow([name, f"files/{number}.png"])
    return folder / "list.csv"


def write_zip(images, folder):
    folder.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(folder / "pets.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for (name, i), data in reversed(images.items()):
            archive.writestr(f"pets/{name}/{i}.png", data)
    return folder / "pets.zip"


def add(archive, name, data):
    info = tarfile.TarInfo(name)
    info.size = len(data)
    archive.addfile(info, io.BytesIO(data))


def write_tar(images, folder, mode="w"):
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / ("pets.tar" if mode == "w" else "pets.tar.gz")
    with tarfile.open(path, mode) as archive:
        for (name, i), data in images.items():
            add(archive, f"./{name}/image {i}.png", data)
    return path


def write_tar_gz(images, folder):
    return write_tar(images, folder, mode="w:gz")


def write_shards(images, folder):
    """Two shards, with numbers as labels and their names in classnames.txt."""
    folder.mkdir(parents=True, exist_ok=True)
    names = sorted({name for name, _ in images})
    (folder / "classnames.txt").write_text("\n".join(names) + "\n")
    rows = list(images.items())
    for shard in range(2):
        with tarfile.open(folder / f"pets-{shard:06d}.tar", "w") as archive:
            for (name, i), data in rows[shard::2]:
                add(archive, f"{name}{i:04d}.png", data)
                add(archive, f"{name}{i:04d}.cls", str(names.index(name)).encode())
    return folder


def write_metadata(images, folder):
    folder.mkdir(parents=True, exist_ok=True)
    lines = []
    for number, ((name, _), data) in enumerate(images.items()):
        (folder / f"{number:04d}.png").write_bytes(data)
        lines.append(json.dumps({"file_name": f"{number:04d}.png", "label": name}))
    (folder / "metadata.jsonl").write_text("\n".join(lines))
    return folder


def write_metadata_csv(images, folder):
    """As write_metadata, with the table as CSV and the files in a folder below it."""
    (folder / "files").mkdir(parents=True)
    with (folder / "metadata.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["file_name", "label"])
        for number, ((name, _), data) in enumerate(images.items()):
            (folder / "files" / f"{number}.png").write_bytes(data)
            writer.writerow([f"files/{number}.png", name])
    return folder


def write_tsv(images, folder):
    source = write_csv(images, folder)
    source.with_suffix(".tsv").write_text(source.read_text().replace(",", "\t"))
    return source.with_suffix(".tsv")


def write_shards_with_json(images, folder):
    """One gzipped shard with names as labels, in key.json."""
    folder.mkdir(parents=True, exist_ok=True)
    with tarfile.open(folder / "pets.tar.gz", "w:gz") as archive:
        for (name, i), data in images.items():
            add(archive, f"{name}{i:04d}.json", json.dumps({"label": name}).encode())
            add(archive, f"{name}{i:04d}.png", data)
    return folder / "pets.tar.gz"


def write_parquet_of_names(images, folder):
    return write_parquet(images, folder, declare=False)


def write_parquet(images, folder, declare=True):
    import pyarrow as pa
    import pyarrow.parquet as pq

    folder.mkdir(parents=True, exist_ok=True)
    names = sorted({name for name, _ in images})
    table = pa.table(
        {
            "image": [{"bytes": data, "path": f"{i}.png"} for (_, i), data in images.items()],
            "label": [names.index(name) if declare else name for name, _ in images],
        }
    )
    if declare:
        info = {"info": {"features": {"image": {"_type": "Image"}, "label": {"names": names, "_type": "ClassLabel"}}}}
        table = table.replace_schema_metadata({"huggingface": json.dumps(info)})
    pq.write_table(table, folder / "pets.parquet")
    return folder / "pets.parquet"


def write_saved(images, folder):
    """As datasets.Dataset.save_to_disk writes it: an Arrow stream of two batches, state.json, dataset_info.json."""
    import pyarrow as pa

    folder.mkdir(parents=True, exist_ok=True)
    names = sorted({name for name, _ in images})
    image = pa.array(
        [{"bytes": data, "path": f"{i}.png"} for (_, i), data in images.items()],
        pa.struct({"bytes": pa.binary(), "path": pa.string()}),
    )
    info = {"info": {"features": {"image": {"_type": "Image"}, "label": {"names": names, "_type": "ClassLabel"}}}}
    table = pa.table({"image": image, "label": pa.array([names.index(name) for name, _ in images], pa.int64())})
    table = table.replace_schema_metadata({"huggingface": json.dumps(info)})
    with pa.ipc.new_stream(folder / "data-00000-of-00001.arrow", table.schema) as writer:
        writer.write_table(table, max_chunksize=len(images) // 2 + 1)
    (folder / "state.json").write_text(json.dumps({"_data_files": [{"filename": "data-00000-of-00001.arrow"}]}))
    (folder / "dataset_info.json").write_text("{}")
    return folder


CONTAINERS = {
    "folder": write_folder,
    "csv": write_csv,
    "tsv": write_tsv,
    "zip": write_zip,
    "tar": write_tar,
    "tar.gz": write_tar_gz,
    "webdataset, .cls": write_shards,
    "webdataset, .json": write_shards_with_json,
    "metadata.jsonl": write_metadata,
    "metadata.csv": write_metadata_csv,
    "parquet, declared classes": write_parquet,
    "parquet, names": write_parquet_of_names,
    "save_to_disk": write_saved,
}


def idx_bytes(array):
    """An idx file of uint8, as yann.lecun.com/exdb/mnist describes it."""
    array = np.asarray(array, dtype=np.uint8)
    return bytes([0, 0, 8, array.ndim]) + b"".join(n.to_bytes(4, "big") for n in array.shape) + array.tobytes()


def write_list(path, text, encoding="utf-8"):
    """A list of images, and an empty file for each .png that it names."""
    for name in re.findall(r"(?<=\")[^\"]+\.png|[^,;\t\n\"]+\.png", text):
        write_text(Path(path).parent / name.strip(), "")
    return write_text(path, text, encoding)


def write_text(path, text, encoding="utf-8"):
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode(encoding))
    return path


def write_named(images, root, form="{name}{i}.png"):
    """{(class, i): the path below `root` that its bytes are written to}."""
    paths = {(name, i): form.format(name=name, i=i) for name, i in images}
    for image, path in paths.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(images[image])
    return paths


def digest(dataset):
    """The fingerprint of a dataset: equal for the same images with the same labels and splits."""
    from recog.data.inspection import fingerprint, hash_samples

    names = [sample.name for sample in dataset.samples]
    return fingerprint(dataset, dict(zip(names, hash_samples(dataset.samples), strict=True)))
