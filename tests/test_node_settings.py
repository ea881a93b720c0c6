"""A node's file: what it may say, and that each fault names the file, the key, the value and what is allowed."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from vserverlib import Error
from vserverlib.nodes import settings
from vserverlib.nodes.jobs import Limits

KEY, OTHER = "123e4567-e89b-42d3-a456-426614174000", "223e4567-e89b-42d3-a456-426614174000"
SERVER, ALGORITHMS = "server: http://127.0.0.1:7601/api\n", "algorithms: {demo/average:1: {file: average.py}}\n"
NODES = f"nodes: [{{api_key: {KEY}, databases: {{default: site.csv}}}}]\n"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the files of a node, which is not the current one."""
    found = tmp_path / "sites"
    found.mkdir()
    (found / "site.csv").write_text("age\n1\n")
    (found / "average.py").write_text("")
    (found / "key").write_text(f"{OTHER}\n")
    (found / "key").chmod(0o600)
    monkeypatch.chdir(tmp_path)
    return found


def read(folder: Path, text: str) -> settings.Settings:
    file = folder / "nodes.yaml"
    file.write_text(text)
    file.chmod(0o600)
    return settings.read(file)


def test_a_file_is_read_with_paths_relative_to_it(folder: Path) -> None:
    found = read(
        folder,
        SERVER
        + f"""
nodes:
  - api_key: {KEY.upper()}
    databases:
      default: site.csv
      warehouse: postgresql://reader:secret@db.example/ward
      graph: {{uri: "https://sparql.example/q", type: sparql}}
      odd: {{uri: site.csv, type: excel}}
  - api_key_file: key
python: {sys.executable}
algorithms:
  demo/average:1: {{file: average.py}}
  demo/other: v6-average-py
limits: {{seconds: 1.5, memory: 1.5G, parallel: 2}}
run_with: [env, -i]
environment: {{THREADS: 1, EMPTY: }}
""",
    )
    assert found.server[:3] == ("http://127.0.0.1", 7601, "/api") and found.server.url == "http://127.0.0.1:7601/api"
    first, second = found.nodes
    assert (first.api_key, second.api_key, second.databases) == (KEY, OTHER, {})
    assert first.databases == {
        "default": (str(folder / "site.csv"), "csv"),
        "warehouse": ("postgresql://reader:secret@db.example/ward", "sql"),
        "graph": ("https://sparql.example/q", "sparql"),
        "odd": (str(folder / "site.csv"), "excel"),
    }
    assert found.algorithms == {
        "demo/average:1": (sys.executable, "", str(folder / "average.py")),
        "demo/other": (sys.executable, "v6-average-py", ""),
    }
    assert found.limits == Limits(1.5, 3 * 2**29, 2)
    assert found.run_with[0].endswith("/env") and found.run_with[1:] == ("-i",)
    assert found.environment == {"THREADS": "1", "EMPTY": ""}
    assert KEY not in repr(found)


@pytest.mark.parametrize(
    ("url", "server"),
    {
        "https://v6.example.org": ("https://v6.example.org", 443, ""),
        "http://v6.example.org/a/b/": ("http://v6.example.org", 80, "/a/b"),
        "http://[::1]:5000/api": ("http://[::1]", 5000, "/api"),
    }.items(),
)
def test_the_server_is_a_url(folder: Path, url: str, server: tuple[str, int, str]) -> None:
    assert read(folder, f'server: "{url}"\n' + NODES + ALGORITHMS).server[:3] == server


