"""Rows as text for programs: what goes in comes out, and nothing in it runs."""

from __future__ import annotations

import csv
import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

import models
import vserver
from vserverlib import payloads
from vserverlib.entities import fields
from vserverlib.queries import formats, outcomes
from vserverlib.terminal import outcome_view, views


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


def printed(*words: str) -> str:
    done = CliRunner().invoke(vserver.main, ["list", *words], prog_name="vserver")
    assert done.exit_code == 0
    return done.stdout


def test_all_formats_tell_the_same(example: Path) -> None:
    rows = json.loads(printed("tasks", "--all", "-o", "json"))
    assert [json.loads(line) for line in printed("tasks", "--all", "-o", "jsonl").splitlines()] == rows
    assert yaml.safe_load(printed("tasks", "--all", "-o", "yaml")) == rows
    assert printed("tasks", "--all", "-o", "name").split() == [f"task/{row['id']}" for row in rows]
    table = list(csv.DictReader(io.StringIO(printed("tasks", "--all", "-o", "csv"))))
    assert [list(row) for row in table] == [list(row) for row in rows]
    assert [int(row["id"]) for row in table] == [row["id"] for row in rows]
    assert [row["created_at"] for row in table] == [row["created_at"] for row in rows]


def test_an_empty_list_has_no_lines(example: Path) -> None:
    for output in ("jsonl", "csv", "name"):
        assert printed("tasks", "--where", "name=nobody", "-o", output) == ""
    for output in ("json", "yaml"):
        assert printed("tasks", "--where", "name=nobody", "-o", output) == "[]\n"


HOSTILE = "a\x1b[31mb\r\n\t\x7f\x9b\u202e\u200b\U000e0041[red]\u00e9\u6f22\U0001f916: # \"'\\"


@pytest.mark.parametrize(
    "text", [HOSTILE, "NO", "0123", "2026-03-01", "null", "~", "- a", "a: b", "x\n  y\n", " a ", ""]
)
@pytest.mark.parametrize("plain_ascii", [False, True])
def test_yaml_gives_a_text_back_but_no_escape_to_the_terminal(text: str, plain_ascii: bool) -> None:
    written = "".join(formats.as_yaml([{"name": text, "n": None}], plain_ascii))
    assert yaml.safe_load(written) == [{"name": text, "n": None}]
    assert all(char.isprintable() or char == "\n" for char in written)
    assert written.isascii() or not plain_ascii


@pytest.mark.parametrize("output", formats.WRITERS)
@pytest.mark.parametrize("depth", [outcomes.DEEPEST, 700])
def test_any_result_of_an_algorithm_is_written_whatever_is_in_it(output: str, depth: int) -> None:
    stored = f'{{"half \\ud800": {"[" * (depth - 1)}"\\ud800 \\\\"{"]" * (depth - 1)}}}'
    result = outcomes.decoded(payloads.encoded(stored))
    run = outcomes.Run(1, "North", "completed", "completed", result, None)
    for plain_ascii in (False, True):
        rows = [{"reference": "result/1", **run._asdict()}]
        written = "".join(formats.WRITERS[output](rows, plain_ascii)).encode("ascii" if plain_ascii else "utf-8")
        assert output in ("csv", "name") or b"ud800" in written
    assert isinstance(result, str) == (depth > outcomes.DEEPEST)
    assert "ud800" in views.render(outcome_view.OutcomeView(outcomes.Outcome(1, [run])), width=80, color=False)


def test_half_a_character_is_an_escape_in_yaml() -> None:
    for plain_ascii in (False, True):
        assert yaml.safe_load(formats.to_yaml({"\ud800": "a\\\ud83db"}, plain_ascii)) == {"\\ud800": "a\\\\ud83db"}


def test_yaml_shows_a_text_of_several_lines_as_such() -> None:
    assert "  log: |\n    one\n    two\n" in "".join(formats.as_yaml([{"id": 1, "log": "one\ntwo\n"}]))


def test_times_are_the_same_whichever_way_they_come() -> None:
    odd = ["2026-03-01 09:30:15.000000+00:00", "2026-03-01 09:30:15.123456+00:00", "2026-03-01 09:30:15+02:00",
           "2026-03-01", "2026-03-01 09:30", "2026-99-99 09:30:15.000000+00:00", "yesterday", None, 5, ""]  # fmt: skip
    field = models.Task.created_at
    for stored in odd:
        (line,) = formats.as_json_lines([{"at": field.decode(stored)}])
        assert json.loads(line)["at"] == fields.as_iso(stored), stored


def test_a_csv_for_an_output_without_unicode_has_escapes(example: Path) -> None:
    env = {"PYTHONIOENCODING": "ascii", "PYTHONPATH": str(Path(vserver.__file__).parent), "PATH": "/usr/bin:/bin"}
    command = [sys.executable, "-m", "vserver", "list", "organizations", "-o", "csv"]
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=True)
    assert r"\u9752\u8449" in done.stdout and done.stderr == ""


def test_a_tab_in_a_csv_is_a_tab() -> None:
    assert from_csv([{"name": "a\tb"}]) == [{"name": "a\tb"}]


@pytest.mark.parametrize("text", ["\n", "x\n\n", "\n\n", "...\n", "x\n...\n", "\n...\n\n"])
def test_rows_in_yaml_are_one_document_whatever_their_texts_end_in(text: str) -> None:
    rows = [{"name": text}, {"name": "x"}, {"name": text}]
    assert yaml.safe_load("".join(formats.as_yaml(rows))) == rows
