"""The net changes of a working copy: rows named in the journal, compared with the copied file.

A row that was created and deleted again is not a change, nor is a value that was changed back. Deleted rows are kept
in a TEMP table, so that memory does not grow with them.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from vserverlib import Error, printable
from vserverlib.databases.recording import BULK_WORK, FORGET, PRUNE
from vserverlib.databases.registry import registry
from vserverlib.plans import mapping
from vserverlib.plans.plan import START_AGAIN, Refused
from vserverlib.plans.server import CHUNK

TOUCHED = """
CREATE TEMP TABLE touched AS
SELECT entity, entity_id AS id FROM main.record WHERE change_id > :since
UNION
SELECT entity, json_extract(changes, '$.id[1]') FROM main.record
WHERE change_id > :since AND op = 'update' AND json_extract(changes, '$.id[1]') IS NOT NULL
"""
DELETED_TABLE = (
    "CREATE TEMP TABLE deleted (n INTEGER PRIMARY KEY, entity TEXT, id INTEGER, root INTEGER, UNIQUE (entity, id))"
)
CHUNK_OF_RESULTS = 200  # results to read at once: one may have megabytes
UNRECORDED = (
    f"SELECT kind, about FROM main.change WHERE id > ? AND kind IN ('{BULK_WORK}', '{FORGET}', '{PRUNE}') LIMIT 1"
)


class Row(NamedTuple):
    """A row of ours: its stored values before and after. old is None for a new row, new for a deleted one."""

    entity: str
    id: int
    old: dict[str, Any] | None
    new: dict[str, Any] | None

    def changed(self) -> list[str]:
        """Return the columns whose value has changed."""
        old, new = self.old or {}, self.new or {}
        return [name for name in new if not mapping.is_same(self.entity, name, old.get(name), new[name])]


class Root(NamedTuple):
    """A deleted row that is not the dependent of another: its number, and its values before."""

    number: int
    row: Row


class NetChanges:
    """The net changes of a working copy. Valid in the block of read()."""

    def __init__(self, conn: sqlite3.Connection) -> None:
        self._conn = conn
        self.new = [row for entity in registry for row in self._compared(entity, "new")]
        changed = (row for entity in registry for row in self._compared(entity, "changed"))
        self.changed = [row for row in changed if row.changed()]
        self.roots = [root for entity in registry for root in self._roots(entity)]

    def deleted_ids(self, entity: str) -> Iterator[tuple[int, int]]:
        """Return (id, number of its root) of each deleted row of an entity."""
        asked = "SELECT id, root FROM temp.deleted WHERE entity = ? ORDER BY id"
        return self._conn.execute(asked, [entity])

    def deleted_members(self) -> Iterator[tuple[int, int, int]]:
        """Return (organization, collaboration, root) of each deleted membership."""
        asked = "SELECT m.organization_id, m.collaboration_id, g.root FROM temp.deleted g JOIN pristine.member m"
        return self._conn.execute(f"{asked} ON m.id = g.id WHERE g.entity = 'member'")

    def deleted_rows(self, entity: str) -> Iterator[list[Row]]:
        """Return the deleted rows of an entity with their old values, in chunks."""
        names = ("id", *mapping.columns(entity))
        columns = ", ".join(f'b."{name}"' for name in names)
        asked = f'SELECT {columns} FROM temp.deleted g JOIN pristine."{entity}" b ON b.id = g.id WHERE g.entity = ?'
        rows = self._conn.execute(f"{asked} ORDER BY g.id", [entity])
        size = CHUNK_OF_RESULTS if entity == "result" else CHUNK
        while chunk := [_old(entity, names, row) for row in islice(rows, size)]:
            yield chunk

    def deletes(self, entity: str, where: str = "true") -> bool:
        """Whether a row of an entity is deleted that matched a condition on its copied values, `b`."""
        found = f'FROM temp.deleted g JOIN pristine."{entity}" b ON b.id = g.id WHERE g.entity = ? AND {where} LIMIT 1'
        return self._conn.execute(f"SELECT 1 {found}", [entity]).fetchone() is not None

    def deleted_total(self) -> int:
        """Return how many rows are deleted."""
        return int(self._conn.execute("SELECT COUNT(*) FROM temp.deleted").fetchone()[0])

    def counts(self, entity: str) -> dict[int, int]:
        """Return how many rows of an entity are deleted, by root; the root counts too."""
        asked = "SELECT root, COUNT(*) FROM temp.deleted WHERE entity = ? GROUP BY root"
        return dict(self._conn.execute(asked, [entity]).fetchall())

    def old_row(self, entity: str, id: int) -> dict[str, Any] | None:
        """Return a row as it was copied; None if it was not."""
        return self._row("pristine", entity, id)

    def new_row(self, entity: str, id: int) -> dict[str, Any] | None:
        """Return a row as it is now; None if it is deleted."""
        return self._row("main", entity, id)

    def _row(self, schema: str, entity: str, id: int) -> dict[str, Any] | None:
        names = mapping.columns(entity)
        listed = ", ".join(f'"{name}"' for name in names)
        row = self._conn.execute(f'SELECT {listed} FROM {schema}."{entity}" WHERE id = ?', [id]).fetchone()
        return None if row is None else dict(zip(names, row, strict=True))

    def _compared(self, entity: str, kind: str) -> Iterator[Row]:
        """Return the rows of an entity that are new, or changed."""
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
        asked = f'SELECT g.n, {columns} FROM temp.deleted g JOIN pristine."{entity}" b ON b.id = g.id'
        for number, *row in self._conn.execute(f"{asked} WHERE g.entity = ? AND g.root = g.n ORDER BY g.n", [entity]):
            yield Root(number, _old(entity, names, row))


def _old(entity: str, names: Sequence[str], row: Sequence[Any]) -> Row:
    values = dict(zip(names, row, strict=True))
    return Row(entity, values.pop("id"), values, None)


@contextlib.contextmanager
def read(database: Any, since: int) -> Iterator[NetChanges]:
    """Give the changes of a working copy since a change of its journal. The file without its WAL is the state then."""
    if database.in_transaction() or database.connection().in_transaction:
        raise Error(f"{database.title} has an open transaction: commit it or roll it back first")
    conn = database.connection()
    _refuse_unrecorded(conn, since)
    conn.execute("ATTACH ? AS pristine", [f"{Path(database.database).as_uri()}?immutable=1"])
    factory, conn.text_factory = conn.text_factory, _any_text
    try:
        conn.execute(TOUCHED, {"since": since})
        conn.execute(DELETED_TABLE)
        for entity in registry:
            _collect_deleted(conn, entity)
        yield NetChanges(conn)
    finally:
        for table in ("touched", "deleted"):
            conn.execute(f"DROP TABLE IF EXISTS temp.{table}")
        conn.execute("DETACH pristine")
        conn.text_factory = factory


def _any_text(data: bytes) -> str:
    """Decode a text, with surrogates for bytes that are not UTF-8."""
    return data.decode("utf-8", "surrogateescape")


def _refuse_unrecorded(conn: sqlite3.Connection, since: int) -> None:
    """Raise Refused if rows were written that the journal did not record one by one."""
    found = conn.execute(UNRECORDED, [since]).fetchone()
    if found is None:
        return
    what = printable(found[1] or "bulk work", 100)
    raise Refused([f"{what}: this was not recorded row by row, so it cannot be applied to a server: {START_AGAIN}"])


def _collect_deleted(conn: sqlite3.Connection, entity: str) -> None:
    """Collect the deleted rows of an entity, each with the root that it is deleted with."""
    found = f'temp.touched t JOIN pristine."{entity}" b ON b.id = t.id LEFT JOIN main."{entity}" m ON m.id = t.id'
    sql = f"INSERT INTO temp.deleted (entity, id) SELECT ?1, t.id FROM {found} WHERE t.entity = ?1 AND m.id IS NULL"
    if not conn.execute(f"{sql} ORDER BY t.id", [entity]).rowcount:
        return
    links = registry[entity]._meta.refs
    own = [link for link in links if link.rel_model is registry[entity]]
    for link in links:
        if link.rel_model is not registry[entity]:
            conn.execute(_root_of(entity, link), [entity])
    for link in own:
        joined = f'JOIN temp.deleted p ON p.entity = ?1 AND p.id = b."{link.column_name}"'
        parent = f'SELECT 1 FROM pristine."{entity}" b {joined}'
        alone = f"NOT EXISTS ({parent} WHERE b.id = deleted.id AND p.id <> deleted.id)"
        conn.execute(f"UPDATE temp.deleted SET root = n WHERE entity = ?1 AND root IS NULL AND {alone}", [entity])
        while conn.execute(_root_of(entity, link), [entity]).rowcount:
            pass
    conn.execute("UPDATE temp.deleted SET root = n WHERE entity = ? AND root IS NULL", [entity])


def _root_of(entity: str, link: Any) -> str:
    """Return the SQL that gives rows the root of the row they link to."""
    to = link.rel_model._meta.table_name
    parent = f"""SELECT p.root FROM pristine."{entity}" b JOIN temp.deleted p ON p.entity = '{to}'
        AND p.id = b."{link.column_name}" AND p.root IS NOT NULL WHERE b.id = deleted.id"""
    return f"UPDATE temp.deleted SET root = ({parent}) WHERE entity = ?1 AND root IS NULL AND EXISTS ({parent})"
