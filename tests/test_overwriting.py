"""A save that replaces what another session changed since it was read: warned about, or refused in strict mode."""

from __future__ import annotations

import copy
import datetime
import pickle
from types import SimpleNamespace
from typing import Any

import pytest
from helpers import other_program, process

import models
from models import Organization, Result, User
from vserverlib import CheckError, Overwritten

pytestmark = pytest.mark.filterwarnings("ignore::vserverlib.CheckWarning")
HERS = "import models, sys, warnings; warnings.simplefilter('ignore'); models.connect(sys.argv[1]); "


def anna(database: Any, code: str) -> None:
    """Run code in a session of Anna's."""
    address = database.title if database.path is None else str(database.path)
    ended = process.python("-c", HERS + code, address, VSERVER_ACTOR="anna")
    assert ended.status == 0, ended


@pytest.fixture
def user(story: SimpleNamespace) -> User:
    User(username="root", email="a@iknl.nl", organization=story.iknl).save()
    return User.get(1)  # type: ignore[no-any-return]


def test_a_field_that_two_sessions_change_is_a_warning_that_names_who_and_when(user: User, database: Any) -> None:
    user.email = "mine@iknl.nl"
    anna(database, "u = models.User.get(1); u.email = 'hers@iknl.nl'; u.save()")
    said = r'user 1 "root": email was changed to "hers@iknl\.nl" by anna \d+ s ago, .*db\.log\(db\.User, 1\)'
    with pytest.warns(Overwritten, match=said):
        user.save()
    assert User.get(1).email == "mine@iknl.nl"


def test_strict_refuses_it_and_changes_nothing(user: User, database: Any) -> None:
    database.strict = True
    user.password, user.email = "Sup3r-secret!", "mine@iknl.nl"
    anna(database, "u = models.User.get(1); u.email = 'hers@iknl.nl'; u.save()")
    with pytest.raises(CheckError, match="email was changed"):
        user.save()
    assert User.get(1).email == "hers@iknl.nl" and user.email == "mine@iknl.nl"
    with pytest.raises(CheckError, match="email was changed"):  # again: nothing was forgotten
        user.save()
    again = User.get(1)
    again.password, again.email = "Sup3r-secret!", "mine@iknl.nl"
    again.save()


def test_other_fields_of_both_are_kept_without_a_warning(user: User, database: Any) -> None:
    user.email = "mine@iknl.nl"
    anna(database, "u = models.User.get(1); u.firstname = 'Anna'; u.save()")
    user.save()
    assert (User.get(1).email, User.get(1).firstname) == ("mine@iknl.nl", "Anna")


def test_the_same_value_from_both_is_no_warning(user: User, database: Any) -> None:
    user.email = "same@iknl.nl"
    anna(database, "u = models.User.get(1); u.email = 'same@iknl.nl'; u.save()")
    user.save()


def test_two_objects_of_one_session_do_not_warn(user: User, database: Any) -> None:
    other = User.get(1)
    user.email, other.email = "one@iknl.nl", "two@iknl.nl"
    user.save()
    other.save()
    assert User.get(1).email == "two@iknl.nl"


def test_a_secret_a_link_and_a_time_are_compared_and_no_secret_is_shown(user: User, database: Any) -> None:
    user.password, user.organization, user.last_seen = "Sup3r-secret!", 2, "2026-03-01 09:00"
    anna(
        database,
        "u = models.User.get(1); u.password = 'An0ther-secret!'; u.organization = None; u.last_seen = '2026-02-01';"
        "u.save()",
    )
    with pytest.warns(Overwritten) as caught:
        user.save()
    said = "\n".join(str(each.message) for each in caught if each.category is Overwritten)
    assert "password was changed by anna" in said and "$2" not in said
    assert "organization was changed to None" in said and "last_seen was changed to 2026-02-01T00:00:00Z" in said


@pytest.mark.parametrize("value", ["other", None])
def test_values_of_every_kind_that_nobody_changed_cost_no_further_statement(
    value: str | None, story: SimpleNamespace, database: Any, count_queries: list[str]
) -> None:
    Organization(name="x", domain=value).save()
    result = Result.get(1)
    for entity in (Organization.get_by_name("x"), story.task.get(1), models.Collaboration.get(1), models.Node.get(1)):
        for field in entity.stored_fields():
            if field.name != "id" and entity._stored[field.name] is not None:
                setattr(entity, field.name, entity._stored[field.name])
        count_queries.clear()
        entity.save()
        assert sum("SELECT" in sql and "UPDATE" not in sql and "this.id" not in sql for sql in count_queries) == 0
        assert sum(sql.startswith("UPDATE") for sql in count_queries) == 1
    result.started_at = datetime.datetime.now(datetime.UTC)
    result.save()
    result.finished_at = result.started_at
    count_queries.clear()
    result.save()
    assert sum(sql.startswith('UPDATE "result"') for sql in count_queries) == 1


def test_a_change_of_another_program_has_no_name(user: User, database: Any) -> None:
    user.email = "mine@iknl.nl"
    other_program.raw(database, "UPDATE \"user\" SET email = 'x@y.nl' WHERE id = 1", checked=True)
    with pytest.warns(Overwritten, match="by another program"):
        user.save()


def test_a_rolled_back_save_still_compares_with_what_was_read(user: User, database: Any) -> None:
    user.email = "mine@iknl.nl"
    with pytest.raises(ZeroDivisionError), database.atomic():
        user.save()
        1 / 0  # noqa: B018
    anna(database, "u = models.User.get(1); u.email = 'hers@iknl.nl'; u.save()")
    with pytest.warns(Overwritten):
        user.save()


def test_a_copy_holds_no_hash_of_what_was_read(user: User) -> None:
    user.password = "Sup3r-secret!"
    user.save()
    user.password = "An0ther-secret!"
    assert b"$2" not in pickle.dumps(user) and "$2" not in repr(vars(copy.copy(user)))


def test_an_entity_that_was_deleted_elsewhere_cannot_be_saved_and_says_so_when_shown(user: User, database: Any) -> None:
    from vserverlib.terminal import display

    assert "deleted" not in display.text(user, color=False, width=80)
    anna(database, "models.User.get(1).delete()")
    assert "deleted: it is not in the database any more" in display.text(user, color=False, width=80)
