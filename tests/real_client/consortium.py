"""A collaboration of two organizations for node.py and workflow.py, made by vantage6's UserClient.

Run by VSERVER_VANTAGE6_CLIENT: `consortium.py PORT USERNAME PASSWORD plain|encrypted`. Prints a JSON object: the
collaboration's id, and for each organization its id and the API key of its node. The first has the user `researcher`.
"""

import json
import sys

from user_client import connected

NAMES = "Noord", "Oslo"
RESEARCHER, PASSWORD = "researcher", "Sup3r-secret!"


def main(port: int, username: str, password: str, kind: str) -> None:
    client = connected(port, username, password)
    ids = [client.organization.create(name, "", "", "", "NL", f"{name}.example")["id"] for name in NAMES]
    made = client.collaboration.create(name="Demo", organizations=ids, encrypted=kind == "encrypted")
    keys = [client.node.create(made["id"], organization=id)["api_key"] for id in ids]
    roles = {each["name"]: each["id"] for each in client.role.list(per_page=100)["data"]}
    admin = [roles["Collaboration Admin"]]
    client.user.create(RESEARCHER, "R", "N", PASSWORD, "r@b.cd", organization=ids[0], roles=admin, rules=[])
    organizations = [{"id": id, "api_key": key} for id, key in zip(ids, keys, strict=True)]
    print(json.dumps({"collaboration": made["id"], "organizations": organizations}))


if __name__ == "__main__":
    main(int(sys.argv[1]), *sys.argv[2:5])
