"""All methods of vantage6's UserClient that vserver has to serve, called in one session.

Run by VSERVER_VANTAGE6_CLIENT, an interpreter with vantage6-client: `user_client.py PORT USERNAME PASSWORD`. A server
has an organization and this user with the role Root. A failed assertion ends it with a traceback.
"""

import sys
import time
from typing import Any

from vantage6.client import UserClient
from vantage6.common.client.client_base import AuthenticationException

NEW_PASSWORD = "An0ther-pass-word!"
ANNA, ANNAS_PASSWORD = "anna", "Sup3r-secret!"
INPUT = {"method": "partial", "args": [], "kwargs": {"column": "age"}}
NO_INPUT = {"name": "x", "description": "", "input_": INPUT}


def connected(port: int, username: str, password: str) -> UserClient:
    client = UserClient("http://127.0.0.1", port, "/api", log_level="critical")
    client.authenticate(username, password)
    client.setup_encryption(None)
    return client


def log_in(port: int, username: str, password: str) -> UserClient:
    client = UserClient("http://127.0.0.1", port, "/api", log_level="critical")
    assert client.util.get_server_version()["version"]
    assert client.util.get_server_health() == {"database": True}
    for name in username, "nobody":
        try:
            client.authenticate(name, "a wrong password")
        except AuthenticationException:
            continue
        raise AssertionError(f"{name} logged in with a wrong password")
    client.authenticate(username, password)
    assert client.whoami.organization_id and client.whoami.type_ == "user"
    before = client.token
    time.sleep(1.1)  # a token's times are whole seconds
    client.refresh_token()
    assert client.token != before
    client.setup_encryption(None)
    return client


def organizations(client: UserClient) -> list[int]:
    fields = {"address1": "a1", "address2": "a2", "zipcode": "0123", "country": "NO"}
    made = [client.organization.create(name, domain=f"{name}.example", **fields) for name in ("Noord", "Oslo", "Lyon")]
    assert made[0]["zipcode"] == "0123" and made[0]["public_key"] == ""
    assert "msg" in client.organization.create("Noord", "", "", "", "", "x")
    ids = [each["id"] for each in made]
    assert set(ids) < {each["id"] for each in client.organization.list()["data"]}
    assert len(client.organization.list(page=1, per_page=2)["data"]) == 2
    assert [each["name"] for each in client.organization.list(name="Os%")["data"]] == ["Oslo"]
    assert client.organization.get(ids[0])["domain"] == "Noord.example"
    assert client.organization.get()["id"] == client.whoami.organization_id
    assert "msg" in client.organization.get(999_999)
    assert client.organization.update(id_=ids[0], country="NL")["country"] == "NL"
    assert client.organization.get(ids[0])["zipcode"] == "0123"
    return ids


def collaborations(client: UserClient, ids: list[int]) -> int:
    made = client.collaboration.create(name="Demo", organizations=ids, encrypted=False)
    id = made["id"]
    assert made["encrypted"] is False
    assert "msg" in client.collaboration.create(name="Demo", organizations=ids)
    assert id in [each["id"] for each in client.collaboration.list(scope="global")["data"]]
    assert id not in [each["id"] for each in client.collaboration.list()["data"]]
    assert client.collaboration.get(id)["name"] == "Demo"
    assert client.collaboration.update(id_=id, name="Demo2")["name"] == "Demo2"
    client.setup_collaboration(id)
    extra = client.organization.create("Extra", "", "", "", "", "")["id"]
    members = client.collaboration.add_organization(extra)
    assert {each["id"] for each in members} == {*ids, extra}
    left = client.collaboration.remove_organization(extra)
    assert {each["id"] for each in left} == set(ids)
    client.collaboration.add_organization(client.whoami.organization_id)
    listed = client.organization.list(collaboration=id)["data"]
    assert {each["id"] for each in listed} == {*ids, client.whoami.organization_id}
    return id


