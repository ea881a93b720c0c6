"""Reading PostgreSQL's values as SQLite would store them, so that other modules see no difference.

postgres.py decides which loaders to use.
"""

from __future__ import annotations

from typing import Any

from psycopg.adapt import Loader

from vserverlib.databases import texts

BOOL, TEXT = 16, 25  # type oids (pg_type.dat)
PLAIN = (BOOL, 17, 20, 21, 23, 700, 701)  # types that SQLite has too: bool, bytea, int8, int2, int4, float4, float8


class InstantText(Loader):
    """Reads a time as SQLite's text: 2026-03-01 09:00:00.000000+00:00."""

    def load(self, data: Any) -> str:
        text = bytes(data).decode()
        if not text.endswith("+00"):  # before the year 1, or infinity
            return text
        whole, _, fraction = text[:-3].partition(".")
        return f"{whole}.{fraction:0<6}+00:00"


class WholeNumber(Loader):
    """Reads an integral numeric, such as a sum of integers, as int."""

    def load(self, data: Any) -> int | float:
        text = bytes(data).decode()
        return float(text) if "." in text or not text.lstrip("-").isdigit() else int(text)


def codec(conn: Any) -> str:
    """Return Python's name of a connection's encoding; UTF-8 if it has none (SQL_ASCII)."""
    name = str(conn.info.encoding)
    return "utf-8" if name == "ascii" else name


class AnyText(Loader):
    """Reads a text; invalid text, which a database without an encoding (SQL_ASCII) may hold, as bytes."""

    def __init__(self, oid: int, context: Any = None) -> None:
        super().__init__(oid, context)
        self._codec = codec(self.connection)

    def load(self, data: Any) -> str | bytes:
        return texts.text_or_bytes(bytes(data), self._codec)


class AnyName(AnyText):
    """Reads a name from the catalog so that it can be sent back: surrogates stand for invalid bytes."""

    def load(self, data: Any) -> str:
        return bytes(data).decode(self._codec, "surrogateescape")


class BooleanNumber(Loader):
    """Reads a boolean as SQLite stores it."""

    def load(self, data: Any) -> int:
        return int(bytes(data) == b"t")
