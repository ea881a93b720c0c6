"""What sources have in common: what is noted of their rows, and finding out what a file is."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers.process import python

from vserverlib import Error
from vserverlib.transfer import detection
from vserverlib.transfer.sources import FIRST_LINES, Lines

DATA = Path(__file__).parent / "data"
COMMAND = "sys.executable, '-m', 'vserver', '-d', 'new.db', 'import', '-'"


def test_lines_are_all_there_in_their_order_and_the_first_are_printed() -> None:
    lines = Lines()
    assert not lines and list(lines.summary("more")) == []
    for number in range(FIRST_LINES + 5):
        lines.add(f"línea {number}\nof two")
    assert len(lines) == FIRST_LINES + 5 and len(list(lines)) == FIRST_LINES + 5
    assert list(lines)[FIRST_LINES] == f"línea {FIRST_LINES} of two"
    assert list(lines.summary("more"))[-1] == "and 5 more"
    assert len(list(lines.summary("more", everything=True))) == FIRST_LINES + 5


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("file", b"", "is empty"),
        ("file", b" \n\t", "is empty"),
        ("file", b"\x89PNG", "is not a SQLite database"),
        ("file", b"PGDMP\1\16", "is a dump of a PostgreSQL database: restore it on a server with pg_restore"),
        ("file", b"SQLite format 3\0", "is not a SQLite database"),
        ("file", b"[1, 2]", "is JSON, but not an export of vserver: name"),
        ("file", b' {"a": 1}', "is JSON, but not an export of vserver: name"),
    ],
)
def test_a_file_that_is_not_a_source_is_refused(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(Error, match=message), detection.opened(str(tmp_path / name)):
        pass


def test_a_source_without_a_name_is_reported_as_a_source() -> None:
    with pytest.raises(Error, match="the name of the source is empty: name the SQLite file"), detection.opened(""):
        pass


PIPED = {
    "a database of an older schema": ("schema-1.sqlite", None, "stdin is a database of vserver", 0),
    "a database that is cut off": ("schema-1.sqlite", slice(30_000), "Error: stdin is cut off", 1),
    "a server's that is cut off": ("v4.15.2.sqlite", slice(60_000), "Error: stdin is cut off", 1),
    "a fixture file": ("fixture.yaml", None, "stdin is a fixture file of vantage6", 0),
    "a fixture file with a fault": (None, b"organizations: [{name: A, zipcode: [x]}]", "Error: stdin:1:36: ", 1),
}


@pytest.mark.parametrize("what", PIPED)
def test_messages_call_what_comes_through_stdin_by_that_name(what: str, tmp_path: Path) -> None:
    name, content, output, status = PIPED[what]
    data = content if name is None else (DATA / name).read_bytes()[content or slice(None)]
    (tmp_path / "source").write_bytes(data)
    piped = f"subprocess.run([{COMMAND}], stdin=open('source', 'rb')).returncode"
    done = python("-c", f"import subprocess, sys; sys.exit({piped})", cwd=tmp_path, TMPDIR=str(tmp_path))
    assert done.status == status and output in done.err and str(tmp_path) not in done.err, done
