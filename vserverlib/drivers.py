"""Peewee, imported without the database drivers that this process does not use.

Peewee imports every driver that happens to be installed: with psycopg in the environment its import takes 175 ms
instead of 58. All of our modules take Peewee from here. Migrations, which run late, import it by themselves.
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
    """What is imported inside finds no driver but those that are imported already."""
    absent = [name for name in _DRIVERS if name not in sys.modules]
    sys.modules.update(dict.fromkeys(absent))  # type: ignore[arg-type]  # None: its import raises ImportError at once
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
