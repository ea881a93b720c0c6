"""The application: it checks a request before anything is read from the database, and turns errors into answers.

Checks, in this order: the Host header (against DNS rebinding), the size of the body, its content type, the token. No
answer shows more of an error than its message; the traceback of a bug goes to stderr.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import json
import re
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Mapping
from functools import partial
from typing import IO, Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.requests import Request as HttpRequest
from starlette.responses import Response
from starlette.routing import Route as HttpRoute
from starlette.types import ASGIApp, Receive, Scope, Send

from vserverlib import Damaged, Error, NotFound, ReadOnly, printable
from vserverlib.databases.postgresql.connection_errors import Unreachable
from vserverlib.drivers import peewee
from vserverlib.messages import notify
from vserverlib.serving import MAX_BODY, browser, callers, openapi, sockets, tokens
from vserverlib.serving.answers import Answer, message
from vserverlib.serving.browser import Page
from vserverlib.serving.desk import Busy
from vserverlib.serving.refusals import Refusal, lacking
from vserverlib.serving.requests import Request
from vserverlib.serving.routes import LARGE, READ, REFRESH, ROUTES, STEPS, Route
from vserverlib.serving.server import Server

MAX_SMALL, MAX_LOG_IN = 1024 * 1024, 64 * 1024  # bytes of other bodies; the last for calls without a token
MAX_VALUES = 100_000  # of a body: more would keep the server busy for seconds, and take a gigabyte
MAX_DIGITS = 20  # of a length
BODY_PATIENCE = 600  # seconds that a body may take
IN_MEMORY = 1024 * 1024  # bytes of a body; a longer one is kept in a file until it is complete
JSON = "application/json"
HOST = re.compile(r"(?:\[(?P<address>[^\[\]]+)\]|(?P<name>[^:\[\]]+))(?::\d*)?", re.ASCII)  # with or without a port
BUG = "An unexpected error occurred on the server!"


def create(server: Server) -> ASGIApp:
    """Return the ASGI program of a server."""
    by_path: dict[str, dict[str, Route]] = {}
    for route in ROUTES:
        by_path.setdefault(f"{server.api_path}/{route.path}", {})[route.method] = route
    found = [
        HttpRoute(path, partial(_answer, server, routes), methods=list(routes)) for path, routes in by_path.items()
    ]
    found += [
        HttpRoute(page.path, partial(_browsed, server, page), methods=[page.method])
        for page in browser.Browser(server).pages()
    ]
    document = Response(json.dumps(openapi.document(server.api_path)), media_type=JSON)
    found.append(HttpRoute(f"{server.api_path}/{openapi.PATH}", lambda _: document, methods=["GET"]))
    handlers: Mapping[Any, Any] = {HTTPException: _http_error}
    app = Starlette(routes=found, exception_handlers=handlers)
    app.router.redirect_slashes = False
    return HostCheck(sockets.attach(app, server), server.hosts)


class HostCheck:
    """Refuses requests for other hosts: a page of the web may have its name lead to this machine (DNS rebinding)."""

    def __init__(self, app: ASGIApp, hosts: frozenset[str]) -> None:
        self.app, self.hosts = app, hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan" or self._is_known(_host(scope)):
            await self.app(scope, receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
        else:
            name = printable(_host(scope))
            text = f'this server is not called "{name}": start it with --allowed-host to have it answer to that name'
            await _response(message(text, 400))(scope, receive, send)

    def _is_known(self, name: str) -> bool:
        return name == "localhost" or name in self.hosts or _is_address(name)


def _host(scope: Scope) -> str:
    """Return the name in the Host header, without the port."""
    named = next((value for key, value in scope["headers"] if key == b"host"), b"").decode("latin-1").lower()
    found = HOST.fullmatch(named)
    return named if found is None else found["address"] or found["name"]


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _response(answer: Answer) -> Response:
    return Response(answer.encoded(), answer.status, dict(answer.headers), JSON)


async def _http_error(request: HttpRequest, error: Exception) -> Response:
    """Return the answer for an unknown path or method."""
    status = error.status_code if isinstance(error, HTTPException) else 500
    text = {404: "there is no such call", 405: "this call has no such method"}.get(status, "the request is incorrect")
    return _response(message(text, status))


async def _answer(server: Server, routes: Mapping[str, Route], http: HttpRequest) -> Response:
    """Answer a request, and log a line about it."""
    began, route = time.monotonic(), routes["GET" if http.method == "HEAD" else http.method]
    request = Request(
        route.method,
        http.url.path,
        http.path_params,
        http.query_params.multi_items(),
        None,
        None,
        server=server,
    )
    answer = await _refused_or(partial(_asked, server, route, request, http))
    log(server, request, answer.status, time.monotonic() - began)
    return _response(answer)


async def _browsed(server: Server, page: Page, http: HttpRequest) -> Response:
    """Answer a request for a page, and log a line about it."""
    began = time.monotonic()
    query = http.query_params.multi_items()
    request = Request(page.method, http.url.path, http.path_params, query, None, None, server=server)
    found: Any = await _refused_or(partial(page.function, request, http))
    response = browser.refused(found) if isinstance(found, Answer) else found
    if server.level >= page.level or response.status_code >= 500:
        log(server, request, response.status_code, time.monotonic() - began)
    return response


async def _refused_or(ask: Callable[[], Any]) -> Answer:
    """Return an answer, also for an error."""
    try:
        answer: Answer = await ask()
    except Refusal as refusal:
        errors = {} if refusal.errors is None else {"errors": refusal.errors}
        return Answer({"msg": refusal.message, **errors}, refusal.status)
    except ClientDisconnect:  # nobody reads the answer
        return message("the client has gone before the end of its request", 400)
    except Unreachable as error:  # its address is nobody's business
        notify(str(error), "yellow")
        return message("the database cannot be reached: try again later", 503)
    except (Busy, ReadOnly, Damaged) as error:
        return message(str(error), 503)
    except NotFound as error:
        return message(str(error), 404)
    except Error as error:
        is_of_database = isinstance(error.__cause__, peewee.OperationalError)  # such as a full disk
        return message(str(error), 503 if is_of_database else 400)
    except Exception:
        traceback.print_exc(file=sys.stderr)
        return message(BUG, 500)
    return answer


async def _asked(server: Server, route: Route, request: Request, http: HttpRequest) -> Answer:
    """Check a request and run the function of its route."""
    if route.callers:
        request.token = server.signer.read(_bearer(http), tokens.REFRESH if route.kind == REFRESH else tokens.ACCESS)
        _require_kind(route, request.token["client_type"])  # before a body is read
    request.body = await _body(http, _limit(route))
    if route.how == STEPS:
        if route.callers:
            request.caller = await server.desk.read(partial(_checked, route, request))
        answer: Answer = await route.function(request, server)
        return answer
    run = partial(_run, route, request)
    if route.how == READ:
        return await server.desk.read(run)
    return await server.desk.write(run, events=request.events)


def _require_kind(route: Route, kind: str) -> None:
    if kind not in route.callers:
        raise Refusal(401, f"this call is not for a {kind}")


def _limit(route: Route) -> int:
    """Return the bytes that a body may have."""
    if not route.callers:
        return MAX_LOG_IN
    return MAX_BODY if route.kind == LARGE else MAX_SMALL


def _run(route: Route, request: Request) -> Answer:
    """Find the caller, and run the function of a route: in the thread of the desk, in a transaction."""
    if route.callers:
        request.caller = _checked(route, request)
        if route.how != READ:
            request.server.desk.sign_as(request.actor)
    answer: Answer = route.function(request)
    return answer


def _checked(route: Route, request: Request) -> callers.Caller:
    """Return the caller of a token. A 401 if it lacks the right in every scope."""
    caller = callers.of_token(request.token)
    if route.right is not None and not caller.may_any(*route.right):
        raise lacking()
    return caller


def _bearer(http: HttpRequest) -> str:
    scheme, _, token = http.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not token.strip():
        raise Refusal(401, "Missing Authorization Header")
    return token.strip()


async def _body(http: HttpRequest, limit: int) -> Any:
    """Return the JSON of the body, None without one. A long one is kept in a file until it is complete."""
    declared = http.headers.get("content-length", "")
    if len(declared) > MAX_DIGITS or (declared.isdecimal() and int(declared) > limit):
        raise _too_long(limit)
    with tempfile.SpooledTemporaryFile(IN_MEMORY) as kept:
        size = await _kept(http, limit, kept)
        if not size:
            return None
        if http.headers.get("content-type", "").partition(";")[0].strip().lower() != JSON:
            raise Refusal(415, f"the body has to be JSON: send the header Content-Type: {JSON}")
        kept.seek(0)
        return _parsed(kept.read())


async def _kept(http: HttpRequest, limit: int, file: IO[bytes]) -> int:
    """Write the body into a file, and return its length. A 408 if it does not arrive in time."""
    size = 0
    try:
        async with asyncio.timeout(BODY_PATIENCE):
            async for chunk in http.stream():
                size += len(chunk)
                if size > limit:
                    raise _too_long(limit)
                file.write(chunk)
    except TimeoutError:
        raise Refusal(408, f"the body has not arrived within {BODY_PATIENCE} seconds") from None
    except OSError as error:
        raise Refusal(503, f"the body cannot be kept ({error.strerror}): free some space in TMPDIR") from error
    return size


def _too_long(limit: int) -> Refusal:
    return Refusal(413, f"the body is longer than {limit // 1024:,} KB")


def _parsed(text: bytes) -> Any:
    """Return the value of a JSON text in UTF-8. A 400 if it is not JSON, or has too many values."""
    if _is_crowded(text):
        raise Refusal(400, f"the body has more than {MAX_VALUES:,} values")
    try:
        return json.loads(text.decode(), parse_constant=_no_constant)  # of bytes, it would take UTF-16 too
    except (ValueError, RecursionError):
        raise Refusal(400, "the body is not JSON") from None


def _is_crowded(text: bytes) -> bool:
    """Whether a JSON text has more than MAX_VALUES values. What is within texts does not count: a log is one value."""
    bare = text.replace(rb"\\", b"").replace(rb"\"", b"")  # without escapes, all quotes begin or end a text
    if bare.count(b'"') > 4 * MAX_VALUES:  # two for a name, two for its value
        return True
    outside = b"".join(bare.split(b'"')[::2])
    return sum(map(outside.count, (b",", b"[", b"{"))) > MAX_VALUES


def _no_constant(name: str) -> Any:
    raise ValueError(name)


def log(server: Server, request: Request, status: int, seconds: float) -> None:
    """Write a line about a request to stderr. It never shows a body or a token."""
    if server.level == 0 and status < 500:
        return
    query = "?" + "&".join(f"{name}={value}" for name, value in request.query) if request.query else ""
    who = request.caller.title if request.caller is not None else request.tried or "-"
    path = request.path + (query if server.level > 1 else "")
    moment = time.strftime("%H:%M:%S", time.gmtime())
    line = f"{moment} {request.method} {printable(path, 500)} {status} {printable(who)} {seconds * 1000:.0f} ms"
    with contextlib.suppress(OSError):  # nobody reads the log any more
        notify(line, "yellow" if status >= 500 else "dim")
