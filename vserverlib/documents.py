"""Reads one YAML document as it was typed: texts, lists and mappings, each with its line and column.

A text stays a text: `0123` and `NO` are not converted. Aliases and merge keys share the values that they name, so a few
lines of aliases take little memory. MAX_BYTES, MAX_VALUES and MAX_DEPTH are checked while the file is read.

This module owns YAML; fixtures.py and nodes/settings.py own the required content.
"""

from __future__ import annotations

import codecs
import dataclasses
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

from vserverlib import Error, files, printable
from vserverlib.files import shown

MAX_BYTES = 16 * 1024 * 1024  # of a file
MAX_VALUES = 500_000  # texts, lists, mappings and keys in a file
MAX_DEPTH = 16  # of nested lists and mappings
FAULTS_SHOWN = 1000  # further faults are only counted
NULL_TEXTS = ("", "~", "null", "Null", "NULL")  # they mean "no value" unless quoted
BOMS = {"UTF-32": (codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE), "UTF-16": (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)}
KNOWN_TAGS = ("str", "int", "float", "bool", "null", "timestamp", "seq", "map", "merge", "value")
TAG = "tag:yaml.org,2002:"
UNPRINTABLE = re.compile("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")  # in YAML


REMEDIES = {  # by the character before the fault, or the construct that YAML was reading
    "\t": ": indent by spaces, not by tabs",
    "alias": ": put a text that begins with * in quotes",
    "anchor": ": put a text that begins with & in quotes",
    "tag": ": put a text that begins with ! in quotes",
    "directive": ": put a text that begins with % in quotes",
}


class Place(NamedTuple):
    """A position in a file: line and column, counted from 1."""

    line: int
    column: int


class Remarks:
    """Remarks about a file: the first ones with their places, and the number of all (total)."""

    def __init__(self, path: Path) -> None:
        self.path, self.total = path, 0
        self.first: list[tuple[Place, str]] = []

    def add(self, place: Place, text: str) -> None:
        """Count a remark; keep the first FAULTS_SHOWN."""
        self.total += 1
        if len(self.first) < FAULTS_SHOWN:
            self.first.append((place, text))

    def lines(self) -> Iterator[str]:
        """Return one line for each remark, in the order of the file."""
        for place, text in sorted(self.first):
            yield f"{shown(self.path)}:{place.line}:{place.column}: {text}"
        if self.total > len(self.first):
            yield f"and {self.total - len(self.first):,} more"


class Faults(Remarks):
    """The faults of a file.

    unusual: remarks on anything that breaks a rule but is imported. lost: remarks on anything that is ignored.
    consequence: of a fault, for messages.
    """

    def __init__(self, path: Path, consequence: str = "nothing was imported") -> None:
        super().__init__(path)
        self.consequence = consequence
        self.unusual, self.lost = Remarks(path), Remarks(path)

    def refuse(self) -> None:
        """Raise one FaultyFile with all faults, if there are any."""
        if self.total:
            raise FaultyFile(self)


class FaultyFile(Error):
    """A file has faults: one line for each, with its place."""

    def __init__(self, faults: Faults) -> None:
        self.faults = tuple(faults.lines())
        head = f"{shown(faults.path)} has {faults.total:,} faults, {faults.consequence}:"
        super().__init__(self.faults[0] if faults.total == 1 else "\n".join((head, *self.faults)))


# Values


@dataclasses.dataclass(frozen=True, slots=True)
class Text:
    """A text. quoted: it is in quotes or a block, so it cannot mean null, true or a merge."""

    place: Place
    text: str
    quoted: bool = False

    @property
    def is_null(self) -> bool:
        """Whether it means "no value"."""
        return not self.quoted and self.text in NULL_TEXTS


@dataclasses.dataclass(frozen=True, slots=True)
class List:
    """A list."""

    place: Place
    items: list[Value] = dataclasses.field(default_factory=list)


@dataclasses.dataclass(frozen=True, slots=True)
class Mapping:
    """A mapping. keys: the place of each key."""

    place: Place
    values: dict[str, Value] = dataclasses.field(default_factory=dict)
    keys: dict[str, Place] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True, slots=True)
class Unread:
    """A value that could not be read; its fault is already recorded."""

    place: Place


Value: TypeAlias = Text | List | Mapping | Unread


# Reading


