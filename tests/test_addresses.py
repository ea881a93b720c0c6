"""Names of databases: how a URL is shown, and what only looks like one is refused without a word of its password."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from urllib.parse import quote

import pytest
from click.testing import CliRunner
from helpers.process import vserver
from hypothesis import given, settings
from hypothesis import strategies as st

from vserver import main
from vserverlib import Error, addresses
from vserverlib.databases import storage


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
def test_a_path_is_not_an_address(path: str) -> None:
    assert addresses.without_password(path) == path and addresses.refusal(path) is None and not addresses.is_url(path)


def test_a_suggested_command_means_the_same_database(monkeypatch: pytest.MonkeyPatch) -> None:
    assert addresses.command("vserver.db", "undo") == "vserver undo"
    assert addresses.command("a b.db", "undo") == "vserver -d 'a b.db' undo"
    monkeypatch.setenv("VSERVER_DATABASE", "other.db")
    assert addresses.command("vserver.db", "undo") == "vserver -d vserver.db undo"


@pytest.mark.parametrize("name", ["a\x1b[31mb'c\\d.db", "a\nb.db", "a\u202eb $(x).db", "a b…c'.db"])
def test_a_command_line_is_printable_and_names_the_same_file_in_bash(name: str) -> None:
    line = addresses.command(name, "undo").removeprefix("vserver ")
    assert line.isprintable()
    words, where = ["bash", "-c", f"printf '%s\\0' {line}"], {**os.environ, "LC_ALL": "C.UTF-8"}
    found = subprocess.run(words, env=where, capture_output=True, encoding="utf-8", check=True)
    assert found.stdout.split("\0") == ["-d", name, "undo", ""]


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
    done = CliRunner().invoke(main, [*named, *(word.format(name) for word in words)])
    assert (done.exit_code, done.stdout, done.stderr.count("\n")) == (1, "", 1)
    assert "Sekr3t" not in done.stderr and "postgresql://USER@HOST/DATABASE" in done.stderr
    assert "Sekr3t" not in addresses.without_password(name) and list(tmp_path.iterdir()) == []


def test_so_is_one_that_the_environment_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VSERVER_DATABASE", LOOKALIKES[0])
    output = CliRunner().invoke(main, ["list", "tasks"]).stderr
    assert "(dbname=… host=… password=…)" in output and "Sekr3t" not in output


# Passwords, however they are written


SPECIAL = "@/%?#:&=+,;[]<>\\'\" \n\té％＠／1aB"  # noqa: RUF001  # of full width
SCHEMES = (
    *("postgresql", "postgres", "POSTGRESQL", "postgresql+psycopg2", "postgresql+asyncpg", "postgresq", "postgresqll"),
    *("mysql", "mysql+pymysql", "redis", "jdbc:postgresql", "ｐｏｓｔｇｒｅｓｑｌ"),  # noqa: RUF001
)
URLS = (
    *("{}://u:{}@h/x", "{}://u:{}@h:5432/x?sslmode=require", "{}://:{}@h/x", "{}://u:{}@", "{}://u:{}@/x?host=/run"),
    *("{}://u@h/x?password={}", "{}:///x?sslpassword={}&user=u", "{}://h?password={}", "{}://h:5/x?pass%77ord={}"),
    *("{}://u:{}@[::1]:5/x", "{}://u:{}@a:1,b:2/x", "{}://u@x:{}@h/x", "{}://u@h/x?passwd={}"),
)
STRINGS = (
    *("host=h password={}", "password={} host=h", "user=u password='{}' dbname=x", "HOST=h PASSWORD = {}"),
    *("host=h password={}://x", "host=h passwd={} password=x", "host=h application_name=a://b/c password={}"),
)
AROUND = (
    *("{}", " {} ", '"{}"', "'{}'", ' "{}" ', "\n{}\n", '"{}', "'{}", "{}'", "<{}>", "({})", "[{}"),
    *("DATABASE_URL={}", "export X='{}'", "--url={}", "x://h/y {}", "postgresql://h/y {}"),
)
passwords = st.text(SPECIAL, max_size=7).map(lambda text: f"Qz{text}Xk")
forms = st.one_of(st.tuples(st.sampled_from(URLS), st.sampled_from(SCHEMES)), st.tuples(st.sampled_from(STRINGS)))


@given(passwords, forms, st.sampled_from(AROUND), st.booleans())
@settings(max_examples=300, deadline=None)
def test_no_password_is_in_what_is_shown_of_a_name(
    password: str, form: tuple[str, ...], around: str, encoded: bool
) -> None:
    text, *scheme = form
    name = around.format(text.format(*scheme, quote(password, "") if encoded else password))
    why = addresses.fault(name) if addresses.is_url(name) else addresses.refusal(name)
    shown = f"{addresses.without_password(name)} {addresses.shown(name)} {why}"
    assert "Qz" not in shown and "Xk" not in shown
    assert addresses.is_url(name) or why is not None, "what looks like an address is no path"


@pytest.mark.parametrize("start", ['"', "'", "<", "export X='", "x ", "x://h/y ", "postgresql://h/y "])
@pytest.mark.parametrize("text", ["host=h password=Qz://Xk", "passwd=Qz host=h password=Xk", "password = Qz://Xk"])
def test_text_before_a_connection_string_does_not_reveal_its_password(start: str, text: str) -> None:
    shown = addresses.without_password(start + text)
    assert "Qz" not in shown and "Xk" not in shown


def test_libpq_calls_no_option_secret_whose_value_is_shown() -> None:
    import psycopg

    for option in psycopg.pq.Conninfo.get_defaults():
        name, kind = option.keyword.decode(), (option.dispchar or b"").decode()
        assert kind != "*" or (name in addresses.SECRETS and name not in addresses.OPTIONS), name


@pytest.mark.parametrize("name", ["'{}'", '"{}"', " {}", "{}\n", ' "{}" ', "' {} '"])
def test_blanks_and_one_pair_of_quotes_around_a_url_are_taken_off(name: str) -> None:
    for url in ("postgresql://me@host/db", "sqlite:////tmp/a b.db"):
        assert addresses.unwrapped(name.format(url)) == url
    assert addresses.unwrapped(name.format("a.db")) == name.format("a.db"), "a path is as it was"


# What a server has as its uri, taken apart as SQLAlchemy 1.4.46 does: the last column is what that gives psycopg2.
DRIVEN = [
    ("u:p/w@h/x", {"user": "u", "password": "p/w", "host": "h", "dbname": "x"}),
    ("u:p%w@h/x", {"user": "u", "password": "p%w", "host": "h", "dbname": "x"}),
    ("u:p w@h/x", {"user": "u", "password": "p w", "host": "h", "dbname": "x"}),
    ("u:p%40w+#@h/x", {"user": "u", "password": "p@w+#", "host": "h", "dbname": "x"}),
    ("u%40v:p?&=w@h:5432/x", {"user": "u@v", "password": "p?&=w", "host": "h", "port": "5432", "dbname": "x"}),
    ("u@[fe80::1%eth0]:1/x", {"user": "u", "host": "fe80::1%eth0", "port": "1", "dbname": "x"}),
    ("u:p@/a%20b", {"user": "u", "password": "p", "dbname": "a%20b"}),
    ("h/a/b c", {"host": "h", "dbname": "a/b c"}),
    ("u:p@a,b:5432/x", {"user": "u", "password": "p", "host": "a,b", "port": "5432", "dbname": "x"}),
    ("u:p@/x?host=a:1&host=b:2", {"user": "u", "password": "p", "dbname": "x", "host": "a,b", "port": "1,2"}),
    ("u@/x?host=/run/pg&port=3", {"user": "u", "dbname": "x", "host": "/run/pg", "port": "3"}),
    ("u:p@h/x?user=v&password=p%40q+r", {"user": "v", "password": "p@q r", "host": "h", "dbname": "x"}),
    ("h/x?sslmode=require&application_name=&connect_timeout=3", None),
]


@pytest.mark.parametrize(("rest", "meant"), DRIVEN)
def test_a_servers_own_uri_means_what_it_means_to_sqlalchemy(rest: str, meant: dict[str, str] | None) -> None:
    import psycopg

    url = f"postgresql+psycopg2://{rest}"
    found = psycopg.conninfo.conninfo_to_dict(addresses.for_libpq(url))
    assert addresses.fault(url) is None
    assert found == (meant or {"host": "h", "dbname": "x", "sslmode": "require", "connect_timeout": "3"})
    assert "password" not in psycopg.conninfo.conninfo_to_dict(addresses.without_password(url))


def test_a_url_of_a_file_is_read_as_sqlalchemy_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for url, path in {
        f"sqlite:///{tmp_path}/a.db": f"{tmp_path}/a.db",
        "sqlite:///rel.db": "rel.db",
        "sqlite+pysqlite:///rel.db?timeout=3&check_same_thread=false": "rel.db",
        "sqlite:///a%20b@c:d.db": "a%20b@c:d.db",
    }.items():
        assert storage.as_path(url) == Path(path) and addresses.without_password(url) == url
    with pytest.raises(Error, match='"sqlite://" is not a database'):
        storage.as_path("sqlite://")


def test_the_program_shows_no_password_whichever_way_it_is_named(tmp_path: Path) -> None:
    unread, refused = "cannot be read: it has an @", "is not a database"
    for names in [
        ({"VSERVER_DATABASE": '"postgresql://u:geheim@127.0.0.1:1/x"'}, ["overview"], "Connection refused"),
        ({}, ["-d", " postgresql://u:geheim@127.0.0.1:1/x", "list", "tasks"], "Connection refused"),
        ({}, ["-d", "postgresql+psycopg2://u:ge/heim@127.0.0.1:1/x", "list", "tasks"], "Connection refused"),
        ({}, ["-d", "postgresql://u:geheim@2024@localhost:1/x", "list", "tasks"], unread),
        ({}, ["--debug", "-d", "postgresql://u:ge%heim@127.0.0.1:1/x", "list", "tasks"], "write % as %25"),
        ({"VSERVER_DATABASE": "postgresql://u:geheim"}, ["check"], "its port is not a number"),
        (
            {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
            ["-d", "postgresql://u:ge/heim@h/x", "check"],
            unread,
        ),
        ({}, ["import", "postgresql://u:12/geheim@127.0.0.1:1/x"], unread),
        ({}, ["copy", "u:geheim@h/x", "z.db"], refused),
        ({"VSERVER_DATABASE": "url=postgresql://u:geheim@h/x"}, ["init"], refused),
    ]:
        env, words, expected = names
        done = vserver(*words, cwd=tmp_path, **env)
        assert (done.status, done.out) == (4 if "check" in words else 1, ""), done
        assert expected in done.err and "heim" not in done.err, done
    assert list(tmp_path.iterdir()) == []


def test_a_file_in_quotes_that_the_environment_names_is_that_file(tmp_path: Path) -> None:
    done = vserver("init", cwd=tmp_path, VSERVER_DATABASE='"a b.db"')
    assert done.status == 0 and [each.name for each in tmp_path.iterdir()] == ["a b.db"]
