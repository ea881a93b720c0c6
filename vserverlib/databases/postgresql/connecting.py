"""Connecting to a PostgreSQL server, or to a connection pooler in front of it, which accepts fewer options.

A pooler (PgBouncer) refuses or ignores a URL's `options`, which set parameters of a session; behind a pooler they are
set in each transaction instead. A pooler is recognized by the server's process id, which differs from the one that the
pooler reports.

It owns libpq's parameters besides the URL; sessions.py owns the connection.
"""

from __future__ import annotations

import os
import re
from typing import Any

import psycopg

from vserverlib import Error
from vserverlib.databases.postgresql.sessions import Session

ENCODING = "UTF8"  # of the connection
REFUSED = "startup parameter"  # part of a pooler's message on an option that it refuses
OPTION = re.compile(r"(?:-c\s*|--)([\w.-]+)=((?:\\.|\S)*)")
READ_ONLY = "default_transaction_read_only"  # has no effect on a transaction that has begun


def dial(url: str, **options: Any) -> Session:
    """Return a new, idle connection. options: libpq's. Raises a psycopg.Error if it fails."""
    if not psycopg.Pipeline.is_supported():
        raise Error(
            "the installed libpq is older than release 14: pip install 'psycopg[binary]', which contains a newer one"
        )
    try:
        conn = _connected(url, options)
    except psycopg.OperationalError as error:
        if REFUSED not in str(error) or not asked_settings(url):
            raise
        conn = _connected(url, {**options, "options": ""})
    (backend,) = conn.execute("SELECT pg_backend_pid()").fetchone() or (0,)
    conn.note_pooler(backend)
    return conn


def _connected(url: str, options: dict[str, Any]) -> Session:
    beside: dict[str, Any] = {"fallback_application_name": "vserver", "client_encoding": ENCODING, **options}
    return Session.connect(url, autocommit=True, prepare_threshold=None, **beside)


def asked_encoding(url: str) -> str:
    """Return the encoding that a URL, or else PGCLIENTENCODING, requests, in PostgreSQL's spelling; "" for none."""
    asked = psycopg.conninfo.conninfo_to_dict(url).get("client_encoding") or os.environ.get("PGCLIENTENCODING", "")
    return "" if asked == "auto" else str(asked)


def asked_settings(url: str) -> dict[str, str]:
    """Return the settings in a URL's options, or else PGOPTIONS; none if these contain more than -c settings."""
    text = str(psycopg.conninfo.conninfo_to_dict(url).get("options") or os.environ.get("PGOPTIONS", "")).strip()
    found = OPTION.findall(text)
    if OPTION.sub("", text).strip():
        return {}
    settings = {name.replace("-", "_").lower(): re.sub(r"\\(.)", r"\1", value) for name, value in found}
    settings.pop("client_encoding", None)
    if READ_ONLY in settings:
        settings["transaction_read_only"] = settings.pop(READ_ONLY)
    return settings