def read(path: Path, faults: Faults) -> Value:
    """Return the value of the only document in a file, and add the faults of single values to `faults`.

    path: the file that is read; messages use the name in `faults`. Raises an Error if the file is too large, not UTF-8
    or not YAML.
    """
    text = _text(path, faults)
    import yaml

    loader: Any = getattr(yaml, "CBaseLoader", yaml.BaseLoader)  # libyaml, if PyYAML has it, is ten times as fast
    try:
        return _Builder(faults).document(yaml.parse(text, Loader=loader))
    except yaml.MarkedYAMLError as error:
        raise _with_fault(
            faults, _place(error.problem_mark or error.context_mark), _describe_error(error, text)
        ) from None
    except (yaml.YAMLError, ValueError, OverflowError) as error:  # huge numbers in escapes or directives
        raise _with_fault(faults, Place(1, 1), f"invalid YAML: {printable(error, 200)}") from None


def _with_fault(faults: Faults, place: Place, text: str) -> FaultyFile:
    faults.add(place, text)
    return FaultyFile(faults)


def _place(mark: Any) -> Place:
    return Place(mark.line + 1, mark.column + 1) if mark else Place(1, 1)


def _describe_error(error: Any, text: str) -> str:
    """Return PyYAML's message, the line where the broken construct begins, and a remedy if one is known."""
    problem, begun = str(error.problem or error.context), error.context_mark
    began = f" {error.context} that begins in line {begun.line + 1}" if begun and error.context else ""
    place = _place(error.problem_mark)
    line = text.split("\n")[place.line - 1 : place.line]
    remedy = REMEDIES["\t"] if "\t" in "".join(line)[: place.column] else ""
    remedy = remedy or next((remedy for word, remedy in REMEDIES.items() if word in began), "")
    return printable(f"invalid YAML: {problem}{began.replace(' while ', ', ')}{remedy}", 300)


def _text(path: Path, faults: Faults) -> str:
    with files.as_error(f"{shown(faults.path)} cannot be read"), open(path, "rb") as file:
        data = file.read(MAX_BYTES + 1)
    if len(data) > MAX_BYTES:
        message = f"is larger than {MAX_BYTES // 1024 // 1024} MiB"
        raise Error(f"{shown(faults.path)} {message}: split it, and import it in parts")
    for name, marks in BOMS.items():
        if data.startswith(marks):
            raise Error(f"{shown(faults.path)} is text in {name}: save it as UTF-8")
    text = _decoded(data.removeprefix(codecs.BOM_UTF8), faults)
    if found := UNPRINTABLE.search(text):
        message = (
            f"invalid YAML: control character {printable(found[0])}: remove it, or write it as an escape in quotes"
        )
        raise _with_fault(faults, _place_at(text[: found.start()]), message)
    return text


def _decoded(data: bytes, faults: Faults) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        place = _place_at(data[: error.start].decode())
        message = f"the file is not UTF-8 (byte {data[error.start]:#04x}): save it as UTF-8"
        raise _with_fault(faults, place, message) from None


def _place_at(before: str) -> Place:
    """Return the place after a text."""
    return Place(before.count("\n") + 1, len(before) - (before.rfind("\n") + 1) + 1)


