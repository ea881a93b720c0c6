"""The note in a database of ours that it was imported from a server's database.

The import writes it. The first change of the imported database takes it: it says that the server is not changed.
"""

from __future__ import annotations

from typing import Any

from vserverlib import addresses

NAME = "server"  # of the setting


def note(database: Any, server: str | None) -> None:
    """Note the name of the server's database; None removes the note. Writes, within the open transaction."""
    database.execute_sql(f"DELETE FROM setting WHERE name = '{NAME}'")
    if server is not None:
        values = ", ".join([database.param] * 2)
        database.execute_sql(f"INSERT INTO setting (name, value) VALUES ({values})", [NAME, server])


def take(database: Any) -> str | None:
    """Return the note and remove it; None if there is none."""
    row = database.execute_sql(f"SELECT value FROM setting WHERE name = '{NAME}'").fetchone()
    if row is None:
        return None
    with database.atomic():
        note(database, None)
    return str(row[0])


def message(server: str) -> str:
    """Return the line that says that a server is not changed, and how it would be."""
    line = addresses.command(server, "--write", "COMMAND")
    return f"this does not change the server that the data came from; to change that, type: {line}"
