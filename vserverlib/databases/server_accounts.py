"""The log-ins of the users of a vantage6 server, noted in a copy of its database: wrong passwords, two-factor.

Our users have no fields for them. The importer notes them in a setting of the copy.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable
from typing import Any, NamedTuple

NAME = "accounts"  # of the setting
LOCKED_FROM = 5  # wrong passwords in a row, unless the server is configured otherwise (max_failed_attempts)


class Account(NamedTuple):
    """The log-in of a user: the wrong passwords since the last right one, the last attempt in UTC, and two-factor."""

    wrong_passwords: int = 0
    last_attempt: str | None = None
    two_factor: bool = False

    @property
    def is_locked(self) -> bool:
        """Whether the user was locked out after the last attempt, as a server is by default."""
        return self.wrong_passwords >= LOCKED_FROM

    def __str__(self) -> str:
        if not self.wrong_passwords:
            return "no wrong password"
        count = f"{self.wrong_passwords} wrong password{'s' * (self.wrong_passwords != 1)}"
        last = f", the last at {self.last_attempt[:16]} UTC" if self.last_attempt else ""
        return f"{'locked out: ' * self.is_locked}{count}{last}"


def note(conn: sqlite3.Connection, accounts: Iterable[tuple[Any, ...]] | None) -> None:
    """Write (id of the user, *Account) of those that have something to note; nothing if the server has no accounts."""
    if accounts is not None:
        conn.execute("INSERT INTO setting (name, value) VALUES (?, ?)", [NAME, json.dumps([*accounts])])


def of_user(database: Any, id: int) -> Account | None:
    """Return the log-in of a user; None if the database is no copy of a server's, or that has none."""
    if not database.is_sqlite:
        return None
    if NAME not in database.cached:
        row = database.execute_sql("SELECT value FROM setting WHERE name = ?", [NAME]).fetchone()
        found = None if row is None else {user: Account(*rest) for user, *rest in json.loads(row[0])}
        database.cached[NAME] = found
    known = database.cached[NAME]
    return None if known is None else known.get(id, Account())
