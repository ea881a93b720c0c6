"""Rows as text for programs: what goes in comes out, and nothing in it runs."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

import vserver
from vserverlib import demo, formats


def from_csv(rows: list[dict[str, Any]]) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO("".join(formats.as_csv(rows)), newline="")))


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", '=HYPERLINK("http://x")'])
def test_a_spreadsheet_runs_nothing_of_a_csv(text: str) -> None:
    (row,) = from_csv([{"name": text}])
    assert row["name"][0] not in "=+-@\t\r" and text.strip() in row["name"].replace("\\t", "").replace("\\r", "")


@pytest.mark.parametrize("text", ["a,b", 'a"b', "a\nb", "", "日本 Île", "'quoted'", "a=b"])
def test_other_texts_come_back_from_a_csv_as_they_were(text: str) -> None:
    assert from_csv([{"id": 1, "name": text}]) == [{"id": "1", "name": text}]


def test_a_csv_has_no_null_and_spells_booleans() -> None:
    assert from_csv([{"a": None, "b": True, "c": False, "d": -5}]) == [{"a": "", "b": "true", "c": "false", "d": "-5"}]


def test_no_escape_reaches_the_terminal_in_a_csv() -> None:
    text = "".join(formats.as_csv([{"name": "\x1b[31m\u202e\x07"}]))
    assert all(char.isprintable() or char == "\n" for char in text)


@pytest.fixture
def example(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    demo.create("vserver.db")


def printed(*words: str) -> str:
    done = CliRunner().invoke(vserver.main, ["list", *words], prog_name="vserver")
    assert done.exit_code == 0
    return done.stdout


def test_all_formats_tell_the_same(example: None) -> None:
    rows = json.loads(printed("tasks", "--all", "-o", "json"))
    assert [json.loads(line) for line in printed("tasks", "--all", "-o", "jsonl").splitlines()] == rows
    table = list(csv.DictReader(io.StringIO(printed("tasks", "--all", "-o", "csv"))))
    assert [list(row) for row in table] == [list(row) for row in rows]
    assert [int(row["id"]) for row in table] == [row["id"] for row in rows]
    assert [row["created_at"] for row in table] == [row["created_at"] for row in rows]


def test_an_empty_list_has_no_lines(example: None) -> None:
    for output in ("jsonl", "csv"):
        assert printed("tasks", "--where", "name=nobody", "-o", output) == ""
