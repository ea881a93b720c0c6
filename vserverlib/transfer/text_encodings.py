"""What is around the text of a file: a byte order mark, UTF-16, gzip. It is taken off in a private copy.

So does PowerShell write a text, and so do people send one. What is taken off without doubt is; anything else is refused
in a line that names it, and says what to do. A copy is bounded (RATIO, AT_LEAST), so that a small file that stands for
a huge one fills no disk.

It owns that. What the text then is, is for sources.py to find out.
"""

from __future__ import annotations

import codecs
import contextlib
import gzip
import itertools
import os
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

from vserverlib import Damaged, Error, files
from vserverlib.databases import sqlite_headers
from vserverlib.files import shown

CHUNK = 1024 * 1024  # bytes that are copied at once
RATIO, AT_LEAST = 200, 64 * 1024 * 1024  # how much larger than the file a copy may be; bytes that it may have anyway
UTF_16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
UTF_32 = (codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE)
GZIP = b"\x1f\x8b"
SAVE = "save it as UTF-8"


def is_wrapped(head: bytes) -> bool:
    """Whether the first bytes of a file are those of something that unwrap() takes off."""
    return head.startswith((GZIP, codecs.BOM_UTF8, *UTF_16)) and not head.startswith(UTF_32)


def refuse_others(named: Path, head: bytes) -> None:
    """Raise an Error where a file is packed, or in an encoding, that is not read."""
    sqlite_headers.refuse_packed(named, head, but=GZIP)
    if head.startswith(UTF_32):
        raise Error(f"{shown(named)} is text in UTF-32: {SAVE}")
    if [byte == 0 for byte in head[:4]] in ([True, False] * 2, [False, True] * 2):
        raise Error(f"{shown(named)} is text in UTF-16 without a byte order mark: {SAVE}")


def unwrap(path: Path, place: Path, longest: int, may_be_longer: Callable[[bytes], bool]) -> None:
    """Write the text of a file to a private one, in UTF-8.

    longest: how many bytes of it are written, and one more, unless it begins as something that may be longer. Raises an
    Error where the file is damaged, cut off, or stands for far more than it has.
    """
    with files.as_error(f"{shown(path)} cannot be read"), contextlib.ExitStack() as stack:
        chunks = _chunks(stack.enter_context(open(path, "rb")), path)
        target = stack.enter_context(open(files.make_private(place), "wb"))
        first = next(chunks, b"")
        is_long = may_be_longer(first)
        left = max(AT_LEAST, RATIO * os.path.getsize(path)) if is_long else longest + 1
        for chunk in itertools.chain([first], chunks):
            target.write(chunk[:left])
            left -= len(chunk)
            if left <= 0:
                break
    if left <= 0 and is_long:  # one that is just too long, its reader refuses
        message = f"is unpacked to more than {RATIO} times its size"
        raise Error(f"{shown(path)} {message}: if you trust it, unpack it first: {sqlite_headers.unpacking(path)}")


def _chunks(file: BinaryIO, named: Path) -> Iterator[bytes]:
    """Return the text of a file in UTF-8, in parts."""
    try:
        head = file.read(2)
        file.seek(0)
        raw: BinaryIO = gzip.GzipFile(fileobj=file) if head == GZIP else file  # type: ignore[assignment]  # as good as one
        yield from _decoded(raw, named, is_packed=raw is not file)
    except EOFError:
        raise Damaged(f"{shown(named)} is cut off: it ends before what is packed in it does") from None
    except (gzip.BadGzipFile, zlib.error) as error:
        raise Damaged(f"{shown(named)} is damaged ({error}): nothing was imported") from None


def _decoded(raw: BinaryIO, named: Path, is_packed: bool) -> Iterator[bytes]:
    first = raw.read(CHUNK)
    if is_packed:
        _refuse_packed_twice(named, first)
    decoder = None
    if first.startswith(UTF_16):
        decoder = codecs.getincrementaldecoder("utf-16")()
    parts = itertools.chain([first.removeprefix(codecs.BOM_UTF8)], iter(lambda: raw.read(CHUNK), b""))
    try:
        for part in parts:
            yield decoder.decode(part).encode() if decoder else part
        yield decoder.decode(b"", final=True).encode() if decoder else b""
    except UnicodeError:
        raise Error(f"{shown(named)} begins as text in UTF-16 does, and is none: {SAVE}") from None


def _refuse_packed_twice(named: Path, head: bytes) -> None:
    """Raise an Error where what is packed is no text that could be imported."""
    sqlite_headers.refuse_dump(named, head)
    sqlite_headers.refuse_packed(named, head)
    refuse_others(named, head)
    if sqlite_headers.read_header(head[:100]) is not None:
        raise Error(
            f"{shown(named)} is a SQLite database packed by gzip: unpack it first: {sqlite_headers.unpacking(named)}"
        )
