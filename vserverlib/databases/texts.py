"""Stored texts that may be invalid in their encoding: other programs can write them."""

from __future__ import annotations


def text_or_bytes(data: bytes, encoding: str = "utf-8") -> str | bytes:
    """Return the text of some bytes; the bytes themselves if they are not valid in the encoding."""
    try:
        return data.decode(encoding)
    except UnicodeDecodeError:
        return data


def with_replacements(data: bytes) -> str:
    """Return the text of some bytes, with a replacement character for invalid UTF-8."""
    return data.decode(errors="replace")
