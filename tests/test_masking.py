"""Secrets in what was typed: masked, the rest of the line kept."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vserverlib.terminal.masking import mask, scan

SECRET = "hunter2 is s3cret"
HASH = "$2b$12$abcdefghijklmnopqrstuuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ01234"
KEY = "6f1c9c1e-1111-11f0-9c1e-0242ac120002"
PEM = "-----BEGIN RSA PRIVATE KEY-----\nMIIE\n-----END RSA PRIVATE KEY-----"
KNOWN = {"db", "user", "node", "uuid1", "pw", "xs"}

MASKED = {
    'db.User(username="root", password="S", roles="b")': 'db.User(username="root", password="********", roles="b")',
    "user.password = 'S'": "user.password = '********'",
    'user.password="S"; user.save()': 'user.password="********"; user.save()',
    'node.api_key = r"S"': 'node.api_key = "********"',
    'user.set_password("S")': 'user.set_password("********")',
    'if user.check_password("S"): print("right")': 'if user.check_password("********"): print("right")',
    'node.check_key(f"S{1}")': 'node.check_key("********")',
    'db.Node.get_by_api_key( "S" ).name': 'db.Node.get_by_api_key( "********" ).name',
    'pw = "S"': 'pw = "********"',
    'pw: str = "S"': 'pw: str = "********"',
    'newPassword = "S"': 'newPassword = "********"',
    'name, pw = "root", "S"': 'name, pw = "********", "********"',
    'passwords = ["S", "S"]': 'passwords = ["********", "********"]',
    'for pw in ("S", "S"):\n    print("on")': 'for pw in ("********", "********"):\n    print("on")',
    'setattr(user, "password", "S"); x = "y"': 'setattr(user, "password", "********"); x = "y"',
    'getattr(user, "password") == "S"': 'getattr(user, "password") == "********"',
    'values = {"password": "S", "name": "x"}': 'values = {"password": "********", "name": "x"}',
    'values["password"] = "S"': 'values["password"] = "********"',
    'if "S" != user.password == "S": pass': 'if "S" != user.password == "********": pass',
    'password = ("a"\n  "S")\nname = "x"': 'password = ("********"\n  "********")\nname = "x"',
    'db.User(\n  password="S",\n  roles="root"\n)': 'db.User(\n  password="********",\n  roles="root"\n)',
    "password = '''a\nS'''\nx = 'y'": "password = '''********\n'''\nx = 'y'",
    'user.password = "S': 'user.password = "********"',
    'db.User(password="S"\nx="y"': 'db.User(password="********"\nx="********"',
    'user.password = "x"  # S': 'user.password = "********"  # ********',
    '# user.password = "S"': '# user.password = "********"',
    '"""{"password": "S"}"""': '"""{"password": "********"}"""',
    "user.password = 12345": 'user.password = "********"',
    "user.password = hunter2": 'user.password = "********"',
    "%env API_KEY=hunter2": "%env API_KEY=********",
    'root.set_password("S"); x = "y"': 'root.set_password("********"); x = "y"',
    'db.Node.get_by_api_key(f"{S}-x")': 'db.Node.get_by_api_key("********")',
    'hashing.make_hash("S")': 'hashing.make_hash("********")',
    'bcrypt.hashpw(b"S", salt)': 'bcrypt.hashpw("********", "********")',
    'db.User(username="root", pasword="S")': 'db.User(username="root", pasword="********")',
    'node.api_kye = "S"': 'node.api_kye = "********"',
    "!vserver passwd root --stdin <<< S": "!vserver passwd ********",
    "vserver passwd root --stdin <<< S": "vserver passwd ********",
    "x = !vserver passwd root --stdin <<< 'S'": "x = !vserver passwd ********",
    "y = 1\n  !echo 'S' | vserver passwd root\nx = 2": "y = 1\n  !echo ********\nx = 2",
    "!curl -H api-key=S": "!curl -H api-key=********",
    "!vserver passwd root \\\n  --stdin <<< S\nx = 1": "!vserver passwd ********\\\n\nx = 1",
    "%run script --password=S": "%run script --password=********",
    "run script --password S": "run script --password ********",
    "%%bash\nexport pwd=S\nls": "%%bash\nexport pwd=********\nls",
    ",user.set_password S": ",user.set_password ********",
    "database.execute_sql(\"REPLACE into user (name, password) values ('x', 'S')\")": (
        'database.execute_sql("REPLACE into user (name, password********")'
    ),
    'database.execute_sql("UPDATE user SET password = ?", ["S"]); x = "y"': (
        'database.execute_sql("UPDATE user SET password ********", ["********"]); x = "y"'
    ),
}

KEPT = [
    "node = db.Node(name=f'{x} key', api_key = str(uuid1()))",
    "user.password = pw",
    "print(node.api_key)",
    'print(user.password, "x")',
    "# encryption. This key is automatically created by the Node the",
    "# update the password; it is automatically hashed.",
    "# Save the new node, print / save the API-key, so it can be put in the node's",
    'organization.public_key = "-----BEGIN PUBLIC KEY-----"',
    'sorted(xs, key=lambda x: x["name"])',
    'for key in ["name", "domain"]: print(key)',
    'db.User.getByUsername("root").check_password',
    'user.password = None; user.password = ""',
    'db.Organization(name="IKNL", domain="iknl.nl")',
    "!ls -l *.db",
    "%timeit len(db.Task.get())",
    "run = 1",
    'passport = "x"; parent = "y"; app = "z"',
    'database.execute_sql("SELECT name FROM node WHERE id = ?", [5])',
]


@pytest.mark.parametrize("line", MASKED)
def test_a_secret_is_masked_and_the_rest_is_kept(line: str) -> None:
    assert mask(line.replace("S", SECRET), KNOWN) == MASKED[line].replace("S", SECRET)


@pytest.mark.parametrize("line", KEPT)
def test_a_line_without_a_secret_is_kept(line: str) -> None:
    assert mask(line, KNOWN) == line


@pytest.mark.parametrize("secret", [HASH, HASH[:29], KEY, PEM])
@pytest.mark.parametrize("line", ["x = '''{}'''", "foo({!r}", "# {}"])
def test_what_looks_like_a_secret_is_masked_wherever_it_stands(line: str, secret: str) -> None:
    masked = mask(line.format(secret))
    assert secret.splitlines()[-1] not in masked
    assert "********" in masked


def test_the_password_in_a_url_is_masked() -> None:
    assert mask('connect("postgresql://me:hunter2@host/vserver")') == 'connect("postgresql://********@host/vserver")'


def test_bare_words_are_masked_only_where_it_is_known_what_is_defined() -> None:
    assert mask("user.password = new") == "user.password = new"
    assert mask('db.User.where("password=new")') == 'db.User.where("password=********")'
    assert mask("new = 1\nuser.password = new", KNOWN) == "new = 1\nuser.password = new"


PLACES = [
    "user.password = {}",
    "db.User(username='a', password={}, roles='b')",
    "user.set_password({})",
    "x['api_key'] = {}",
]


@given(st.sampled_from(PLACES), st.text(min_size=5), st.sampled_from(["", "\n", "\nx = (", " # don't", '"']))
def test_no_secret_survives_however_it_is_written(place: str, secret: str, rest: str) -> None:
    secret = f"<{secret}>"
    assert secret not in mask(place.format(repr(secret)) + rest)
    assert repr(secret)[1:-1] not in mask(place.format(repr(secret)) + rest)


@given(st.text() | st.text(alphabet="ab\"'#\\\n (=password,)r"))
def test_any_text_can_be_scanned_and_masked_without_losing_a_line(text: str) -> None:
    assert "".join(token.text for token in scan(text)) == text
    assert mask(text).count("\n") == text.count("\n")
