"""The errors that a script can tell apart: a plain script, in a process of its own, catches each by its class."""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
from pathlib import Path

import psycopg
from helpers import postgres, process

import vserverlib
from vserverlib.databases import schemas
from vserverlib.databases.postgresql.postgres import WRITE_LOCK

# The class, and what raises it: OPEN is the open database, the other names in capitals are paths or URLs.
RAISES = {
    "UsageError": "models.Organization.where('nme=IKNL')",
    "NotFound": "models.User.get_by_username('nobody')",
    "NotFound, of a database": "models.connect(MISSING)",
    "Locked": "OPEN.lock_timeout = 0; models.Organization(name='IKNL').save()",
    "ReadOnly": "models.connect(DATABASE, read_only=True); models.Organization(name='IKNL').save()",
    "Damaged": "models.connect(DAMAGED); models.Node(api_key='secret')",
    "NotADatabase": "models.connect(OTHER)",
    "NotADatabase, of a server": "models.connect(VANTAGE6)",
    "OutdatedSchema": "models.connect(OLDER, read_only=True)",
    "NewerSchema": "models.connect(NEWER)",
    "CheckError": "OPEN.strict = True; models.User(username='anna', email='none').save()",
}
SCRIPT = """
import models, vserverlib
for name, code in RAISES.items():
    OPEN = models.connect(LOCKED if name == "Locked" else DATABASE)
    try:
        exec(code)
    except getattr(vserverlib, name.partition(",")[0]) as error:
        print(f"{name}: {error}")
    except Exception as error:
        print(f"not {name}: {type(error).__name__}: {error}")
    else:
        print(f"not {name}: nothing was raised")
"""


def caught(names: dict[str, Path | str], *without: str) -> dict[str, str]:
    """Run the script, and return the message of each error that it caught, by its class."""
    raises = {name: code for name, code in RAISES.items() if name not in without}
    places = "".join(f"{name} = {str(place)!r}\n" for name, place in names.items())
    ended = process.python("-c", f"RAISES = {raises!r}\n{places}{SCRIPT}")
    found = dict(line.split(": ", 1) for line in ended.out.splitlines())
    assert list(found) == list(raises), ended
    return found


def test_a_script_catches_each_error_of_a_file(path: Path, tmp_path: Path) -> None:
    names = {name: tmp_path / f"{name}.db" for name in ("MISSING", "LOCKED", "DAMAGED", "OTHER", "NEWER")}
    for name in ("LOCKED", "NEWER"):
        shutil.copy(path, names[name])
    names["OTHER"].write_text("a letter")
    names["DAMAGED"].write_bytes(path.read_bytes()[:-4096])
    names |= {"DATABASE": path, "VANTAGE6": Path(__file__).parent / "data" / "v4.15.2.sqlite"}
    with contextlib.closing(sqlite3.connect(names["NEWER"])) as conn:
        conn.execute(f"PRAGMA user_version = {schemas.NEWEST + 1}")
    with contextlib.closing(sqlite3.connect(names["LOCKED"], isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        found = caught(names, "OutdatedSchema")  # a file is upgraded, or read through an upgraded copy
    assert found["Locked"].startswith("LOCKED.db is locked by ") and "try again later" in found["Locked"]
    assert "is cut off" in found["Damaged"] and "backup" in found["Damaged"]
    assert "MISSING.db" in found["NotFound, of a database"] and "vserver" in found["NotFound, of a database"]


def test_a_script_catches_each_error_of_a_server(url: str, older_url: str, server: postgres.Server) -> None:
    names: dict[str, Path | str] = {"DATABASE": url, "OLDER": older_url, "MISSING": server.url_of("missing")}
    with contextlib.ExitStack() as stack:
        names |= {name: stack.enter_context(server.bare()) for name in ("OTHER", "VANTAGE6")}
        names |= {name: stack.enter_context(server.database()) for name in ("LOCKED", "DAMAGED", "NEWER")}
        for name, statement in (
            ("VANTAGE6", "CREATE TABLE authenticatable (id int)"),
            ("DAMAGED", "DELETE FROM setting WHERE name = 'key_salt'"),
            ("NEWER", "INSERT INTO schema_migration (name, applied) VALUES ('9999_new', now())"),
        ):
            with psycopg.connect(str(names[name])) as conn:
                conn.execute(statement)
        with psycopg.connect(str(names["LOCKED"])) as other:
            other.execute("SELECT pg_advisory_xact_lock(%s)", [WRITE_LOCK])
            found = caught(names)
    assert "is locked by " in found["Locked"] and "try again later" in found["Locked"]
    assert "vserver -d " in found["OutdatedSchema"] and "upgrade" in found["OutdatedSchema"]
    assert "missing" in found["NotFound, of a database"] and "createdb" in found["NotFound, of a database"]


def test_the_docstring_draws_all_errors() -> None:
    drawn = vserverlib.__doc__ or ""
    classes = [
        name for name, found in vars(vserverlib).items() if isinstance(found, type) and issubclass(found, Exception)
    ]
    assert len(classes) > 9 and [name for name in classes if f" {name} " not in drawn] == []
