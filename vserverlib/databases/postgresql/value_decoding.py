"""How values that PostgreSQL sends are read: as those that SQLite keeps, so that nothing else knows the difference.

Which of these an open database uses, and when, is postgres.py's.
"""

from __future__ import annotations

from typing import Any

from psycopg.adapt import Loader

BOOL, TEXT = 16, 25  # types, by their number (pg_type.dat)
PLAIN = (BOOL, 17, 20, 21, 23, 700, 701)  # those that SQLite has, too: bytea, int8, int2, int4, float4, float8


class InstantText(Loader):
    """Reads a time as the text that SQLite keeps: 2026-03-01 09:00:00.000000+00:00."""

    def load(self, data: Any) -> str:
        text = bytes(data).decode()
        if not text.endswith("+00"):  # before the year 1, or infinity
            return text
        whole, _, fraction = text[:-3].partition(".")
        return f"{whole}.{fraction:0<6}+00:00"


class WholeNumber(Loader):
    """Reads a sum of whole numbers as one: to PostgreSQL it is numeric."""

    def load(self, data: Any) -> int | float:
        text = bytes(data).decode()
        return float(text) if "." in text or not text.lstrip("-").isdigit() else int(text)


def codec(conn: Any) -> str:
    """Return the name that Python has for the encoding of a connection; of one without (SQL_ASCII), UTF-8."""
    name = str(conn.info.encoding)
    return "utf-8" if name == "ascii" else name


class AnyText(Loader):
    """Reads a text, and as bytes one that is none in its encoding: a database without one (SQL_ASCII) may hold it."""

    def __init__(self, oid: int, context: Any = None) -> None:
        super().__init__(oid, context)
        self._codec = codec(self.connection)

    def load(self, data: Any) -> str | bytes:
        try:
            return bytes(data).decode(self._codec)
        except UnicodeDecodeError:
            return bytes(data)


class AnyName(AnyText):
    """Reads a name in the catalog, which can be sent back whatever is in it: surrogates stand for what is no text."""

    def load(self, data: Any) -> str:
        return bytes(data).decode(self._codec, "surrogateescape")


class BooleanField(Loader):
    """Reads a truth value as SQLite keeps it."""

    def load(self, data: Any) -> int:
        return int(bytes(data) == b"t")
