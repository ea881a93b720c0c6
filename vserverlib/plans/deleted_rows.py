"""The rows to delete from a server's database, planned rows and their dependents, in TEMP tables of that database.

Each row has the number of its root, the row it is deleted with, so that a plan can count dependents. The key of a row
is its id, or rowid or ctid in tables without one. Finding the rows takes no lock.
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

BULK = 200  # deleted rows of a table, from which on links to it are worth an index
KEYS = {"id": "INTEGER", "rowid": "INTEGER", "ctid": "tid"}


class DeletedRows:
    """The rows to delete, and the links to clear in rows that stay."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.tables: list[str] = []
        self.cleared_links: list[Link] = []  # to clear in rows that stay

    # Adding

    def add(self, table: str, rows: Iterable[tuple[int, int]]) -> None:
        """Add rows: pairs of id and root."""
        self._open(table)
        self.server.bulk_insert(f"deleted {table}", ("key", "root"), rows)
        self.server.analyze(self.temp(table))

    def add_query(self, table: str, query: str, params: Sequence[Any] = ()) -> None:
        """Add the rows of a query that returns keys and roots. A row that was added before keeps its root."""
        self._open(table)
        self.server.run(f"INSERT INTO {self.temp(table)} (key, root) {query} ON CONFLICT DO NOTHING", params)
        self.server.analyze(self.temp(table))

    def add_pairs(self, table: str, columns: tuple[str, str], pairs: Iterable[tuple[int, int, int]]) -> None:
        """Add all rows of a table with these pairs of values: (value, value, root)."""
        self.server.create_temp("pairs", "a INTEGER, b INTEGER, root INTEGER")
        self.server.bulk_insert("pairs", ("a", "b", "root"), pairs)
        same = " AND ".join(f"t.{quoted(name)} = p.{side}" for name, side in zip(columns, "ab", strict=True))
        found = f"FROM {quoted(table)} AS t JOIN {self.server.temp('pairs')} AS p ON {same} WHERE true"
        self.add_query(table, f"SELECT {self._key(table)}, p.root {found}")

    def _open(self, table: str) -> None:
        if table not in self.tables:
            self.server.create_temp(f"deleted {table}", f"key {KEYS[self.server.key(table)]} PRIMARY KEY, root INTEGER")
            self.tables.append(table)

    def temp(self, table: str) -> str:
        """Return the name of the TEMP table with the keys of rows to delete."""
        return self.server.temp(f"deleted {table}")

    def cleared(self, link: Link) -> str:
        """Return the name of the TEMP table with the ids of rows that stay and whose link is cleared."""
        return self.server.temp(f"cleared {link.table}.{link.column}")

    def _key(self, table: str) -> str:
        return f"t.{self.server.key(table)}"

    # Dependents

    def add_dependents(self) -> None:
        """Add server-only rows that depend on deleted rows, and collect the links to clear."""
        for entity in ("user", "node"):
            if entity in self.tables:
                self.add_query("authenticatable", f"SELECT key, root FROM {self.temp(entity)} WHERE true")
        for link in references.member_links():
            if link.to in self.tables:
                self._add_half_members(link)
        for link in references.cascade_order():
            if link.to in self.tables and self.server.has(link.table, link.column):
                self.add_query(link.table, f"SELECT {self._key(link.table)}, g.root {self._referring(link)}")
        for link in self._links_with(references.SET_NULL):
            self._collect_cleared(link)

    def _add_half_members(self, link: Link) -> None:
        """Add memberships whose other side does not exist: an import skips them, so no plan has them."""
        (other,) = (each for each in references.member_links() if each.to != link.to)
        half = f"NOT EXISTS (SELECT 1 FROM {quoted(other.to)} AS o WHERE o.id = t.{quoted(other.column)})"
        self.add_query(link.table, f"SELECT {self._key(link.table)}, g.root {self._referring(link)} AND {half}")

    def _collect_cleared(self, link: Link) -> None:
        name = f"cleared {link.table}.{link.column}"
        self.server.create_temp(name, "key INTEGER PRIMARY KEY, root INTEGER")
        found = f"SELECT t.id, g.root {self._referring(link)} AND {self._stays(link.table)}"
        self.server.run(f"INSERT INTO {self.server.temp(name)} (key, root) {found}")
        if self.server.one(f"SELECT 1 FROM {self.server.temp(name)} LIMIT 1"):
            self.cleared_links.append(link)

    def _links_with(self, rule: str) -> Iterator[Link]:
        for table in list(self.tables):
            links = references.with_rule(table, rule)
            yield from (link for link in links if self.server.has(link.table, link.column))

    def _referring(self, link: Link) -> str:
        """Return the SQL that finds the rows `t` with a link to a deleted row `g`."""
        column = f"t.{quoted(link.column)}"
        return f"FROM {quoted(link.table)} AS t JOIN {self.temp(link.to)} AS g ON g.key = {column} WHERE true"

    def _stays(self, table: str) -> str:
        """Return the SQL condition that a row `t` is not deleted."""
        if table not in self.tables:
            return "true"
        return f"NOT EXISTS (SELECT 1 FROM {self.temp(table)} AS other WHERE other.key = {self._key(table)})"

    # Reasons not to delete

    def blocking_links(self, rule: str) -> Iterator[tuple[Link, list[tuple[int, int]]]]:
        """Return the links with this rule and the rows that use them but stay: (key, id of the deleted row)."""
        for link in self._links_with(rule):
            column = f"t.{quoted(link.column)}"
            sql = f"SELECT {self._key(link.table)}, {column} {self._referring(link)} AND {self._stays(link.table)}"
            if found := self.server.all(sql):
                yield link, found

    def unknown_references(self, named: dict[str, str]) -> Iterator[str]:
        """Return a reason for each unknown table that refers to deleted rows. named: nouns by table."""
        for table in self.tables:
            for link in self.server.links_to(table):
                if link in references.RULES:
                    continue
                if found := self.server.all(f"SELECT g.key {self._referring(link)}"):
                    rows, noun = pluralize(len(found), "row"), named.get(table, table)
                    verb = "refers" if len(found) == 1 else "refer"
                    what = f"{noun} {found[0][0]}" + (" and others" if len(found) > 1 else "")
                    table = f'the unknown table "{printable(link.table)}"'
                    yield f"{rows} of {table} {verb} to {what}: delete those rows first"

    def roles_in_use(self) -> Iterator[tuple[str, list[int]]]:
        """Return each role that is deleted with its organization although other users have it: (name, user ids)."""
        if "role" not in self.tables or not self.server.has("Permission"):
            return
        held = f"""SELECT r.name, t.user_id FROM "Permission" AS t JOIN {self.temp("role")} AS g ON g.key = t.role_id
            JOIN role AS r ON r.id = t.role_id JOIN "user" AS u ON u.id = t.user_id WHERE {self._user_stays()}
            AND NOT EXISTS
                (SELECT 1 FROM {self.server.temp("revoked roles")} AS o WHERE o.key = t.{self.server.row_locator})
            ORDER BY r.id, t.user_id"""
        found: dict[str, list[int]] = {}
        for name, user in self.server.all(held):
            found.setdefault(name, []).append(user)
        yield from found.items()

    def _user_stays(self) -> str:
        if "user" not in self.tables:
            return "true"
        return f"NOT EXISTS (SELECT 1 FROM {self.temp('user')} AS other WHERE other.key = t.user_id)"

    def orphan_links(self) -> dict[str, list[int]]:
        """Return the orphan links of deleted rows: ids that do not exist, by table and column."""
        found = {}
        links = {*references.RULES, *self.server.schema.links}
        for link in sorted(links):
            if link.table in self.tables and self.server.has(link.table, link.column) and self.server.has(link.to):
                column, key = f"t.{quoted(link.column)}", self._key(link.table)
                sql = f"""SELECT DISTINCT {column} FROM {quoted(link.table)} AS t
                    JOIN {self.temp(link.table)} AS g ON g.key = {key} LEFT JOIN {quoted(link.to)} AS o
                    ON o.id = {column} WHERE {column} IS NOT NULL AND o.id IS NULL ORDER BY 1"""
                if ids := [id for (id,) in self.server.all(sql)]:
                    found[f"{link.table}.{link.column}"] = ids
        return found

    # Speed

    def fingerprints(self) -> dict[str, Any]:
        """Return a value for each table that changes when one of its deleted rows is changed."""
        tables = [table for table in self.tables if self.server.has(table, "id")]
        return {table: self.server.fingerprint(table, self.temp(table)) for table in tables}

    def bulk_links(self) -> dict[Link, int]:
        """Return the links to tables that lose many rows, with the number of rows."""
        found: dict[Link, int] = {}
        for table in self.tables:
            count = sum(self.counts(table).values())
            if count >= BULK:
                found |= dict.fromkeys(self.server.links_to(table), count)
        return found

    # Counting

    def counts(self, table: str) -> dict[int, int]:
        """Return how many rows of a table are deleted, by root."""
        return dict(self.server.all(f"SELECT root, COUNT(*) FROM {self.temp(table)} GROUP BY root"))

    def cleared_counts(self, link: Link) -> dict[int, int]:
        """Return in how many rows a link is cleared, by root."""
        return dict(self.server.all(f"SELECT root, COUNT(*) FROM {self.cleared(link)} GROUP BY root"))


def id_list(ids: Iterable[int]) -> str:
    """Return a list of ids, shortened: "2, 3, 4, 5, 6 and 17 more"."""
    known = list(ids)
    more = len(known) - SHOWN
    return ", ".join(map(str, known[:SHOWN])) + (f" and {more:,} more" if more > 0 else "")
