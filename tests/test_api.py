"""The functions for programs: each works on the database that is open."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from helpers.process import python

from models import Node, Organization
from vserverlib import Error, UsageError, api

SERVER = Path(__file__).parent / "data" / "v4.15.2.sqlite"


def test_the_overview_counts_the_entities(database: Any) -> None:
    Organization(name="Oslo").save()
    assert api.overview().entities["organizations"] == 1


def test_undo_undoes_the_newest_change_and_can_be_undone(database: Any) -> None:
    Organization(name="Oslo").save()
    Organization(name="Bergen").save()
    undone = api.undo()
    assert undone.rows == 1 and [each.name for each in Organization.get()] == ["Oslo"]
    api.undo(change=undone.change)
    assert [each.name for each in Organization.get()] == ["Oslo", "Bergen"]


def test_the_log_can_be_limited_to_a_class_and_a_number_of_records(database: Any) -> None:
    Organization(name="Oslo").save()
    Organization(name="Bergen").save()
    assert [entry.entity_id for entry in api.log(Organization, limit=1)] == [2]
    assert len(api.log("node")) == 0 and len(api.log(Organization, 1)) == 1
    with pytest.raises(UsageError, match="limit"):
        api.log(limit=0)


def test_a_check_returns_the_rows_that_break_a_rule(database: Any) -> None:
    with database.rule_checks(False):
        Organization(name="Oslo").save()
        Node(name="n").save()
    codes = {finding.code for finding in api.check(Node)}
    assert codes and all(code.startswith("NOD") for code in codes)
    (code, *_) = sorted(codes)
    assert {finding.code for finding in api.check(rule=code)} == {code}


def test_a_program_reads_the_database_of_a_server_and_prints_only_its_own_output(tmp_path: Path) -> None:
    shutil.copy(SERVER, tmp_path / "server.sqlite")
    lines = "api.connect('server.sqlite', read_only=True); print(api.overview().entities['organizations'])"
    done = python("-c", f"from vserverlib import api; {lines}", cwd=tmp_path)
    assert done.status == 0 and done.out == "4\n", done


@pytest.mark.parametrize("call", ["overview", "log", "undo", "check"])
def test_without_a_database_each_function_says_how_to_open_one(call: str, tmp_path: Path) -> None:
    code = f"from vserverlib import Error, api\ntry: api.{call}()\nexcept Error as error: print(error)"
    done = python("-c", code, cwd=tmp_path)
    assert done.status == 0 and done.out == 'no database is open: call connect("vserver.db") first\n', done


def test_a_writer_needs_an_import_of_a_servers_database_first(tmp_path: Path) -> None:
    shutil.copy(SERVER, tmp_path / "server.sqlite")
    with pytest.raises(Error, match="import"):
        api.connect(tmp_path / "server.sqlite")
