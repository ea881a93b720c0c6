"""The rows that are deleted from a server's database, in TEMP tables there: the plan's own, and their dependents.

Each row has the number of its root, the row that it is deleted with, so that a plan can count dependents. Rows go by
their id, or in tables without one by their place. Finding them takes no lock; deleting goes by these keys.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from vserverlib import pluralize, printable
from vserverlib.databases.connection import quoted
from vserverlib.plans import references
from vserverlib.plans.plan import SHOWN
from vserverlib.plans.references import Link
from vserverlib.plans.server import Server

MANY = 200  # rows of a table
KEYS = {"id": "INTEGER", "rowid": "INTEGER", "ctid": "tid"}


class Gone:
    """The rows that are deleted. counts: how many, by table and root; emptied: links of rows that stay, likewise."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.tables: list[str] = []
        self.links: list[Link] = []  # whose values are emptied in rows that stay

    # Adding

    def add(self, table: str, rows: Iterable[tuple[int, int]]) -> None:
        """Add rows by their ids, each with its root."""
        self._open(table)
        self.server.fill(f"gone {table}", ("key", "root"), rows)
        self.server.note_size(self.temp(table))

    def add_found(self, table: str, query: str, params: Sequence[Any] = ()) -> None:
        """Add the rows of a query of keys and roots, each once."""
        self._open(table)
        self.server.run(f"INSERT INTO {self.temp(table)} (key, root) {query} ON CONFLICT DO NOTHING", params)
        self.server.note_size(self.temp(table))

    def add_pairs(self, table: str, columns: tuple[str, str], pairs: Iterable[tuple[int, int, int]]) -> None:
        """Add all rows of a table that have these two values; each pair with its root."""
        self.server.keep("pairs", "a INTEGER, b INTEGER, root INTEGER")
        self.server.fill("pairs", ("a", "b", "root"), pairs)
        same = " AND ".join(f"t.{quoted(name)} = p.{side}" for name, side in zip(columns, "ab", strict=True))
        found = f"FROM {quoted(table)} AS t JOIN {self.server.temp('pairs')} AS p ON {same} WHERE true"
        self.add_found(table, f"SELECT {self._key(table)}, p.root {found}")

    def _open(self, table: str) -> None:
        if table not in self.tables:
            self.server.keep(f"gone {table}", f"key {KEYS[self.server.key(table)]} PRIMARY KEY, root INTEGER")
            self.tables.append(table)

    def temp(self, table: str) -> str:
        """Return the name of the TEMP table with the keys of deleted rows."""
        return self.server.temp(f"gone {table}")

    def emptied(self, link: Link) -> str:
        """Return the name of the TEMP table with the ids of rows that stay, and whose link is emptied."""
        return self.server.temp(f"emptied {link.table}.{link.column}")

    def _key(self, table: str) -> str:
        return f"t.{self.server.key(table)}"

    # What follows

    def follow(self) -> None:
        """Add the rows of the server's own that are deleted with others, and note the links that are emptied."""
        for entity in ("user", "node"):
            if entity in self.tables:
                self.add_found("authenticatable", f"SELECT key, root FROM {self.temp(entity)} WHERE true")
        for link in references.of_members():
            if link.to in self.tables:
                self._add_half_members(link)
        for link in references.closure_order():
            if link.to in self.tables and self.server.has(link.table, link.column):
                self.add_found(link.table, f"SELECT {self._key(link.table)}, g.root {self._referring(link)}")
        for link in self._of_fate(references.EMPTIED):
            self._note_emptied(link)

    def _add_half_members(self, link: Link) -> None:
        """Add memberships whose other side is no row: an import leaves them out, so that no plan has them."""
        (other,) = (each for each in references.of_members() if each.to != link.to)
        half = f"NOT EXISTS (SELECT 1 FROM {quoted(other.to)} AS o WHERE o.id = t.{quoted(other.column)})"
        self.add_found(link.table, f"SELECT {self._key(link.table)}, g.root {self._referring(link)} AND {half}")

    def _note_emptied(self, link: Link) -> None:
        name = f"emptied {link.table}.{link.column}"
        self.server.keep(name, "key INTEGER PRIMARY KEY, root INTEGER")
        found = f"SELECT t.id, g.root {self._referring(link)} AND {self._stays(link.table)}"
        self.server.run(f"INSERT INTO {self.server.temp(name)} (key, root) {found}")
        if self.server.one(f"SELECT 1 FROM {self.server.temp(name)} LIMIT 1"):
            self.links.append(link)

    def _of_fate(self, fate: str) -> Iterator[Link]:
        for table in list(self.tables):
            links = references.of(table, fate)
            yield from (link for link in links if self.server.has(link.table, link.column))

    def _referring(self, link: Link) -> str:
        """Return the SQL that finds the rows `t` with a link to a deleted row `g`."""
        column = f"t.{quoted(link.column)}"
        return f"FROM {quoted(link.table)} AS t JOIN {self.temp(link.to)} AS g ON g.key = {column} WHERE true"

    def _stays(self, table: str) -> str:
        """Return the condition that a row `t` is not deleted itself."""
        if table not in self.tables:
            return "true"
        return f"NOT EXISTS (SELECT 1 FROM {self.temp(table)} AS other WHERE other.key = {self._key(table)})"

    # What refuses a deletion

    def left(self, fate: str) -> Iterator[tuple[Link, list[tuple[int, int]]]]:
        """Return the links of this fate with rows that stay: (id or place of the row, id of the deleted one)."""
        for link in self._of_fate(fate):
            column = f"t.{quoted(link.column)}"
            sql = f"SELECT {self._key(link.table)}, {column} {self._referring(link)} AND {self._stays(link.table)}"
            if found := self.server.all(sql):
                yield link, found

    def unknown(self, named: dict[str, str]) -> Iterator[str]:
        """Return why rows cannot be deleted that tables refer to which are not known. named: nouns by table."""
        for table in self.tables:
            for link in self.server.links_to(table):
                if link in references.FATES:
                    continue
                if found := self.server.all(f"SELECT g.key {self._referring(link)}"):
                    rows, noun = pluralize(len(found), "row"), named.get(table, table)
                    verb = "refers" if len(found) == 1 else "refer"
                    what = f"{noun} {found[0][0]}" + (" and others" if len(found) > 1 else "")
                    yield f'{rows} of "{printable(link.table)}" {verb} to {what}: a table that is not known'

    def held_roles(self) -> Iterator[tuple[str, list[int]]]:
        """Return each role that is deleted with its organization while users who stay have it, with their ids."""
        if "role" not in self.tables or not self.server.has("Permission"):
            return
        held = f"""SELECT r.name, t.user_id FROM "Permission" AS t JOIN {self.temp("role")} AS g ON g.key = t.role_id
            JOIN role AS r ON r.id = t.role_id JOIN "user" AS u ON u.id = t.user_id WHERE {self._user_stays()}
            AND NOT EXISTS (SELECT 1 FROM {self.server.temp("taken roles")} AS o WHERE o.key = t.{self.server.place})
            ORDER BY r.id, t.user_id"""
        found: dict[str, list[int]] = {}
        for name, user in self.server.all(held):
            found.setdefault(name, []).append(user)
        yield from found.items()

    def _user_stays(self) -> str:
        if "user" not in self.tables:
            return "true"
        return f"NOT EXISTS (SELECT 1 FROM {self.temp('user')} AS other WHERE other.key = t.user_id)"

    def nowhere(self) -> dict[str, list[int]]:
        """Return where links of deleted rows lead that lead nowhere, by table and column: so they were there."""
        found = {}
        links = {*references.FATES, *self.server.shape.links}
        for link in sorted(links):
            if link.table in self.tables and self.server.has(link.table, link.column) and self.server.has(link.to):
                column, key = f"t.{quoted(link.column)}", self._key(link.table)
                sql = f"""SELECT DISTINCT {column} FROM {quoted(link.table)} AS t
                    JOIN {self.temp(link.table)} AS g ON g.key = {key} LEFT JOIN {quoted(link.to)} AS o
                    ON o.id = {column} WHERE {column} IS NOT NULL AND o.id IS NULL ORDER BY 1"""
                if ids := [id for (id,) in self.server.all(sql)]:
                    found[f"{link.table}.{link.column}"] = ids
        return found

    # Time

    def fingerprints(self) -> dict[str, Any]:
        """Return a value for each table that differs as soon as one of its deleted rows is changed."""
        tables = [table for table in self.tables if self.server.has(table, "id")]
        return {table: self.server.fingerprint(table, self.temp(table)) for table in tables}

    def many(self) -> dict[Link, int]:
        """Return the links to tables of which many rows are deleted, and how many: each looks for its links."""
        found: dict[Link, int] = {}
        for table in self.tables:
            count = sum(self.counts(table).values())
            if count >= MANY:
                found |= dict.fromkeys(self.server.links_to(table), count)
        return found

    # Counting

    def counts(self, table: str) -> dict[int, int]:
        """Return how many rows of a table are deleted with each root."""
        return dict(self.server.all(f"SELECT root, COUNT(*) FROM {self.temp(table)} GROUP BY root"))

    def emptied_counts(self, link: Link) -> dict[int, int]:
        """Return in how many rows a link is emptied because of each root."""
        return dict(self.server.all(f"SELECT root, COUNT(*) FROM {self.emptied(link)} GROUP BY root"))


def some(ids: Iterable[int]) -> str:
    """Return some ids in words: "2, 3, 4 and 17 more"."""
    known = list(ids)
    more = len(known) - SHOWN
    return ", ".join(map(str, known[:SHOWN])) + (f" and {more:,} more" if more > 0 else "")
