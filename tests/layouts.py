"""The same labelled images as other tools and people lay them out.

Each function writes images {(class, i): PNG bytes} into a new folder and returns what is given to recog.
"""

import json
import shutil
import tarfile
import zipfile

from containers import add, write_named, write_text


def _lines(paths, form):
    return "".join(form.format(path=path, name=name) for (name, _), path in paths.items())


def _numbered(images):
    names = sorted({name for name, _ in images})
    return {image: names.index(image[0]) for image in images}


def kaggle(images, folder):
    """Identifiers without a suffix, a column 'breed', images in train/, unlabelled ones in test/, a sample submission."""
    paths = write_named(images, folder / "train", "{name}-{i}.png")
    write_text(folder / "train.csv", "id,breed\n" + _lines({k: p[:-4] for k, p in paths.items()}, "{path},{name}\n"))
    write_text(folder / "sample_submission.csv", "id,breed\nnew,ant\n")
    (folder / "test").mkdir()
    (folder / "test" / "new.png").write_bytes(next(iter(images.values())))
    return folder


def other_columns(images, folder):
    paths = write_named(images, folder / "images")
    return write_text(folder / "list.csv", "Image Name;Category\n" + _lines(paths, "{path};{name}\n"))


def named_columns(images, folder):
    paths = write_named(images, folder)
    return write_text(folder / "list.csv", "photo,animal\n" + _lines(paths, "{path},{name}\n"))


def no_header(images, folder):
    return write_text(folder / "list.csv", _lines(write_named(images, folder), "{path},{name}\n"))


def numbers_and_names(images, folder):
    paths, numbers = write_named(images, folder), _numbered(images)
    write_text(folder / "classes.txt", "".join(f"{name}\n" for name in sorted({name for name, _ in images})))
    rows = "".join(f"{paths[image]} {numbers[image]}\n" for image in images)
    return write_text(folder / "train.txt", rows)


def elsewhere(images, folder):
    """A list in one place with absolute paths of another machine, images in another place."""
    paths = write_named(images, folder / "photos")
    return write_text(folder / "lists" / "all.csv", "path,label\n" + _lines(paths, "/home/ann/photos/{path},{name}\n"))


def json_of_labels(images, folder):
    paths = write_named(images, folder)
    return write_text(folder / "labels.json", json.dumps({path: name for (name, _), path in paths.items()}))


def json_of_classes(images, folder):
    paths = write_named(images, folder)
    names = sorted({name for name, _ in images})
    table = {name: [path for (own, _), path in paths.items() if own == name] for name in names}
    return write_text(folder / "labels.json", json.dumps(table))


def coco(images, folder):
    paths, numbers = write_named(images, folder / "images"), _numbered(images)
    table = {
        "images": [{"id": i, "file_name": path} for i, path in enumerate(paths.values())],
        "annotations": [
            {"id": i, "image_id": i, "category_id": numbers[image] + 1, "bbox": [0, 0, 4, 4]}
            for i, image in enumerate(paths)
        ],
        "categories": [{"id": numbers[image] + 1, "name": image[0]} for image in {im[0]: im for im in images}.values()],
    }
    return write_text(folder / "coco.json", json.dumps(table))


def label_studio(images, folder):
    paths = write_named(images, folder / "images", "1234abcd-{name}{i}.png")
    tasks = [
        {
            "id": i,
            "data": {"image": f"/data/upload/1/{path}"},
            "annotations": [{"result": [{"type": "choices", "value": {"choices": [name]}}]}],
        }
        for i, ((name, _), path) in enumerate(paths.items())
    ]
    write_text(folder / "project-1-at-2026-01-01-00-00-abcdef12.json", json.dumps(tasks))
    return folder


def cvat(images, folder):
    paths = write_named(images, folder / "images")
    entries = "".join(
        f'<image id="{i}" name="{path}" width="12" height="12"><tag label="{name}"></tag></image>'
        for i, ((name, _), path) in enumerate(paths.items())
    )
    write_text(folder / "annotations.xml", f"<annotations><version>1.1</version>{entries}</annotations>")
    return folder


def teachable_machine(images, folder):
    folder.mkdir(parents=True)
    for name in sorted({name for name, _ in images}):
        with zipfile.ZipFile(folder / f"{name}-samples.zip", "w") as archive:
            for (own, i), data in images.items():
                if own == name:
                    archive.writestr(f"{i}.png", data)
    return folder


def in_names(images, folder):
    write_named(images, folder, "{name}.{i}.png")
    return folder


def with_masks(images, folder):
    write_named(images, folder, "{name}/{i}.png")
    write_named(images, folder, "{name}/{i}_mask.png")
    return folder


def one_hot(images, folder):
    paths, numbers = write_named(images, folder), _numbered(images)
    names = sorted({name for name, _ in images})
    rows = "".join(
        f"{paths[image]},{','.join(str(int(numbers[image] == k)) for k in range(len(names)))}\n" for image in images
    )
    return write_text(folder / "list.csv", f"path,{','.join(names)}\n{rows}")


