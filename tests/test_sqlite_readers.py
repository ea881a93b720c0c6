"""Reading a file that others may write to: one moment, never stale, nothing left behind; by another user, if need be.

The other user is nobody (65534): a process of their own reads a database of root's in a folder that they cannot write.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from helpers import process
from helpers.file_rights import as_nobody
from helpers.terminal import environment
from test_disks import why_not
from test_faults import files_beside, names, older_with_more

import models as db
from vserverlib import Error
from vserverlib.databases import backups, schemas, snapshots

KINDS = ["sqlite"]  # it is about files

needs_root = pytest.mark.skipif(
    os.geteuid() != 0 or shutil.which("setpriv") is None, reason="another user takes root's rights, and setpriv"
)

# Nobody, who may read all (Python may be installed where only root can look), and write what nobody may.
NOBODY = (
    *("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"),
    *("--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search", sys.executable),
)


def owner_writes(path: Path, *statements: str) -> None:
    """Write as the owner does, in a process of their own that ends: no log is left, unless somebody reads it."""
    session = f"import sqlite3\nconn = sqlite3.connect({str(path)!r}, timeout=30)\n"
    session += f"for each in {statements!r}:\n    conn.execute(each)\nconn.commit()\nconn.close()\n"
    effective = os.geteuid()
    os.seteuid(0)
    try:
        subprocess.run([sys.executable, "-c", session], check=True)
    finally:
        os.seteuid(effective)


def insert(name: str) -> str:
    return f"INSERT INTO organization (name) VALUES ('{name}')"


@pytest.fixture
def nobodys(tmp_path: Path) -> Path:
    """A folder of the other user's."""
    folder = tmp_path / "nobodys"
    folder.mkdir()
    os.chown(folder, 65534, 65534)
    return folder


def nobodys_environment(home: Path) -> dict[str, str]:
    return environment(home, TMPDIR=str(home), VSERVER_HOME=str(home / "kept"))


def nobody_runs(home: Path, *words: str | Path) -> subprocess.CompletedProcess[str]:
    """Run Python as the other user."""
    command, env = [*NOBODY, *map(str, words)], nobodys_environment(home)
    return subprocess.run(command, cwd=home, env=env, capture_output=True, text=True, check=False, timeout=300)


@pytest.fixture
def there(path: Path, closed_folder: Path) -> Path:
    """A database that its owner alone can write, in a folder of theirs, read by all."""
    with closing(sqlite3.connect(path)) as conn:
        conn.execute(insert("first"))
        conn.commit()
    found = Path(shutil.copy(path, closed_folder))
    found.chmod(0o644)
    closed_folder.chmod(0o755)
    return found


# One moment

FOUR = "SELECT country FROM organization WHERE id IN (2, 14, 27, 40)"
CHANGE_FOUR = "UPDATE organization SET country = 'changed' WHERE id IN (2, 14, 27, 40)"


def with_forty(path: Path) -> None:
    owner_writes(
        path, *(f"INSERT INTO organization (name, address1) VALUES ('{n}', '{'x' * 3000}')" for n in range(40))
    )