def nodes(client: UserClient, ids: list[int], collaboration: int) -> dict[int, str]:
    """Return the API keys by organization."""
    keys = {}
    for organization in [*ids, client.whoami.organization_id]:
        made = client.node.create(collaboration, organization=organization)
        keys[organization] = made["api_key"]
        assert made["organization"]["id"] == organization and made["collaboration"]["id"] == collaboration
    assert "msg" in client.node.create(collaboration, organization=ids[0])
    listed = client.node.list(collaboration=collaboration)["data"]
    assert len(listed) == len(keys) and not any("api_key" in each for each in listed)
    assert client.node.list(collaboration=collaboration, is_online=True)["data"] == []
    id = listed[0]["id"]
    assert client.node.get(id)["id"] == id
    assert client.node.update(id, name="Noord's node")["name"] == "Noord's node"
    assert "msg" in client.node.kill_tasks(id)  # it is not online
    return keys


def rules_and_roles(client: UserClient) -> dict[str, int]:
    """Return the ids of the roles by name."""
    rules = client.rule.list(per_page=200)["data"]
    assert len(rules) == 86
    assert client.rule.get(rules[0]["id"])["name"] == rules[0]["name"]
    roles = {each["name"]: each["id"] for each in client.role.list(per_page=100)["data"]}
    assert {"Root", "Viewer", "Researcher", "Organization Admin", "Collaboration Admin"} <= set(roles)
    assert client.role.get(roles["Viewer"])["name"] == "Viewer"
    assert client.rule.list(role=roles["Viewer"])["data"]
    return roles


def users(client: UserClient, ids: list[int], roles: dict[str, int]) -> int:
    new = {"firstname": "Anna", "lastname": "N", "email": "a@b.cd", "organization": ids[0]}
    made = client.user.create(ANNA, password=ANNAS_PASSWORD, roles=[roles["Researcher"]], rules=[], **new)
    assert made["username"] == ANNA and "password" not in made
    assert "msg" in client.user.create(ANNA, password=ANNAS_PASSWORD, roles=[], rules=[], **new)
    weak = {**new, "email": "a2@b.cd"}
    assert "msg" in client.user.create("anna2", password="abc", roles=[], rules=[], **weak)
    id = made["id"]
    assert id in [each["id"] for each in client.user.list()["data"]]
    assert client.user.get(id)["email"] == "a@b.cd"
    assert client.user.get()["id"] == client.whoami.id_
    assert client.user.update(id, firstname="Anne")["firstname"] == "Anne"
    assert [each["username"] for each in client.user.list(username=ANNA)["data"]] == [ANNA]
    return int(id)


def tasks(client: UserClient, ids: list[int], collaboration: int) -> list[int]:
    new = {"image": "registry.example/average:1", "description": "d", "collaboration": collaboration}
    first = client.task.create(organizations=ids[:2], name="n", input_=INPUT, databases=None, **new)
    second = client.task.create(organizations=ids[:1], name="n2", input_=INPUT, databases="default", **new)
    given = [{"label": "default", "query": "SELECT 1", "sheet_name": "s"}]
    third = client.task.create(organizations=ids[:1], name="n3", input_=INPUT, databases=given, **new)
    made = [each["id"] for each in (first, second, third)]
    assert first["status"] == "pending" and second["databases"][0]["label"] == "default", (first, second)
    assert "SELECT 1" in third["databases"][0]["parameters"]
    elsewhere = client.organization.create("Elsewhere", "", "", "", "", "")["id"]
    assert "msg" in client.task.create(organizations=[elsewhere], name="n4", input_=INPUT, databases=[], **new)
    listed = [each["id"] for each in client.task.list(collaboration=collaboration)["data"]]
    assert sorted(listed) == sorted(made)
    assert [each["id"] for each in client.task.list(name="n2")["data"]] == made[1:2]
    whole = client.task.list(collaboration=collaboration, include_results=True)["data"]
    assert all(isinstance(each["results"], list) for each in whole)
    assert client.task.get(made[0])["name"] == "n"
    assert client.task.get(made[0], include_results=True)["results"]
    runs(client, made)
    client.task.kill(made[0])
    assert client.task.get(made[0])["status"] == "killed by user"
    client.task.kill(made[0])  # finished: refused
    assert len(client.wait_for_results(made[0])["data"]) == 2
    client.task.delete(made[0])
    assert "msg" in client.task.get(made[0])
    return made[1:]


