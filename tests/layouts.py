"""The same labelled images as other tools and people lay them out.

Each function writes images {(class, i): PNG bytes} into a new folder and returns what is given to recog.
"""

import json
import zipfile

from containers import write_named, write_text


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
