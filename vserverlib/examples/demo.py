"""Example data: five hospitals and registries in five countries that analyse cancer data without sharing it.

All of it is made up, and always the same. It breaks no rule of the server's API except the note TSK005: the last task
was created by hand. The hashes are constants, because hashing takes long.

The password of a user is Demo-NAME-1, with the first part of the username and a capital: Demo-Anna-1 for anna.devries,
who has the role root. The API key of node N is 00000000-0000-4000-8000- and N in 12 digits. log_ins() lists them.
"""

from __future__ import annotations

import datetime
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from vserverlib import addresses, payloads
from vserverlib.databases import recording, storage
from vserverlib.databases.postgresql import servers
from vserverlib.entities import progress

Row = dict[str, Any]  # stored values by column

KEY_SALT = "$2b$12$rxnUGDFJsjuBX6dbLnCzye"

NOORD, ELODIE, GRUENWALDE, AOBA, EBRO = range(1, 6)  # the ids of the organizations
SURVIVAL, SCREENING, RARE = range(1, 4)  # the ids of the collaborations

# name, domain, address1, address2, zipcode, country
ORGANIZATIONS = (
    ("Kankerregister Noord", "kankerregister-noord.example", "Noorderhaven 12", "Groningen", "9712 VH", "Netherlands"),
    ("Hôpital Sainte-Élodie", "sainte-elodie.example", "7 rue des Mûriers", "Lyon", "69003", "France"),
    ("Klinikum Grünwalde", "klinikum-gruenwalde.example", "Am Weißen Stein 3", "Dresden", "01099", "Germany"),
    ("青葉がんセンター (Aoba)", "aoba-cancer.example", "青葉区一番町 4-1", "仙台市", "980-0811", "Japan"),
    ("Registro Oncológico del Ebro", "registro-ebro.example", "Paseo de la Ribera 88", "Zaragoza", "50003", "España"),
)

# organization, username, firstname, lastname, roles, last seen ("": never), hash of the password
USERS = (
    (NOORD, "anna.devries", "Anna", "de Vries", "root", "03-13 15:58:20",
     "$2b$12$GgoBEUh61.BODXcVrVE5OOeAaLDjwTE6Qi1RS0kKiE7YmVsUwA70W"),
    (NOORD, "bram.hofstra", "Bram", "Hofstra", "researcher", "03-13 14:20:02",
     "$2b$12$fEQ7rd.FEJ7sb44K3az//ud7ynydLJRV889w3JHLqR6VvT3TBBxHm"),
    (ELODIE, "elise.moreau", "Élise", "Moreau", "Organization Admin, researcher", "02-24 08:15:51",
     "$2b$12$tmUJ0ryupQZZy54yAabqTuctQsj8AaPcXm00DEq0hp41P7H5UW63u"),
    (ELODIE, "theo.lefevre", "Théo", "Lefèvre", "viewer", "",
     "$2b$12$GC0j8kwogI1Tk3wQO.ElAuVdrHNgphIG3606Isf8jWgMaHiIF1ofa"),
    (GRUENWALDE, "juergen.weiss", "Jürgen", "Weiß", "Organization Admin", "03-13 16:01:00",
     "$2b$12$ct2B8sHYTrSu2FNwu3l/9eVQ/4lGIoJyJfXI.kHL6DWSYPecGScBm"),
    (GRUENWALDE, "katharina.oeztuerk", "Katharina", "Öztürk", "researcher", "03-13 15:49:37",
     "$2b$12$MOQdEk6dr5JlMBYQUx8RROJdkbuCVWeZTavNAnhyh4z4Qa3Gc1Oue"),
    (AOBA, "kenta.sato", "健太", "佐藤", "Organization Admin, researcher", "03-13 16:02:30",
     "$2b$12$6V63DT8SIdhNPd/srCoKgeBAxd0Lcc2YWIjQ6EzF2OSS2VwHzsLDm"),
    (AOBA, "misaki.takahashi", "美咲", "高橋", "researcher", "03-02 02:00:00",
     "$2b$12$LFltqbKP1L4A/tzrwCzf/.Ruznp5jRuMTqakc0ZwqfSi770vYGyHW"),
    (EBRO, "lucia.fernandez", "Lucía", "Fernández", "Organization Admin", "03-04 11:47:13",
     "$2b$12$CTihbdx3irjq9DE06TNaSu8PU/pg9gwZQWGn0c/PMnOSBSAk9DOye"),
    (EBRO, "inigo.etxeberria", "Íñigo", "Etxeberria", "researcher, viewer", "03-13 15:33:10",
     "$2b$12$i4xZMdtLVjPFkYkppdfOuOKHadTTP/crPK0T.tOlXRjQAMiiaFsoG"),
)  # fmt: skip

