"""The table of all calls: the application, the OpenAPI document, docs/server.md and the tests read it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from vserverlib.serving import log_ins, organizations
from vserverlib.serving.callers import CONTAINER, NODE, USER
from vserverlib.serving.permissions import VIEW
from vserverlib.serving.requests import Shape

ANYBODY = (USER, NODE, CONTAINER)
READ, WRITE, STEPS = "read", "write", "steps"  # how the desk runs a function


class Route(NamedTuple):
    """A call. path: after the API's path, with {id} for an id.

    callers: the kinds of tokens that may call it; none: no token is needed. right: (resource, operation) that the
    caller needs in some scope; which rows, the function says. how: READ and WRITE are one transaction; STEPS is a
    coroutine. takes: the fields of the body. refresh: it takes a refresh token.
    """

    method: str
    path: str
    function: Callable[..., Any]
    how: str = READ
    callers: tuple[str, ...] = ANYBODY
    right: tuple[str, str] | None = None
    takes: Shape | None = None
    query: tuple[str, ...] = ()
    is_list: bool = False
    refresh: bool = False
    about: str = ""

    @property
    def summary(self) -> str:
        """What it does, in one sentence."""
        return self.about or (self.function.__doc__ or "").partition("\n")[0]


ROUTES: tuple[Route, ...] = (
    Route("POST", "token/user", log_ins.of_user, STEPS, (), takes=log_ins.CREDENTIALS),
    Route("POST", "token/refresh", log_ins.refresh, READ, (USER, NODE), refresh=True),
    Route(
        "GET",
        "organization",
        organizations.list_,
        right=("organization", VIEW),
        query=("name", "country", "collaboration_id", "study_id"),
        is_list=True,
    ),
    Route("GET", "organization/{id}", organizations.get, right=("organization", VIEW)),
)
