"""Peewee, imported without the database drivers that this process does not use.

Peewee imports every installed driver: with psycopg installed, importing it takes 175 ms instead of 58. All modules
import Peewee from here; migrations, which rarely run, import it themselves.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

__all__ = ["peewee", "without_drivers"]

_DRIVERS = ("psycopg", "psycopg2", "psycopg2cffi", "pymysql", "MySQLdb", "pysqlite3", "playhouse.cockroachdb")


@contextmanager
def without_drivers() -> Iterator[None]:
    """Hide all database drivers that are not imported yet from imports in this block."""
    absent = [name for name in _DRIVERS if name not in sys.modules]
    sys.modules.update(dict.fromkeys(absent))  # type: ignore[arg-type]  # None makes an import raise ImportError
    try:
        yield
    finally:
        for name in absent:
            del sys.modules[name]


if TYPE_CHECKING:
    import peewee as peewee
else:
    with without_drivers():
        import peewee
