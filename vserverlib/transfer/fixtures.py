"""A fixture file: what vantage6 servers import to have something to begin with.

The whole file is read and looked at before anything is given to be written, and all that is wrong with it is told at
once, with line and column. Texts are kept as they were typed. What a server imports is read here, too: what breaks a
rule with it is told, and what a server refuses is a fault. (Seen by running the importer of release 4.15.2.)

It owns the format: what an exporter has to write is here too (ORGANIZATION, USER, PARTICIPANT_KEY, NODE_NAME, …).
YAML is documents.py's, and what was read, as a source, is fixture_source.py's.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import datetime
import itertools
import re
from collections import Counter
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

from vserverlib import Error, did_you_mean, hashing, printable
from vserverlib.files import shown
from vserverlib.transfer import documents
from vserverlib.transfer.documents import Faults, List, Mapping, Place, Text, Unread, Value
from vserverlib.transfer.fixture_source import COLUMNS, ORGANIZATION, ROLES, USER, Fixture
from vserverlib.transfer.sources import Row

# The format, of all releases

TOP = ("organizations", "collaborations")
USERS = "users"
EMPTY = ("rules", "created_tasks", "organization")  # of a user, which a server takes as long as nothing is in it
COLLABORATION = ("name", "encrypted", "participants", "tasks")
PARTICIPANT_KEY = {1: "api-key", 2: "api-key", 3: "api_key", 4: "api_key"}  # what a release calls it
UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", re.ASCII)  # a key from 3.3 on
NODE_NAME = "{organization} - {collaboration} Node"
TASK_NAME = "Example task"

# What we read beside that: columns of later releases that a user may have there, and that have no place here
ELSEWHERE = (
    *("id", "type", "ip", "last_seen", "status", "organization_id", "failed_login_attempts", "last_login_attempt"),
    *("otp_secret", "last_email_failed_login_sent", "last_email_recover_password_sent"),
)
FLAGS = {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False}

HALF_OR_NUL = re.compile("[\0\ud800-\udfff]")
ENTRIES = 1_000_000  # entries of lists, each time that an alias stands for them; and results
CHARACTERS = 64 * 1024 * 1024  # of all texts, each time that an alias stands for one
HINTS = 1000  # different keys without a place that are compared with those that there are
NAMES, NAME_HINTS = 10_000, 20  # names among which a near one is looked for, and how often: it takes long


@contextlib.contextmanager
def opened(plain: Path, named: Path | None = None) -> Iterator[Fixture]:
    """Read a fixture file; an Error with all its faults where it has any. Nothing is open afterwards.

    named: the file that it is called by, of which `plain` may be a copy.
    """
    path = named or plain
    faults = Faults(path)
    reader = _Reader(path, faults)
    reader.document(documents.read(plain, faults))
    faults.refuse()
    lost = {f"{name}, first in line {reader.lost_at[name]}": count for name, count in reader.lost.items()}
    yield Fixture(path, reader.tables, reader.members, lost, faults.unusual, faults.lost)


# Reading


class _Reader:
    """Makes rows of what a document holds, and tells what it should not hold."""

    def __init__(self, path: Path, faults: Faults) -> None:
        self.tables: dict[str, list[Row]] = {table: [] for table in COLUMNS if table != "result"}
        self.members: dict[int, list[int]] = {}
        self.lost: Counter[str] = Counter()
        self.lost_at: dict[str, int] = {}  # the line of the first of each
        self._path, self._faults = path, faults
        self._written = datetime.datetime.fromtimestamp(path.stat().st_mtime, datetime.UTC)
        self._organizations: dict[str, int] = {}
        self._first: dict[tuple[str, str], Place] = {}  # where the first of each value stands that is unique
        self._entries_left, self._characters_left, self._name_hints_left = ENTRIES, CHARACTERS, NAME_HINTS
        self._hints: dict[tuple[str, ...], str] = {}  # by the word, and those that it may be meant for

    def document(self, value: Value) -> None:
        """Read a whole document."""
        if isinstance(value, Text) and value.is_nothing:
            self._faults.add(value.place, f"there is nothing in the file: it needs {' or '.join(TOP)}")
        elif top := self._mapping(value, "the file", f"begin with {TOP[0]}: or {TOP[1]}:"):
            self._tell_unknown(top, "the file", "file", TOP)
            if not set(TOP) & top.values.keys() and not self._faults.total:
                self._faults.add(top.place, f"this is no fixture file: it has neither {' nor '.join(TOP)}")
            for number, each in enumerate(self._entries(top, "organizations", "the file"), 1):
                self._organization(each, number)
            for number, each in enumerate(self._entries(top, "collaborations", "the file"), 1):
                self._collaboration(each, number)

    # Organizations and users

    def _organization(self, value: Value, number: int) -> None:
        mapping = self._mapping(value, f"organization {number}", "begin it with name: and a name")
        if mapping is None:
            return
        owner = self._owner("organization", mapping, "name", number)
        self._tell_unknown(mapping, owner, "organization", (*ORGANIZATION, USERS))
        texts = [self._text(mapping, key, owner) for key in ORGANIZATION]
        id = self._row("organization", *texts)
        if "name" not in mapping.values:
            self._faults.add(mapping.place, f"{owner} has no name: add name: and a text")
        elif texts[0]:
            self._organizations.setdefault(texts[0], id)  # as the servers do: of two, the older one is meant
        self._refuse_no_key(mapping, texts[-1], owner)
        for each_number, each in enumerate(self._entries(mapping, USERS, owner), 1):
            self._user(each, each_number, owner, id)

    def _refuse_no_key(self, mapping: Mapping, text: str | None, owner: str) -> None:
        """Tell of a public key that is neither a PEM nor base64; the rules tell of one that is base64 of no key."""
        try:
            if text and "-----" not in text:
                base64.b64decode(text)
        except (binascii.Error, ValueError):
            place = mapping.values["public_key"].place
            message = (
                f'{owner}: public_key "{printable(text, 40)}" is no base64: give that of the PEM, or leave it empty'
            )
            self._faults.add(place, message)

    def _user(self, value: Value, number: int, organization: str, id: int) -> None:
        mapping = self._mapping(value, f"user {number} of {organization}", "begin it with username: and a name")
        if mapping is None:
            return
        owner = self._owner("user", mapping, "username", number)
        self._tell_unknown(mapping, owner, "user", (*USER, ROLES), ELSEWHERE)
        self._refuse_filled(mapping, owner)
        texts = {key: self._text(mapping, key, owner) for key in USER}
        texts[ROLES] = self._text(mapping, ROLES, owner) if isinstance(mapping.values.get(ROLES), Text) else None
        texts["email"] = texts["email"] or None
        for key in ("username", "email"):
            if texts[key] is not None:
                self._refuse_second(mapping, key, texts[key], owner)
        if texts["password"] == "":
            place = mapping.values["password"].place
            self._faults.unusual.add(place, f"{owner}: password is empty, so one is made, unless there is one already")
            texts["password"] = None
        self._check_secret(mapping, "password", texts["password"], owner)
        self._row("user", *texts.values(), id)

    def _refuse_filled(self, mapping: Mapping, owner: str) -> None:
        """Tell of what a user has in the place of an empty list, which is all that a server takes there."""
        for key in (ROLES, *EMPTY):
            value = mapping.values.get(key)
            is_empty = isinstance(value, List) and not value.items
            if value is None or is_empty or _is_nothing(value) or isinstance(value, Unread):
                continue
            if key != ROLES or not isinstance(value, Text):
                taken = "a text such as researcher (release 1)" if key == ROLES else "[]"
                message = f"{owner}: {key} is {_described(value)}, of which a server takes none but an empty list"
                self._faults.add(value.place, f"{message}: write {taken}, or leave it out")

    # Collaborations, participants, tasks

    def _collaboration(self, value: Value, number: int) -> None:
        mapping = self._mapping(value, f"collaboration {number}", "begin it with name: and a name")
        if mapping is None:
            return
        owner = self._owner("collaboration", mapping, "name", number)
        self._tell_unknown(mapping, owner, "collaboration", COLLABORATION)
        name = self._text(mapping, "name", owner)
        if name is not None:
            self._refuse_second(mapping, "name", name, owner)
        id = self._row("collaboration", name, self._flag(mapping, owner))
        members = self.members.setdefault(id, [])
        for each in self._entries(mapping, "participants", owner):
            self._participant(each, owner, id, name, members)
        self._tasks(mapping, owner, id, members)

    def _flag(self, mapping: Mapping, owner: str) -> bool | None:
        """Return whether a collaboration is encrypted: nothing but a plain true or false says so.

        None: it says nothing, which a server takes for true.
        """
        value = mapping.values.get("encrypted")
        if value is None or isinstance(value, Unread):
            return None
        if _is_nothing(value):
            message = "encrypted is empty, as if it was left out: true, unless the collaboration is there already"
            self._faults.unusual.add(value.place, f"{owner}: {message}")
            return None
        text = value.text if isinstance(value, Text) and not value.quoted else ""
        if text in (text.lower(), text.upper(), text.title()) and text.lower() in FLAGS:
            return FLAGS[text.lower()]
        remedy = "write true or false, without quotes; where it is left out, it is true"
        self._faults.add(value.place, f"{owner}: encrypted is {_described(value)}: {remedy}")
        return None

    def _participant(self, value: Value, owner: str, id: int, collaboration: str | None, members: list[int]) -> None:
        """Read a participant: it is a member, and has a node."""
        name, given = self._named_participant(value, owner)
        organization = None if name is None else self._organizations.get(name)
        if name is None:
            return
        if organization is None:
            hint = self._hint_at_name(name) or "; add it to organizations"
            message = f'{owner}: there is no organization "{printable(name)}" to take part{hint}'
            self._faults.add(value.place, message)
        elif self._is_second(("participant", f"{id} {organization}"), value.place):
            message = f'{owner}: organization "{printable(name)}" takes part twice: leave out one of them'
            self._faults.add(value.place, message)
        elif collaboration is None and self._is_second(("participant without", str(organization)), value.place):
            line = self._first["participant without", str(organization)].line
            message = f'organization "{printable(name)}" takes part in another one without a name, in line {line}'
            self._faults.add(
                value.place, f"{owner}: {message}: their nodes would have one name; name the collaborations"
            )
        else:
            node = NODE_NAME.format(organization=name, collaboration=collaboration)
            self._spend(len(node))
            self._row("node", node, given, id, organization)
            self.tables["member"].append((organization, id))
            members.append(organization)

    def _named_participant(self, value: Value, owner: str) -> tuple[str | None, str | None]:
        """Return the name of a participant, and its key where that is given."""
        if isinstance(value, Text) and not value.is_nothing:
            return self._checked(value, f"{owner}: a participant"), None
        remedy = "write the name of an organization, or name: and api_key: of it"
        mapping = self._mapping(value, f"{owner}: a participant", remedy)
        if mapping is None:
            return None, None
        participant = f"{owner}: a participant"
        name = self._text(mapping, "name", participant)
        known = ("name", *dict.fromkeys(PARTICIPANT_KEY.values()))
        self._tell_unknown(mapping, participant, "participant", known)
        if not self._is_given(mapping, "name", name, participant):
            return None, None
        return name, self._key(mapping, f'{owner}: participant "{printable(name)}"')

    def _key(self, mapping: Mapping, owner: str) -> str | None:
        """Return the API key of a participant, by either name: release 1 and 2 take any text, later ones a UUID."""
        given = {key: self._text(mapping, key, owner) for key in dict.fromkeys(PARTICIPANT_KEY.values())}
        found = {key: text for key, text in given.items() if text is not None}
        if len(set(found.values())) > 1:
            self._faults.add(mapping.place, f"{owner}: {' and '.join(found)} differ: leave out one of them")
        for key, text in itertools.islice(found.items(), 1):
            place = mapping.values[key].place
            if key == PARTICIPANT_KEY[4] and not UUID.fullmatch(text):
                message = f"{owner}: {key} is no UUID in lower case: mend it, or leave it out to have one made"
                self._faults.add(place, message)
            elif not self._check_secret(mapping, key, text, owner):
                continue
            elif self._is_second(("key", text), place):
                message = (
                    f"{key} is that of line {self._first['key', text].line}, so a log-in with it is that of one node"
                )
                self._faults.unusual.add(place, f"{owner}: {message}: vserver apikey makes a new one for the other")
        return next(iter(found.values()), None)

    def _tasks(self, mapping: Mapping, owner: str, id: int, members: list[int]) -> None:
        """Read the images of tasks: each makes a task of the first member, with a result of every one."""
        asked = list(self._entries(mapping, "tasks", owner))
        if asked and not getattr(mapping.values.get("participants"), "items", None):
            self._faults.add(mapping.keys["tasks"], f"{owner}: it has tasks, but no participants: add some")
        for value in asked:
            if not isinstance(value, Text):
                message = f"{owner}: a task is {_described(value)}: write the name of an image"
                self._faults.add(value.place, message) if not isinstance(value, Unread) else None
                continue
            image = None if value.is_nothing else self._checked(value, f"{owner}: a task")
            self._count(len(members))
            run_id = len(self.tables["task"]) + 1
            self._row("task", TASK_NAME, image, id, run_id, members[0] if members else None, self._written)

    # What they share

    def _row(self, table: str, *values: Any) -> int:
        id = len(self.tables[table]) + 1
        self.tables[table].append((id, *values))
        return id

    def _owner(self, noun: str, mapping: Mapping, key: str, number: int) -> str:
        """Return what faults call a thing: by its name, or else by its number."""
        name = mapping.values.get(key)
        is_named = isinstance(name, Text) and not name.is_nothing
        return f'{noun} "{printable(name.text)}"' if is_named else f"{noun} {number}"  # type: ignore[union-attr]

    def _mapping(self, value: Value, what: str, remedy: str) -> Mapping | None:
        if isinstance(value, Mapping):
            return value
        if not isinstance(value, Unread):
            self._faults.add(value.place, f"{what} is {_described(value)}, not a mapping: {remedy}")
        return None

    def _entries(self, mapping: Mapping, key: str, owner: str) -> Iterator[Value]:
        """Return the entries of a list. Nothing, and an empty mapping, are a list without any."""
        value = mapping.values.get(key)
        if isinstance(value, List):
            for each in value.items:
                self._count(1)
                yield each
        elif (isinstance(value, Text) and not _is_nothing(value)) or (isinstance(value, Mapping) and value.values):
            message = f"{owner}: {key} is {_described(value)}, not a list: begin each entry with a dash"
            self._faults.add(value.place, message)

    def _text(self, mapping: Mapping, key: str, owner: str) -> str | None:
        """Return a text as it was typed; None where there is none."""
        value = mapping.values.get(key)
        if isinstance(value, Text):
            return None if value.is_nothing else self._checked(value, f"{owner}: {key}")
        if isinstance(value, List | Mapping):
            self._faults.add(value.place, f"{owner}: {key} is {_described(value)}, not a text: write one, or nothing")
        return None

    def _checked(self, value: Text, what: str) -> str | None:
        """Return a text that every database can hold."""
        self._spend(len(value.text))
        if HALF_OR_NUL.search(value.text):
            self._faults.add(value.place, f"{what} holds a NUL, or half a character: leave that out")
            return None
        return value.text

    def _check_secret(self, mapping: Mapping, key: str, text: str | None, owner: str) -> bool:
        """Tell where no hash can be made of a secret. Nothing of the secret is told."""
        try:
            if text == "":
                raise Error(f"{owner}: {key} is empty: give one, or leave it out to have one made")
            if text is not None:
                hashing.check_plain(f"{owner}: {key}", text)
        except Error as error:
            self._faults.add(mapping.values[key].place, str(error))
            return False
        return True

    def _is_given(self, mapping: Mapping, key: str, text: str | None, owner: str) -> bool:
        """Whether a name is there, which is told where it is not."""
        value = mapping.values.get(key)
        if value is None or (isinstance(value, Text) and (value.is_nothing or not value.text)):
            self._faults.add((value or mapping).place, f"{owner} has no {key}: add {key}: and a text")
        return bool(text)

    def _refuse_second(self, mapping: Mapping, key: str, text: str | None, owner: str) -> None:
        kind = (f"{owner.partition(' ')[0]} {key}", str(text))
        if self._is_second(kind, mapping.values[key].place):
            message = (
                f'{owner}: the {key} "{printable(text)}" is that of line {self._first[kind].line}: no two may share it'
            )
            self._faults.add(mapping.values[key].place, message)

    def _is_second(self, value: tuple[str, str], place: Place) -> bool:
        """Whether a value is there already, also where both are one that an alias stands for."""
        is_second = value in self._first
        self._first.setdefault(value, place)
        return is_second

    def _tell_unknown(
        self, mapping: Mapping, owner: str, table: str, known: Collection[str], elsewhere: Collection[str] | None = None
    ) -> None:
        """Tell of keys that are not known: where another one was meant, or of a user; others are only counted.

        The servers pass over what they do not know, but of a user.
        """
        taken = (*known, *(EMPTY if table == "user" else ()))
        for key in [key for key in mapping.values if key not in taken]:
            hint = self._hint(key, *(name for name in known if name not in mapping.values))
            if not hint and (elsewhere is None or key in elsewhere):
                self.lost[f"{table}.{printable(key)}"] += 1
                self.lost_at.setdefault(f"{table}.{printable(key)}", mapping.keys[key].line)
                continue
            message = hint or f": there are {', '.join(known)}"
            self._faults.add(mapping.keys[key], f'{owner}: there is no key "{printable(key)}" here{message}')

    def _hint(self, *words: str) -> str:
        """Return '; did you mean "…"?' of a word and what it may be meant for, as long as it is not asked too often."""
        if words not in self._hints and len(self._hints) < HINTS:
            self._hints[words] = did_you_mean(words[0][:100], words[1:])
        return self._hints.get(words, "")

    def _hint_at_name(self, name: str) -> str:
        self._name_hints_left -= 1
        return (
            did_you_mean(name[:100], itertools.islice(self._organizations, NAMES)) if self._name_hints_left >= 0 else ""
        )

    def _count(self, entries: int) -> None:
        self._entries_left -= entries
        if self._entries_left < 0:
            raise Error(f"{shown(self._path)} makes more than {ENTRIES:,} entries and results: import it in parts")

    def _spend(self, characters: int) -> None:
        self._characters_left -= characters
        if self._characters_left < 0:
            size = f"{CHARACTERS // 1024 // 1024} MiB"
            raise Error(f"{shown(self._path)} makes more than {size} of text, aliases followed: import it in parts")


def _is_nothing(value: Value) -> bool:
    """Whether a text is no value, or an empty one."""
    return isinstance(value, Text) and (value.is_nothing or not value.text)


def _described(value: Value) -> str:
    """Return what stands in a place, as a fault tells it."""
    if isinstance(value, Text):
        quotes = " in quotes, which is a text" if value.quoted and value.text.lower() in FLAGS else ""
        return "empty" if value.is_nothing or not value.text else f'"{printable(value.text)}"{quotes}'
    return "a list" if isinstance(value, List) else "a mapping"
