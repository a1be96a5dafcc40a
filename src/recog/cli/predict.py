"""`recog predict`."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from recog.cli.guard import Threads, guarded
from recog.cli.output import print_cells, print_csv_row, print_json, print_note
from recog.core.errors import BadImage, ConfigError, DataError
from recog.core.text import visible
from recog.report.text import listing, plural

if TYPE_CHECKING:
    from recog.runtime.prediction import Prediction

SEPARATOR = " | "


@guarded
def predict(
    bundle: Annotated[str, typer.Argument(help="A bundle, a run's folder, or a run's name.")],
    images: Annotated[list[str], typer.Argument(help="Image files, or folders of them.")],
    top: Annotated[int, typer.Option(help="Number of classes to show per image.", min=1)] = 1,
    sets: Annotated[bool, typer.Option("--sets", help="Show the prediction set of each image.")] = False,
    reject: Annotated[bool, typer.Option("--reject", help="Answer 'unknown' for images unlike every class.")] = False,
    threads: Threads = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON on stdout.")] = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV on stdout.")] = False,
    csv_raw: Annotated[
        bool, typer.Option("--csv-raw", help="Print CSV without the quote before cells that a spreadsheet would run.")
    ] = False,
) -> None:
    """Classify images with a bundle. Exit code 3 if any image could not be read; the others are still classified."""
    if as_json and (as_csv or csv_raw):
        raise ConfigError("--json cannot be combined with --csv or --csv-raw. Choose one of them.")
    from recog.runtime.predictor import load

    predictor = load(bundle)
    if sets and predictor.calibration.sets is None:
        if predictor.manifest.task == "multilabel":
            raise ConfigError(
                f"{bundle} predicts none to several labels per image; prediction sets contain the one true class and are "
                "not available for it."
            )
        raise ConfigError(f"{bundle} makes no prediction sets; train with --set calibration.conformal=lac.")
    files, empty = _expand(images)
    answers = chain(predictor.predict_each(files, reject=reject), empty)
    files = [*files, *(Path(folder.name) for folder in empty)]
    is_multilabel = predictor.manifest.task == "multilabel"
    if as_json:
        num_bad = _print_json(files, answers, top)
    elif (as_csv or csv_raw) and is_multilabel:
        num_bad = print_labels_csv(files, answers, predictor.class_names, raw=csv_raw)
    elif as_csv or csv_raw:
        num_bad = _print_csv(files, answers, top, sets=sets, raw=csv_raw)
    elif is_multilabel:
        num_bad = print_labels_table(files, answers)
    else:
        num_bad = _print_table(files, answers, top, sets=sets)
    if num_bad:
        print_note(f"{num_bad} of {len(files)} images could not be used")
        raise typer.Exit(DataError.exit_code)


def _expand(images: Sequence[str]) -> tuple[list[Path], list[BadImage]]:
    """The image files that `images` names, and the folders without any; what is left out of a folder is printed."""
    from recog.runtime.predictor import list_images

    files: list[Path] = []
    empty: list[BadImage] = []
    for image, path in _named_paths(images):
        if not os.path.isdir(path):  # never raises, whatever the name
            files.append(path)
            continue
        try:
            found = list_images(path)
        except BadImage as error:
            empty.append(error)
            continue
        except DataError as error:  # a folder that cannot be listed
            empty.append(BadImage(image, str(error), "Check its permissions."))
            continue
        files += found.images
        if found.others:
            names = listing([str(other.relative_to(path)) for other in found.others])
            text = f"{image}: left out {plural(len(found.others), 'file')} (hidden or not an image): {names}"
            print_note(text)
    return files, empty


def _named_paths(images: Sequence[str]) -> Iterator[tuple[str, Path]]:
    """Each of `images` as it is named, with its path: patterns expanded, which a shell leaves to us where they are quoted."""
    from recog.data.places import expand_pattern, is_pattern, local_path

    for image in images:
        if not image:
            raise ConfigError("the name of an image is empty. Give files or folders; '.' is this folder.")
        if is_pattern(image):
            yield from ((str(path), path) for path in expand_pattern(image))
        else:
            yield image, Path(local_path(image))


def _print_json(files: Sequence[Path], answers: Iterator[Prediction | BadImage], top: int) -> int:
    rows: list[dict[str, object]] = []
    num_bad = 0
    for file, answer in zip(files, answers, strict=True):
        if isinstance(answer, BadImage):
            num_bad += 1
            rows.append({"file": str(file), "error": answer.reason, "remedy": answer.remedy})
            continue
        rows.append({"file": str(file), **answer.to_dict(top=top)})
    print_json(rows, indent=2)
    return num_bad


def _print_csv(
    files: Sequence[Path], answers: Iterator[Prediction | BadImage], top: int, *, sets: bool, raw: bool
) -> int:
    top_columns = (f"{what}_{i}" for i in range(1, top + 1) for what in ("label", "prob"))
    print_csv_row(["file", *top_columns, *(["set"] if sets else []), "error"], raw=raw)
    num_bad = 0
    for file, answer in zip(files, answers, strict=True):
        if isinstance(answer, BadImage):
            num_bad += 1
            print_csv_row([str(file), *[""] * (2 * top + sets), answer.reason], raw=raw)
            continue
        classes = _shown(answer, top, ".6f")
        cells = [cell for line in classes for cell in line] + [""] * (2 * (top - len(classes)))
        label_set = [SEPARATOR.join(answer.label_set or ())] if sets else []
        print_csv_row([str(file), *cells, *label_set, ""], raw=raw)
    return num_bad


def _shown(answer: Prediction, top: int, style: str) -> list[tuple[str, str]]:
    """The most probable classes and their probabilities; of an unknown image that alone, as it has no probability."""
    if answer.is_unknown:
        return [(answer.label, "")]
    return [(label, format(prob, style)) for label, prob in answer.top(top)]


def _print_table(files: Sequence[Path], answers: Iterator[Prediction | BadImage], top: int, *, sets: bool) -> int:
    def lines_of(answer: Prediction) -> list[tuple[str, ...]]:
        lines = _shown(answer, top, ".1%")
        if not sets:
            return list(lines)
        label_set = SEPARATOR.join(answer.label_set or ())
        return [(*line, label_set if i == 0 else "") for i, line in enumerate(lines)]

    columns = [Column("label"), Column("confidence", justify="right")]
    return print_answers(files, answers, [*columns, Column("may show", overflow="fold")] if sets else columns, lines_of)


def print_labels_csv(
    files: Sequence[Path], answers: Iterator[Prediction | BadImage], class_names: Sequence[str], *, raw: bool = False
) -> int:
    """A row per image: its labels, joined, and every label's probability. Returns how many could not be used."""
    print_csv_row(["file", "labels", *(f"prob_{name}" for name in class_names), "error"], raw=raw)
    num_bad = 0
    for file, answer in zip(files, answers, strict=True):
        if isinstance(answer, BadImage):
            num_bad += 1
            print_csv_row([str(file), "", *[""] * len(class_names), answer.reason], raw=raw)
            continue
        probs = (f"{prob:.6f}" for prob in answer.probs)
        print_csv_row([str(file), SEPARATOR.join(answer.labels), *probs, ""], raw=raw)
    return num_bad


