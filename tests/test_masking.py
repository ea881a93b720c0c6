"""Secrets in what was typed: masked, the rest of the line kept."""

from __future__ import annotations

import ast
import os
import re
import subprocess
from collections.abc import Callable

import pytest
from helpers.terminal import ROOT
from hypothesis import assume, given
from hypothesis import strategies as st
from IPython.core.inputtransformer2 import TransformerManager

from vserverlib import literals
from vserverlib.masking import for_history, mask
from vserverlib.scanning import scan

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


# What is Python stays Python


def compiles(source: str) -> bool:
    return literals.parsed(source) is not None


# A secret as it may be written in Python.
WRITTEN: list[Callable[[str], str]] = [
    repr,
    lambda text: repr(text.encode()),
    lambda text: f'"""{escaped(text)}"""',
    lambda text: f"'''\n{escaped(text)}\n'''",
    lambda text: f'f"{escaped(text).replace("{", "{{").replace("}", "}}")}"',
    lambda text: f'f"{{1}}{escaped(text).replace("{", "{{").replace("}", "}}")}{{2!r:>4}}"',
    lambda text: f"({text[:3]!r} {text[3:]!r})",
    lambda text: f"({text[:3]!r}\n  # and\n  {text[3:]!r})",
    lambda text: f"{text[:3]!r} + {text[3:]!r}",
    lambda text: '"' + "".join(f"\\u{ord(char):04x}" if ord(char) < 65536 else char for char in text) + '"',
]


def escaped(text: str) -> str:
    return text.encode("unicode_escape").decode().replace('"', '\\"').replace("'", "\\'")


# Where it may stand; N and M are anything else.
AROUND = [
    "user.password = S",
    "user.password = N if M else S",
    "db.User(username=N, password=S, roles=M)",
    "db.User(\n    username=N,\n    password=S,\n)",
    "user.set_password(S); x = N",
    'values = {N: M, "password": S, "name": N}',
    'setattr(user, "password", S)',
    "def f(name, password=S, *, roles=N):\n    return [M for x in (1, 2)]",
    "class C:\n    password = S\n    other = N",
    "with open(N) as file:\n    user.password = S\n    print(M)",
    "for pw in (S, S):\n    total += 1",
    "try:\n    user.check_password(S)\nexcept ValueError:\n    x = N",
    "await user.set_password(S)",
    "if (password := S) != N:\n    pass",
    "lambda password=S: N",
    'database.execute_sql("UPDATE user SET password = ? WHERE ip = ?", [S, N])',
    'os.environ["PGPASSWORD"] = S',
    '"user=%s password=%s" % (N, S)',
    '"--password=" + S',
    'get_ipython().run_line_magic("env", "PGPASSWORD=" + S)',
    'get_ipython().run_cell_magic("bash", N, S)',
    "os.system(S)",
    "sp.run([N, S], input=M)",
    "from os import system as s2\ns2(S)",
    'database.execute_sql("insert into user values (?, ?)", [S, N])',
    'subprocess.run(["vserver", "passwd", N, "--stdin"], input=S)',
    "x = get_ipython().getoutput(S)",
    '"-----BEGIN PRIVATE KEY-----\\n" + S + "\\n-----END PRIVATE KEY-----"',
]
OTHERS = ["'x'", "None", "[1, 2.5, 3j]", "b'y'", "f'{x}'", '"it\'s"', "r'\\d'", "db.Task.get(1).name", "''"]


@given(
    st.sampled_from(AROUND),
    st.sampled_from(WRITTEN),
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=6, max_size=12),
    st.sampled_from(OTHERS),
    st.sampled_from(OTHERS),
    st.booleans(),
)
def test_what_is_python_stays_the_same_python_without_its_secret(
    around: str, write: Callable[[str], str], secret: str, other: str, more: str, is_at_prompt: bool
) -> None:
    secret = f"<{secret}>"
    source = re.sub(r"\b[SNM]\b", lambda found: {"S": write(secret), "N": other, "M": more}[found[0]], around)
    assume(compiles(source))
    masked = mask(source, {"user", "db", "os", "x"} if is_at_prompt else None)
    tree = literals.parsed(source)
    assert tree is not None and literals.is_same(tree, masked), masked
    assert masked.count("\n") == source.count("\n")
    assert secret[1:-1] not in masked and repr(secret)[2:-2] not in masked and escaped(secret)[1:-1] not in masked
    assert not any(secret[1:-1] in str(leaf.value) for leaf in texts(masked))


