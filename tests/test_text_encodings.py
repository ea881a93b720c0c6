"""What is around the text of a source: taken off without doubt, or named in a line with what to do."""

from __future__ import annotations

import bz2
import gzip
import lzma
from collections.abc import Callable
from pathlib import Path

import pytest
from helpers.process import ROOT, python, vserver

from vserverlib import Error, documents
from vserverlib.transfer import detection, text_encodings
from vserverlib.transfer.sources import ImportNotes

FIXTURE = "organizations:\n- name: Østfold\n  users:\n  - username: ål\n"
DATA = Path(__file__).parent / "data"
Wrap = Callable[[str], bytes]
WRAPS: dict[str, Wrap] = {
    "BOM": lambda text: text.encode("utf-8-sig"),
    "lines of Windows": lambda text: text.replace("\n", "\r\n").encode("utf-8-sig") + b"\r\n",
    "UTF-16 as PowerShell writes it": lambda text: text.replace("\n", "\r\n").encode("utf-16"),
    "UTF-16, big end first": lambda text: b"\xfe\xff" + text.encode("utf-16-be"),
    "gzip": lambda text: gzip.compress(text.encode()),
    "gzip in parts": lambda text: gzip.compress(text[:99].encode()) + gzip.compress(text[99:].encode()),
    "gzip of UTF-16": lambda text: gzip.compress(text.encode("utf-16")),
}


@pytest.fixture(scope="module")
def export(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The text of an export."""
    folder = tmp_path_factory.mktemp("export")
    made = vserver("-d", ROOT / "vserver.db.example", "export", "-", cwd=folder)
    assert made.status == 0, made
    return made.out


def read(file: Path) -> tuple[str, dict[str, list[object]]]:
    with detection.opened(str(file)) as source:
        return source.summary(), {origin.table: list(source.rows(origin, ImportNotes())) for origin in source.origins}


@pytest.mark.parametrize("what", WRAPS)
def test_what_is_around_an_export_is_taken_off(what: str, export: str, tmp_path: Path) -> None:
    plain, file = tmp_path / "plain.json", tmp_path / "wrapped"
    plain.write_text(export, encoding="utf-8")
    file.write_bytes(WRAPS[what](export))
    output, rows = read(file)
    assert rows == read(plain)[1] and output.startswith(f"{file} is an export of vserver")


@pytest.mark.parametrize("what", WRAPS)
def test_what_is_around_a_fixture_is_taken_off_and_faults_name_the_file(what: str, tmp_path: Path) -> None:
    file = tmp_path / "wrapped"
    file.write_bytes(WRAPS[what](FIXTURE))
    assert read(file)[1]["organization"][0][1] == "Østfold"  # type: ignore[index]
    file.write_bytes(WRAPS[what](FIXTURE.replace("username: ål", "shoe: 43")))
    with pytest.raises(Error, match=rf'^{file}:4:5: user 1: unknown key "shoe"'):
        read(file)


REFUSED = {
    "xz": (
        lzma.compress(b"x"),
        "is compressed, so it is neither a SQLite database nor a text file: unpack it first, and name its content",
    ),
    "bz2": (bz2.compress(b"x"), ": bunzip2 -k "),
    "zst": (b"\x28\xb5\x2f\xfdxxxx", ": unzstd "),
    "zip": (b"PK\x03\x04xxxx", ": unzip "),
    "gzip in gzip": (gzip.compress(gzip.compress(b"x")), ": gunzip -k "),
    "a SQLite database": (
        gzip.compress((ROOT / "vserver.db.example").read_bytes()),
        "is a SQLite database compressed with gzip: unpack it first: gunzip -k ",
    ),
    "a server's": (gzip.compress((DATA / "v4.15.2.sqlite").read_bytes()), "unpack it first: gunzip -k "),
    "a dump": (gzip.compress(b"PGDMP\1\16"), "is a dump of a PostgreSQL database"),
    "an image": (gzip.compress(b"\x89PNG"), "is not a SQLite database"),
    "nothing": (gzip.compress(b""), "is empty: there is nothing to import"),
    "nothing but a mark": (b"\xff\xfe", "is empty: there is nothing to import"),
    "cut off": (
        gzip.compress(FIXTURE.encode() * 99)[:-20],
        "is truncated: the compressed data ends early: copy it again",
    ),
    "cut off at once": (b"\x1f\x8b", "is truncated"),
    "changed": (gzip.compress(FIXTURE.encode())[:-6] + b"xxxxxx", "is damaged (CRC check failed"),
    "UTF-32": (FIXTURE.encode("utf-32"), "is UTF-32: save it as UTF-8"),
    "UTF-16 without a mark": (FIXTURE.encode("utf-16-le"), "is UTF-16 without a byte order mark: save it as UTF-8"),
    "half of UTF-16": (FIXTURE.encode("utf-16")[:-1], "is not UTF-16: save it as UTF-8"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_anything_else_is_refused_in_a_line_that_says_what_to_do(what: str, tmp_path: Path) -> None:
    content, expected = REFUSED[what]
    file = tmp_path / "a file"
    file.write_bytes(content)
    with pytest.raises(Error) as caught:
        read(file)
    assert expected in str(caught.value) and str(caught.value).startswith(str(file)) and "\n" not in str(caught.value)


def test_a_packed_database_is_named_when_it_is_opened(tmp_path: Path) -> None:
    (tmp_path / "a.db.gz").write_bytes(gzip.compress((ROOT / "vserver.db.example").read_bytes()))
    done = vserver("-d", "a.db.gz", "list", "tasks", cwd=tmp_path)
    assert done.status == 1 and done.err.endswith("unpack it first, and name its content: gunzip -k a.db.gz\n")


def test_few_bytes_that_stand_for_many_are_refused(
    export: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(text_encodings, "ALWAYS_ALLOWED", 2**20)
    monkeypatch.setattr(documents, "MAX_BYTES", 2**20)
    monkeypatch.setattr(text_encodings, "MAX_RATIO", 20)
    for head, expected in ((export, "is more than 20 times as large when unpacked"), (FIXTURE, "is larger than 1 MiB")):
        file = tmp_path / "bomb"
        file.write_bytes(gzip.compress(head.encode() + b" " * 20 * 2**20))
        with pytest.raises(Error, match=expected):
            read(file)


def test_an_export_comes_through_a_pipe_as_powershell_writes_it(export: str, tmp_path: Path) -> None:
    (tmp_path / "made.json").write_bytes(gzip.compress(export.encode("utf-16")))
    command = "sys.executable, '-m', 'vserver', '-d', 'a.db', 'import', '-'"
    piped = f"subprocess.run([{command}], stdin=open('made.json', 'rb'), check=True)"
    done = python("-c", f"import subprocess, sys; {piped}", cwd=tmp_path)
    assert done.status == 0, done
    assert vserver("-d", "a.db", "export", "-", cwd=tmp_path).out.splitlines()[1:] == export.splitlines()[1:]