# name, encrypted, organizations
COLLABORATIONS = (
    ("Colorectal cancer survival", False, (NOORD, ELODIE, GRUENWALDE, EBRO)),
    ("Lung cancer screening 肺がん検診", True, (NOORD, ELODIE, AOBA)),
    ("Rare tumours [pilot]", False, (GRUENWALDE, AOBA, EBRO)),
)

# status, last seen, hash of the API key without KEY_SALT: for each organization of each collaboration, in order
NODES = (
    ("online", "03-13 16:04:11", "CNsCqHSvibGCo0mXBk5Cnut.m2e7k52"),
    ("online", "03-13 16:04:02", "7CPJsNJef0HEFiBLqUfijYF1/LMjCq2"),
    ("online", "03-13 16:03:57", "bEC8.jfjixZBdA1mhVD4wyK41VNJF1K"),
    ("offline", "03-13 16:01:30", "8u/kmBgNKv7TonyeysY5mDNAs1ONRt6"),
    ("online", "03-13 16:04:15", "4eBdLUtG13R1md072UyAGOFgzZPQMKa"),
    ("offline", "03-12 23:10:44", "CUNYhDX7cbbg6tb5QlJ6g/FkLVyIAom"),
    ("online", "03-13 16:03:49", "kVcY0uSe.aoHt7cTctuWENEUlR69Q3a"),
    ("online", "03-13 16:04:08", "GMUfZGP/Cu7GDWWXrGPKdn6MbTVVkTy"),
    (None, "", "qeZ1/bSgB0e5NxceXkc4mzoogUGI7zi"),
    ("offline", "03-05 14:31:05", "21CgJxlKSITvkSYrtZ4kalPRzZwVqwm"),
)


def password_of(username: str) -> str:
    """Return the password of a user."""
    return f"Demo-{username.partition('.')[0].capitalize()}-1"


def key_of(node: int) -> str:
    """Return the API key of a node, by its id."""
    return f"00000000-0000-4000-8000-{node:012}"


def log_ins() -> str:
    """Return the names, roles and passwords of the users, and the API keys of the nodes, in lines of 80 columns."""
    lines = [f"  {name:18} {roles:30}  {password_of(name)}" for _, name, _, _, roles, *_ in USERS]
    keys = f"API keys of nodes 1 to {len(NODES)}: {key_of(1)} to …{len(NODES)}"
    return "\n".join(["users, their roles and passwords:", *lines, keys])


class Algorithm(NamedTuple):
    """The image, input and result of a task, as they are stored."""

    image: str
    input: str
    result: str


def _algorithm(image: str, input: str, result: str) -> Algorithm:
    return Algorithm(image, payloads.encoded(input), payloads.encoded(result))


AVERAGE = _algorithm("average:1.4", '{"method": "average", "column": "age"}', '{"n": 1204, "average": 66.8}')
SURVIVE = _algorithm("kaplan-meier:2.1", '{"method": "master", "time": "months"}', '{"median": 41.5}')
EVENTS = _algorithm("kaplan-meier:2.1", '{"method": "events", "time": "months"}', '{"at": [0, 6], "events": [0, 31]}')
COX = _algorithm("cox:3.0.2", '{"method": "master", "covariates": ["stage", "age"]}', '{"beta": [0.71, 0.03]}')
STEP = _algorithm("cox:3.0.2", '{"method": "step", "covariates": ["stage", "age"]}', '{"gradient": [0.02, -0.01]}')
TABLE = _algorithm("crosstab:1.0", '{"method": "crosstab", "by": ["stage", "sex"]}', '{"I": [88, 71], "II": [102, 95]}')
CHECK = _algorithm("data-check:0.9", '{"method": "missing"}', '{"missing": 0.04}')