def latin_1(images, folder):
    paths = write_named(images, folder, "größe-{name}{i}.png")
    return write_text(folder / "list.csv", "path,label\n" + _lines(paths, "{path},{name}\n"), encoding="cp1252")


def pattern(images, folder):
    write_named(images, folder, "{name}/{i}.png")
    return f"{folder}/*"


LAYOUTS = {  # {what it is: (function, settings of DataConfig; {folder} is the new folder)}
    "Kaggle": (kaggle, {}),
    "other columns, images/": (other_columns, {}),
    "columns by option": (named_columns, {"path_column": "photo", "label_column": "animal"}),
    "no header": (no_header, {}),
    "text list, classes.txt": (numbers_and_names, {}),
    "images elsewhere": (elsewhere, {"images": ("{folder}/photos",)}),
    "JSON, path: label": (json_of_labels, {}),
    "JSON, label: paths": (json_of_classes, {}),
    "COCO": (coco, {}),
    "Label Studio": (label_studio, {}),
    "CVAT": (cvat, {}),
    "Teachable Machine": (teachable_machine, {}),
    "labels in file names": (in_names, {"label_pattern": "{label}.{}.png"}),
    "masks left out": (with_masks, {"exclude": ("*_mask.png",)}),
    "columns of 0 and 1": (one_hot, {}),
    "Windows-1252": (latin_1, {"encoding": "cp1252"}),
    "pattern": (pattern, {}),
}


def settings_in(folder, settings):
    """`settings` of an entry whose images were written into `folder`."""
    return {
        key: tuple(part.replace("{folder}", str(folder)) for part in value) if isinstance(value, tuple) else value
        for key, value in settings.items()
    }


def yaml_names(images, folder):
    """Numbers in a list, and a YAML file as Ultralytics has it."""
    paths, numbers = write_named(images, folder / "images"), _numbered(images)
    names = sorted({name for name, _ in images})
    write_text(folder / "data.yaml", "names:\n" + "".join(f"  {k}: {name}\n" for k, name in enumerate(names)))
    rows = "".join(f"{paths[image]},{numbers[image]}\n" for image in images)
    return write_text(folder / "list.csv", f"file,target\n{rows}")


def json_lines(images, folder):
    paths = write_named(images, folder)
    rows = [json.dumps({"image": path, "species": name}) for (name, _), path in paths.items()]
    return write_text(folder / "list.jsonl", "\n".join(rows))


def json_of_rows(images, folder):
    paths = write_named(images, folder)
    return write_text(folder / "a.json", json.dumps([{"img": path, "y": name} for (name, _), path in paths.items()]))


def two_folders_of_images(images, folder):
    """Half of the images in each of two folders, a list in a third."""
    halves = [dict(list(images.items())[part::2]) for part in (0, 1)]
    paths = write_named(halves[0], folder / "a") | write_named(halves[1], folder / "b")
    return write_text(folder / "lists" / "all.csv", "path,label\n" + _lines(paths, "{path},{name}\n"))


def images_beside(images, folder):
    """lists/train.csv and images/."""
    paths = write_named(images, folder / "images")
    return write_text(folder / "lists" / "list.csv", "image_path,class_name\n" + _lines(paths, "{path},{name}\n"))


def list_of_paths(images, folder):
    paths = write_named(images, folder, "{name}/{i}.png")
    return write_text(folder / "all.txt", _lines(paths, "{path}\n"))


def captions(images, folder):
    """Class folders, and a table of captions."""
    paths = write_named(images, folder, "{name}/{i}.png")
    write_text(folder / "metadata.csv", "file_name,text\n" + _lines(paths, "{path},a small animal\n"))
    return folder


def agreeing_list(images, folder):
    paths = write_named(images, folder, "{name}/{i}.png")
    write_text(folder / "labels.csv", "path,label\n" + _lines(paths, "{path},{name}\n"))
    return folder


def dotted_keys(images, folder):
    """A WebDataset shard with keys such as ant.0."""
    folder.mkdir(parents=True)
    with tarfile.open(folder / "a.tar", "w") as archive:
        for (name, i), data in images.items():
            add(archive, f"{name}.{i}.png", data)
            add(archive, f"{name}.{i}.cls", name.encode())
    return folder / "a.tar"


def kaggle_zips(images, folder):
    """train.csv beside train.zip and an unlabelled test.zip."""
    kaggle(images, folder)
    for part in ("train", "test"):
        with zipfile.ZipFile(folder / f"{part}.zip", "w") as archive:
            for file in sorted((folder / part).iterdir()):
                archive.write(file, f"{part}/{file.name}")
        shutil.rmtree(folder / part)
    return folder


def address(images, folder):
    write_named(images, folder / "my photos", "{name}/{i}.png")
    return (folder / "my photos").as_uri()