@needs_root
@pytest.mark.parametrize("ending", [(), ("COMMIT", "PRAGMA wal_checkpoint(TRUNCATE)")], ids=["closes", "checkpoints"])
def test_a_copy_during_which_the_owner_writes_is_created_again(
    there: Path, nobodys: Path, monkeypatch: pytest.MonkeyPatch, ending: tuple[str, ...]
) -> None:
    times = list[Path]()
    with_forty(there)

    def copy_and_write_half_way(descriptor: int, target: Path) -> None:
        size = os.fstat(descriptor).st_size
        half = os.pread(descriptor, size // 2, 0)
        if not times:
            owner_writes(there, CHANGE_FOUR, *ending)
        times.append(target)
        target.write_bytes(half + os.pread(descriptor, 2 * size, size // 2))

    monkeypatch.setattr(snapshots, "_copy", copy_and_write_half_way)
    with as_nobody():
        made = backups.make(there, nobodys / "b.db")
    with closing(sqlite3.connect(made.path)) as conn:
        assert conn.execute(FOUR).fetchall() == [("changed",)] * 4
    assert times


@needs_root
def test_a_file_that_is_written_to_again_and_again_is_refused_in_a_line(
    there: Path, nobodys: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def copy_while_others_write(descriptor: int, target: Path) -> None:
        os.seteuid(0)
        os.utime(there)
        os.seteuid(65534)

    monkeypatch.setattr(snapshots, "_copy", copy_while_others_write)
    with as_nobody(), pytest.raises(Error, match="is written to all the time, so no consistent copy could be made"):
        backups.make(there, nobodys / "b.db")
    assert list(nobodys.iterdir()) == []


WRITER = """
import itertools, random, sqlite3, sys, time
for number in itertools.count():
    conn = sqlite3.connect(sys.argv[1], timeout=30)
    with conn:
        conn.execute("UPDATE organization SET country = ? WHERE id IN (2, 14, 27, 40)", [str(number)])
    conn.close()
    time.sleep(random.choice((0, 0.001, 0.02)))
    if number == 3:
        print("writing", flush=True)
"""
READER = """
import pathlib, sqlite3, sys, time
import models
from vserverlib import Error
from vserverlib.databases import backups
path, times, seen, refused = pathlib.Path(sys.argv[1]), int(sys.argv[2]), set(), 0
four = "SELECT country FROM organization WHERE id IN (2, 14, 27, 40)"

def once():
    made = backups.make(path, pathlib.Path("b.db"), force=True)
    conn = sqlite3.connect(made.path)
    found = set(conn.execute(four).fetchall())
    conn.close()
    assert len(found) == 1, f"a backup of several moments: {found}"
    time.sleep(0.03)
    with models.connect(path, read_only=True) as database, database.atomic():
        found = set(database.execute_sql(four).fetchall())
        time.sleep(0.01)
        found |= set(database.execute_sql(four).fetchall())
    database.close()
    assert len(found) == 1, f"a transaction of several moments: {found}"
    seen.update(found)

for _ in range(times):
    try:
        once()
    except Error as error:  # a line that says why not, and never what is of several moments
        assert "is written to all the time" in str(error), error
        refused += 1
print(refused, file=sys.stderr)
print(len(seen) > 1)  # on a busy machine many are refused
"""


@needs_root
@pytest.mark.parametrize(
    ("rows", "times"), [(100, 5), pytest.param(40_000, 30, marks=pytest.mark.long)], ids=["small", "large"]
)
def test_backups_and_reads_of_another_user_are_of_one_moment_while_the_owner_writes(
    there: Path, nobodys: Path, rows: int, times: int
) -> None:
    with closing(sqlite3.connect(there)) as conn, conn:
        conn.executemany(
            "INSERT INTO organization (name, address1) VALUES (?, ?)", ((n, "x" * 3000) for n in range(rows))
        )
    with subprocess.Popen([sys.executable, "-c", WRITER, there], stdout=subprocess.PIPE) as writer:
        try:
            assert writer.stdout is not None and writer.stdout.readline() == b"writing\n"
            done = nobody_runs(nobodys, "-c", READER, there, str(times))
        finally:
            writer.kill()
    assert (done.returncode, done.stdout) == (0, "True\n"), done


# What lasts is not stale


@pytest.fixture
def asked(there: Path, nobodys: Path) -> Iterator[Callable[[], str]]:
    """What a session of the other user says when it is asked for all names; it lasts."""
    code = "import models, sys\ndatabase = models.connect(sys.argv[1], read_only=True)\nfor line in sys.stdin:\n"
    code += "    print(*(each.name for each in models.Organization.get()), flush=True)"
    env, pipes = nobodys_environment(nobodys), {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([*NOBODY, "-c", code, there], text=True, cwd=nobodys, env=env, **pipes) as session:  # type: ignore[call-overload]
        assert session.stdin is not None and session.stdout is not None

        def ask() -> str:
            session.stdin.write("\n")
            session.stdin.flush()
            return str(session.stdout.readline()).strip()

        yield ask
        session.stdin.close()
        session.wait()


@needs_root
def test_a_session_that_lasts_sees_what_the_owner_writes_and_the_owner_is_not_held_up(
    there: Path, asked: Callable[[], str]
) -> None:
    assert asked() == "first"
    for name in ("second", "third"):
        owner_writes(there, insert(name))
        assert asked().endswith(name)
    owner_writes(there, insert("fourth"), "COMMIT", "PRAGMA wal_checkpoint(TRUNCATE)")
    assert asked() == "first second third fourth"


def test_a_session_that_lasts_sees_what_is_written_to_a_database_of_an_older_release(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    older_with_more(path, tmp_path / "migrations")
    monkeypatch.setattr(schemas, "MIGRATIONS", tmp_path / "migrations")
    monkeypatch.setattr(schemas, "NEWEST", schemas.NEWEST + 1)
    with closing(db.connect(path, read_only=True)):
        for name in ("first", "second"):
            owner_writes(path, insert(name))
            assert [each.name for each in db.Organization.get()][-1] == name


@needs_root
@pytest.mark.parametrize("mode", ["DELETE", "WAL"])
def test_what_was_written_last_is_read_in_each_mode(there: Path, nobodys: Path, mode: str) -> None:
    owner_writes(there, f"PRAGMA journal_mode = {mode}")
    owner_writes(there, insert("last"))
    done = nobody_runs(nobodys, "-m", "vserver", "-d", there, "list", "organizations", "-o", "json")
    assert (done.returncode, "last" in done.stdout) == (0, True), done
    assert files_beside(there) == set()


@needs_root
def test_a_hot_journal_is_rolled_back_in_the_copy(there: Path, nobodys: Path) -> None:
    """A program was killed while it wrote in rollback mode: only who may write can roll it back in place."""
    with_forty(there)
    owner_writes(there, "PRAGMA journal_mode = DELETE")
    code = f"""
import os, sqlite3
conn = sqlite3.connect({str(there)!r}, isolation_level=None)
conn.execute("PRAGMA cache_size = 1")
conn.execute("BEGIN")
conn.execute("UPDATE organization SET country = 'half', address1 = '{"y" * 3000}'")
os._exit(0)
"""
    subprocess.run([sys.executable, "-c", code], check=True)
    assert os.path.getsize(f"{there}-journal") > 0
    Path(f"{there}-journal").chmod(0o644)
    done = nobody_runs(nobodys, "-m", "vserver", "-d", there, "list", "organizations", "-o", "csv", "--all")
    assert done.returncode == 0 and "half" not in done.stdout and done.stdout.count("\n") == 42, done


# Nothing is left behind, and nobody is held up


@needs_root
def test_a_file_of_another_user_in_a_folder_that_all_can_write_is_read_and_its_owner_continues_writing(
    there: Path, closed_folder: Path, asked: Callable[[], str]
) -> None:
    """As in /tmp: what the reader made beside it would be the reader's, and the owner could not write any more."""
    closed_folder.chmod(0o1777)
    assert asked() == "first" and files_beside(there) == set()
    owner_writes(there, insert("second"))
    assert asked() == "first second"
    assert {os.stat(f"{there}{each}").st_uid for each in ("-wal", "-shm")} == {0}


@pytest.mark.parametrize(
    "words",
    [("list", "tasks"), ("overview",), ("backup", "-"), ("shell", "-q", "--read-only", "-c", "len(db.Task.get())")],
)
def test_reading_through_a_link_leaves_nothing_behind(path: Path, tmp_path: Path, words: tuple[str, ...]) -> None:
    (tmp_path / "links").mkdir()
    (tmp_path / "links" / "link.db").symlink_to(path)
    (tmp_path / "links" / "folder").symlink_to(tmp_path)
    for name in ("links/link.db", "links/folder/vserver.db"):
        done = process.vserver("-d", tmp_path / name, *words, cwd=tmp_path)
        assert done.status == 0, done
    assert files_beside(path) == set() and len(list((tmp_path / "links").iterdir())) == 2


def test_the_log_of_a_file_that_a_link_leads_to_is_seen(path: Path, tmp_path: Path) -> None:
    (tmp_path / "links").mkdir()
    link = tmp_path / "links" / "link.db"
    link.symlink_to(path)
    with closing(sqlite3.connect(path)) as conn:
        conn.execute(insert("in the log"))
        conn.commit()
        assert "in the log" in process.vserver("-d", link, "list", "organizations").out
        assert process.vserver("-d", link, "shell", "-q", "-c", "Organization(name='by the link').save()").status == 0
        assert conn.execute("SELECT name FROM organization ORDER BY id DESC").fetchone() == ("by the link",)


def test_the_log_of_a_server_that_a_link_leads_to_is_seen(tmp_path: Path) -> None:
    server = Path(shutil.copy(Path(__file__).parent / "data" / "v4.15.2.sqlite", tmp_path / "server.sqlite"))
    (tmp_path / "links").mkdir()
    (tmp_path / "links" / "link.sqlite").symlink_to(server)
    with closing(sqlite3.connect(server)) as conn:
        conn.execute("PRAGMA journal_mode = WAL")
        conn.execute("UPDATE organization SET name = 'in the log' WHERE id = 1")
        conn.commit()
        done = process.vserver("-d", tmp_path / "links" / "link.sqlite", "list", "organizations")
        assert "in the log" in done.out, done


# Mounts


def mounted(folder: Path, setup: str, *words: str | Path) -> subprocess.CompletedProcess[str]:
    """Run vserver as root in a mount namespace, after what the shell does there."""
    program = f"{sys.executable} -m vserver {' '.join(map(str, words))}"
    env = environment(folder, TMPDIR=str(folder))
    script = ["unshare", "--mount", "sh", "-c", f"cd {folder}; {setup}\n{program}"]
    return subprocess.run(script, env=env, capture_output=True, text=True, check=False, timeout=180)


@pytest.fixture
def mounts(tmp_path: Path) -> Path:
    if reason := why_not():
        pytest.skip(f"nothing can be mounted: {reason}")
    (tmp_path / "elsewhere").mkdir()
    return tmp_path


FINISH = "UPDATE result SET finished_at = '2026-03-01 10:00:00.000000+00:00', status = 'completed'"
READ_ONLY_HERE = "mount --bind data elsewhere && mount -o remount,bind,ro elsewhere && cd elsewhere"


@pytest.fixture
def waiting(mounts: Path, path: Path) -> Path:
    """A folder "data" with a database of one task that runs, and "elsewhere", where it is to be mounted."""
    database = db.connect(path)
    organization = db.Organization(name="IKNL")
    organization.save()
    collaboration = db.Collaboration(name="C", organizations=[organization])
    collaboration.save()
    task = db.Task(name="t", collaboration=collaboration, initiator=organization)
    task.save()
    db.Result(task=task, organization=organization).save()
    database.close()
    (mounts / "data").mkdir()
    shutil.move(path, mounts / "data" / "vserver.db")
    return mounts


def test_waiting_on_a_mount_that_is_read_only_here_sees_what_is_written_elsewhere(waiting: Path) -> None:
    write = (
        f"conn = sqlite3.connect('{waiting}/data/vserver.db', timeout=180); conn.execute(\"{FINISH}\"); conn.commit()"
    )
    later = f'(sleep 1.5; {sys.executable} -c "import sqlite3; {write.replace(chr(34), chr(92) + chr(34))}") &'
    done = mounted(waiting, f"{READ_ONLY_HERE}\n{later}", "wait", "1", "--timeout", "180")
    assert done.returncode == 0, done


def test_a_file_that_is_mounted_by_itself_is_read_but_not_written_to(mounts: Path, path: Path) -> None:
    (mounts / "elsewhere" / "x.db").touch()
    bind = f"mount --bind {path} elsewhere/x.db"
    done = mounted(mounts, bind, "-d", "elsewhere/x.db", "shell", "-c", "1")
    assert done.returncode == 1 and done.stderr.startswith("Error: elsewhere/x.db is mounted as a single file"), done
    assert mounted(mounts, bind, "-d", "elsewhere/x.db", "list", "tasks").returncode == 0
    assert names(path) == [] and [each.name for each in (mounts / "elsewhere").iterdir()] == ["x.db"]


@pytest.mark.parametrize("words", [("list", "organizations"), ("backup", "-")], ids=" ".join)
def test_a_disk_that_is_read_only_as_a_whole_is_read(mounts: Path, path: Path, words: tuple[str, ...]) -> None:
    if shutil.which("mkfs.ext2") is None:
        pytest.skip("there is no mkfs.ext2")
    image = "head -c 4000000 /dev/zero > image && mkfs.ext2 -q image && mount -o loop image elsewhere"
    setup = f"{image} && cp vserver.db elsewhere && mount -o remount,ro elsewhere || exit 99"
    done = mounted(mounts, setup, "-d", "elsewhere/vserver.db", *words, "> out")
    if done.returncode == 99:
        pytest.skip(f"no loop device: {done.stderr}")
    assert done.returncode == 0, done
