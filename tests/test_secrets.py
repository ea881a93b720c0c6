"""Passwords and API keys: hashed when given, shown to nobody, found again."""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import bcrypt
import pytest

import models as db
from vserverlib import Error, hashing

KEY = "5e1a7c1e-0000-4000-8000-00000000c0de"


def everything_in(path: Path) -> bytes:
    """Return the bytes of the database and of the files beside it."""
    return b"".join(file.read_bytes() for file in path.parent.iterdir() if file.is_file())


def test_a_password_is_stored_hashed_and_checked(story: SimpleNamespace, path: Path) -> None:
    user = db.User(username="root", password="Geheim-123!", organization=story.iknl)
    user.save()
    assert user.check_password("Geheim-123!") and not user.check_password("geheim-123!")
    assert db.User.get(1).check_password("Geheim-123!")
    assert b"Geheim-123!" not in everything_in(path)
    with contextlib.closing(sqlite3.connect(path)) as conn:
        (stored,) = conn.execute("SELECT password FROM user").fetchone()
    assert bcrypt.checkpw(b"Geheim-123!", stored.encode())


def test_real_hashes_have_twelve_rounds(tmp_path: Path) -> None:
    assert hashing.make_hash("x").startswith("$2b$12$")


def test_a_password_can_be_assigned_set_and_removed(story: SimpleNamespace) -> None:
    user = db.User(username="root", password="one")
    user.save()
    user.password = "two"
    user.save()
    assert db.User.get(1).check_password("two")
    user.set_password("three")
    user.save()
    assert db.User.get(1).check_password("three") and not db.User.get(1).check_password("two")
    user.password = None
    user.save()
    assert db.User.get(1).password is None and not db.User.get(1).check_password("three")


def test_neither_secret_is_shown(story: SimpleNamespace) -> None:
    user = db.User(username="root", password="Geheim-123!")
    node = db.Node(name="node", api_key=KEY)
    for entity in (user, node):
        assert "Geheim" not in repr(entity) + str(vars(entity).get("name")) and KEY not in repr(entity)
    assert user.password == hashing.MASK


def test_the_key_is_shown_by_the_instance_that_made_it_only(story: SimpleNamespace, path: Path) -> None:
    node = db.Node(name="node", organization=story.oslo, collaboration=story.collaboration, api_key=KEY)
    assert node.api_key == KEY
    node.save()
    assert node.api_key == KEY
    assert db.Node.get(node.id).api_key == hashing.MASK
    assert KEY.encode() not in everything_in(path)


def test_a_node_is_found_by_its_key(story: SimpleNamespace) -> None:
    story.node.api_key = KEY
    story.node.save()
    assert db.Node.get_by_api_key(KEY) == story.node and db.Node.get_by_api_key("another key") is None
    assert db.Node.get(1).check_key(KEY) and not db.Node.get(1).check_key("another key")


def test_a_key_with_a_salt_of_its_own_is_found_and_hashed_anew(story: SimpleNamespace) -> None:
    foreign = bcrypt.hashpw(KEY.encode(), bcrypt.gensalt(4)).decode()
    story.node.api_key = foreign
    story.node.save()
    assert story.node.api_key == hashing.MASK
    assert db.Node.get_by_api_key(KEY) == story.node
    assert db.Node.get(1)._stored["api_key"] != foreign
    assert db.Node.get_by_api_key(KEY) == story.node


def test_a_ready_hash_is_kept_as_it_is(story: SimpleNamespace) -> None:
    ready = bcrypt.hashpw(b"old", bcrypt.gensalt(4)).decode()
    db.User(username="imported", password=ready).save()
    assert db.User.get(1)._stored["password"] == ready and db.User.get(1).check_password("old")


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("x" * 73, "is 73 bytes long, bcrypt takes 72"),
        ("é" * 37, "is 74 bytes long"),
        ("", "is empty"),
        (hashing.MASK, "is a mask"),
        ("a\0b", "NUL"),
        (12345678, "takes text, not int"),
    ],
)
def test_what_cannot_be_hashed_is_refused_without_being_shown(database: Any, value: Any, message: str) -> None:
    with pytest.raises(Error, match=message) as raised:
        db.User(username="x", password=value)
    assert str(value) not in str(raised.value) or value == ""
    with pytest.raises(Error):
        db.Node(api_key=value)
    user = db.User(username="x")
    with pytest.raises(Error):
        user.set_password(value)


def test_72_bytes_are_taken_whole(database: Any) -> None:
    user = db.User(username="x", password="x" * 72)
    assert user.check_password("x" * 72) and not user.check_password("x" * 71) and not user.check_password("x" * 73)


def test_bulk_queries_hash_too(story: SimpleNamespace, path: Path) -> None:
    db.User.insert_many([{"username": "bulk", "password": "Geheim-123!"}]).execute()
    db.Node.update(api_key=KEY).where(db.Node.id == 1).execute()
    assert db.User.get(1).check_password("Geheim-123!") and db.Node.get_by_api_key(KEY) == story.node
    assert KEY.encode() not in everything_in(path)


def test_an_error_does_not_tell_the_secret(story: SimpleNamespace) -> None:
    db.User(username="root").save()
    with pytest.raises(Error) as raised:
        db.User(username="root", password="Geheim-123!").save()
    assert "Geheim" not in str(raised.value)
