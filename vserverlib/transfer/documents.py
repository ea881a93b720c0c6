"""One YAML document, read as it was typed: texts, lists and mappings, each with the line and column where it stands.

Nothing is made of a text: `0123` and `NO` stay what they are, whoever reads them decides. Aliases and merge keys are
followed without a copy, so that a few lines that stand for millions take no more memory than they have themselves.
What a file may be is bounded (LARGEST, VALUES, DEEPEST), and looked at before all of it is read.

It owns YAML. What a document should hold is its reader's.
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

LARGEST = 16 * 1024 * 1024  # bytes of a file
VALUES = 500_000  # texts, lists, mappings and keys of a file
DEEPEST = 16  # lists and mappings in each other
TOLD = 1000  # faults that are told; all are counted
NOTHING = ("", "~", "null", "Null", "NULL")  # what stands for no value, where it is not in quotes
BOMS = {"UTF-32": (codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE), "UTF-16": (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)}
KNOWN_TAGS = ("str", "int", "float", "bool", "null", "timestamp", "seq", "map", "merge", "value")  # of YAML itself
TAG = "tag:yaml.org,2002:"
UNPRINTABLE = re.compile("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")  # as YAML has it


REMEDIES = {  # by what stands before a fault, or by what YAML was about to read
    "\t": ": indent by spaces, not by tabs",
    "alias": ": put a text that begins with * in quotes",
    "anchor": ": put a text that begins with & in quotes",
    "tag": ": put a text that begins with ! in quotes",
    "directive": ": put a text that begins with % in quotes",
}


class Place(NamedTuple):
    """Where something stands in a file: its line and its column, counted from 1."""

    line: int
    column: int


class Remarks:
    """What there is to say of a file: the first of it by place, and how much it is in all."""

    def __init__(self, path: Path) -> None:
        self.path, self.total = path, 0
        self._first: list[tuple[Place, str]] = []

    def add(self, place: Place, text: str) -> None:
        """Count a remark, and keep it if it is one of the first."""
        self.total += 1
        if len(self._first) < TOLD:
            self._first.append((place, text))

    def lines(self) -> Iterator[str]:
        """Return a line for each, in the order of the file."""
        for place, text in sorted(self._first):
            yield f"{shown(self.path)}:{place.line}:{place.column}: {text}"
        if self.total > len(self._first):
            yield f"and {self.total - len(self._first):,} more"


class Faults(Remarks):
    """What is wrong with a file.

    unusual: what is read although it breaks a rule, as servers read it. lost: what of it is passed over, as they do.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.unusual, self.lost = Remarks(path), Remarks(path)

    def refuse(self) -> None:
        """Raise all of them as one, where there are any."""
        if self.total:
            raise Faulty(self)


class Faulty(Error):
    """A file with faults: each on a line of its own, with its place. Nothing was done with the file."""

    def __init__(self, faults: Faults) -> None:
        self.faults = tuple(faults.lines())
        head = f"{shown(faults.path)} has {faults.total:,} faults, nothing was imported:"
        super().__init__(self.faults[0] if faults.total == 1 else "\n".join((head, *self.faults)))


# What a document holds


@dataclasses.dataclass(frozen=True, slots=True)
class Text:
    """A text. quoted: whether it is in quotes, or a block, and so cannot stand for anything else."""

    place: Place
    text: str
    quoted: bool = False

    @property
    def is_nothing(self) -> bool:
        """Whether it stands for no value."""
        return not self.quoted and self.text in NOTHING


@dataclasses.dataclass(frozen=True, slots=True)
class List:
    """A list."""

    place: Place
    items: list[Value] = dataclasses.field(default_factory=list)


@dataclasses.dataclass(frozen=True, slots=True)
class Mapping:
    """Keys and values. keys: where each of the keys stands."""

    place: Place
    values: dict[str, Value] = dataclasses.field(default_factory=dict)
    keys: dict[str, Place] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True, slots=True)
class Unread:
    """What could not be read, which has been told."""

    place: Place


Value: TypeAlias = Text | List | Mapping | Unread


# Reading


