"""What a SQLite file tells before it is opened, and opening one so that nothing is made beside it.

Whether it is a database of ours is storage.py's to say.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from vserverlib import Error
from vserverlib.databases import raw
from vserverlib.files import shown

_MAGIC = b"SQLite format 3\0"
DUMPS = (b"PGDMP", b"--\n-- PostgreSQL database")  # how what pg_dump makes begins, for programs and for eyes


class Header(NamedTuple):
    """The first 100 bytes of a SQLite file, as far as they matter (sqlite.org/fileformat.html, 1.3)."""

    pages: int
    page_size: int
    schema: int
    application_id: int


def read_header(head: bytes) -> Header | None:
    """Return what the first 100 bytes of a file tell; None where they are not those of a SQLite database."""
    if not head.startswith(_MAGIC) or len(head) < 100:
        return None
    number = [int.from_bytes(head[at : at + 4]) for at in range(0, 100, 4)]
    page_size = int.from_bytes(head[16:18])
    counted = number[24 // 4] == number[92 // 4]  # else an old SQLite wrote last, and the count of pages is stale
    size = 65536 if page_size == 1 else page_size
    return Header(number[28 // 4] if counted else 0, size, number[60 // 4], number[68 // 4])


def refuse_dump(path: Path, head: bytes) -> None:
    """Raise an Error where the first bytes are those of what pg_dump makes, and nothing but its own programs read."""
    if head.startswith(DUMPS):
        use = "have pg_restore or psql read it into one on a server, and name that by its URL"
        raise Error(f"{shown(path)} is what pg_dump made of a PostgreSQL database: {use}")


def refuse_cut_off(path: Path, header: Header, size: int) -> None:
    """Raise an Error where a file is shorter than its header tells, and no log has the rest."""
    wal = Path(f"{path}-wal")
    if size < header.pages * header.page_size and not (wal.exists() and wal.stat().st_size):
        whole = header.pages * header.page_size
        raise Error(f"{shown(path)} is cut off ({size:,} of {whole:,} bytes): use an earlier backup")


def immutable(path: Path) -> raw.Connection:
    """Open a file so that nothing beside it is made: what a write-ahead log holds is not seen."""
    return raw.connect(f"{path.absolute().as_uri()}?immutable=1", uri=True)
