"""What was read of a fixture file, as a source: its rows, what the format says nothing of, and secrets that lack.

It owns what becomes of a fixture as a whole. The format, and reading it, is fixtures.py's.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from vserverlib import hashing, pluralize, printable
from vserverlib.files import shown
from vserverlib.transfer import generated_credentials
from vserverlib.transfer.documents import Remarks
from vserverlib.transfer.generated_credentials import Handout
from vserverlib.transfer.sources import Default, Notes, Origin, Row

USER = ("username", "password", "firstname", "lastname", "email")  # a server of release 2 to 4 takes no other
ORGANIZATION = ("name", "domain", "address1", "address2", "zipcode", "country", "public_key")  # a server wants them all
ROLES = "roles"  # of a user, in release 1 alone
COLUMNS = {
    "organization": ("id", *ORGANIZATION),
    "user": ("id", *USER, ROLES, "organization_id"),
    "collaboration": ("id", "name", "encrypted"),
    "member": ("organization_id", "collaboration_id"),
    "node": ("id", "name", "api_key", "collaboration_id", "organization_id"),
    "task": ("id", "name", "image", "collaboration_id", "run_id", "initiator_id", "created_at"),
    "result": ("id", "task_id", "organization_id", "assigned_at", "status"),
}
# For which the format has no place: who initiates a task is who takes part first, and nodes are called by its own rule.
MADE_UP = {
    "node": ("name",),
    "task": ("run_id", "created_at", "initiator_id"),
    "result": ("assigned_at", "status"),
}
DEFAULTS = {"collaboration": {"encrypted": Default(lambda row: True, "TRUE")}}
SECRETS = {"user": "password", "node": "api_key"}


@dataclasses.dataclass
class Fixture:
    """A fixture file without a fault, read whole.

    unusual, passed_over: what is read although it breaks a rule, and what is not read. made: the secrets that were made
    for it, once it is complete. handing_out: is called with them, before the import is committed.
    """

    path: Path
    tables: dict[str, list[Row]]  # of each table its rows; but the results, which follow from these
    members: dict[int, list[int]]  # of each collaboration its organizations, in the order of the file
    lost: dict[str, int]
    unusual: Remarks
    passed_over: Remarks
    made: list[Handout] = dataclasses.field(default_factory=list)
    handing_out: Callable[[list[Handout]], object] = bool
    beside = None  # it is no database of ours
    made_up = MADE_UP
    defaults = DEFAULTS

    @property
    def about(self) -> str:
        """What the journal says was imported."""
        return f"{printable(self.path.name)}, a fixture file"

    @property
    def origins(self) -> list[Origin]:
        """The tables that there are rows for, in an order in which these can be written."""
        return [Origin(table, table, columns) for table, columns in COLUMNS.items() if self.count(table)]

    def summary(self) -> str:
        """Return what it is, in a line, and how many secrets are to be made for it."""
        lacking = {"password": self._lacking("user"), "API key": self._lacking("node")}
        words = [pluralize(count, what) for what, count in lacking.items() if count]
        without = f"; it lacks {' and '.join(words)}, made where there are none yet" if words else ""
        return f"{shown(self.path)} is a fixture file of vantage6{without}"

    def _lacking(self, table: str) -> int:
        at = COLUMNS[table].index(SECRETS[table])
        return sum(row[at] is None and bool(row[1]) for row in self.tables[table])

    def count(self, table: str) -> int:
        """Return how many rows a table has."""
        if table == "result":
            return sum(len(self.members[row[3]]) for row in self.tables["task"])
        return len(self.tables.get(table, ()))

    def rows(self, origin: Origin, notes: Notes) -> Iterator[Row]:
        """Return the rows of a table, with ids that are counted from 1."""
        return self._results() if origin.table == "result" else iter(self.tables[origin.table])

    def _results(self) -> Iterator[Row]:
        ids = itertools.count(1)
        for task, _, _, collaboration, _, _, created_at in self.tables["task"]:
            for organization in self.members[collaboration]:
                yield next(ids), task, organization, created_at, "pending"

    def orphan_rows(self, notes: Notes) -> dict[str, int]:
        """Note what was read in an unusual way; what stands in a file stands where it belongs."""
        for lines, remarks in ((notes.unusual, self.unusual), (notes.lost_values, self.passed_over)):
            for line in remarks.lines():
                lines.add(line)
        return {}

    def unmapped_tables(self) -> dict[str, int]:
        """Return no table: a fixture file holds nothing that has no place here, but keys."""
        return {}

    def lost_columns(self) -> dict[str, int]:
        """Return the keys that have no place in ours, each with how often it is there."""
        return self.lost

    def refuse_changed(self) -> None:
        """Do nothing: the file was read whole, and closed."""

    # Secrets

    def complete(self, database: Any) -> None:
        """Make the secrets that lack, but for whom the database has one already. Writes nothing."""
        self.made.clear()
        self._make("user", "password", generated_credentials.new_password, USERNAMES, database)
        self._make("node", "API key", hashing.new_key, NODE_NAMES, database)

    def hand_out(self) -> None:
        """Hand out the secrets that were made."""
        self.handing_out(self.made)

    def _make(self, table: str, kind: str, make: Callable[[], str], known: str, database: Any) -> None:
        """Make secrets for those rows of a table that have none, and are not in the database."""
        at = COLUMNS[table].index(SECRETS[table])
        there = {name for (name,) in database.execute_sql(known).fetchall()} if self._lacking(table) else set()
        for place, row in enumerate(self.tables[table]):
            if row[at] is None and row[1] and row[1] not in there:  # nobody logs in without a name
                self.made.append(Handout(table, row[1], kind, make()))
                self.tables[table][place] = (*row[:at], self.made[-1].secret, *row[at + 1 :])


USERNAMES = 'SELECT username FROM "user" WHERE password IS NOT NULL'
NODE_NAMES = """
SELECT o.name || ' - ' || COALESCE(c.name, 'None') || ' Node' FROM node AS n
JOIN organization AS o ON o.id = n.organization_id JOIN collaboration AS c ON c.id = n.collaboration_id
WHERE n.api_key IS NOT NULL
"""  # by whose it is, whatever it is called: the name that a fixture would give it