REGISTRY = "harbor.consortium.example/algorithms/"
SEALED = "c2FtcGxlIGtleQ==$c2FtcGxlIHZlY3Rvcg==$c2FtcGxlIHRleHQ="  # a sample of encrypted text: key$vector$text


class ResultState(NamedTuple):
    """The state of a result."""

    status: str
    started: bool
    finished: bool
    log: str | None


RESULT_STATES = {
    "p": ResultState(progress.PENDING, False, False, None),
    "a": ResultState(progress.ACTIVE, True, False, "info > data read, 1204 rows\n"),
    "c": ResultState(progress.COMPLETED, True, True, "info > data read, 1204 rows\ninfo > done\n"),
    "f": ResultState("failed", True, True, "info > waiting for step 3\nerror > step 3 has not come back\n"),
    "x": ResultState("crashed", True, True, "info > data read, 1204 rows\nMemoryError: cannot allocate 3.1 GiB\n"),
    "k": ResultState("killed by user", True, True, "info > data read, 1204 rows\nwarn > killed\n"),
    "s": ResultState("start failed", False, False, "error > no space left on device\n"),
    "i": ResultState("non-existing Docker image", False, False, "error > image not found\n"),
    "n": ResultState("not allowed", False, False, "error > this image is not allowed here\n"),
}


class ExampleTask(NamedTuple):
    """A task and its results. created: month, day and time in 2026, UTC.

    states: a letter of RESULT_STATES for each organization of the collaboration, in the order of COLLABORATIONS; "."
    for no result.
    """

    collaboration: int
    initiator: int
    parent: int | None
    created: str
    algorithm: Algorithm
    name: str
    states: str
    description: str | None = None


TASKS = (
    ExampleTask(
        SURVIVAL, NOORD, None, "02-02 09:14:05", AVERAGE, "Age at diagnosis", "cccc", "to see that all sites answer"
    ),
    ExampleTask(SURVIVAL, NOORD, None, "02-03 10:02:44", SURVIVE, "Kaplan-Meier survival", "c...", "5 years"),
    ExampleTask(SURVIVAL, NOORD, 2, "02-03 10:03:01", EVENTS, "Kaplan-Meier survival, men", "cccc"),
    ExampleTask(SURVIVAL, NOORD, 2, "02-03 10:21:37", EVENTS, "Kaplan-Meier survival, women", "cccc"),
    ExampleTask(SURVIVAL, EBRO, None, "02-10 13:40:00", COX, "Cox regression", "...f", "stage and age"),
    ExampleTask(SURVIVAL, EBRO, 5, "02-10 13:40:21", STEP, "Cox regression, step 1", "cccc"),
    ExampleTask(SURVIVAL, EBRO, 5, "02-10 13:52:09", STEP, "Cox regression, step 2", "cccc"),
    ExampleTask(SURVIVAL, EBRO, 5, "02-10 14:05:48", STEP, "Cox regression, step 3", "ccxc"),
    ExampleTask(
        SURVIVAL, EBRO, None, "03-13 15:12:30", COX, "Cox regression, again", "...a", "Grünwalde has more memory"
    ),
    ExampleTask(SURVIVAL, EBRO, 9, "03-13 15:12:52", STEP, "Cox regression, again, step 1", "cccc"),
    ExampleTask(SURVIVAL, EBRO, 9, "03-13 15:33:10", STEP, "Cox regression, again, step 2", "acca"),
    ExampleTask(SURVIVAL, ELODIE, None, "02-17 08:55:12", TABLE, "Stage by sex", "c.cc"),
    ExampleTask(SURVIVAL, ELODIE, None, "02-18 11:20:00", TABLE, "Stage by histology", "ccnc"),
    ExampleTask(
        SURVIVAL, GRUENWALDE, None, "03-13 16:01:00", CHECK, "Missing values", "pppp", "before the next release"
    ),
    ExampleTask(SCREENING, AOBA, None, "02-23 01:12:09", AVERAGE, "結節の平均径", "ccc", "mean diameter of nodules"),
    ExampleTask(
        SCREENING, ELODIE, None, "02-24 07:30:00", COX, "Risk model", ".k.", "Élise: wrong covariates, stopped"
    ),
    ExampleTask(SCREENING, ELODIE, 16, "02-24 07:30:25", STEP, "Risk model, step 1", "ccc"),
    ExampleTask(SCREENING, ELODIE, 16, "02-24 08:05:40", STEP, "Risk model, step 2", "ckk"),
    ExampleTask(SCREENING, NOORD, None, "03-13 14:20:00", TABLE, "Interval between screenings", "cap"),
    ExampleTask(SCREENING, AOBA, None, "03-02 02:00:00", TABLE, "Dose by scanner", "sic"),
    ExampleTask(RARE, EBRO, None, "03-04 12:00:00", TABLE, "Incidence by region", "c.c", "Aoba's node has never run"),
    ExampleTask(RARE, GRUENWALDE, None, "03-13 15:50:00", TABLE, "Incidence by age [draft]", "app"),
    ExampleTask(RARE, AOBA, None, "03-13 16:02:30", CHECK, "Missing values", "p.p"),
    ExampleTask(
        RARE, GRUENWALDE, None, "03-09 09:00:00", CHECK, "Missing values, by hand", "...", "no node was told of it"
    ),
)