def unlabelled_test(images, folder):
    """train/CLASS and a test folder without classes."""
    write_named(images, folder / "train", "{name}/{i}.png")
    write_text(folder / "test" / "1.png", "")
    return folder


MORE_LAYOUTS = {  # as LAYOUTS; what is read is compared with the class folders, and not trained on once more
    "YAML names": (yaml_names, {}),
    "JSON lines": (json_lines, {}),
    "JSON rows": (json_of_rows, {}),
    "several --images": (two_folders_of_images, {"images": ("{folder}/a", "{folder}/b")}),
    "../images": (images_beside, {}),
    "list of paths": (list_of_paths, {"label_pattern": "{label}/{}"}),
    "captions": (captions, {}),
    "class folders and a list": (agreeing_list, {}),
    "WebDataset, keys with dots": (dotted_keys, {}),
    "Kaggle, zips": (kaggle_zips, {}),
    "file://": (address, {}),
}


def split_folders(images, folder):
    """The reference of SPLIT_LAYOUTS: of each class, image 0 is test, image 1 val, the others train."""
    write_named(images, folder, "{name}/{i}.png")
    for name, i in images:
        part = folder / _split_of(i) / name
        part.mkdir(parents=True, exist_ok=True)
        (folder / name / f"{i}.png").rename(part / f"{i}.png")
    for name in {name for name, _ in images}:
        (folder / name).rmdir()
    return folder


def _split_of(i):
    return {0: "test", 1: "valid"}.get(i, "train")


def roboflow(images, folder):
    """_classes.csv in each of train, valid, test."""
    names, numbers = sorted({name for name, _ in images}), _numbered(images)
    for split in ("train", "valid", "test"):
        part = {image: data for image, data in images.items() if _split_of(image[1]) == split}
        paths = write_named(part, folder / split)
        rows = "".join(
            f"{paths[image]},{','.join(str(int(numbers[image] == k)) for k in range(len(names)))}\n" for image in part
        )
        write_text(folder / split / "_classes.csv", f"filename, {', '.join(names)}\n{rows}")
    return folder


def column_of_splits(images, folder):
    paths = write_named(images, folder)
    rows = "".join(f"{path},{name},{_split_of(i)}\n" for (name, i), path in paths.items())
    return write_text(folder / "list.csv", f"path,label,Phase\n{rows}")


def list_per_split(images, folder, suffix="csv", line="{path},{name}\n", header="path,label\n"):
    for split in ("train", "valid", "test"):
        part = {image: data for image, data in images.items() if _split_of(image[1]) == split}
        paths = write_named(part, folder / "images")
        write_text(folder / f"{split}.{suffix}", header + _lines(paths, line))
    return folder


def text_per_split(images, folder):
    return list_per_split(images, folder, "txt", "images/{path} {name}\n", "")


SPLIT_LAYOUTS = {
    "Roboflow": (roboflow, {}),
    "column of splits": (column_of_splits, {}),
    "train.csv, valid.csv, test.csv": (list_per_split, {}),
    "train.txt, valid.txt, test.txt": (text_per_split, {}),
}


def _labels_of(image):
    return [image[0], "small"] if image[1] % 2 else [image[0]]


def joined_cells(images, folder):
    paths = write_named(images, folder)
    rows = "".join(f"{path},{'|'.join(_labels_of(image))}\n" for image, path in paths.items())
    return write_text(folder / "list.csv", f"path,labels\n{rows}")


def row_per_label(images, folder):
    paths = write_named(images, folder)
    rows = "".join(f"{path},{label}\n" for image, path in paths.items() for label in _labels_of(image))
    return write_text(folder / "list.csv", f"image,label\n{rows}")


def json_of_lists(images, folder):
    """The reference of MULTILABEL_LAYOUTS."""
    paths = write_named(images, folder)
    return write_text(folder / "a.json", json.dumps({path: _labels_of(image) for image, path in paths.items()}))


def coco_multilabel(images, folder):
    coco(images, folder)
    table = json.loads((folder / "coco.json").read_text())
    table["categories"].append({"id": 99, "name": "small"})
    table["annotations"] += [
        {"id": 1000 + i, "image_id": i, "category_id": 99} for i, image in enumerate(images) if image[1] % 2
    ]
    return write_text(folder / "coco.json", json.dumps(table))


def columns_of_0_and_1(images, folder):
    names, numbers = sorted({name for name, _ in images}), _numbered(images)
    paths = write_named(images, folder)
    rows = "".join(
        f"{paths[image]},{','.join(str(int(numbers[image] == k)) for k in range(len(names)))},{image[1] % 2}\n"
        for image in images
    )
    return write_text(folder / "list.csv", f"path,{','.join(names)},small\n{rows}")


MULTILABEL_LAYOUTS = {
    "joined labels": (joined_cells, {"label_separator": "|"}),
    "row per label": (row_per_label, {}),
    "COCO, several categories": (coco_multilabel, {}),
    "columns of 0 and 1": (columns_of_0_and_1, {}),
}
