"""A fixture file as a source: its rows, the columns that the format lacks, and generated credentials.

fixtures.py owns the format and reads the file.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from vserverlib import hashing, pluralize, printable
from vserverlib.documents import Remarks
from vserverlib.files import shown
from vserverlib.transfer import generated_credentials
from vserverlib.transfer.generated_credentials import GeneratedCredential
from vserverlib.transfer.sources import Default, ImportNotes, Origin, Row

USER_KEYS = ("username", "password", "firstname", "lastname", "email")  # releases 2 to 4 accept no other keys
ORGANIZATION_KEYS = (
    "name",
    "domain",
    "address1",
    "address2",
    "zipcode",
    "country",
    "public_key",
)  # servers require all of them
ROLES_KEY = "roles"  # of a user, in release 1 only
COLUMNS = {
    "organization": ("id", *ORGANIZATION_KEYS),
    "user": ("id", *USER_KEYS, ROLES_KEY, "organization_id"),
    "collaboration": ("id", "name", "encrypted"),
    "member": ("organization_id", "collaboration_id"),
    "node": ("id", "name", "api_key", "collaboration_id", "organization_id"),
    "task": ("id", "name", "image", "collaboration_id", "run_id", "initiator_id", "created_at"),
    "result": ("id", "task_id", "organization_id", "assigned_at", "status"),
}
# The format has no place for these: the first participant initiates a task, and node names follow a pattern.
MADE_UP = {
    "node": ("name",),
    "task": ("run_id", "created_at", "initiator_id"),
    "result": ("assigned_at", "status"),
}
DEFAULTS = {"collaboration": {"encrypted": Default(lambda row: True, "TRUE")}}
SECRETS = {"user": "password", "node": "api_key"}


@dataclasses.dataclass
class FixtureSource:
    """A fixture file without faults, in memory.

    unusual, passed_over: see documents.Faults. generated: the credentials that generate_credentials() generated.
    deliver_to: is called with them before the import is committed.
    """

    path: Path
    tables: dict[str, list[Row]]  # rows by table, without results, which follow from tasks and members
    members: dict[int, list[int]]  # organization ids by collaboration id, in the order of the file
    lost: dict[str, int]
    unusual: Remarks
    passed_over: Remarks
    generated: list[GeneratedCredential] = dataclasses.field(default_factory=list)
    deliver_to: Callable[[list[GeneratedCredential]], object] = bool
    sequence_state = None  # not a database of ours
    server: str | None = None
    made_up = MADE_UP
    defaults = DEFAULTS

    @property
    def about(self) -> str:
        """The name of the source in the journal."""
        return f"{printable(self.path.name)}, a fixture file"

    @property
    def origins(self) -> list[Origin]:
        """The tables with rows, in an order in which they can be written."""
        return [Origin(table, table, columns) for table, columns in COLUMNS.items() if self.count(table)]

    def summary(self) -> str:
        """Return one line: the kind of source, and how many credentials are missing."""
        missing = {"password": self._count_missing("user"), "API key": self._count_missing("node")}
        words = [pluralize(count, what) for what, count in missing.items() if count]
        without = f"; {' and '.join(words)} missing: generated, unless the database has them" if words else ""
        return f"{shown(self.path)} is a fixture file of vantage6{without}"

    def _count_missing(self, table: str) -> int:
        at = COLUMNS[table].index(SECRETS[table])
        return sum(row[at] is None and bool(row[1]) for row in self.tables[table])

    def count(self, table: str) -> int:
        """Return the number of rows of a table."""
        if table == "result":
            return sum(len(self.members[row[3]]) for row in self.tables["task"])
        return len(self.tables.get(table, ()))

    def rows(self, origin: Origin, notes: ImportNotes) -> Iterator[Row]:
        """Return the rows of a table, with ids from 1."""
        return self._results() if origin.table == "result" else iter(self.tables[origin.table])

    def _results(self) -> Iterator[Row]:
        ids = itertools.count(1)
        for task, _, _, collaboration, _, _, created_at in self.tables["task"]:
            for organization in self.members[collaboration]:
                yield next(ids), task, organization, created_at, "pending"

    def orphan_rows(self, notes: ImportNotes) -> dict[str, int]:
        """Add the remarks on the file to `notes`. A fixture file has no orphan rows."""
        for lines, remarks in ((notes.unusual, self.unusual), (notes.lost_values, self.passed_over)):
            for line in remarks.lines():
                lines.add(line)
        return {}

    def unmapped_tables(self) -> dict[str, int]:
        """Return nothing: a fixture file has unknown keys, but no unknown tables."""
        return {}

    def lost_columns(self) -> dict[str, int]:
        """Return the ignored keys, each with the number of times it occurs."""
        return self.lost

    def refuse_changed(self) -> None:
        """Do nothing: the file is in memory."""

    # Credentials

    def generate_credentials(self, database: Any) -> None:
        """Generate credentials that are missing here and in the database. Does not write."""
        self.generated.clear()
        self._generate("user", "password", generated_credentials.new_password, USERNAMES, database)
        self._generate("node", "API key", hashing.new_key, NODE_NAMES, database)

    def deliver_credentials(self) -> None:
        """Pass the generated credentials to `deliver_to`."""
        self.deliver_to(self.generated)

    def _generate(self, table: str, kind: str, make: Callable[[], str], known: str, database: Any) -> None:
        """Generate credentials for the rows of a table that have none, here and in the database."""
        at = COLUMNS[table].index(SECRETS[table])
        there = {name for (name,) in database.execute_sql(known).fetchall()} if self._count_missing(table) else set()
        for place, row in enumerate(self.tables[table]):
            if row[at] is None and row[1] and row[1] not in there:  # without a name nobody can log in
                self.generated.append(GeneratedCredential(table, row[1], kind, make()))
                self.tables[table][place] = (*row[:at], self.generated[-1].secret, *row[at + 1 :])


USERNAMES = 'SELECT username FROM "user" WHERE password IS NOT NULL'
NODE_NAMES = """
SELECT o.name || ' - ' || COALESCE(c.name, 'None') || ' Node' FROM node AS n
JOIN organization AS o ON o.id = n.organization_id JOIN collaboration AS c ON c.id = n.collaboration_id
WHERE n.api_key IS NOT NULL
"""  # the name that a fixture would give each node, whatever its name is