ADVANCE_RUN_ID = "UPDATE counter SET value = (SELECT MAX(run_id) FROM task) WHERE name = 'run_id'"


def make(url: str | os.PathLike[str]) -> str:
    """Create a database with the example data, a file or the tables on a server; return its name."""
    if addresses.is_url(url):
        return servers.create(os.fspath(url), KEY_SALT, _fill_server)
    return str(create(storage.as_path(url)))


def create(path: str | os.PathLike[str]) -> Path:
    """Create a database file with the example data, and return its path. Raises an Error if the file exists."""
    return storage.create(path, KEY_SALT, _fill)


def write_temporary(file: Path) -> None:
    """Write the example data to an empty temporary file. Fast, because it does not wait for the disk."""
    storage.write_new(file, KEY_SALT, _fill)


def _fill(database: Any) -> None:
    conn = database.connection()
    conn.execute("BEGIN")
    for table, rows in content().items():
        columns, marks = ", ".join(f'"{name}"' for name in rows[0]), ", ".join(f":{name}" for name in rows[0])
        conn.executemany(f'INSERT INTO "{table}" ({columns}) VALUES ({marks})', rows)
    conn.execute(ADVANCE_RUN_ID)
    conn.execute("COMMIT")


def _fill_server(database: Any) -> None:
    with recording.without_records(database):
        for table, rows in content().items():
            database.insert_many(table, list(rows[0]), [[row[name] for name in rows[0]] for row in rows])
        database.execute_sql(ADVANCE_RUN_ID)


def content() -> dict[str, list[Row]]:
    """Return the rows by table, in an order in which they can be inserted."""
    members = list(_members())
    return {
        "organization": [_organization(id, *texts) for id, texts in enumerate(ORGANIZATIONS, 1)],
        "user": [_user(id, *values) for id, values in enumerate(USERS, 1)],
        "collaboration": [{"id": id, "name": row[0], "encrypted": row[1]} for id, row in enumerate(COLLABORATIONS, 1)],
        "member": members,
        "node": [_node(id, membership, *NODES[id - 1]) for id, membership in enumerate(members, 1)],
        "task": [_task(id, task) for id, task in enumerate(TASKS, 1)],
        "result": list(_results()),
    }


