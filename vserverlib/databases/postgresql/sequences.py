"""The sequences that give ids on a PostgreSQL server: how far they are, and setting them above ids given by hand.

A sequence knows only what it gave itself. A row that another program writes with its id, a restore of single tables or
a logical replica leaves it behind, and then it gives an id that is taken. SQLite looks at the rows by itself.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from vserverlib import Error, printable
from vserverlib.databases import registry
from vserverlib.databases.postgresql import privileges
from vserverlib.messages import notify

LAST_ID = 2**63 - 1  # that a sequence gives
WITH_IDS = (*registry.TABLES, "change", "record")
NAMED = "{}_id_seq"  # what PostgreSQL calls the sequence of a table

USE_IDS_AFTER = """
SELECT setval(pg_get_serial_sequence('"{0}"', 'id'), %s, %s)
"""
# NULL, where the role may not know how far the sequence is: some releases say nothing, others raise an error.
HIGHEST_ID = """
SELECT CASE WHEN has_sequence_privilege(sequence, 'SELECT') THEN
    GREATEST(COALESCE(pg_sequence_last_value(sequence), 0), (SELECT MAX(id) FROM "{table}")) END
FROM (SELECT pg_get_serial_sequence('"{table}"', 'id')::regclass AS sequence)
"""
GO_ON = """
SELECT setval(pg_get_serial_sequence('"{table}"', 'id')::regclass, MAX(id)) FROM "{table}"
HAVING MAX(id) > COALESCE(pg_sequence_last_value(pg_get_serial_sequence('"{table}"', 'id')::regclass), 0)
"""
THERE = """
SELECT name FROM unnest(%s::text[]) AS name WHERE has_table_privilege(to_regclass(quote_ident(name)), 'SELECT')
"""
FAR = """
SELECT '{table}' AS name, MAX(id) AS highest, pg_get_serial_sequence('"{table}"', 'id')::regclass AS sequence
FROM "{table}"
"""
BEHIND = """
SELECT name, highest, sequence::text, has_sequence_privilege(sequence, 'UPDATE') FROM ({tables}) AS far
WHERE CASE WHEN has_sequence_privilege(sequence, 'SELECT')
    THEN highest > COALESCE(pg_sequence_last_value(sequence), 0) END
"""


class Behind(NamedTuple):
    """A table whose sequence is behind. highest: the highest id there; may_set: whether this role may set it."""

    table: str
    highest: int
    sequence: str
    may_set: bool


def behind(database: Any) -> list[Behind]:
    """Return the tables whose next id is taken, or may be. Reads."""
    there = [name for (name,) in database.execute_sql(THERE, [list(WITH_IDS)]).fetchall()]
    tables = " UNION ALL ".join(FAR.format(table=name) for name in there)
    return [Behind(*row) for row in database.execute_sql(BEHIND.format(tables=tables)).fetchall()] if there else []


def catch_up(database: Any, is_strict: bool = True) -> list[str]:
    """Set the sequences that are behind, and return their tables. What is set stays so, if it is rolled back, too.

    is_strict: one that this role may not set is an Error, with the line that its owner can run.
    """
    found = behind(database)
    if is_strict and (others := [each for each in found if not each.may_set]):
        tables = ", ".join(each.table for each in others)
        line = ", ".join(f"setval('{printable(each.sequence)}', {each.highest})" for each in others)
        message = f"the next ids of {tables} may be taken, as another program gave some by hand"
        raise Error(f"{database.title}: {message}; have the owner of the tables run: SELECT {line}")
    own = [each for each in found if each.may_set]
    for table, highest, *_ in own:
        database.execute_sql(USE_IDS_AFTER.format(table), [highest, True])
    return [each.table for each in own]


def refuse_used_up(title: str, said: str, error: Exception) -> None:
    """Raise an Error where PostgreSQL says that a sequence of ours has no number left."""
    table = next((table for table in WITH_IDS if f'"{NAMED.format(table)}"' in said), "")
    if table:
        message = f"no id is left for a new {table}, the highest that there can be ({LAST_ID}) was given"
        raise Error(f"{title} could not be written: {message}; import a source without it") from error


class Ids:
    """What a database does with ids: mixed into an open one of PostgreSQL's, which is `self`."""

    _has_looked = _has_met_taken_id = _has_caught_up = False

    def use_ids_after(self: Any, table: str, last: int) -> None:
        self.execute_sql(USE_IDS_AFTER.format(table), [max(last, 1), last > 0])

    def highest_id(self: Any, table: str) -> int:
        (highest,) = self.execute_sql(HIGHEST_ID.format(table=table)).fetchone()
        if highest is None:
            role, said = self.connection().info.user, f"permission denied for sequence {NAMED.format(table)}"
            raise privileges.lacking(self.title, said, role, to_read=self.read_only)
        return int(highest)

    def advance_sequence(self: Any, table: str) -> None:
        with self.without_invalidation():
            self.execute_sql(GO_ON.format(table=table))

    def note_taken_id(self, is_met: bool = True) -> None:
        """Note that an id was refused, which may have been a sequence's; or that all is well."""
        self._has_met_taken_id, self._has_caught_up = is_met, False

    def catch_up_once(self) -> None:
        """Set the sequences right that are behind when a session begins to write."""
        if not self._has_looked:
            self._has_looked = True
            self._catch_up(is_strict=False)

    def catch_up_later(self) -> None:
        """Catch up when a transaction was rolled back, and know it when somebody asks."""
        if self._has_met_taken_id:
            self._has_caught_up = self.catch_up()

    def catch_up(self: Any) -> bool:
        """Set the sequences right that are behind, if an id was refused, and tell it; return whether one was.

        The one that gave the id has gone on by that, and need not be behind any more.
        """
        was_refused = self._has_met_taken_id or self._has_caught_up
        if self._has_met_taken_id:
            self._has_met_taken_id = False
            self._catch_up()
        self._has_caught_up = False
        return bool(was_refused)

    def _catch_up(self: Any, is_strict: bool = True) -> None:
        with self.without_invalidation():
            tables = catch_up(self, is_strict)
        if tables:
            message = f"ids of {', '.join(tables)} were given by hand: the next are above them from now on"
            notify(f"in {self.title} {message}", "yellow")