def texts(source: str) -> list[ast.Constant]:
    return [node for node in ast.walk(literals.parsed(source) or ast.Module()) if isinstance(node, ast.Constant)]


@pytest.mark.parametrize("known", [None, {"self"}], ids=["script", "prompt"])
@pytest.mark.long
def test_our_own_modules_stay_the_same_python(known: set[str] | None) -> None:
    for path in sorted((ROOT / "vserverlib").rglob("*.py")):
        source = path.read_text()
        tree = literals.parsed(source)
        masked = mask(source, known)
        assert tree is not None and literals.is_same(tree, masked), path
        compile(masked, str(path), "exec")


SAME = [
    "match x:\n    case {'password': 'a', 'b': -1}:\n        pass",
    "for pw in a: b += 1",
    "pw = [y for y in z if y := 1]",
    "password = other = third = 3",
    "x: password = 1",
    "pw = lambda x: x",
    "print(f'{password!r:>{width}}')",
    "global password\ndel password",
    "node.api_key = 12345678-1234-1234-1234-123456789012",
    "user.password = 1if x else 2",
    "password\x0c= 'x'",
]


@pytest.mark.parametrize("source", SAME)
def test_python_that_is_seldom_stays_python(source: str) -> None:
    if compiles(source):
        for known in (None, set[str]()):
            tree = literals.parsed(source)
            assert tree is not None and literals.is_same(tree, mask(source, known)), mask(source, known)


def test_where_the_words_mislead_all_texts_are_masked() -> None:
    source = "pw = [y for y in z]; x = 'a'; user.password = f'{1}'  # b"
    assert literals.masked(source, literals.parsed(source), lambda name: name != "z") == (
        'pw = [y for y in "********"]; x = "********"; user.password = "********"  # ********'
    )


# What the history keeps of a cell


def as_ipython_has_it(cell: str) -> str:
    return TransformerManager().transform_cell(cell)


HARMLESS = [
    "%pwd",
    "%env PGPASSWORD",
    "%cd /tmp/x-1",
    "!ls -l *.db",
    "files = !ls *.db",
    "!!ls",
    "%sx ls -a",
    "!pwd",
    "!vserver list tasks --wide",
    "%timeit len(db.Task.get())",
    "%time db.Task.get(1)",
    "%%time\nx = 1\ndb.Task.get(1)",
    "%hist -n 1-3",
    "%save lines.py 1-3",
    "%rerun 3",
    "%who",
    "%run script.py",
    "db.Task?",
    "user.password?",
    "%lsmagic",
    "x = 1\n%pwd",
]


@pytest.mark.parametrize("cell", HARMLESS)
def test_a_harmless_line_for_another_program_is_kept_as_it_was_typed(cell: str) -> None:
    source = as_ipython_has_it(cell)
    assert for_history(source, cell, KNOWN) == (source, cell)


LEFT_OUT = [
    "!echo hunter2 | vserver passwd anna --stdin",
    "!!echo hunter2",
    "!echo hunter2-is-secret",
    "!echo --x=hunter2-is-secret",
    "!true -phunter2-is-secret",
    "!true hunter2-is-secret=",
    "!true hunter2-is-secret:x",
    "!echo password-hunter2",
    "!echo Passw0rd-hunter2",
    "!echo secret:hunter2",
    "!mysql -phunter2",
    "!PGPASSWORD=hunter2 psql",
    "!FOO=hunter2 psql",
    "!vserver passwd anna --stdin <<< hunter2",
    "!cat << hunter2",
    "!ls; echo hunter2",
    "!ls $(echo hunter2)",
    "!rm 'hunter2'",
    "x = !echo hunter2",
    "x = 1\nfor y in z:\n    !echo hunter2",
    "%sx echo hunter2",
    "%sc x=echo hunter2",
    "%system echo hunter2",
    "%env PGPASSWORD=hunter2",
    "%env PGPASSWORD hunter2",
    "%env FOO=hunter2",
    "%set_env PGPASSWORD hunter2",
    "%run script.py --password hunter2",
    "%run script.py hunter2",
    "%alias login echo hunter2",
    "%time user.set_password('hunter2')",
    "%%time\nuser.set_password('hunter2')",
    "%%bash\necho hunter2 | vserver passwd anna --stdin",
    "%%sh\nhunter2",
    "%%!\necho hunter2",
    "%%script mysql -phunter2\nselect 1",
    "%%python\nx = 'hunter2'",
    "%%html\n<b>hunter2</b>",
    "%%writefile x.txt\nhunter2",
    "%%unknown\nhunter2",
    "%unknown hunter2",
    "%hist -g hunter2",
    "%config History.x = 'hunter2'",
    "%pip install --index-url https://me:hunter2@host/ x",
    "import os; os.system('echo hunter2')",
    "import subprocess\nsubprocess.run(['mysql', '-phunter2'])",
    "get_ipython().system('echo hunter2')",
    "get_ipython().run_cell('!echo hunter2')",
    "echo hunter2 | vserver passwd anna --stdin",
    "export PGPASSWORD=hunter2",
    "!echo hunter2\nx = = 1",
    "import subprocess as sp; _=sp.run('echo hunter2',shell=True)",
    "sp.run(['echo', 'hunter2'])",
    "sp.getoutput('echo hunter2')",
    "from subprocess import run, check_output as co\nrun('echo hunter2')",
    "from subprocess import run, check_output as co\nco(['echo', 'hunter2'])",
    "import os as o2; o2.system('echo hunter2')",
    "from os import popen, system as s2; s2('echo hunter2')",
    "__import__('os').system('echo hunter2')",
    "getattr(o2,'system')('echo hunter2')",
    "vars(os)['system']('echo hunter2')",
    "f = os.system; f('echo hunter2')",
    "import pexpect as p; p.runu('echo hunter2')",
    "os.execvp('echo', ['echo', 'hunter2'])",
    "list(map(os.system, ['echo hunter2']))",
    "Thread(target=os.system, args=('echo hunter2',)).start()",
    "db.Organization.get(1).name; !echo hunter2",
    "for x in y: !echo hunter2",
    "x = 1; %env X=hunter2",
]


