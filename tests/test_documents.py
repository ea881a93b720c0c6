"""YAML as it was typed: what is read, and what is refused, with its place, in bounded time and memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from yaml import safe_load

from vserverlib import Error, documents
from vserverlib.documents import Faults, List, Mapping, Place, Text, Unread

ORGANIZATION = "organizations: [{name: A}, {name: B}]\n"


def read(folder: Path, content: str | bytes) -> Any:
    """Return what a file of this text holds, or the error that it is, less the name of the file."""
    file = folder / "file.yaml"
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    faults = Faults(file)
    try:
        value = documents.read(file, faults)
        faults.refuse()
    except Error as error:
        return str(error).replace(str(file), "FILE")
    return value


@pytest.fixture(params=["C", "Python"], autouse=True)
def loader(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Any:
    """PyYAML with and without its half in C, which not every machine has."""
    if request.param == "Python":
        monkeypatch.delattr(yaml, "CBaseLoader", raising=False)
    return request.param


def test_texts_lists_and_mappings_are_read_with_their_places(tmp_path: Path) -> None:
    found = read(tmp_path, "a: 0123\nb:\n  - 'NO'\n  - |\n    x\n")
    assert isinstance(found, Mapping) and found.keys == {"a": Place(1, 1), "b": Place(2, 1)}
    assert found.values["a"] == Text(Place(1, 4), "0123")
    assert found.values["b"] == List(
        Place(3, 3), [Text(Place(3, 5), "NO", quoted=True), Text(Place(4, 5), "x\n", quoted=True)]
    )


def test_an_empty_document_is_nothing(tmp_path: Path) -> None:
    assert read(tmp_path, "# nothing\n").is_null and read(tmp_path, "---\n...\n").is_null


def test_of_a_key_that_is_there_twice_the_last_value_is_read_as_servers_do(tmp_path: Path) -> None:
    file = tmp_path / "file.yaml"
    file.write_text("a: x\nb: {c: 1, c: '1', d: [], d: []}\na: x\n<<: {e: 1, f: 1}\n<<: {e: 2}\n")
    faults = Faults(file)
    found = documents.read(file, faults)
    assert isinstance(found, Mapping) and faults.total == 0
    assert {key: value.text for key, value in found.values.items() if isinstance(value, Text)} == {
        "a": "x",
        "e": "1",
        "f": "1",
    }
    same = [line.removeprefix(f"{file}:") for line in faults.unusual.lines()]
    assert same[0].startswith('2:11: the key "c"') and same[0].endswith("in line 2, with the same value")
    assert same[1].startswith('3:1: the key "a"') and same[1].endswith("in line 1, with the same value")
    (lost,) = faults.lost.lines()
    assert lost.startswith(f'{file}:2:26: the key "d"') and "this value is imported" in lost
    assert safe_load(file.read_text())["e"] == 1, "as PyYAML reads it"


def test_an_alias_is_what_its_anchor_was(tmp_path: Path) -> None:
    found = read(tmp_path, "a: &x [b]\nc: *x\n")
    assert found.values["c"] is found.values["a"]


def test_a_merge_key_adds_what_is_not_there_and_of_several_the_first_wins(tmp_path: Path) -> None:
    found = read(tmp_path, "a: &a {x: 1, y: 1}\nb: &b {y: 2, z: 2}\nc: {<<: [*a, *b], x: 0}\n")
    assert {name: text.text for name, text in found.values["c"].values.items()} == {"x": "0", "y": "1", "z": "2"}


def test_an_unreadable_value_is_marked_so_that_it_is_reported_once(tmp_path: Path) -> None:
    file = tmp_path / "file.yaml"
    file.write_text("\ufeffa: *b\nc: !d e\n")
    faults = Faults(file)
    found = documents.read(file, faults)
    assert isinstance(found, Mapping) and faults.total == 2
    assert found.values == {"a": Unread(Place(1, 4)), "c": Unread(Place(2, 4))}


BAD = {
    "a mapping in itself": (
        "a: &a {<<: *a}\norganizations: []\n",
        "1:12: the alias *a needs a value with the anchor &a",
    ),
    "a tab": ("organizations:\n\t- name: x\n", "indent by spaces, not by tabs"),
    "an unclosed quote": ('organizations:\n- name: "x\n', "a quoted scalar that begins in line 2"),
    "a star": ("organizations:\n- name: *\n", "put a text that begins with * in quotes"),
    "a list as a key": ("organizations: []\n? [a]\n: b\n", "2:3: a list or a mapping cannot be a key: write a text"),
    "a tag": (
        "organizations: !!python/object/apply:os.system [ls]\n",
        "1:16: unknown tag !!python/object/apply:os.system",
    ),
    "a tag of ones own": ("organizations: [{name: !env X}]\n", "1:24: unknown tag !env"),
    "two documents": ("organizations: []\n---\na: b\n", "2:1: a second document begins here"),
    "UTF-16": (ORGANIZATION.encode("utf-16"), "FILE is text in UTF-16: save it as UTF-8"),  # where nothing unwraps it
    "UTF-32": (ORGANIZATION.encode("utf-32"), "FILE is text in UTF-32: save it as UTF-8"),
    "Latin-1": (
        "\norganizations: [{name: café}]\n".encode("latin-1"),
        "2:27: the file is not UTF-8 (byte 0xe9): save it as UTF-8",
    ),
    "a control character": (
        "organizations: [{name: \x1b[2J}]\n",
        "1:24: invalid YAML: control character \\x1b: remove it",
    ),
    "deep mappings": ("organizations: " + "{a: " * 500, "levels deep: no file of vserver needs that"),
    "a large file": (b"organizations:\n" + b" " * (16 * 1024 * 1024), "FILE is larger than 16 MiB: split it"),
}


@pytest.mark.parametrize("what", BAD)
def test_an_unreadable_document_is_reported_with_its_position(tmp_path: Path, what: str) -> None:
    content, expected = BAD[what]
    found = read(tmp_path, content)
    assert isinstance(found, str) and expected in found and found.isprintable()


def test_lists_in_lists_without_end_are_refused(tmp_path: Path, loader: str) -> None:
    output = read(tmp_path, "organizations: " + "[" * 100_000)
    assert "levels deep" in output or "invalid YAML: exceeded maximum nesting depth" in output  # a newer libyaml


def test_too_many_values_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(documents, "MAX_VALUES", 1000)
    assert "FILE has more than 1,000 values: split it, and import it in parts" in read(tmp_path, "[" + "a," * 1000)
    merged = "a: &a {x: 1, y: 1}\nb:\n" + "- {<<: *a}\n" * 200  # 808 keys and values, and 400 that are merged
    assert "FILE has more than 1,000 values" in read(tmp_path, merged)