class _Builder:
    """Builds values from PyYAML's events, and checks the bounds at each event.

    `yaml.compose` cannot replace it: it builds all nodes before a bound is checked (16 MiB of `[a,a,…` took 43 s and
    2.4 GiB), stops at the first unknown alias, and lets a list contain itself. It was also slower: 2.6 s, where this
    class needs 1.7 s.
    """

    def __init__(self, faults: Faults) -> None:
        self._path, self._faults = faults.path, faults
        self._anchors: dict[str, Value] = {}
        self._left = MAX_VALUES

    def document(self, events: Iterator[Any]) -> Value:
        """Return the value of the only document, or an empty text if there is no document."""
        found: Value | None = None
        for event in events:
            if type(event).__name__ == "DocumentStartEvent":
                if found is not None:
                    raise _with_fault(self._faults, _place(event.start_mark), SECOND)
                found = self._value(next(events), events, 0)
        return found or Text(Place(1, 1), "")

    def _value(self, event: Any, events: Iterator[Any], depth: int) -> Value:
        self._spend(1)
        if type(event).__name__ == "AliasEvent":
            return self._alias(event)
        place = _place(event.start_mark)
        if depth > MAX_DEPTH:
            message = f"lists and mappings are nested more than {MAX_DEPTH} levels deep: no file of vserver needs that"
            raise _with_fault(self._faults, place, message)
        value = self._without_anchor(event, place, events, depth)
        if event.anchor is not None:
            self._anchors[event.anchor] = value
        return value

    def _without_anchor(self, event: Any, place: Place, events: Iterator[Any], depth: int) -> Value:
        has_known_tag = self._has_known_tag(event, place)
        value: Value
        if type(event).__name__ == "SequenceStartEvent":
            value = List(place, list(self._items(events, depth + 1)))
        elif type(event).__name__ == "MappingStartEvent":
            value = self._mapping(place, events, depth + 1)
        else:
            value = Text(place, event.value, bool(event.style) or event.tag is not None)
        return value if has_known_tag else Unread(place)

    def _has_known_tag(self, event: Any, place: Place) -> bool:
        """Whether a value has no tag or one that YAML defines; any other is a fault."""
        tag = event.tag
        if tag is None or tag == "!" or (tag.startswith(TAG) and tag.removeprefix(TAG) in KNOWN_TAGS):
            return True
        named = printable(tag.replace(TAG, "!!", 1))
        self._faults.add(place, f"unknown tag {named}, a file has texts, lists and mappings only: remove it")
        return False

    def _spend(self, values: int) -> None:
        self._left -= values
        if self._left < 0:
            raise Error(f"{shown(self._path)} has more than {MAX_VALUES:,} values: split it, and import it in parts")

    def _alias(self, event: Any) -> Value:
        place = _place(event.start_mark)
        if event.anchor in self._anchors:
            return self._anchors[event.anchor]
        name = printable(event.anchor)
        self._faults.add(place, f"the alias *{name} needs a value with the anchor &{name} that ends before it")
        return Unread(place)

    def _items(self, events: Iterator[Any], depth: int) -> Iterator[Value]:
        for event in events:
            if type(event).__name__ == "SequenceEndEvent":
                return
            yield self._value(event, events, depth)

    def _mapping(self, place: Place, events: Iterator[Any], depth: int) -> Mapping:
        mapping, merged = Mapping(place), []
        for event in events:
            if type(event).__name__ == "MappingEndEvent":
                break
            key = self._value(event, events, depth)
            value = self._value(next(events), events, depth)
            if isinstance(key, Text) and key.text == "<<" and not key.quoted:
                merged.append((key, value))
            else:
                self._put(mapping, key, value)
        for key, value in merged:
            self._merge(mapping, key, value)
        return mapping

    def _put(self, mapping: Mapping, key: Value, value: Value) -> None:
        """Add a key and its value to a mapping.

        If a key is repeated, the last value counts, as in PyYAML, which the servers use.
        """
        if isinstance(key, Text):
            if key.text in mapping.values:
                self._note_repeated(key, mapping.keys[key.text].line, _is_same(mapping.values[key.text], value))
            mapping.values[key.text], mapping.keys[key.text] = value, key.place
        elif not isinstance(key, Unread):
            self._faults.add(key.place, "a list or a mapping cannot be a key: write a text")

    def _note_repeated(self, key: Text, first: int, is_same: bool) -> None:
        message = f'the key "{printable(key.text)}" is already in line {first}'
        if is_same:
            self._faults.unusual.add(key.place, f"{message}, with the same value")
        else:
            self._faults.lost.add(
                key.place, f"{message}: this value is imported, the earlier one is not, as servers do"
            )

    def _merge(self, mapping: Mapping, key: Text, value: Value) -> None:
        """Add the values of a merge key, one mapping or several, for keys that are missing; the first one wins."""
        for each in value.items if isinstance(value, List) else [value]:
            if isinstance(each, Mapping):
                self._spend(len(each.values))
                for name in each.values:
                    mapping.values.setdefault(name, each.values[name])
                    mapping.keys.setdefault(name, each.keys[name])
            elif not isinstance(each, Unread):
                self._faults.add(key.place, "<< takes a mapping or a list of mappings: *NAME of one with &NAME")


def _is_same(one: Value, other: Value) -> bool:
    """Whether two values are equal texts or share one anchor. Lists are not compared: aliases could make them huge."""
    if isinstance(one, Text) and isinstance(other, Text):
        return (one.text, one.is_null) == (other.text, other.is_null)
    return one is other


SECOND = "a second document begins here (---): put both into one, or into two files"