@pytest.mark.parametrize("cell", LEFT_OUT)
def test_a_line_for_another_program_is_left_out_in_doubt(cell: str) -> None:
    source = as_ipython_has_it(cell)
    assert for_history(source, cell, KNOWN) is None
    assert "hunter2" not in mask(source, KNOWN) and "hunter2" not in mask(cell, KNOWN)


def test_a_function_of_the_session_that_runs_programs_is_known_by_its_own_name() -> None:
    names = {"co": subprocess.check_output, "s2": os.system, "dump": print}
    assert for_history("co(['echo', 'hunter2'])", "co(['echo', 'hunter2'])", names) is None
    assert for_history("s2('echo hunter2')", "s2('echo hunter2')", names) is None
    assert for_history("dump('a b')", "dump('a b')", names) == ("dump('a b')", "dump('a b')")


NO_CALLS = ["task.run_id", "db.Run", "runner.run()", "run = 1", "db.database.execute_sql('SELECT 1')", "x = 'a; !b'"]


@pytest.mark.parametrize("line", NO_CALLS)
def test_what_runs_no_other_program_is_kept(line: str) -> None:
    assert for_history(line, line, KNOWN) == (line, line)


SQL = {
    "execute_sql(\"insert into user values (99,'q','S','a')\")": 'execute_sql("insert into user ********")',
    "execute_sql('insert into user values (?)', ('S',))": ("execute_sql('insert into user values (?)', ('********',))"),
    "execute_sql(\"begin; /* x */ insert into node values (1, 'S')\")": (
        'execute_sql("begin; /* x */ insert into node ********")'
    ),
    'execute_sql("insert into user " "values (\'S\')")': 'execute_sql("********")',
    "execute_sql(\"insert into t values ('S')\")": 'execute_sql("insert ********")',
    "execute_sql('select * from user')": "execute_sql('select * from user')",
    "execute_sql(\"insert into task values (1, 'x')\")": "execute_sql(\"insert into task values (1, 'x')\")",
}


@pytest.mark.parametrize("line", SQL)
def test_sql_that_touches_a_table_with_secrets_is_masked_as_print_sql_masks_it(line: str) -> None:
    assert mask(line.replace("S", SECRET), KNOWN) == SQL[line]


MASKED_CELLS = {
    "user.password = 'S'": "user.password = '********'",
    ">>> user.password = 'S'": "user.password = '********'\n",
    "password = 'S' x": "password = '********' \"********\"",
    "user.password = 'S'\n%pwd": "user.password = '********'\nget_ipython().run_line_magic('pwd', '')\n",
}


@pytest.mark.parametrize("cell", MASKED_CELLS)
def test_a_line_of_python_is_kept_with_its_secrets_masked(cell: str) -> None:
    typed = cell.replace("S", "hunter2")
    found = for_history(as_ipython_has_it(typed), typed, KNOWN)
    assert found is not None and found[1] == MASKED_CELLS[cell]
    assert "hunter2" not in found[0]
