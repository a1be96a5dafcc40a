"""Lists that stand in a folder or archive beside their images: train.csv of Kaggle, _classes.csv of Roboflow, and the like."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from recog.core.errors import DataError
from recog.core.images.formats import has_image_suffix
from recog.data.data_layout import DETECTED, LIST_OPTIONS, DataLayout
from recog.data.dataset import Dataset, Exclusion
from recog.data.lists.csv_table import CSV_SUFFIXES
from recog.data.lists.exports.cvat import CVAT_FILE, XML_SUFFIXES
from recog.data.lists.image_finder import Found, ImageFinder, MissingFile, given_places, places_in_tree
from recog.data.lists.json_lines import JSON_LINES_SUFFIXES
from recog.data.lists.label_format import AS_FOUND, LabelFormat, check_same_columns
from recog.data.lists.list_reader import ListReader
from recog.data.lists.rows import Listing, Row
from recog.data.lists.tables import LIST_SUFFIXES, beginning_of, read_listing
from recog.data.lists.text_list import TEXT_LIST_SUFFIXES, lists_images
from recog.data.names import split_of_name, splits_of_files
from recog.data.tree import Tree, ancestors_of, base_of, parent_of, predict_notes, unlabelled_folder

SUBMISSION = "a sample submission"
_MAX_NAMED = 3
_TABLES = (*CSV_SUFFIXES, *JSON_LINES_SUFFIXES)  # what is a list by its suffix, unlike .json and .txt


@dataclass(frozen=True)
class FoundList:
    """A list with the images of its rows."""

    name: str
    listing: Listing
    rows: Sequence[tuple[Row, Found]]
    notes: Sequence[str]


@dataclass(frozen=True)
class FolderLists:
    """`lists` name images that are there; `refused` are (name, why it is none) of the other files that might be lists."""

    lists: tuple[FoundList, ...] = ()
    refused: tuple[tuple[str, str], ...] = ()

    @property
    def names(self) -> str:
        return ", ".join(found.name for found in self.lists)

    @property
    def best_refused(self) -> tuple[str, str] | None:
        """Of the refused files the one that is most likely meant as the list: for training, and no sample submission."""
        refused = [(name, why) for name, why in self.refused if why != SUBMISSION]
        return min(refused, key=lambda pair: split_of_name(base_of(pair[0])) != "train", default=None)

    @property
    def states_splits(self) -> bool:
        return any(row.split for found in self.lists for row, _ in found.rows)

    def agrees_with(self, dataset: Dataset) -> bool:
        """Whether the lists and `dataset` sort the images that both have into the same classes, by whatever names."""
        pairs = self._pairs(dataset)
        return bool(pairs) and len(pairs) == len({a for a, _ in pairs}) == len({b for _, b in pairs})

    def in_one_class_of(self, dataset: Dataset) -> bool:
        """Whether `dataset` has all images of the lists in one class, such as that of a folder 'images'."""
        return len({name for _, name in self._pairs(dataset)}) < 2

    def _pairs(self, dataset: Dataset) -> set[tuple[tuple[str, ...], str]]:
        """The labels by the lists, and the class in `dataset`, of the images that both have."""
        class_of = {sample.name: dataset.class_names[sample.label] for sample in dataset.samples}
        return {
            (row.labels, class_of[image.name])
            for found in self.lists
            for row, image in found.rows
            if row.labels is not None and image.name in class_of
        }


def find_lists(tree: Tree, labels: LabelFormat = AS_FOUND, layout: DataLayout = DETECTED) -> FolderLists:
    """The lists in the root of a tree, where folders that hold one folder only do not count, and in its split folders."""
    base = _base(tree)
    places = [base, *(folder for folder in tree.folders_in(base) if split_of_name(base_of(folder)))]
    lists: list[FoundList] = []
    refused: list[tuple[str, str]] = []
    for name in (name for place in places for name in tree.files_in(place) if _may_be_list(tree, name)):
        if "submission" in base_of(name).lower():
            refused.append((name, SUBMISSION))
            continue
        try:
            lists.append(_read(tree, name, labels, layout))
        except DataError as error:
            refused.append((name, str(error)))
    return FolderLists(tuple(lists), tuple(refused))


def read_lists(
    tree: Tree, found: FolderLists, labels: LabelFormat = AS_FOUND, layout: DataLayout = DETECTED
) -> Dataset:
    """The images that the lists name; those that they do not name are left aside by name. DataError where the lists are
    several and their names or folders do not tell the split of each.
    """
    layout.check_unused(tree.where, f"read by its list {found.names}", takes=LIST_OPTIONS)
    splits = _splits(tree, found.lists)
    reader = ListReader.in_tree(tree, [each.name for each in found.lists], labels.task)
    for each in found.lists:
        reader.declared = each.listing.label_columns
        for row, image in each.rows:
            reader.add(replace(row, split=row.split or splits[each.name]), image.name, image.source)
        reader.notes += [note for note in (*each.listing.notes, *each.notes) if note not in reader.notes]
    check_same_columns([(each.name, each.listing.label_columns) for each in found.lists])
    reader.exclusions += _left_aside(tree, found, set(reader.names))
    reader.notes += predict_notes(tree, reader.exclusions)
    kind, why = found.lists[0].listing.kind, found.lists[0].listing.why
    return reader.dataset(layout=f"{kind}, in the folder of its images", why=f"{found.names}: {why}")


def list_hint(tree: Tree, found: FolderLists) -> str:
    """Of a folder whose layout is not understood: the lists in it, and why they do not help."""
    if found.best_refused and found.best_refused[0].lower().endswith(_TABLES):
        return f" The list {found.best_refused[0]} in it cannot be used: {found.best_refused[1]}"
    names = [name for name in tree.files if name.lower().endswith(_TABLES)]
    more = f" and {len(names) - _MAX_NAMED} more" if len(names) > _MAX_NAMED else ""
    return (
        f" It holds {', '.join(names[:_MAX_NAMED])}{more}; name that file instead if it lists the images."
        if names
        else ""
    )


def _may_be_list(tree: Tree, name: str) -> bool:
    """By its suffix; of text files, which may hold anything, by their first line too, of XML by the name."""
    if name.lower().endswith(XML_SUFFIXES):
        return base_of(name).lower() == CVAT_FILE
    if not name.lower().endswith(TEXT_LIST_SUFFIXES):
        return name.lower().endswith(LIST_SUFFIXES)
    finder = ImageFinder(places_in_tree(tree, parent_of(name)))
    return lists_images(beginning_of(tree.files[name]), finder.holds)


def _base(tree: Tree) -> str:
    here = ""
    while (
        not tree.files_in(here)
        and len(tree.folders_in(here)) == 1
        and not split_of_name(base_of(tree.folders_in(here)[0]))
    ):
        here = tree.folders_in(here)[0]
    return here


def _read(tree: Tree, name: str, labels: LabelFormat, layout: DataLayout) -> FoundList:
    where = f"{tree.where.rstrip('/')}/{name}"
    places = given_places(layout.images) if layout.images else places_in_tree(tree, parent_of(name))
    finder = ImageFinder(places, split_of_name(base_of(name).rpartition(".")[0]), is_given=bool(layout.images))
    listing = read_listing(tree.files[name], where, labels, layout, finder)
    rows = [(row, finder.find(row.path, row.split, row.where)) for row in listing.rows]
    finder.check_any_found(where, len(rows))
    if not rows:
        raise DataError(f"{where} lists no image.")
    return FoundList(name, listing, rows, finder.notes)


def _splits(tree: Tree, lists: Sequence[FoundList]) -> Mapping[str, str | None]:
    """{list: its split}; one list alone has none of its own."""
    if len(lists) == 1 and not split_of_name(base_of(parent_of(lists[0].name))):
        return {lists[0].name: None}
    by_name = splits_of_files([base_of(each.name) for each in lists])
    splits = {
        each.name: split_of_name(base_of(parent_of(each.name))) or split
        for each, split in zip(lists, by_name, strict=True)
    }
    if None in splits.values() or len(set(splits.values())) < len(splits):
        names = [each.name for each in lists]
        raise DataError(
            f"{tree.where} holds several lists of its images: {', '.join(names)}. Name the one that is meant in place of the "
            f"folder, leave others out (--exclude {base_of(names[-1])}), or name the lists for their splits, such as "
            "train.csv and test.csv."
        )
    return splits


def _left_aside(tree: Tree, found: FolderLists, listed: set[str]) -> Iterator[Exclusion]:
    """Folders without a listed image as a whole, other files one by one."""
    missing = {image.name for each in found.lists for _, image in each.rows if isinstance(image.source, MissingFile)}
    lists = {each.name for each in found.lists}
    refused = dict(found.refused)
    with_listed = {folder for name in listed - missing for folder in ancestors_of(name)}
    base = _base(tree)
    aside = [
        folder
        for folder in tree.folders_in(base)
        if folder not in with_listed and any(has_image_suffix(name) for name in tree.files_below(folder))
    ]
    for folder in aside:
        yield unlabelled_folder(tree, folder, f"{found.names} does not list it")
    for name in tree.files:
        if name in listed or name in lists or any(name.startswith(f"{folder}/") for folder in aside):
            continue
        why = f"not listed in {found.names}"
        if name in refused:
            why = SUBMISSION if refused[name] == SUBMISSION else "no list of images and labels"
        yield Exclusion(name=name, reason=why)
