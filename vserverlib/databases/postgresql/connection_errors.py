"""Why a PostgreSQL server cannot be reached, with a remedy, and whether the cause is temporary.

It interprets libpq's messages; postgres.py connects.
"""

from __future__ import annotations

import re

from vserverlib import Error, NotFound, printable

REMEDIES = (  # a part of libpq's message, and the remedy
    ("no password supplied", "give one by PGPASSWORD, ~/.pgpass or a service file"),
    ("password authentication failed", "check the user, and PGPASSWORD, ~/.pgpass or the service file"),
    ("authentication failed", "check the user, and the server's authentication settings (pg_hba.conf)"),
    ("no pg_hba.conf entry", "add an entry for this user and host to the server's pg_hba.conf"),
    ("permission denied for database", "have the owner of the database run: GRANT CONNECT ON DATABASE …"),
    ('database "', "create it with createdb, or check its name"),
    ('role "', "check the user's name"),
    ("Connection refused", "check host and port, and that the server is running"),
    ("No such file or directory", "check host and port, and that the server is running"),
    ("resolve host", "check the name of the host"),
    ("translate host", "check the name of the host"),
    ("unsupported startup parameter", "a pooler refuses this option: set it for the role (ALTER ROLE … SET …)"),
    ("statement pooling mode", "have the pooler use pool_mode = transaction, or session"),
    ("no such database", "check its name, and which databases the pooler knows"),
    ("no such user", "check the user's name, and which users the pooler knows"),
    ("max_client_conn", "end other connections, or try again later"),
    ("timeout", "check host and port, and whether a firewall blocks them"),
    ("starting up", "try again in a moment"),
    ("too many", "end other connections, or try again later"),
)
UNKNOWN = re.compile('database ".*" does not exist|no such database')
PREFIX = "connection is bad: "  # carries no information
TEMPORARY = (
    "starting up",
    "shutting down",
    "recovery mode",
    "not yet accepting",
    "too many",
)  # parts of a server's temporary refusals


class Unreachable(Error):
    """The server of a database cannot be reached. is_temporary: it is temporarily down, and did not refuse the user."""

    def __init__(self, text: str, is_temporary: bool) -> None:
        super().__init__(text)
        self.is_temporary = is_temporary


class UnknownDatabase(Unreachable, NotFound):
    """The server, or the pooler in front of it, has no database of this name."""


def unreachable(name: str, said: str, was_lost: bool = False) -> Unreachable:
    """Return the error for a database. name: as shown; said: libpq's message.

    was_lost: the connection existed before.
    """
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    message = next((line for line in lines if any(words in line for words, _ in REMEDIES)), lines[0] if lines else "")
    remedy = next((remedy for words, remedy in REMEDIES if words in message), "check the URL")
    before = "the connection was lost, and " if was_lost else ""
    is_temporary = "FATAL:" not in said or any(words in said for words in TEMPORARY)
    why = printable(message.rpartition("FATAL:  ")[2].removeprefix(PREFIX), 200)
    kind = UnknownDatabase if UNKNOWN.search(message) else Unreachable
    return kind(f"{before}{name} cannot be reached: {why}: {remedy}", is_temporary)