def read(path: Path, faults: Faults) -> Value:
    """Return what the one document of a file holds. What is wrong with single values of it is added to the faults.

    path: what is read; it is called by the name that the faults have for it.

    Raises an Error where it is too large, no text in UTF-8, or no YAML.
    """
    text = _text(path, faults)
    import yaml

    loader: Any = getattr(yaml, "CBaseLoader", yaml.BaseLoader)  # in C, where it was built: ten times as fast
    try:
        return _Builder(faults).document(yaml.parse(text, Loader=loader))
    except yaml.MarkedYAMLError as error:
        raise _refused(faults, _place(error.problem_mark or error.context_mark), _said(error, text)) from None
    except (yaml.YAMLError, ValueError, OverflowError) as error:  # escapes and directives of numbers beyond all bounds
        raise _refused(faults, Place(1, 1), f"this is no YAML: {printable(error, 200)}") from None


def _refused(faults: Faults, place: Place, text: str) -> Faulty:
    faults.add(place, text)
    return Faulty(faults)


def _place(mark: Any) -> Place:
    return Place(mark.line + 1, mark.column + 1) if mark else Place(1, 1)


def _said(error: Any, text: str) -> str:
    """Return what YAML says of a fault, where that began which it could not finish, and a remedy where one is known."""
    problem, begun = str(error.problem or error.context), error.context_mark
    began = f" {error.context} that begins in line {begun.line + 1}" if begun and error.context else ""
    place = _place(error.problem_mark)
    line = text.split("\n")[place.line - 1 : place.line]
    remedy = REMEDIES["\t"] if "\t" in "".join(line)[: place.column] else ""
    remedy = remedy or next((remedy for word, remedy in REMEDIES.items() if word in began), "")
    return printable(f"this is no YAML: {problem}{began.replace(' while ', ', ')}{remedy}", 300)


def _text(path: Path, faults: Faults) -> str:
    """Return the text of a file."""
    with files.as_error(f"{shown(faults.path)} cannot be read"), open(path, "rb") as file:
        data = file.read(LARGEST + 1)
    if len(data) > LARGEST:
        message = f"is larger than {LARGEST // 1024 // 1024} MiB"
        raise Error(f"{shown(faults.path)} {message}: split it, and import it in parts")
    for name, marks in BOMS.items():
        if data.startswith(marks):
            raise Error(f"{shown(faults.path)} is text in {name}: save it as UTF-8")
    text = _decoded(data.removeprefix(codecs.BOM_UTF8), faults)
    if found := UNPRINTABLE.search(text):
        message = f"this is no YAML: there is a control character, {printable(found[0])}: leave it out or quote it"
        raise _refused(faults, _place_at(text[: found.start()]), message)
    return text


def _decoded(data: bytes, faults: Faults) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        place = _place_at(data[: error.start].decode())
        message = f"this is no text in UTF-8 (there is a byte {data[error.start]:#04x}): save it as UTF-8"
        raise _refused(faults, place, message) from None


def _place_at(before: str) -> Place:
    """Return the place behind a text."""
    return Place(before.count("\n") + 1, len(before) - (before.rfind("\n") + 1) + 1)


