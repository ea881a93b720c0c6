"""The net changes of a working copy, row by row: rows that the journal names, compared with the copied file.

A row that was created and deleted again is no change, nor is a value that was changed and changed back. Rows that are
deleted stay in a table of the session's own, so that memory does not grow with them.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from vserverlib import Error, printable
from vserverlib.databases.recording import BULK_WORK, PRUNE
from vserverlib.databases.registry import registry
from vserverlib.plans import mapping
from vserverlib.plans.plan import Refused
from vserverlib.plans.server import CHUNK

TOUCHED = """
CREATE TEMP TABLE touched AS
SELECT entity, entity_id AS id FROM main.record WHERE change_id > :since
UNION
SELECT entity, json_extract(changes, '$.id[1]') FROM main.record
WHERE change_id > :since AND op = 'update' AND json_extract(changes, '$.id[1]') IS NOT NULL
"""
GONE = "CREATE TEMP TABLE gone (n INTEGER PRIMARY KEY, entity TEXT, id INTEGER, root INTEGER, UNIQUE (entity, id))"
CHUNK_OF_RESULTS = 200  # rows that are read at once: one may have megabytes
UNRECORDED = f"SELECT kind, about FROM main.change WHERE id > ? AND kind IN ('{BULK_WORK}', '{PRUNE}') LIMIT 1"


class Row(NamedTuple):
    """A row of ours, by its table here: its stored values as they were and are. None: it was not there, or is not."""

    entity: str
    id: int
    old: dict[str, Any] | None
    new: dict[str, Any] | None

    def changed(self) -> list[str]:
        """Return the columns that mean something else now."""
        old, new = self.old or {}, self.new or {}
        return [name for name in new if not mapping.is_same(self.entity, name, old.get(name), new[name])]


class Root(NamedTuple):
    """A row that is deleted for itself, not with another one: its number, and its values as they were."""

    number: int
    row: Row


class NetChanges:
    """The net changes of a working copy, for as long as the block of read() is open."""

    def __init__(self, conn: sqlite3.Connection) -> None:
        self._conn = conn
        self.new = [row for entity in registry for row in self._compared(entity, "new")]
        changed = (row for entity in registry for row in self._compared(entity, "changed"))
        self.changed = [row for row in changed if row.changed()]
        self.roots = [root for entity in registry for root in self._roots(entity)]

    def gone(self, entity: str) -> Iterator[tuple[int, int]]:
        """Return the id of each deleted row of an entity, and the number of the root that it is deleted with."""
        asked = "SELECT id, root FROM temp.gone WHERE entity = ? ORDER BY id"
        return self._conn.execute(asked, [entity])

    def gone_pairs(self) -> Iterator[tuple[int, int, int]]:
        """Return organization, collaboration and root of each deleted membership."""
        asked = "SELECT m.organization_id, m.collaboration_id, g.root FROM temp.gone g JOIN pristine.member m"
        return self._conn.execute(f"{asked} ON m.id = g.id WHERE g.entity = 'member'")

    def gone_rows(self, entity: str) -> Iterator[list[Row]]:
        """Return the deleted rows of an entity as they were, a number of them at once."""
        names = ("id", *mapping.columns(entity))
        columns = ", ".join(f'b."{name}"' for name in names)
        asked = f'SELECT {columns} FROM temp.gone g JOIN pristine."{entity}" b ON b.id = g.id WHERE g.entity = ?'
        rows = self._conn.execute(f"{asked} ORDER BY g.id", [entity])
        size = CHUNK_OF_RESULTS if entity == "result" else CHUNK
        while chunk := [_old(entity, names, row) for row in islice(rows, size)]:
            yield chunk

    def counts(self, entity: str) -> dict[int, int]:
        """Return how many rows of an entity are deleted with each root, itself too."""
        asked = "SELECT root, COUNT(*) FROM temp.gone WHERE entity = ? GROUP BY root"
        return dict(self._conn.execute(asked, [entity]).fetchall())

    def base(self, entity: str, id: int) -> dict[str, Any] | None:
        """Return a row as it was."""
        return self._row("pristine", entity, id)

    def now(self, entity: str, id: int) -> dict[str, Any] | None:
        """Return a row as it is."""
        return self._row("main", entity, id)

    def _row(self, schema: str, entity: str, id: int) -> dict[str, Any] | None:
        names = mapping.columns(entity)
        listed = ", ".join(f'"{name}"' for name in names)
        row = self._conn.execute(f'SELECT {listed} FROM {schema}."{entity}" WHERE id = ?', [id]).fetchone()
        return None if row is None else dict(zip(names, row, strict=True))

    def _compared(self, entity: str, kind: str) -> Iterator[Row]:
        """Return the rows of an entity that are new, or of which a value is another one."""
        names = mapping.columns(entity)
        old, new = (", ".join(f'{side}."{name}"' for name in names) for side in ("b", "m"))
        found = f'FROM temp.touched t JOIN main."{entity}" m ON m.id = t.id LEFT JOIN pristine."{entity}" b'
        differs = "b.id IS NULL" if kind == "new" else f"b.id IS NOT NULL AND ({old}) IS NOT ({new})"
        asked = f"SELECT m.id, {old}, {new} {found} ON b.id = t.id WHERE t.entity = ? AND {differs} ORDER BY m.id"
        for id, *both in self._conn.execute(asked, [entity]):
            before, after = both[: len(names)], both[len(names) :]
            was = dict(zip(names, before, strict=True)) if kind != "new" else None
            yield Row(entity, id, was, dict(zip(names, after, strict=True)))

    def _roots(self, entity: str) -> Iterator[Root]:
        names = ("id", *mapping.columns(entity))
        columns = ", ".join(f'b."{name}"' for name in names)
        asked = f'SELECT g.n, {columns} FROM temp.gone g JOIN pristine."{entity}" b ON b.id = g.id'
        for number, *row in self._conn.execute(f"{asked} WHERE g.entity = ? AND g.root = g.n ORDER BY g.n", [entity]):
            yield Root(number, _old(entity, names, row))


def _old(entity: str, names: Sequence[str], row: Sequence[Any]) -> Row:
    values = dict(zip(names, row, strict=True))
    return Row(entity, values.pop("id"), values, None)


@contextlib.contextmanager
def read(database: Any, since: int) -> Iterator[NetChanges]:
    """Give the changes of a working copy since a change of its journal; its file is as it was then."""
    if database.in_transaction() or database.connection().in_transaction:
        raise Error(f"{database.title} has a transaction open: end it first")
    conn = database.connection()
    _refuse_unrecorded(conn, since)
    conn.execute("ATTACH ? AS pristine", [f"{Path(database.database).as_uri()}?immutable=1"])
    factory, conn.text_factory = conn.text_factory, _any_text
    try:
        conn.execute(TOUCHED, {"since": since})
        conn.execute(GONE)
        for entity in registry:
            _note_gone(conn, entity)
        yield NetChanges(conn)
    finally:
        for table in ("touched", "gone"):
            conn.execute(f"DROP TABLE IF EXISTS temp.{table}")
        conn.execute("DETACH pristine")
        conn.text_factory = factory


def _any_text(data: bytes) -> str:
    """Return a text, with surrogates for bytes that are not UTF-8."""
    return data.decode("utf-8", "surrogateescape")


def _refuse_unrecorded(conn: sqlite3.Connection, since: int) -> None:
    """Raise a Refused if rows were written that the journal does not have one by one."""
    found = conn.execute(UNRECORDED, [since]).fetchone()
    if found is None:
        return
    what = printable(found[1] or "bulk work", 100)
    raise Refused(
        [f"{what}: this is not recorded row by row, so it cannot be applied to a server; begin a new session"]
    )


def _note_gone(conn: sqlite3.Connection, entity: str) -> None:
    """Note the deleted rows of an entity, each with the root that it is deleted with."""
    found = f'temp.touched t JOIN pristine."{entity}" b ON b.id = t.id LEFT JOIN main."{entity}" m ON m.id = t.id'
    sql = f"INSERT INTO temp.gone (entity, id) SELECT ?1, t.id FROM {found} WHERE t.entity = ?1 AND m.id IS NULL"
    if not conn.execute(f"{sql} ORDER BY t.id", [entity]).rowcount:
        return
    links = registry[entity]._meta.refs
    own = [link for link in links if link.rel_model is registry[entity]]
    for link in links:
        if link.rel_model is not registry[entity]:
            conn.execute(_root_of(entity, link), [entity])
    for link in own:
        parent = (
            f'SELECT 1 FROM pristine."{entity}" b JOIN temp.gone p ON p.entity = ?1 AND p.id = b."{link.column_name}"'
        )
        alone = f"NOT EXISTS ({parent} WHERE b.id = gone.id AND p.id <> gone.id)"
        conn.execute(f"UPDATE temp.gone SET root = n WHERE entity = ?1 AND root IS NULL AND {alone}", [entity])
        while conn.execute(_root_of(entity, link), [entity]).rowcount:
            pass
    conn.execute("UPDATE temp.gone SET root = n WHERE entity = ? AND root IS NULL", [entity])


def _root_of(entity: str, link: Any) -> str:
    """Return the statement that gives rows the root of the row that a link of theirs leads to."""
    to = link.rel_model._meta.table_name
    parent = f"""SELECT p.root FROM pristine."{entity}" b JOIN temp.gone p ON p.entity = '{to}'
        AND p.id = b."{link.column_name}" AND p.root IS NOT NULL WHERE b.id = gone.id"""
    return f"UPDATE temp.gone SET root = ({parent}) WHERE entity = ?1 AND root IS NULL AND EXISTS ({parent})"