def _organization(id: int, name: str, domain: str, address1: str, address2: str, zipcode: str, country: str) -> Row:
    return {
        "id": id,
        "name": name,
        "domain": domain,
        "address1": address1,
        "address2": address2,
        "zipcode": zipcode,
        "country": country,
        "public_key": None if id == EBRO else public_key(id),
    }


def public_key(id: int) -> str:
    """Return a well-formed RSA public key as PEM, whose number reads "sample…". It has no private key."""
    number = "sample/key/of/organization/" + str(id) + "/+++++" * 60
    body = f"MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEA{number[:340]}nQIDAQAB"
    lines = "\n".join(body[start : start + 64] for start in range(0, len(body), 64))
    return f"-----BEGIN PUBLIC KEY-----\n{lines}\n-----END PUBLIC KEY-----\n"


def _user(
    id: int, organization: int, username: str, firstname: str, lastname: str, roles: str, seen: str, password: str
) -> Row:
    return {
        "id": id,
        "username": username,
        "password": password,
        "firstname": firstname,
        "lastname": lastname,
        "email": f"{username}@{ORGANIZATIONS[organization - 1][1]}",
        "roles": roles,
        "organization_id": organization,
        "ip": f"192.0.2.{10 + id}" if seen else None,
        "last_seen": stored_time(seen) if seen else None,
        "status": "online" if seen >= "03-13 15" else "offline" if seen else None,
    }


def _members() -> Iterator[Row]:
    for id, (_, _, organizations) in enumerate(COLLABORATIONS, 1):
        for organization in organizations:
            yield {"organization_id": organization, "collaboration_id": id}


def _node(id: int, membership: Row, status: str | None, seen: str, key: str) -> Row:
    organization = ORGANIZATIONS[membership["organization_id"] - 1][0]
    collaboration = COLLABORATIONS[membership["collaboration_id"] - 1][0]
    return {
        "id": id,
        "name": f"{organization} - {collaboration} Node",
        "api_key": KEY_SALT + key,
        **membership,
        "ip": f"198.51.100.{20 + id}" if seen else None,
        "last_seen": stored_time(seen) if seen else None,
        "status": status,
    }


def _task(id: int, task: ExampleTask) -> Row:
    return {
        "id": id,
        "name": task.name,
        "description": task.description,
        "image": REGISTRY + task.algorithm.image,
        "collaboration_id": task.collaboration,
        "run_id": _run_id(id, task),
        "parent_id": task.parent,
        "database": "default",
        "initiator_id": task.initiator,
        "created_at": stored_time(task.created),
    }


def _run_id(id: int, task: ExampleTask) -> int:
    """Return the run id: the number of tasks without a parent so far."""
    return sum(each.parent is None for each in TASKS[: task.parent or id])


def _results() -> Iterator[Row]:
    for id, task in enumerate(TASKS, 1):
        _, sealed, organizations = COLLABORATIONS[task.collaboration - 1]
        for organization, letter in zip(organizations, task.states, strict=True):
            if letter != ".":
                yield _result(id, task, organization, RESULT_STATES[letter], sealed)


def _result(id: int, task: ExampleTask, organization: int, outcome: ResultState, sealed: bool) -> Row:
    delay = 2 + organization  # seconds until the node starts
    duration = 3000 if task.algorithm in (SURVIVE, COX) else 20 + (37 * id + 53 * organization) % 600
    output = SEALED if sealed else task.algorithm.result
    return {
        "input": SEALED if sealed else task.algorithm.input,
        "task_id": id,
        "organization_id": organization,
        "result": output if outcome.status == progress.COMPLETED else None,
        "assigned_at": stored_time(task.created),
        "started_at": stored_time(task.created, delay) if outcome.started else None,
        "finished_at": stored_time(task.created, delay + duration) if outcome.finished else None,
        "log": outcome.log,
        "status": outcome.status,
    }


def stored_time(text: str, later: int = 0) -> str:
    """Return the stored form of a time in 2026, `later` seconds later."""
    time = datetime.datetime.fromisoformat(f"2026-{text}+00:00") + datetime.timedelta(seconds=later)
    return time.isoformat(" ", "microseconds")
