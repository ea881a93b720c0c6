"""What a SQLite file tells before it is opened, and opening one so that nothing is made beside it.

Whether it is a database of ours is storage.py's to say.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

from vserverlib import Damaged, NotADatabase, files
from vserverlib.databases import snapshots, sqlite_connections
from vserverlib.files import shown

_MAGIC = b"SQLite format 3\0"
HEAD = 65536  # bytes of a file that are looked at to see what it is
EXPORT = b'{"vserver"'  # what our own exports begin with, white space aside
DUMPS = (b"PGDMP", b"--\n-- PostgreSQL database")  # how what pg_dump makes begins, for programs and for eyes


PACKED = {  # how what packs files begins it, by what unpacks it
    "gunzip -k": (b"\x1f\x8b",),
    "unzstd": (b"\x28\xb5\x2f\xfd",),
    "unxz -k": (b"\xfd7zXZ\0",),
    "bunzip2 -k": (b"BZh",),
    "unlz4": (b"\x04\x22\x4d\x18",),
    "unzip": (b"PK\x03\x04", b"PK\x05\x06"),
    "7z x": (b"7z\xbc\xaf\x27\x1c", b"Rar!"),
}


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
        raise NotADatabase(f"{shown(path)} is what pg_dump made of a PostgreSQL database: {use}")


def refuse_packed(path: Path, head: bytes, but: bytes = b"") -> None:
    """Raise an Error where the first bytes are those of a packed file. but: how what is taken all the same begins."""
    for command, starts in PACKED.items():
        if head.startswith(starts) and not (but and head.startswith(but)):
            message = f"{shown(path)} is packed, and so is no SQLite database and no text"
            raise NotADatabase(f"{message}: unpack it first, and name what is in it: {unpacking(path, command)}")


def unpacking(path: Path, command: str = "gunzip -k") -> str:
    """Return what is typed to unpack a file."""
    import shlex  # few files are packed

    return f"{command} {shlex.quote(shown(path))}"


def refuse_cut_off(path: Path, header: Header, size: int) -> None:
    """Raise an Error where a file is shorter than its header tells, and no log has the rest.

    A file that is written to just now may look so: it is looked at again when its writer is done.
    """
    whole, file = header.pages * header.page_size, files.real(path)
    if size >= whole:
        return
    with files.as_error(f"{shown(path)} cannot be read"), snapshots.held(file) as descriptor:
        again, size = read_header(os.pread(descriptor, 100, 0)), os.fstat(descriptor).st_size
        has_log = any(os.path.exists(log) and os.path.getsize(log) for log in (f"{file}{each}" for each in files.LOGS))
    whole = again.pages * again.page_size if again is not None else whole
    if size < whole and not has_log:
        raise Damaged(f"{shown(path)} is cut off ({size:,} of {whole:,} bytes): use an earlier backup")


def immutable(path: Path) -> sqlite_connections.Connection:
    """Open a file so that nothing beside it is made: what a write-ahead log holds is not seen."""
    return sqlite_connections.connect(f"{path.absolute().as_uri()}?immutable=1", uri=True)
