"""The names of a vantage6 server that differ from ours, and its tables and columns that vserver does not keep.

The tables and columns of the releases 1 to 5, and the names that the server's own shell had for them. Messages use it
to suggest our name, the reader of a server's database to find a column.
"""

from __future__ import annotations

from typing import NamedTuple


class Counterpart(NamedTuple):
    """Our counterpart of a name of a server.

    here: our name, "" if it is not kept; since: the release that added theirs. about: a replacement, if it is not kept.
    is_column: the server's table has a column of this name.
    """

    here: str
    since: int
    about: str = ""
    is_column: bool = True


def _not_kept(since: int, about: str = "") -> Counterpart:
    return Counterpart("", since, about)


_ROLES = "the names of a user's roles are the text user.roles"
_STATUS = "users and nodes have their own ip, last_seen and status"
_DATABASES = "the names of a task's databases are the text task.database"
_ACCOUNT = _not_kept(3)

NODE_NAME = "{organization} - {collaboration} Node"  # which a server gives to a node

# By the name of the table. Words may be plural, and in any case.
ENTITIES = {
    "run": Counterpart("result", 4),
    "role": _not_kept(2, _ROLES),
    "rule": _not_kept(2, _ROLES),
    "permission": _not_kept(2, _ROLES),
    "userpermission": _not_kept(2, _ROLES),
    "role_rule_association": _not_kept(2, _ROLES),
    "authenticatable": _not_kept(1, _STATUS),
    "nodeconfig": _not_kept(3),
    "algorithmport": _not_kept(3),
    "taskdatabase": _not_kept(4, _DATABASES),
    "study": _not_kept(4),
    "studymember": _not_kept(4),
    "algorithmstore": _not_kept(4),
    "session": _not_kept(5),
    "dataframe": _not_kept(5),
    "dataframetobedeletedatnode": _not_kept(5),
    "column": _not_kept(5),
    "task_depends_on": _not_kept(5),
}

# By the noun of the entity and the name of a column, or of an attribute in vantage6's own shell.
FIELDS = {
    "organization": {
        "_public_key": Counterpart("public_key", 1),
        "runs": Counterpart("results", 4, is_column=False),
        "studies": _not_kept(4),
        "roles": _not_kept(2, _ROLES),
    },
    "collaboration": {
        "runs": _not_kept(4, "each of its tasks has results"),
        "studies": _not_kept(4),
        "algorithm_stores": _not_kept(4),
        "sessions": _not_kept(5),
        "session_restrict_to_same_image": _not_kept(5),
    },
    "user": {
        "rules": _not_kept(2, _ROLES),
        "failed_login_attempts": _ACCOUNT,
        "last_login_attempt": _ACCOUNT,
        "otp_secret": _ACCOUNT,
        "last_email_failed_login_sent": _not_kept(4),
        "last_email_recover_password_sent": _not_kept(4),
        "created_tasks": _not_kept(3),
        "keycloak_id": _not_kept(5),
        "is_service_account": _not_kept(5),
        "type": _not_kept(1),
    },
    "node": {
        "config": _not_kept(3),
        "runs": _not_kept(4, "task.results_for_node(node) returns those of a task"),
        "keycloak_id": _not_kept(5),
        "keycloak_client_id": _not_kept(5),
        "type": _not_kept(1),
    },
    "task": {
        "job_id": Counterpart("run_id", 4),
        "init_org_id": Counterpart("initiator_id", 4),
        "init_org": Counterpart("initiator", 4, is_column=False),
        "runs": Counterpart("results", 4, is_column=False),
        "databases": Counterpart("database", 4, is_column=False),
        "init_user": _not_kept(3),
        "init_user_id": _not_kept(3),
        "study": _not_kept(4),
        "study_id": _not_kept(4),
        "algorithm_store": _not_kept(4),
        "algorithm_store_id": _not_kept(4),
        "method": _not_kept(5),
        "session": _not_kept(5),
        "session_id": _not_kept(5),
        "dataframe": _not_kept(5),
        "dataframe_id": _not_kept(5),
        "depends_on": _not_kept(5),
    },
    "result": {
        "cleanup_at": _not_kept(4, "a result that was cleaned up has finished_at"),
        "blob_storage_used": _not_kept(4),
        "ports": _not_kept(3),
        "arguments": Counterpart("input", 5),
        "action": _not_kept(5),
    },
}
PLURALS = {"studies": "study"}


def entity(word: str) -> str:
    """Return ": the run of vantage6 4 is the result here" for vantage6's word for an entity; "" for other words."""
    name = word.casefold()
    name = PLURALS.get(name, name if name in ENTITIES else name.removesuffix("s"))
    known = ENTITIES.get(name)
    if known is None or not known.here:
        return _about_missing(known)
    return f": the {name} of vantage6 {known.since} is the {known.here} here"


def field(noun: str, name: str) -> str:
    """Return ": job_id of vantage6 4 is run_id here" for vantage6's name of a field; "" for other names."""
    known = FIELDS.get(noun, {}).get(name)
    if known is None or not known.here:
        return _about_missing(known)
    return f": {name} of vantage6 {known.since} is {known.here} here"


def of_error(error: BaseException) -> str:
    """Return an explanation of an undefined name, if it is a server's name or that of an entity; else ""."""
    name = error.name if isinstance(error, NameError) else None
    if name in FIELDS:
        return f": give it a value first, {name} = db.{name.capitalize()}.get(1)"
    is_entity_name = name is not None and (name[:1].isupper() or name in ("run", "runs"))
    return entity(str(name)) if is_entity_name else ""


def _about_missing(known: Counterpart | None) -> str:
    if known is None:
        return ""
    about = f"; {known.about}" if known.about else ""
    return f": vantage6 has it since release {known.since}, vserver does not store it{about}"


def columns(noun: str, name: str) -> tuple[str, ...]:
    """Return the names of a server's columns for a field of ours, the newest first."""
    theirs = [their for their, known in FIELDS[noun].items() if known.here == name and known.is_column]
    return (*theirs, name)
