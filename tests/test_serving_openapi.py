"""The OpenAPI document that the server gives: it names every call, and no input that it allows or forbids is a bug."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from helpers import our_server, signing

from vserverlib.serving import openapi
from vserverlib.serving.callers import NODE, USER
from vserverlib.serving.routes import NOBODY, REFUSED, ROUTES

EXAMPLES = os.environ.get("VSERVER_REPETITIONS", "20")  # of each call and phase


def test_the_document_names_every_call_with_its_query_body_and_token() -> None:
    document = openapi.document("/api")
    calls = {(method.upper(), path[1:]) for path, methods in document["paths"].items() for method in methods}
    assert calls == {(route.method, route.path) for route in ROUTES} and document["openapi"] == "3.1.0"
    ids = [each["operationId"] for methods in document["paths"].values() for each in methods.values()]
    assert len(ids) == len(set(ids)) == len(ROUTES)
    for route in ROUTES:
        found = document["paths"][f"/{route.path}"][route.method.lower()]
        assert found["summary"] and ("security" in found) == (route.callers != NOBODY)
        assert {each["name"] for each in found["parameters"]} >= set(route.query)
        assert ("requestBody" in found) == (route.takes is not None)


@pytest.mark.long
@pytest.mark.parametrize("caller", [USER, NODE])
def test_no_input_is_a_bug(caller: str, example: Path, tmp_path: Path) -> None:
    with our_server.running(example, tmp_path, "-q", XDG_DATA_HOME=os.environ["XDG_DATA_HOME"]) as server:
        url = f"http://127.0.0.1:{server.port}/api/{openapi.PATH}"
        client: Any = signing.as_user(server, 1) if caller == USER else signing.as_node(server, 1)
        options = ["--checks", "not_a_server_error", "--max-examples", EXAMPLES, "--no-color", "--exclude-tag", REFUSED]
        options += ["--phases", "examples,coverage,fuzzing", "-H", f"Authorization: Bearer {client.token}"]
        # Each deletes the caller, or all that the others would be about.
        options += ["--exclude-path-regex", "token|password|blobstream"]
        options += ["--exclude-method", "DELETE"] * (caller == USER)
        words = [sys.executable, "-m", "schemathesis.cli", "run", url, *options]
        done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-2000:]
        assert "Traceback" not in server.err and client.ask("GET", "health").status == 200
