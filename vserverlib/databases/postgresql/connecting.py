"""Connecting to a PostgreSQL server, or to a pooler in front of it, which takes fewer options.

A pooler (PgBouncer) refuses, or ignores, what `options` of a URL would set for a session: so behind one that is set in
each transaction. It is told by the server: the process that answers is not the one that the pooler has named.

It owns what libpq is given beside the URL. What is done with a connection is sessions.py's.
"""

from __future__ import annotations

import os
import re
from typing import Any

import psycopg

from vserverlib import Error
from vserverlib.databases.postgresql.sessions import Session

ENCODING = "UTF8"  # of what is sent and read
REFUSED = "startup parameter"  # what a pooler says of an option that it does not pass on
OPTION = re.compile(r"(?:-c\s*|--)([\w.-]+)=((?:\\.|\S)*)")
READ_ONLY = "default_transaction_read_only"  # which says nothing to a transaction that has begun


def dial(url: str, **options: Any) -> Session:
    """Return a new connection that is idle. options: libpq's. Raises a psycopg.Error where there is none."""
    if not psycopg.Pipeline.is_supported():
        raise Error("the installed libpq is older than release 14: pip install 'psycopg[binary]', which has its own")
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
    """Return the encoding that a URL, or else PGCLIENTENCODING, asks for, as PostgreSQL calls it; "" for none."""
    asked = psycopg.conninfo.conninfo_to_dict(url).get("client_encoding") or os.environ.get("PGCLIENTENCODING", "")
    return "" if asked == "auto" else str(asked)


def asked_settings(url: str) -> dict[str, str]:
    """Return what a URL, or else PGOPTIONS, sets by -c for a session; nothing where it has other options, too."""
    text = str(psycopg.conninfo.conninfo_to_dict(url).get("options") or os.environ.get("PGOPTIONS", "")).strip()
    found = OPTION.findall(text)
    if OPTION.sub("", text).strip():
        return {}
    settings = {name.replace("-", "_").lower(): re.sub(r"\\(.)", r"\1", value) for name, value in found}
    settings.pop("client_encoding", None)
    if READ_ONLY in settings:
        settings["transaction_read_only"] = settings.pop(READ_ONLY)
    return settings
