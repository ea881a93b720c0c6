"""Posts a task to the running server of a database, for a user, over the server's own API.

The token is signed with the secret of the server, which only this system user can read. It lasts for minutes, and the
journal names both: anna.devries (vserver run by kari).
"""

from __future__ import annotations

import contextlib
import http.client
import json
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import models
from vserverlib import Error, UsageError, addresses, payloads, printable, running_servers, with_article
from vserverlib.databases.recording import actor
from vserverlib.entities import finding
from vserverlib.messages import notify
from vserverlib.posting import DEFAULT_LABEL, choosing
from vserverlib.posting.choosing import Choice, Wanted
from vserverlib.queries import outcomes
from vserverlib.queries.outcomes import Outcome
from vserverlib.running_servers import RunningServer
from vserverlib.serving import MAX_BODY, NO_LIBRARIES
from vserverlib.serving.callers import mark_of_user
from vserverlib.serving.presence import ONLINE

SECONDS = 60.0  # until the server's answer: it waits for a lock for ten
LONGEST_NAME = 80  # characters of a name that is made of the method and its arguments
STATUS_CREATED = 201


class Order(NamedTuple):
    """A task to post. arguments: of the method, by name. databases: labels. name: None to have one made."""

    image: str
    method: str
    arguments: Mapping[str, Any]
    wanted: Wanted = Wanted()
    databases: tuple[str, ...] = (DEFAULT_LABEL,)
    name: str | None = None


def server_of(database: Any) -> RunningServer:
    """Return the server that serves an open database. Raises an Error if none does, on this machine, for this user."""
    if database.is_view or database.mode in ("sandbox", "plan"):
        raise Error(f"{database.title} is a private copy here, which no server serves: open the served database itself")
    found = running_servers.of_database(_tokens().identity(database))
    if found is None:
        start = addresses.command(database.title, "start")
        raise Error(f"no server of yours serves {database.title}: start one in another terminal, with: {start}")
    return found


def wanted(user: Any, collaboration: Any, organizations: Iterable[Any], everywhere: bool) -> Wanted:
    """Return the choices of the caller; each is an entity, an id or a name."""
    few = tuple(_word(models.Organization, each) for each in organizations)
    return Wanted(_word(models.User, user), _word(models.Collaboration, collaboration), few, everywhere)


def _word(model: Any, given: Any) -> Any:
    """Return the word for an entity, an id or a name; None for None."""
    if given is None or isinstance(given, str):
        return given
    if isinstance(given, model) and given.is_saved:
        return finding.reference(model, given.id)
    if isinstance(given, int) and not isinstance(given, bool):
        return finding.reference(model, given)
    raise UsageError(f"{printable(given)} is not {with_article(model.noun)}: give a saved one, an id or a name")


def post_and_follow(database: Any, order: Order, wait: bool = True) -> Outcome:
    """Post a task, wait until it has finished, and return its outcome. Ctrl-C leaves the task to the nodes."""
    from vserverlib.terminal import watching

    watching.refuse_open_transaction(database)
    id = post(database, order)
    try:
        if wait:
            watching.follow(database, id)
    except KeyboardInterrupt:
        notify(f"task {id} goes on", "yellow")
        raise
    return outcomes.of_task(id)


def _tokens() -> Any:
    """Return the module of tokens, whose library belongs to the server."""
    try:
        from vserverlib.serving import tokens
    except ImportError as error:
        raise Error(f"{NO_LIBRARIES} ({error.name} is missing)") from None
    return tokens


def post(database: Any, order: Order) -> int:
    """Post a task, and return its id. Says for which nodes it has to wait.

    Raises an Error if no server runs, if the user, the collaboration or the organizations are not clear, or if the
    server refuses the task. The server writes, not this process.
    """
    server, text = server_of(database), _input(order)
    choice = choosing.choose(order.wanted)
    body = {
        "name": order.name if order.name is not None else _name(order),
        "image": order.image,
        "collaboration_id": choice.collaboration.id,
        "organizations": [{"id": each.id, "input": text} for each in choice.organizations],
        "databases": [{"label": label} for label in order.databases],
    }
    token = _tokens().Signer(server.secret.encode()).run(choice.user.id, mark_of_user(choice.user), actor())
    id = int(_asked(server, token, body)["id"])
    _report_offline(choice)
    return id


def _report_offline(choice: Choice) -> None:
    """Say for which nodes a task waits. One query: a node may have come since they were chosen."""
    ids = [each.id for each in choice.nodes]
    online = {each.id for each in models.Node.select().where(models.Node.id.in_(ids), models.Node.status == ONLINE)}
    for organization, node in zip(choice.organizations, choice.nodes, strict=True):
        if node.id not in online:
            notify(f"{organization.named()} has no node online: the task waits for {node.named()}", "yellow")


def _input(order: Order) -> str:
    """Return the input of a run, as vantage6's client encodes it without encryption."""
    try:
        text = json.dumps({"method": order.method, "args": [], "kwargs": dict(order.arguments)}, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise Error(f"the arguments of {printable(order.method)} are not JSON: {printable(error, 200)}") from None
    return payloads.encoded(text)


def _name(order: Order) -> str:
    words = (
        f"{name}={value if isinstance(value, str) else json.dumps(value)}" for name, value in order.arguments.items()
    )
    name = " ".join([order.method, *words])
    return name if len(name) <= LONGEST_NAME else f"{name[: LONGEST_NAME - 1]}…"


def _asked(server: RunningServer, token: str, body: dict[str, Any]) -> Any:
    """Return the server's answer to a task. Raises an Error if it refuses it, or does not answer."""
    place, text = urlsplit(server.url), json.dumps(body)
    if len(text) > MAX_BODY:
        raise Error(f"the task is larger than {MAX_BODY >> 20} MB: give its methods less, such as the name of a file")
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {token}"}
    connection = http.client.HTTPConnection(str(place.hostname), place.port, timeout=SECONDS)
    try:
        with contextlib.closing(connection):
            connection.request("POST", f"{place.path}/task", text, headers)
            answer = connection.getresponse()
            found = json.loads(answer.read())
    except (OSError, ValueError, http.client.HTTPException) as error:
        reason = printable(error, 200) or type(error).__name__
        raise Error(f"the server at {server.url} does not answer ({reason}): see its log; was it stopped?") from None
    if answer.status != STATUS_CREATED:
        more = f" {json.dumps(found['errors'])}" if "errors" in found else ""
        raise Error(f"the server refused the task: {printable(found.get('msg'), 500)}{printable(more, 500)}")
    return found
