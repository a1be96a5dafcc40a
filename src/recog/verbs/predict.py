"""Answer images and write the answers where they are wanted: a file, class folders, a contact sheet."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import inf
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from recog.answers.stream import Answer, Inputs, Summary, answer_each, check_min_confidence
from recog.core.errors import ConfigError
from recog.core.outputs import check_output_folder
from recog.core.task import Task
from recog.runtime.engine import REFERENCE_ENGINE
from recog.runtime.predictor import Predictor, load
from recog.runtime.views import Views, ViewsEngine

if TYPE_CHECKING:
    from recog.answers.sorting import Sorter
    from recog.answers.writers import AnswerLayout


_MAX_TOP: Mapping[Task, float] = MappingProxyType({"multiclass": inf, "multilabel": 1})
_WITHOUT_SETS: Mapping[Task, str] = MappingProxyType(
    {
        "multiclass": "makes no prediction sets; train with --set calibration.conformal=lac.",
        "multilabel": "predicts none to several labels per image; prediction sets contain the one true class and are not "
        "available for it.",
    }
)
MIN_IMAGES_FOR_AUTO = 64  # for fewer, importing another engine takes longer than it saves


@dataclass(frozen=True, kw_only=True)
class AnswerOptions:
    """What an answer holds."""

    top: int = 1
    sets: bool = False
    reject: bool = False
    explain: bool = False  # maps of where each image counts for its answer
    min_confidence: float | None = None
    columns: str = ""  # as of `parse_columns`
    raw: bool = False  # CSV without the quote before cells that a spreadsheet would run


@dataclass(frozen=True, kw_only=True)
class AnswerFiles:
    """Where answers are written, beside what the caller prints; None: nowhere. `save` is for annotated copies."""

    output: Path | None = None
    sort_into: Path | None = None
    link: bool = False
    sheet: Path | None = None
    save: Path | None = None

    def check(self) -> None:
        """ConfigError, DataError or DiskError unless all can be created. Nothing that exists is overwritten."""
        if self.output is not None:
            from recog.answers.writers import check_output

            check_output(self.output)
        if self.sheet is not None:
            from recog.answers.sheet import check_sheet

            check_sheet(self.sheet)
        if self.sort_into is not None:
            check_output_folder(self.sort_into, "--sort-into")
        elif self.link:
            raise ConfigError("--link is for --sort-into. Add --sort-into DIR, or remove --link.")
        if self.save is not None:
            check_output_folder(self.save, "--save")


def load_for(folder: Path, engine: str, *, num_images: int, views: Views = "one") -> Predictor:
    """The bundle in `folder`, for so many images, by `engine`: one of ENGINES, or 'auto' for the recorded one where it pays."""
    if engine == "auto" and num_images < MIN_IMAGES_FOR_AUTO:
        engine = REFERENCE_ENGINE
    return load(folder, engine=engine, views=views)


def layout_of(predictor: Predictor, options: AnswerOptions) -> AnswerLayout:
    """How a table or JSON of answers is laid out. ConfigError where a column is not known."""
    from recog.answers.columns import default_columns, parse_columns
    from recog.answers.writers import AnswerLayout

    if options.columns:
        columns = parse_columns(options.columns, predictor, sets=options.sets, reject=options.reject)
    else:
        columns = default_columns(predictor, top=options.top, sets=options.sets)
    return AnswerLayout(
        columns=columns, is_nested=not options.columns, top=options.top, sets=options.sets, raw=options.raw
    )


@dataclass(frozen=True, kw_only=True)
class AnswerJob:
    """Images to be answered, all options checked."""

    predictor: Predictor
    inputs: Inputs  # of this shard
    answers: Iterator[Answer]  # computed as they are taken
    options: AnswerOptions
    files: AnswerFiles
    file_names: Sequence[str] = ()  # of `inputs` below files.sort_into and in files.save

    @property
    def price(self) -> str:
        """What several views of the images have cost, in words; empty for one view."""
        engine = self.predictor.engine
        return engine.price if isinstance(engine, ViewsEngine) else ""

    def events(self) -> Generator[Answer | Summary, None, None]:
        """Each answer in order, then the counts over all of them; by then the files are whole.

        They vanish if this is interrupted.
        """
        summary = Summary()
        with contextlib.ExitStack() as stack:
            sorter = self._sorter()  # leaves the stack last, so that it is undone where a file cannot be written
            takers: list[Callable[[Answer], None]] = [summary.add]
            if sorter is not None:
                takers.append(stack.enter_context(sorter).add)
            takers += self._open_files(stack, summary)
            for answer in self.answers:
                for take in takers:
                    take(answer)
                yield answer
            self.files.check()  # again: what appeared meanwhile stops all of them
            if sorter is not None:
                summary.num_sorted = sorter.place()
        yield summary

    def _open_files(self, stack: contextlib.ExitStack, summary: Summary) -> Iterator[Callable[[Answer], None]]:
        if self.files.output is not None:
            from recog.answers.writers import answer_file

            layout = layout_of(self.predictor, self.options)
            yield stack.enter_context(answer_file(self.files.output, layout)).add
        if self.files.sheet is not None:
            from recog.answers.sheet import sheet_file

            sheet = sheet_file(self.files.sheet, self.inputs.name, self.predictor.class_names, summary)
            yield stack.enter_context(sheet).add
        if self.files.save is not None:
            from recog.answers.annotate import Annotator, picture_names

            yield stack.enter_context(Annotator(folder=self.files.save, names=picture_names(self.file_names))).add

    def _sorter(self) -> Sorter | None:
        if self.files.sort_into is None:
            return None
        from recog.answers.sorting import Sorter

        return Sorter(
            folder=self.files.sort_into,
            inputs=self.inputs,
            names=self.file_names,
            labels=self.predictor.class_names,
            link=self.files.link,
        )


def plan_answers(
    predictor: Predictor,
    inputs: Inputs,
    options: AnswerOptions,
    files: AnswerFiles,
    *,
    shard: tuple[int, int] | None = None,
) -> AnswerJob:
    """Part i of n of `inputs` with `shard` (i, n), else all. ConfigError or DataError where an option is not possible."""
    check_min_confidence(options.min_confidence, predictor.class_names)
    _check_options(predictor, options)
    if options.explain:
        _ = predictor.map_maker  # ConfigError where there is none
    if options.columns:
        from recog.answers.columns import check_ids

        check_ids(layout_of(predictor, options).columns, inputs.names)
    file_names: Sequence[str] = ()
    if files.sort_into is not None or files.save is not None:
        from recog.answers.sorting import check_links, sorted_names

        if files.link:
            check_links(inputs.sources)
        file_names = sorted_names(inputs.names)  # of all, so that they are the same in every shard
    if shard is not None:
        file_names = file_names[inputs.shard_range(*shard)]
        inputs = inputs.shard(*shard)
    answers = answer_each(
        predictor, inputs, reject=options.reject, explain=options.explain, min_confidence=options.min_confidence
    )
    return AnswerJob(
        predictor=predictor, inputs=inputs, answers=answers, options=options, files=files, file_names=file_names
    )


def _check_options(predictor: Predictor, options: AnswerOptions) -> None:
    if options.sets and predictor.calibration.sets is None:
        raise ConfigError(f"this bundle {_WITHOUT_SETS[predictor.manifest.task]}")
    if options.top > _MAX_TOP[predictor.manifest.task]:
        raise ConfigError(
            "--top is for bundles of one label per image; this one gives all labels above their thresholds."
        )
    if isinstance(predictor.engine, ViewsEngine) and (options.sets or options.reject):
        raise ConfigError(
            "--sets and --reject are calibrated on one view of an image. Leave --views out, or leave them out."
        )
    if options.columns and options.sets and "label_set" not in re.split("[,=]", options.columns):
        raise ConfigError(
            "--sets has no effect, as --columns does not name 'label_set'. Add it to --columns, or remove --sets."
        )