FAULTS = {
    "no mapping": ("- a\n", ("nodes.yaml:1:1", "mapping", "a list")),
    "empty": ("", ("nodes.yaml:1:1", "mapping", "empty")),
    "an unknown key": (SERVER + NODES + ALGORITHMS + "algorithm: x\n", (":4:1", '"algorithm"', '"algorithms"?')),
    "a key of a node": (SERVER + f"nodes: [{{api_key: {KEY}, data: x}}]\n" + ALGORITHMS, ('"data"', '"databases"?')),
    "a missing key": (NODES + ALGORITHMS, ('"server"',)),
    "a key twice": (SERVER + SERVER + NODES + ALGORITHMS, (":2:1", '"server"', "already")),
    "a server without http": ("server: 127.0.0.1:7601\n" + NODES + ALGORITHMS, ("server", "127.0.0.1:7601", "http://")),
    "a server with a port that is none": ("server: http://a:b\n" + NODES + ALGORITHMS, ("server", "http://a:b")),
    "no nodes": (SERVER + "nodes: []\n" + ALGORITHMS, ("nodes", "empty", "api_key")),
    "nodes that are a text": (SERVER + "nodes: x\n" + ALGORITHMS, ("nodes", "list", '"x"')),
    "a node without a key": (SERVER + "nodes: [{databases: {}}]\n" + ALGORITHMS, ("node 1", "api_key_file")),
    "a key that is a list": (SERVER + "nodes: [{api_key: [x]}]\n" + ALGORITHMS, ("api_key", "text", "a list")),
    "a key file that is missing": (SERVER + "nodes: [{api_key_file: nothing}]\n" + ALGORITHMS, ("nothing", "exist")),
    "a key file without a key": (SERVER + "nodes: [{api_key_file: site.csv}]\n" + ALGORITHMS, ("api_key_file", "UUID")),
    "two nodes with one key": (
        SERVER + f"nodes: [{{api_key: {KEY}}}, {{api_key: '{KEY.upper()}'}}]\n" + ALGORITHMS,
        ("node 2", "node 1", "remove"),
    ),
    "a missing CSV": (SERVER + NODES.replace("site.csv", "other.csv") + ALGORITHMS, ("default", "other.csv", "exist")),
    "a folder": (SERVER + NODES.replace("site.csv", "{uri: ., type: csv}") + ALGORITHMS, ("default", "read")),
    "an unknown type": (SERVER + NODES.replace("site.csv", "average.py") + ALGORITHMS, ("default", "type", "parquet")),
    "a wrong type": (SERVER + NODES.replace("site.csv", "{uri: site.csv, type: cvs}") + ALGORITHMS, ('"cvs"', "csv")),
    "a label": (SERVER + NODES.replace("default", "../../etc") + ALGORITHMS, ('"../../etc"', "letters")),
    "labels alike": (
        SERVER + NODES.replace("default: site.csv", "default: site.csv, Default: site.csv") + ALGORITHMS,
        ('"Default"', "capitals"),
    ),
    "an algorithm of two kinds": (
        SERVER + NODES + "algorithms: {i: {file: average.py, package: x}}\n",
        ("algorithm i", "package", "file"),
    ),
    "an algorithm without a file": (SERVER + NODES + "algorithms: {i: {file: no.py}}\n", ("i", "no.py", "exist")),
    "a package that is a path": (SERVER + NODES + "algorithms: {i: ../x}\n", ("i", "../x", "file")),
    "a python that is none": (
        SERVER + NODES + "algorithms: {i: {package: x, python: average.py}}\n",
        ("python", "average.py"),
    ),
    "seconds": (SERVER + NODES + ALGORITHMS + "limits: {seconds: soon}\n", ("seconds", '"soon"', "number")),
    "no seconds": (SERVER + NODES + ALGORITHMS + "limits: {seconds: 0}\n", ("seconds", '"0"', "from 1")),
    "seconds without an end": (SERVER + NODES + ALGORITHMS + "limits: {seconds: inf}\n", ("seconds", '"inf"')),
    "memory": (SERVER + NODES + ALGORITHMS + "limits: {memory: much}\n", ("memory", '"much"', "2G")),
    "parallel": (SERVER + NODES + ALGORITHMS + "limits: {parallel: -1}\n", ("parallel", '"-1"', "1000")),
    "a prefix": (SERVER + NODES + ALGORITHMS + "run_with: bwrap\n", ("run_with", "list", '"bwrap"')),
    "a prefix that is no program": (SERVER + NODES + ALGORITHMS + "run_with: [no-such-one]\n", ("run_with", "no-such")),
    "a variable": (SERVER + NODES + ALGORITHMS + "environment: {A=B: x}\n", ('"A=B"', "letters")),
    "a variable that is a list": (SERVER + NODES + ALGORITHMS + "environment: {A: [x]}\n", ("A", "text", "a list")),
    "no YAML": ("server: [\n", ("invalid YAML",)),
    "a tag": (SERVER + NODES + ALGORITHMS + "environment: {A: !!python/object:os.system x}\n", ("unknown tag",)),
    "too deep": ("nodes: " + "[" * 100 + "\n", ("nested",)),
}


