"""What sources have in common: what is noted of their rows, and finding out what a file is."""

from __future__ import annotations

from pathlib import Path

import pytest

from vserverlib import Error
from vserverlib.transfer import detection
from vserverlib.transfer.sources import TOLD, Lines


def test_lines_are_all_there_in_their_order_and_the_first_are_told() -> None:
    lines = Lines()
    assert not lines and list(lines.summary("more")) == []
    for number in range(TOLD + 5):
        lines.add(f"línea {number}\nof two")
    assert len(lines) == TOLD + 5 and len(list(lines)) == TOLD + 5
    assert list(lines)[TOLD] == f"línea {TOLD} of two"
    assert list(lines.summary("more"))[-1] == "and 5 more"
    assert len(list(lines.summary("more", everything=True))) == TOLD + 5


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("file", b"", "is empty"),
        ("file", b" \n\t", "is empty"),
        ("file", b"\x89PNG", "is no SQLite database"),
        ("file", b"PGDMP\1\16", "is a dump of a PostgreSQL database: restore it on a server with pg_restore"),
        ("file", b"SQLite format 3\0", "is no SQLite database"),
        ("file", b"[1, 2]", "is JSON, but none that vserver export wrote"),
        ("file", b' {"a": 1}', "is JSON, but none that vserver export wrote"),
    ],
)
def test_a_file_that_is_no_source_is_told(tmp_path: Path, name: str, content: bytes, told: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(Error, match=told), detection.opened(str(tmp_path / name)):
        pass


def test_a_source_without_a_name_is_told_as_a_source() -> None:
    with pytest.raises(Error, match="the name of the source is empty: name the SQLite file"), detection.opened(""):
        pass
