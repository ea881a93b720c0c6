"""Secrets that were made: what they are, and the file that they are handed out in."""

from __future__ import annotations

import json
import stat
import uuid
from pathlib import Path

import pytest

from vserverlib import Error, hashing
from vserverlib.transfer import generated_credentials
from vserverlib.transfer.generated_credentials import GeneratedCredential

MADE = [
    GeneratedCredential("user", "anna", "password", "Xk7pd-…"),
    GeneratedCredential("node", "IKNL - [beta] Node", "API key", "0"),
]


def test_passwords_are_strong_and_none_is_like_another() -> None:
    made = [generated_credentials.new_password() for _ in range(500)]
    assert len(set(made)) == 500 and not any(map(hashing.weakness_of_password, made))


def test_keys_are_random_uuids_in_lower_case() -> None:
    key = hashing.new_key()
    assert str(uuid.UUID(key)) == key and uuid.UUID(key).version == 4 and not hashing.weakness_of_key(key)


def test_a_list_is_its_owners_alone_and_names_stay_as_they_are(tmp_path: Path) -> None:
    generated_credentials.write(tmp_path / "made.json", MADE)
    assert [GeneratedCredential(**each) for each in json.loads((tmp_path / "made.json").read_text())] == MADE
    assert stat.S_IMODE((tmp_path / "made.json").stat().st_mode) == 0o600


def test_a_file_that_is_there_or_has_no_folder_is_refused_at_once(tmp_path: Path) -> None:
    (tmp_path / "there").write_text("mine")
    for path, expected in (
        (tmp_path / "there", "exists already"),
        (tmp_path / "no" / "x", "does not exist: create it"),
    ):
        with pytest.raises(Error, match=expected), generated_credentials.written_to(path):
            pytest.fail("it was begun")
    assert (tmp_path / "there").read_text() == "mine"


def test_a_file_is_gone_where_what_comes_after_it_fails(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), generated_credentials.written_to(tmp_path / "made") as hand_out:
        hand_out(MADE)
        assert (tmp_path / "made").exists()
        raise ZeroDivisionError
    assert list(tmp_path.iterdir()) == []


def test_no_file_is_made_for_no_secret(tmp_path: Path) -> None:
    with generated_credentials.written_to(tmp_path / "made") as hand_out:
        hand_out([])
    assert list(tmp_path.iterdir()) == []