class _Builder:
    """Makes values of what PyYAML finds, one after the other."""

    def __init__(self, faults: Faults) -> None:
        self._path, self._faults = faults.path, faults
        self._anchors: dict[str, Value] = {}
        self._left = VALUES

    def document(self, events: Iterator[Any]) -> Value:
        """Return the value of the one document there is; a text that stands for nothing where there is none."""
        found: Value | None = None
        for event in events:
            if type(event).__name__ == "DocumentStartEvent":
                if found is not None:
                    raise _refused(self._faults, _place(event.start_mark), SECOND)
                found = self._value(next(events), events, 0)
        return found or Text(Place(1, 1), "")

    def _value(self, event: Any, events: Iterator[Any], depth: int) -> Value:
        self._spend(1)
        if type(event).__name__ == "AliasEvent":
            return self._alias(event)
        place = _place(event.start_mark)
        if depth > DEEPEST:
            raise _refused(self._faults, place, f"this is more than {DEEPEST} levels deep: no fixture file needs that")
        made = self._made(event, place, events, depth)
        if event.anchor is not None:
            self._anchors[event.anchor] = made
        return made

    def _made(self, event: Any, place: Place, events: Iterator[Any], depth: int) -> Value:
        known = self._is_known(event, place)
        made: Value
        if type(event).__name__ == "SequenceStartEvent":
            made = List(place, list(self._items(events, depth + 1)))
        elif type(event).__name__ == "MappingStartEvent":
            made = self._mapping(place, events, depth + 1)
        else:
            made = Text(place, event.value, bool(event.style) or event.tag is not None)
        return made if known else Unread(place)

    def _is_known(self, event: Any, place: Place) -> bool:
        """Whether the tag of a value is one of YAML itself; another is told."""
        tag = event.tag
        if tag is None or tag == "!" or (tag.startswith(TAG) and tag.removeprefix(TAG) in KNOWN_TAGS):
            return True
        named = printable(tag.replace(TAG, "!!", 1))
        self._faults.add(place, f"the tag {named} is not obeyed, here are texts, lists and mappings: leave it out")
        return False

    def _spend(self, values: int) -> None:
        self._left -= values
        if self._left < 0:
            raise Error(f"{shown(self._path)} holds more than {VALUES:,} values: split it, and import it in parts")

    def _alias(self, event: Any) -> Value:
        place = _place(event.start_mark)
        if event.anchor in self._anchors:
            return self._anchors[event.anchor]
        message = (
            f"the alias *{printable(event.anchor)} has no anchor &{printable(event.anchor)} that has ended before it"
        )
        self._faults.add(place, message)
        return Unread(place)

    def _items(self, events: Iterator[Any], depth: int) -> Iterator[Value]:
        for event in events:
            if type(event).__name__ == "SequenceEndEvent":
                return
            yield self._value(event, events, depth)

    def _mapping(self, place: Place, events: Iterator[Any], depth: int) -> Mapping:
        made, merged = Mapping(place), []
        for event in events:
            if type(event).__name__ == "MappingEndEvent":
                break
            key = self._value(event, events, depth)
            value = self._value(next(events), events, depth)
            if isinstance(key, Text) and key.text == "<<" and not key.quoted:
                merged.append((key, value))
            else:
                self._put(made, key, value)
        for key, value in merged:
            self._merge(made, key, value)
        return made

    def _put(self, made: Mapping, key: Value, value: Value) -> None:
        """Add a key and its value to a mapping; a key that is none, or is there already, is told.

        Of a key that is there twice, the last value counts, as for PyYAML, by which the servers read.
        """
        if isinstance(key, Text):
            if key.text in made.values:
                self._note_second(key, made.keys[key.text].line, _is_same_text(made.values[key.text], value))
            made.values[key.text], made.keys[key.text] = value, key.place
        elif not isinstance(key, Unread):
            self._faults.add(key.place, "a list or a mapping stands here as a key: write a text")

    def _note_second(self, key: Text, first: int, is_same: bool) -> None:
        message = f'the key "{printable(key.text)}" is there already, in line {first}'
        if is_same:
            self._faults.unusual.add(key.place, f"{message}, with the same value")
        else:
            self._faults.lost.add(key.place, f"{message}: this one is read, and the other is not, as servers do it")

    def _merge(self, made: Mapping, key: Text, value: Value) -> None:
        """Add what a merge key brings: its mapping, or several of which the first wins, below what is there."""
        for each in value.items if isinstance(value, List) else [value]:
            if isinstance(each, Mapping):
                self._spend(len(each.values))
                for name in each.values:
                    made.values.setdefault(name, each.values[name])
                    made.keys.setdefault(name, each.keys[name])
            elif not isinstance(each, Unread):
                self._faults.add(key.place, "<< takes a mapping, or a list of them: *NAME of one with &NAME")


def _is_same_text(one: Value, other: Value) -> bool:
    """Whether two values are the same: texts, or what one anchor stands for. Others may stand for much."""
    if isinstance(one, Text) and isinstance(other, Text):
        return (one.text, one.is_nothing) == (other.text, other.is_nothing)
    return one is other


SECOND = "a second document begins here (---): put both into one, or into two files"
