"""The sequences that generate ids in PostgreSQL: their state, and advancing them past ids that were inserted by hand.

A sequence knows only the ids that it generated. A row inserted with its id, a restore of single tables, or a logical
replica leaves it behind, and then it generates an id that exists. SQLite takes the existing rows into account.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from vserverlib import Error, printable
from vserverlib.databases import connection, registry
from vserverlib.databases.postgresql import privileges
from vserverlib.messages import notify

SEQUENCE = "{}_id_seq"  # PostgreSQL's name of a table's sequence

SET_LAST_ID = """
SELECT setval(pg_get_serial_sequence('"{0}"', 'id'), %s, %s)
"""
# NULL if the role may not read the sequence, for which some releases return NULL and others raise an error.
HIGHEST_ID = """
SELECT CASE WHEN has_sequence_privilege(sequence, 'SELECT') THEN
    GREATEST(COALESCE(pg_sequence_last_value(sequence), 0), (SELECT MAX(id) FROM "{table}")) END
FROM (SELECT pg_get_serial_sequence('"{table}"', 'id')::regclass AS sequence)
"""
RESET_IDS = "SELECT setval('{sequence}', (SELECT MAX(id) FROM \"{table}\"))"
ADVANCE = """
SELECT setval(pg_get_serial_sequence('"{table}"', 'id')::regclass, MAX(id)) FROM "{table}"
HAVING MAX(id) > COALESCE(pg_sequence_last_value(pg_get_serial_sequence('"{table}"', 'id')::regclass), 0)
"""
READABLE = """
SELECT name FROM unnest(%s::text[]) AS name WHERE has_table_privilege(to_regclass(quote_ident(name)), 'SELECT')
"""
HIGHEST = """
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
    """Return the tables whose next id may exist already. Only reads."""
    there = [name for (name,) in database.execute_sql(READABLE, [list(registry.WITH_IDS)]).fetchall()]
    tables = " UNION ALL ".join(HIGHEST.format(table=name) for name in there)
    return [Behind(*row) for row in database.execute_sql(BEHIND.format(tables=tables)).fetchall()] if there else []


def catch_up(database: Any, is_strict: bool = True) -> list[str]:
    """Advance the sequences that are behind, and return their tables. A rollback does not undo it.

    is_strict: raise an Error, with the statement for the owner, if this role may not set a sequence.
    """
    found = behind(database)
    if is_strict and (others := [each for each in found if not each.may_set]):
        tables = ", ".join(each.table for each in others)
        line = ", ".join(f"setval('{printable(each.sequence)}', {each.highest})" for each in others)
        message = f"the next ids of {tables} may exist already, because another program has inserted ids"
        raise Error(f"{database.title}: {message}; have the owner of the tables run: SELECT {line}")
    own = [each for each in found if each.may_set]
    for table, highest, *_ in own:
        database.execute_sql(SET_LAST_ID.format(table), [highest, True])
    return [each.table for each in own]


def refuse_used_up(title: str, said: str, error: Exception) -> None:
    """Raise an Error if PostgreSQL's message says that one of our sequences has reached its limit."""
    table = next((table for table in registry.WITH_IDS if f'"{SEQUENCE.format(table)}"' in said), "")
    if table:
        raise connection.no_ids_left(
            title, table, RESET_IDS.format(table=table, sequence=SEQUENCE.format(table))
        ) from error


class SequenceMixin:
    """The part of a PostgreSQL database that handles ids: a mixin of Postgres."""

    _has_looked = _has_met_taken_id = _has_caught_up = False

    def set_last_id(self: Any, table: str, last: int) -> None:
        self.execute_sql(SET_LAST_ID.format(table), [max(last, 1), last > 0])

    def highest_id(self: Any, table: str) -> int:
        (highest,) = self.execute_sql(HIGHEST_ID.format(table=table)).fetchone()
        if highest is None:
            role, said = self.connection().info.user, f"permission denied for sequence {SEQUENCE.format(table)}"
            raise privileges.lacking(self.title, said, role, to_read=self.read_only)
        return int(highest)

    def advance_sequence(self: Any, table: str) -> None:
        with self.without_invalidation():
            self.execute_sql(ADVANCE.format(table=table))

    def note_taken_id(self, is_met: bool = True) -> None:
        """Note that an id was refused, possibly a sequence's; or that a commit succeeded."""
        self._has_met_taken_id, self._has_caught_up = is_met, False

    def catch_up_once(self) -> None:
        """Advance the sequences that are behind when a session first writes."""
        if not self._has_looked:
            self._has_looked = True
            self._catch_up(is_strict=False)

    def catch_up_later(self) -> None:
        """Catch up after a rollback, and remember it for catch_up()."""
        if self._has_met_taken_id:
            self._has_caught_up = self.catch_up()

    def catch_up(self: Any) -> bool:
        """Advance the sequences that are behind if an id was refused, and say so; return whether one was.

        The sequence that generated the refused id has advanced by that, and may no longer be behind.
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
            message = f"ids of {', '.join(tables)} were inserted by another program: the next ones are above them"
            notify(f"in {self.title} {message}", "yellow")
