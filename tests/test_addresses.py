"""Names of databases: how a URL is shown, and what only looks like one is refused without a word of its password."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

import vserver
from vserverlib import addresses


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql://me:pw@host/db", "postgresql://me@host/db"),
        ("postgresql://me:p%40w@host/db?sslmode=require", "postgresql://me@host/db?sslmode=require"),
        ("postgresql://host/db?password=pw&user=me", "postgresql://host/db?user=me"),
        ("postgresql:///db?user=me&password=pw", "postgresql:///db?user=me"),
        ("postgresql://me@host/db?sslpassword=pw&sslkey=a", "postgresql://me@host/db?sslkey=a"),
        ("postgresql://me@host/db?pass%77ord=pw", "postgresql://me@host/db"),
        ("postgresql://me:pw@host?user=a@b", "postgresql://me@host?user=a@b"),
        ("postgresql://host:5432/db?user=a@b", "postgresql://host:5432/db?user=a@b"),
        ("postgresql://one:5432,two:5433/db", "postgresql://one:5432,two:5433/db"),
        ("postgresql://me:pw@[::1]:5432/db", "postgresql://me@[::1]:5432/db"),
        ("postgres://me:pw@host/db", "postgres://me@host/db"),
        ("postgresql+psycopg2://me:pw@host/db", "postgresql://me@host/db"),
        ("POSTGRESQL://me:pw@host/db", "postgresql://me@host/db"),
    ],
)
def test_a_url_is_shown_without_its_password_and_as_libpq_takes_it(url: str, shown: str) -> None:
    assert addresses.is_url(url)
    assert addresses.shown(url) == addresses.shown(shown) == shown


@pytest.mark.parametrize("password", ["p/w", "p@w", "p/@w", "p?a=w", "p:w", "p&w", "p w"])
def test_a_password_that_a_url_cannot_hold_like_this_is_not_shown_either(password: str) -> None:
    shown = addresses.shown(f"postgresql://me:{password}@host/db")
    assert "p" not in shown.partition("//")[2] and "w" not in shown


@pytest.mark.parametrize("path", ["vserver.db", "a/b:c@d.db", "postgres.db", "C:/x.db", "./host=a password=b", "a=b"])
def test_a_path_is_no_address(path: str) -> None:
    assert addresses.plain(path) == path and addresses.refusal(path) is None and not addresses.is_url(path)


def test_a_line_that_is_to_be_typed_means_the_same_database(monkeypatch: pytest.MonkeyPatch) -> None:
    assert addresses.command("vserver.db", "undo") == "vserver undo"
    assert addresses.command("a b.db", "undo") == "vserver -d 'a b.db' undo"
    monkeypatch.setenv("VSERVER_DATABASE", "other.db")
    assert addresses.command("vserver.db", "undo") == "vserver -d vserver.db undo"


LOOKALIKES = [
    "dbname=one host=x password=Sekr3t",
    "password = 'Sekr3t' dbname=one",
    "postgresql:/postgres:Sekr3t@/one",
    "postgres:me:Sekr3t@host/one",
    "mysql://u:Sekr3t@h/db",
    "mysql:/u:Sekr3t@h/db",
]


@pytest.mark.parametrize("name", LOOKALIKES)
@pytest.mark.parametrize("words", [["list", "tasks"], ["init"], ["import", "{}"], ["copy", "{}", "x.db"], ["backup"]])
def test_what_looks_like_an_address_is_refused_in_a_line_that_says_what_to_type(
    name: str, words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    named = [] if words[0] == "copy" else ["-d", name]  # it names both of its databases itself
    done = CliRunner().invoke(vserver.main, [*named, *(word.format(name) for word in words)])
    assert (done.exit_code, done.stdout, done.stderr.count("\n")) == (1, "", 1)
    assert "Sekr3t" not in done.stderr and "postgresql://USER@HOST/DATABASE" in done.stderr
    assert "Sekr3t" not in addresses.plain(name) and list(tmp_path.iterdir()) == []


def test_so_is_one_that_the_environment_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VSERVER_DATABASE", LOOKALIKES[0])
    told = CliRunner().invoke(vserver.main, ["list", "tasks"]).stderr
    assert "(dbname=… host=… password=…)" in told and "Sekr3t" not in told
