"""Names of classes that a list gives by number: from classes.txt, or `names:` in a YAML file, beside the list."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from recog.core.errors import DataError
from recog.core.files import size_of_regular
from recog.data.lists.image_finder import Place
from recog.data.names import class_name_of

CLASSES_FILE = "classes.txt"
YAML_SUFFIXES = (".yaml", ".yml")
_MAX_BYTES = 1 << 20
_NUMBERED = re.compile(r"(\d{1,9})(?:[:,\t]\s*|\s+)(\S.*)")
_YAML_NAMES = re.compile(r"^names[ \t]*:[ \t]*(.*)$", re.MULTILINE)
_YAML_ITEM = re.compile(r"[ \t]*-[ \t]+(.+)|[ \t]+(\d{1,9})[ \t]*:[ \t]*(.+)")


@dataclass(frozen=True)
class ClassNumbers:
    """The name of each number; `is_counted`: they stand in order, and the first may mean 0 or 1."""

    file: str
    names: Mapping[int, str]
    is_counted: bool

    def name_all(self, numbers: Collection[int]) -> tuple[dict[int, str], str]:
        """{number: name} and a note on it. DataError where a number has no name."""
        shift = 1 if self.is_counted and min(numbers) >= 1 and max(numbers) == len(self.names) else 0
        missing = sorted(number for number in numbers if number - shift not in self.names)
        if missing:
            raise DataError(
                f"the label {missing[0]} has no name in {self.file}, which names {len(self.names)} classes"
                f"{' from 0' if self.is_counted else ''}. Correct {self.file}, or remove it to keep the numbers."
            )
        start = f", numbered from {shift}" if self.is_counted else ""
        return {number: self.names[number - shift] for number in numbers}, f"class names from {self.file}{start}"


def find_class_numbers(places: Sequence[Place]) -> ClassNumbers | None:
    """The names in the first of `places` that has any. DataError where two files in it name the classes differently."""
    for place in places:
        found: list[ClassNumbers] = []
        for name in sorted(place.files_in("")):
            if name.lower() == CLASSES_FILE:
                found += [_numbers(place.prefix + name, lines)] if (lines := _lines(_text(place, name))) else []
            elif name.lower().endswith(YAML_SUFFIXES):
                found += [_numbers(place.prefix + name, lines)] if (lines := _yaml_lines(_text(place, name))) else []
        if len({tuple(sorted(each.names.items())) for each in found}) > 1:
            raise DataError(
                f"{found[0].file} and {found[1].file} in {place.folder} name the classes differently; keep one of them."
            )
        if found:
            return found[0]
    return None


def _text(place: Place, name: str) -> str:
    source = place.source(name)
    if isinstance(source, Path) and size_of_regular(source) > _MAX_BYTES:
        return ""
    data = source.read_bytes() if isinstance(source, Path) else source.read()
    return data[:_MAX_BYTES].decode("utf-8-sig", "replace").replace("\r\n", "\n")


def _lines(text: str) -> list[str]:
    return [line.strip() for line in text.split("\n") if line.strip()]


def _numbers(file: str, lines: Sequence[str]) -> ClassNumbers:
    """Of lines that all begin with a number of their own these, else the place of each."""
    pairs = [match.groups() for line in lines if (match := _NUMBERED.fullmatch(line))]
    if len(pairs) == len(lines) and len({int(number) for number, _ in pairs}) == len(lines):
        return ClassNumbers(file, {int(number): class_name_of(name) for number, name in pairs}, is_counted=False)
    return ClassNumbers(file, {i: class_name_of(name) for i, name in enumerate(lines)}, is_counted=True)


def _yaml_lines(text: str) -> list[str]:
    """The entries of `names:`, a list or a table of numbers, in either of YAML's styles; none where it is not there."""
    match = _YAML_NAMES.search(text)
    if match is None:
        return []
    rest = _without_comment(match[1])
    if rest:
        inside = rest if rest[-1] in "]}" else rest + text[match.end() :].partition("]")[0].replace("\n", " ") + "]"
        entries = re.findall(r"\s*((?:\d+\s*:\s*)?(?:'[^']*'|\"[^\"]*\"|[^,]+))\s*(?:,|$)", inside.strip("[]{} "))
        return [_unquoted(entry) for entry in entries if entry.strip()]
    entries = []
    for line in text[match.end() + 1 :].split("\n"):
        item = _YAML_ITEM.fullmatch(_without_comment(line))
        if item is None:
            if line.strip() and not line.lstrip().startswith("#"):
                break
            continue
        entries.append(_unquoted(item[1] or f"{item[2]}: {item[3]}"))
    return entries


def _without_comment(line: str) -> str:
    return re.sub(r"(^|\s)#.*$", "", line).rstrip()


def _unquoted(entry: str) -> str:
    number, name = match.groups() if (match := re.fullmatch(r"(\d+\s*:\s*)?(.*)", entry.strip())) else ("", entry)
    name = name[1:-1] if len(name) > 1 and name[0] == name[-1] and name[0] in "'\"" else name
    return f"{number or ''}{name}"