def print_labels_table(files: Sequence[Path], answers: Iterator[Prediction | BadImage]) -> int:
    """A line per label of each image, the most probable first. Returns how many images could not be used."""

    def lines_of(answer: Prediction) -> list[tuple[str, str]]:
        probs = dict(zip(answer.class_names, answer.probs.tolist(), strict=True))
        return [(label, f"{probs[label]:.1%}") for label in answer.labels] or [("(no label)", "")]

    columns = (Column("labels", overflow="fold"), Column("probability", justify="right"))
    return print_answers(files, answers, columns, lines_of)


def print_answers(
    files: Sequence[Path],
    answers: Iterator[Prediction | BadImage],
    columns: Sequence[Column],
    lines_of: Callable[[Prediction], Sequence[Sequence[str]]],
) -> int:
    """`lines_of` gives the cells of an answer's lines, one for each of `columns`. Returns how many images could not be used.

    A terminal gets a table; a file or pipe one line per answer as it comes, cells separated by tabs, nothing folded or cut.
    """
    console = Console(highlight=False)
    table = Table(Column("image", overflow="fold"), *columns, box=None, pad_edge=False, header_style="bold")
    if not console.is_terminal:
        print_cells(["image", *(str(column.header) for column in columns)])
    num_bad = 0
    for file, answer in zip(files, answers, strict=True):
        num_bad += isinstance(answer, BadImage)
        lines = [[f"not used: {answer.reason}"]] if isinstance(answer, BadImage) else lines_of(answer)
        for i, line in enumerate(lines):
            if console.is_terminal:
                table.add_row(*(Text(visible(cell)) for cell in (str(file) if i == 0 else "", *line)))
            else:
                print_cells([str(file), *line])
    if console.is_terminal:
        console.print(table)
    return num_bad
