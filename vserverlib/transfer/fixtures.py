"""Reads fixture files: YAML with the first entities of a vantage6 server.

The whole file is checked before a row is written, and all faults are reported at once, with line and column. Texts are
kept as they were typed. What a server imports is imported, with a warning if it breaks a rule; what a server refuses is
a fault. (Compared with the importer of release 4.15.2.)

This module owns the format, also for exporting.py. documents.py reads the YAML; fixture_source.py is the result as a
source.
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

from vserverlib import Error, did_you_mean, documents, hashing, printable
from vserverlib.documents import Faults, List, Mapping, Place, Text, Unread, Value
from vserverlib.files import shown
from vserverlib.transfer.fixture_source import COLUMNS, ORGANIZATION_KEYS, ROLES_KEY, USER_KEYS, FixtureSource
from vserverlib.transfer.sources import Row
from vserverlib.vantage6_names import NODE_NAME

# The format, of all releases

TOP_KEYS = ("organizations", "collaborations")
USERS_KEY = "users"
EMPTY_LIST_KEYS = ("rules", "created_tasks", "organization")  # of a user; servers accept them only empty
COLLABORATION_KEYS = ("name", "encrypted", "participants", "tasks")
PARTICIPANT_KEY = {1: "api-key", 2: "api-key", 3: "api_key", 4: "api_key"}  # its name, by release
UUID = re.compile(
    r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", re.ASCII
)  # API keys, from release 3.3 on
TASK_NAME = "Example task"

# Columns of later releases: servers accept them for a user, and a database of vserver has no place for them
UNSUPPORTED_USER_KEYS = (
    *("id", "type", "ip", "last_seen", "status", "organization_id", "failed_login_attempts", "last_login_attempt"),
    *("otp_secret", "last_email_failed_login_sent", "last_email_recover_password_sent"),
)
BOOLEANS = {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False}

UNSTORABLE = re.compile("[\0\ud800-\udfff]")
MAX_ENTRIES = 1_000_000  # of all lists, and results; an alias counts each time
MAX_CHARACTERS = 64 * 1024 * 1024  # of all texts; an alias counts each time
MAX_HINTS = 1000  # different unknown keys that get a "did you mean"
HINT_NAMES, MAX_NAME_HINTS = 10_000, 20  # unknown names: the candidates of a "did you mean", and how many names get one


@contextlib.contextmanager
def opened(plain: Path, named: Path | None = None) -> Iterator[FixtureSource]:
    """Read a fixture file and close it. Raises one Error with all its faults.

    named: the name for messages, if `plain` is a copy.
    """
    path = named or plain
    faults = Faults(path)
    seconds = (path if path.exists() else plain).stat().st_mtime  # stdin has only the copy
    reader = _Reader(path, faults, datetime.datetime.fromtimestamp(seconds, datetime.UTC))
    reader.document(documents.read(plain, faults))
    faults.refuse()
    lost = {f"{name}, first in line {reader.lost_at[name]}": count for name, count in reader.lost.items()}
    yield FixtureSource(path, reader.tables, reader.members, lost, faults.unusual, faults.lost)


# Reading


class _Reader:
    """Converts a document to rows, and records the faults."""

    def __init__(self, path: Path, faults: Faults, written: datetime.datetime) -> None:
        self.tables: dict[str, list[Row]] = {table: [] for table in COLUMNS if table != "result"}
        self.members: dict[int, list[int]] = {}
        self.lost: Counter[str] = Counter()
        self.lost_at: dict[str, int] = {}  # the line of the first one, by key
        self._path, self._faults = path, faults
        self._written = written
        self._organizations: dict[str, int] = {}
        self._first: dict[tuple[str, str], Place] = {}  # the first place of each unique value
        self._entries_left, self._characters_left, self._name_hints_left = MAX_ENTRIES, MAX_CHARACTERS, MAX_NAME_HINTS
        self._hints: dict[tuple[str, ...], str] = {}  # by the unknown word and its candidates

    def document(self, value: Value) -> None:
        if isinstance(value, Text) and value.is_null:
            self._faults.add(value.place, f"the file is empty: it needs {' or '.join(TOP_KEYS)}")
        elif top := self._mapping(value, "the file", f"begin with {TOP_KEYS[0]}: or {TOP_KEYS[1]}:"):
            self._check_keys(top, "the file", "file", TOP_KEYS)
            if not set(TOP_KEYS) & top.values.keys() and not self._faults.total:
                self._faults.add(top.place, f"not a fixture file: it has neither {' nor '.join(TOP_KEYS)}")
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
        self._check_keys(mapping, owner, "organization", (*ORGANIZATION_KEYS, USERS_KEY))
        texts = [self._text(mapping, key, owner) for key in ORGANIZATION_KEYS]
        id = self._row("organization", *texts)
        if "name" not in mapping.values:
            self._faults.add(mapping.place, f"{owner} has no name: add name: and a text")
        elif texts[0]:
            self._organizations.setdefault(texts[0], id)  # if two have one name, the first one counts, as on servers
        self._check_public_key(mapping, texts[-1], owner)
        for each_number, each in enumerate(self._entries(mapping, USERS_KEY, owner), 1):
            self._user(each, each_number, owner, id)

    def _check_public_key(self, mapping: Mapping, text: str | None, owner: str) -> None:
        """Refuse a public key that is neither PEM nor base64; a rule checks whether the base64 is a key."""
        try:
            if text and "-----" not in text:
                base64.b64decode(text)
        except (binascii.Error, ValueError):
            place = mapping.values["public_key"].place
            message = f'{owner}: public_key "{printable(text, 40)}" is not base64'
            self._faults.add(place, f"{message}: write the base64 of the PEM, or leave it empty")

    def _user(self, value: Value, number: int, organization: str, id: int) -> None:
        mapping = self._mapping(value, f"user {number} of {organization}", "begin it with username: and a name")
        if mapping is None:
            return
        owner = self._owner("user", mapping, "username", number)
        self._check_keys(mapping, owner, "user", (*USER_KEYS, ROLES_KEY), UNSUPPORTED_USER_KEYS)
        self._refuse_filled_lists(mapping, owner)
        texts = {key: self._text(mapping, key, owner) for key in USER_KEYS}
        texts[ROLES_KEY] = (
            self._text(mapping, ROLES_KEY, owner) if isinstance(mapping.values.get(ROLES_KEY), Text) else None
        )
        texts["email"] = texts["email"] or None
        for key in ("username", "email"):
            if texts[key] is not None:
                self._refuse_duplicate(mapping, key, texts[key], owner)
        if texts["password"] == "":
            place = mapping.values["password"].place
            message = "password is empty, so a new one is generated, unless the user has one already"
            self._faults.unusual.add(place, f"{owner}: {message}")
            texts["password"] = None
        self._check_secret(mapping, "password", texts["password"], owner)
        self._row("user", *texts.values(), id)

    def _refuse_filled_lists(self, mapping: Mapping, owner: str) -> None:
        """Refuse a value where a server accepts only an empty list."""
        for key in (ROLES_KEY, *EMPTY_LIST_KEYS):
            value = mapping.values.get(key)
            is_empty = isinstance(value, List) and not value.items
            if value is None or is_empty or _is_empty(value) or isinstance(value, Unread):
                continue
            if key != ROLES_KEY or not isinstance(value, Text):
                taken = "a text such as researcher (release 1)" if key == ROLES_KEY else "[]"
                message = f"{owner}: {key} is {_describe(value)}, but servers accept only an empty list"
                self._faults.add(value.place, f"{message}: write {taken}, or leave it out")

    # Collaborations, participants, tasks

    def _collaboration(self, value: Value, number: int) -> None:
        mapping = self._mapping(value, f"collaboration {number}", "begin it with name: and a name")
        if mapping is None:
            return
        owner = self._owner("collaboration", mapping, "name", number)
        self._check_keys(mapping, owner, "collaboration", COLLABORATION_KEYS)
        name = self._text(mapping, "name", owner)
        if name is not None:
            self._refuse_duplicate(mapping, "name", name, owner)
        id = self._row("collaboration", name, self._is_encrypted(mapping, owner))
        members = self.members.setdefault(id, [])
        for each in self._entries(mapping, "participants", owner):
            self._participant(each, owner, id, name, members)
        self._tasks(mapping, owner, id, members)

    def _is_encrypted(self, mapping: Mapping, owner: str) -> bool | None:
        """Return whether a collaboration is encrypted; None if the file does not say, which servers read as true."""
        value = mapping.values.get("encrypted")
        if value is None or isinstance(value, Unread):
            return None
        if _is_empty(value):
            message = "encrypted is empty, so a new collaboration is encrypted, and an existing one does not change"
            self._faults.unusual.add(value.place, f"{owner}: {message}")
            return None
        text = value.text if isinstance(value, Text) and not value.quoted else ""
        if text in (text.lower(), text.upper(), text.title()) and text.lower() in BOOLEANS:
            return BOOLEANS[text.lower()]
        remedy = "write true or false, without quotes; without it, true is used"
        self._faults.add(value.place, f"{owner}: encrypted is {_describe(value)}: {remedy}")
        return None

    def _participant(self, value: Value, owner: str, id: int, collaboration: str | None, members: list[int]) -> None:
        """Read a participant: a member with a node."""
        name, given = self._name_and_key(value, owner)
        organization = None if name is None else self._organizations.get(name)
        if name is None:
            return
        if organization is None:
            hint = self._hint_for_name(name) or "; add it to organizations"
            message = f'{owner}: no organization "{printable(name)}" that could participate{hint}'
            self._faults.add(value.place, message)
        elif self._is_duplicate(("participant", f"{id} {organization}"), value.place):
            message = f'{owner}: organization "{printable(name)}" participates twice: remove one of them'
            self._faults.add(value.place, message)
        elif collaboration is None and self._is_duplicate(("participant without", str(organization)), value.place):
            line = self._first["participant without", str(organization)].line
            message = f'organization "{printable(name)}" also participates in the collaboration without a name'
            remedy = "their nodes would have the same name; name the collaborations"
            self._faults.add(value.place, f"{owner}: {message} in line {line}: {remedy}")
        else:
            node = NODE_NAME.format(organization=name, collaboration=collaboration)
            self._spend_characters(len(node))
            self._row("node", node, given, id, organization)
            self.tables["member"].append((organization, id))
            members.append(organization)

    def _name_and_key(self, value: Value, owner: str) -> tuple[str | None, str | None]:
        """Return the name of a participant and its API key, each None if missing."""
        if isinstance(value, Text) and not value.is_null:
            return self._storable(value, f"{owner}: a participant"), None
        remedy = "write the name of an organization, or its name: and api_key:"
        mapping = self._mapping(value, f"{owner}: a participant", remedy)
        if mapping is None:
            return None, None
        participant = f"{owner}: a participant"
        name = self._text(mapping, "name", participant)
        known = ("name", *dict.fromkeys(PARTICIPANT_KEY.values()))
        self._check_keys(mapping, participant, "participant", known)
        if not self._require(mapping, "name", name, participant):
            return None, None
        return name, self._api_key(mapping, f'{owner}: participant "{printable(name)}"')

    def _api_key(self, mapping: Mapping, owner: str) -> str | None:
        """Return the API key of a participant: releases 1 and 2 accept any text, later ones a UUID."""
        given = {key: self._text(mapping, key, owner) for key in dict.fromkeys(PARTICIPANT_KEY.values())}
        found = {key: text for key, text in given.items() if text is not None}
        if len(set(found.values())) > 1:
            self._faults.add(mapping.place, f"{owner}: {' and '.join(found)} differ: remove one of them")
        for key, text in itertools.islice(found.items(), 1):
            place = mapping.values[key].place
            if key == PARTICIPANT_KEY[4] and not UUID.fullmatch(text):
                message = f"{owner}: {key} is not a UUID in lower case: correct it, or leave it out to get a new one"
                self._faults.add(place, message)
            elif not self._check_secret(mapping, key, text, owner):
                continue
            elif self._is_duplicate(("key", text), place):
                message = f"{key} is the same as in line {self._first['key', text].line}, so only one node can log in"
                self._faults.unusual.add(place, f"{owner}: {message}: vserver apikey generates a new key for the other")
        return next(iter(found.values()), None)

    def _tasks(self, mapping: Mapping, owner: str, id: int, members: list[int]) -> None:
        """Read the images of tasks. Each image is a task of the first member, with a result for every member."""
        asked = list(self._entries(mapping, "tasks", owner))
        if asked and not getattr(mapping.values.get("participants"), "items", None):
            self._faults.add(mapping.keys["tasks"], f"{owner} has tasks, but no participants: add participants")
        for value in asked:
            if not isinstance(value, Text):
                message = f"{owner}: a task is {_describe(value)}: write the name of an image"
                self._faults.add(value.place, message) if not isinstance(value, Unread) else None
                continue
            image = None if value.is_null else self._storable(value, f"{owner}: a task")
            self._spend_entries(len(members))
            run_id = len(self.tables["task"]) + 1
            self._row("task", TASK_NAME, image, id, run_id, members[0] if members else None, self._written)

    # Shared

    def _row(self, table: str, *values: Any) -> int:
        id = len(self.tables[table]) + 1
        self.tables[table].append((id, *values))
        return id

    def _owner(self, noun: str, mapping: Mapping, key: str, number: int) -> str:
        """Return what faults call an entry: its name, or else its number."""
        name = mapping.values.get(key)
        is_named = isinstance(name, Text) and not name.is_null
        return f'{noun} "{printable(name.text)}"' if is_named else f"{noun} {number}"  # type: ignore[union-attr]

    def _mapping(self, value: Value, what: str, remedy: str) -> Mapping | None:
        if isinstance(value, Mapping):
            return value
        if not isinstance(value, Unread):
            self._faults.add(value.place, f"{what} is {_describe(value)}, not a mapping: {remedy}")
        return None

    def _entries(self, mapping: Mapping, key: str, owner: str) -> Iterator[Value]:
        """Return the entries of a list. An empty value and an empty mapping count as an empty list."""
        value = mapping.values.get(key)
        if isinstance(value, List):
            for each in value.items:
                self._spend_entries(1)
                yield each
        elif (isinstance(value, Text) and not _is_empty(value)) or (isinstance(value, Mapping) and value.values):
            message = f"{owner}: {key} is {_describe(value)}, not a list: begin each entry with a dash"
            self._faults.add(value.place, message)

    def _text(self, mapping: Mapping, key: str, owner: str) -> str | None:
        """Return a text as it was typed, None if there is no text."""
        value = mapping.values.get(key)
        if isinstance(value, Text):
            return None if value.is_null else self._storable(value, f"{owner}: {key}")
        if isinstance(value, List | Mapping):
            self._faults.add(
                value.place, f"{owner}: {key} is {_describe(value)}, not a text: write a text, or leave it empty"
            )
        return None

    def _storable(self, value: Text, what: str) -> str | None:
        """Return a text, or None with a fault if a database could not store it."""
        self._spend_characters(len(value.text))
        if UNSTORABLE.search(value.text):
            self._faults.add(value.place, f"{what} contains a NUL or half a surrogate pair: remove it")
            return None
        return value.text

    def _check_secret(self, mapping: Mapping, key: str, text: str | None, owner: str) -> bool:
        """Return whether a secret can be hashed, and add a fault if not. The fault does not show the secret."""
        try:
            if text == "":
                raise Error(f"{owner}: {key} is empty: write one, or leave it out to get a new one")
            if text is not None:
                hashing.check_plain(f"{owner}: {key}", text)
        except Error as error:
            self._faults.add(mapping.values[key].place, str(error))
            return False
        return True

    def _require(self, mapping: Mapping, key: str, text: str | None, owner: str) -> bool:
        """Return whether there is a name, and add a fault if not."""
        value = mapping.values.get(key)
        if value is None or (isinstance(value, Text) and (value.is_null or not value.text)):
            self._faults.add((value or mapping).place, f"{owner} has no {key}: add {key}: and a text")
        return bool(text)

    def _refuse_duplicate(self, mapping: Mapping, key: str, text: str | None, owner: str) -> None:
        kind = (f"{owner.partition(' ')[0]} {key}", str(text))
        if self._is_duplicate(kind, mapping.values[key].place):
            message = f'{owner}: the {key} "{printable(text)}" is already in line {self._first[kind].line}'
            self._faults.add(mapping.values[key].place, f"{message}: it has to be unique")

    def _is_duplicate(self, value: tuple[str, str], place: Place) -> bool:
        is_duplicate = value in self._first
        self._first.setdefault(value, place)
        return is_duplicate

    def _check_keys(
        self, mapping: Mapping, owner: str, table: str, known: Collection[str], elsewhere: Collection[str] | None = None
    ) -> None:
        """Refuse an unknown key that looks misspelt, or is a user's; count any other, which servers ignore."""
        taken = (*known, *(EMPTY_LIST_KEYS if table == "user" else ()))
        for key in [key for key in mapping.values if key not in taken]:
            hint = self._hint(key, *(name for name in known if name not in mapping.values))
            if not hint and (elsewhere is None or key in elsewhere):
                self.lost[f"{table}.{printable(key)}"] += 1
                self.lost_at.setdefault(f"{table}.{printable(key)}", mapping.keys[key].line)
                continue
            message = hint or f": the keys are {', '.join(known)}"
            self._faults.add(mapping.keys[key], f'{owner}: unknown key "{printable(key)}"{message}')

    def _hint(self, *words: str) -> str:
        """Return '; did you mean "…"?' for a word and its candidates, or "" once MAX_HINTS words were compared."""
        if words not in self._hints and len(self._hints) < MAX_HINTS:
            self._hints[words] = did_you_mean(words[0][:100], words[1:])
        return self._hints.get(words, "")

    def _hint_for_name(self, name: str) -> str:
        self._name_hints_left -= 1
        if self._name_hints_left < 0:
            return ""
        return did_you_mean(name[:100], itertools.islice(self._organizations, HINT_NAMES))

    def _spend_entries(self, entries: int) -> None:
        self._entries_left -= entries
        if self._entries_left < 0:
            raise Error(f"{shown(self._path)} has more than {MAX_ENTRIES:,} entries and results: import it in parts")

    def _spend_characters(self, characters: int) -> None:
        self._characters_left -= characters
        if self._characters_left < 0:
            size = f"{MAX_CHARACTERS // 1024 // 1024} MiB"
            raise Error(f"{shown(self._path)} has more than {size} of text, with aliases: import it in parts")


def _is_empty(value: Value) -> bool:
    """Whether a value is null or an empty text."""
    return isinstance(value, Text) and (value.is_null or not value.text)


def _describe(value: Value) -> str:
    """Return a value in the words of a fault."""
    if isinstance(value, Text):
        quotes = " in quotes, which is a text" if value.quoted and value.text.lower() in BOOLEANS else ""
        return "empty" if value.is_null or not value.text else f'"{printable(value.text)}"{quotes}'
    return "a list" if isinstance(value, List) else "a mapping"