def runs(client: UserClient, made: list[int]) -> None:
    of_first = client.run.from_task(made[0])["data"]
    assert len(of_first) == 2 and all(each["input"] for each in of_first), of_first
    assert len(client.run.list()["data"]) == 4
    pending = client.run.list(task=made[0], state="open", include_task=True)["data"]
    assert [each["task"]["id"] for each in pending] == made[:1] * 2
    assert client.run.get(of_first[0]["id"])["status"] == "pending"
    assert len(client.run.from_task(made[0], include_task=True)["data"]) == 2
    results = client.result.from_task(made[0])["data"]
    assert len(results) == 2
    client.result.get(results[0]["id"])  # None: the client returns nothing but the result itself


def lists_that_stay_empty(client: UserClient) -> None:
    assert client.study.list()["data"] == []
    assert client.store.list()["data"] == []


def as_researcher(port: int, client: UserClient, ids: list[int], collaboration: int) -> None:
    anna = connected(port, ANNA, ANNAS_PASSWORD)
    assert "msg" in anna.organization.create("Mine", "", "", "", "", "")
    assert "Mine" not in [each["name"] for each in client.organization.list()["data"]]
    new = {"image": "i", "collaboration": collaboration, "databases": []}
    made = anna.task.create(organizations=ids[1:2], **NO_INPUT, **new)
    assert made["init_user"]["id"] == anna.whoami.id_, made
    assert [each["id"] for each in client.task.list(initiating_user=anna.whoami.id_)["data"]] == [made["id"]]
    assert anna.util.change_my_password(ANNAS_PASSWORD, NEW_PASSWORD)["msg"]
    connected(port, ANNA, NEW_PASSWORD)


def deletions(client: UserClient, ids: list[int], collaboration: int, user: int) -> None:
    for task in client.task.list(initiating_user=user)["data"]:
        client.user.delete(user)
        assert client.user.get(user)["id"] == user  # refused: the user has tasks
        client.task.delete(task["id"])
    client.user.delete(user)
    assert "msg" in client.user.get(user)
    node = client.node.list(collaboration=collaboration)["data"][-1]["id"]
    client.node.delete(node)
    assert "msg" in client.node.get(node)
    client.organization.delete(ids[2], delete_dependents=True)
    assert "msg" in client.organization.get(ids[2])
    client.collaboration.delete(collaboration, delete_dependents=True)
    assert "msg" in client.collaboration.get(collaboration)
    assert client.task.list(collaboration=collaboration)["data"] == []


def better_than_the_real_one(client: UserClient, ids: list[int], collaboration: int) -> None:
    """Dependents stay when they are to stay; what is not served is refused with a sentence."""
    client.organization.delete(ids[1], delete_dependents=False)
    assert client.organization.get(ids[1])["name"] == "Oslo"
    client.collaboration.delete(collaboration, delete_dependents=False)
    assert client.collaboration.get(collaboration)["name"] == "Demo2"
    assert "msg" in client.role.create("mine", "d", rules=[1], organization=ids[0])
    assert "msg" in client.study.create("st", collaboration=collaboration, organizations=ids[:2])


def main(port: int, username: str, password: str, *, is_ours: bool = True) -> None:
    client = log_in(port, username, password)
    ids = organizations(client)
    collaboration = collaborations(client, ids)
    nodes(client, ids, collaboration)
    user = users(client, ids, rules_and_roles(client))
    tasks(client, ids, collaboration)
    lists_that_stay_empty(client)
    as_researcher(port, client, ids, collaboration)
    if is_ours:
        better_than_the_real_one(client, ids, collaboration)
    deletions(client, ids, collaboration, user)
    print("all methods passed")


if __name__ == "__main__":
    options: dict[str, Any] = {"is_ours": sys.argv[4:] != ["real"]}
    main(int(sys.argv[1]), sys.argv[2], sys.argv[3], **options)