@pytest.mark.parametrize("case", FAULTS)
def test_a_fault_is_one_line_with_its_place_and_what_is_allowed(folder: Path, case: str) -> None:
    text, words = FAULTS[case]
    with pytest.raises(Error) as caught:
        read(folder, text)
    message = str(caught.value)
    assert "nodes.yaml" in message and all(word in message for word in words), message
    assert "\n" not in message, message
    assert KEY not in message.lower()


def test_all_faults_are_reported_at_once(folder: Path) -> None:
    with pytest.raises(Error) as caught:
        read(folder, "server: x\nnodes: [{api_key: x}]\nalgorithms: {i: {file: no.py}}\n")
    head, *lines = str(caught.value).splitlines()
    assert "3 faults" in head and "no node was started" in head and len(lines) == 3


def test_a_password_of_a_server_is_in_no_message(folder: Path) -> None:
    with pytest.raises(Error) as caught:
        read(folder, "server: http://me:hidden@host/api\n" + NODES + ALGORITHMS)
    assert "hidden" not in str(caught.value)


def test_a_file_that_others_can_read_is_warned_about(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    read(folder, SERVER + NODES + ALGORITHMS)
    assert capsys.readouterr().err == ""
    (folder / "nodes.yaml").chmod(0o644)
    settings.read(folder / "nodes.yaml")
    said = capsys.readouterr().err
    assert all(word in said for word in ("nodes.yaml", "644", "chmod 600"))
    (folder / "key").chmod(0o640)
    read(folder, SERVER + "nodes: [{api_key_file: key}]\n" + ALGORITHMS)
    said = capsys.readouterr().err
    assert "sites/key" in said and "nodes.yaml" not in said
    (folder / "key").chmod(0o600)
    (folder / "nodes.yaml").chmod(0o620)
    settings.read(folder / "nodes.yaml")
    said = capsys.readouterr().err
    assert all(word in said for word in ("nodes.yaml", "620", "chmod 600"))


def test_two_files_cannot_have_one_node(folder: Path) -> None:
    first = read(folder, SERVER + NODES + ALGORITHMS)
    with pytest.raises(Error, match="api_key"):
        settings.refuse_repeated([first, first])


def test_a_huge_or_missing_file_is_refused(folder: Path) -> None:
    with pytest.raises(Error, match="1 MiB"):
        read(folder, "#" * (2**20 + 1))
    with pytest.raises(Error, match="cannot be read"):
        settings.read(folder / "other.yaml")
    with pytest.raises(Error, match="cannot be read"):
        settings.read(folder)


def test_the_example_asks_for_a_key_and_then_for_the_data(folder: Path) -> None:
    file = folder / "new.yaml"
    settings.write_example(file)
    assert file.stat().st_mode & 0o777 == 0o600
    with pytest.raises(Error, match="api_key of node 1") as caught:
        settings.read(file)
    assert "site1.csv" in str(caught.value)
    (folder / "site1.csv").write_text("age\n")
    file.write_text(file.read_text().replace("PUT-THE-KEY-HERE", KEY))
    assert settings.read(file).limits == Limits(600, 2 * 2**30, 4)
    with pytest.raises(Error, match="exists already"):
        settings.write_example(file)
