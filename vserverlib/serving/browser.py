"""The pages for a browser: log-in and log-out, the overview, a task, their event streams, style sheet and script.

They only read, but for the log-in. A form is taken only from a page of this server (Sec-Fetch-Site, or else Origin).
Every answer forbids scripts and styles of others, frames, and keeping a copy.
"""

from __future__ import annotations

import asyncio
import datetime
import functools
import importlib.util
import re
from collections.abc import AsyncIterator, Callable, Mapping
from functools import partial
from typing import Any, NamedTuple
from urllib.parse import parse_qs, quote

from starlette.requests import Request as HttpRequest
from starlette.responses import Response, StreamingResponse

from vserverlib.serving import log_ins, sessions
from vserverlib.serving.answers import Answer
from vserverlib.serving.board import Board, Found, Reading, Wanted
from vserverlib.serving.callers import Caller
from vserverlib.serving.live import Live
from vserverlib.serving.refusals import Refusal
from vserverlib.serving.requests import Request
from vserverlib.serving.server import Server
from vserverlib.serving.sessions import Session, Sessions

ROOT = "/page"  # before all but the overview, which is at /
LOG_IN, LOG_OUT, EVENTS, TASK = f"{ROOT}/log-in", f"{ROOT}/log-out", f"{ROOT}/events", f"{ROOT}/task/"
WANTED = re.compile(rf"/({TASK[1:]}\d{{1,19}})?(\?big)?", re.ASCII)  # where a log-in may lead
BIG = "big"  # in the query: large type
MAX_FORM, MAX_FIELDS = 16 * 1024, 10  # bytes; fields
FORM_PATIENCE = 30  # seconds that a form may take
HTML, FORM = "text/html; charset=utf-8", "application/x-www-form-urlencoded"
STATIC = {
    "page.css": "text/css; charset=utf-8",
    "page.js": "text/javascript; charset=utf-8",
    "icon.svg": "image/svg+xml",
}
POLICY = (
    "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src 'self'; form-action 'self'; "
    "base-uri 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "content-security-policy": POLICY,
    "cache-control": "no-store",
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "same-origin",  # without any, browsers would send no Origin either
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
}
UNBUFFERED = {"x-accel-buffering": "no"}  # nginx would keep events back
WRONG = "wrong name or password, or locked out: after five failures, a user waits for 15 minutes"


if importlib.util.find_spec("jinja2") is None:  # it is imported with the first page
    raise ImportError("jinja2 is missing", name="jinja2")


@functools.cache
def _documents() -> Any:
    """Return the module that draws pages, imported with the first of them: that takes 50 ms."""
    from vserverlib.pages import documents

    return documents


class Page(NamedTuple):
    """An address, and the coroutine that takes (Request, HttpRequest) and returns its response.

    level: from which level of the server's log a line is written.
    """

    method: str
    path: str
    function: Callable[[Request, HttpRequest], Any]
    level: int = 1


class Browser:
    """Answers requests for pages."""

    def __init__(self, server: Server) -> None:
        self._server, self._sessions = server, Sessions()
        self.board = Board(server.desk, self._sessions)
        self.live = Live(server.desk, self.board, self._main)
        server.closing.append(self.live.close)

    def pages(self) -> list[Page]:
        """Return all addresses."""
        static = [Page("GET", f"{ROOT}/{name}", partial(_static, name), 2) for name in STATIC]
        return [
            Page("GET", "/", self._overview),
            Page("GET", f"{TASK}{{id}}", self._task),
            Page("GET", EVENTS, self._events),
            Page("GET", LOG_IN, self._door),
            Page("POST", LOG_IN, self._log_in),
            Page("POST", LOG_OUT, self._log_out),
            *static,
        ]

    # What is seen

    async def _overview(self, request: Request, http: HttpRequest) -> Response:
        return await self._page(request, http, None)

    async def _task(self, request: Request, http: HttpRequest) -> Response:
        return await self._page(request, http, request.id("task"))

    async def _page(self, request: Request, http: HttpRequest, task_id: int | None) -> Response:
        found = await self._found(http, task_id)
        if found is None or found.caller is None:
            return _without_session(http, request.path + _query(http))
        request.caller = found.caller
        if found.reading is None:
            return html(_documents().notice(f"no task {task_id}", NO_TASK, _is_big(http)), 404)
        figures = found.reading.figures
        main = self._main(found.reading, figures.moment, _query(http))
        words = [BIG] * _is_big(http) + ([] if task_id is None else [f"task={task_id}"])
        other = request.path if _is_big(http) else f"{request.path}?{BIG}"
        events = EVENTS + ("?" + "&".join(words) if words else "")
        frame = _documents().Frame(found.caller.name, events, _is_big(http), other)
        return html(_documents().served(main, _documents().name(figures, self._title), frame))

    async def _found(self, http: HttpRequest, task_id: int | None) -> Found | None:
        """Return what a session gets; None without a session."""
        session = self._session(http)
        if session is None:
            return None
        return await self._server.desk.read(lambda: self.board.read(Wanted(session, task_id)))

    async def _caller(self, session: Session | None) -> Caller | None:
        """Return the user of a session; None without one that has not ended."""
        return None if session is None else await self._server.desk.read(lambda: self.board.caller(session))

    @property
    def _title(self) -> str:
        """The name of the database, without its folder or its server."""
        return str(self._server.desk.database.title).rpartition("/")[2].partition("?")[0]

    def _main(self, reading: Reading, moment: datetime.datetime, query: str) -> str:
        """Return the main part for some figures, with ages up to a moment."""
        figures: Any = reading.figures
        main: str = _documents().main_part(figures._replace(moment=moment), self._title, TASK, query)
        return main

    async def _events(self, request: Request, http: HttpRequest) -> Response:
        task_id, session = request.number("task"), self._session(http)
        request.caller = await self._caller(session)
        if session is None or request.caller is None:
            raise Refusal(401, "log in first")
        if http.method == "HEAD":
            return Response("", 200, HEADERS, "text/event-stream")
        stream = self.live.stream(Wanted(session, task_id), _query(http))
        return StreamingResponse(_encoded(stream), 200, {**HEADERS, **UNBUFFERED}, "text/event-stream")

    # Log-in and log-out

    def _session(self, http: HttpRequest) -> Session | None:
        return self._sessions.find(_secret(http))

    async def _door(self, request: Request, http: HttpRequest) -> Response:
        wanted = _wanted(request.asked("to"))
        if await self._caller(self._session(http)) is not None:
            return _moved(wanted)
        return html(_documents().log_in(wanted, big=wanted.endswith(BIG)))

    async def _log_in(self, request: Request, http: HttpRequest) -> Response:
        _require_own_page(http)
        form = await _form(http)
        wanted, username = _wanted(form.get("to")), form.get("username", "")
        try:
            caller, stored = await log_ins.identified(request, self._server, form)
        except Refusal as refusal:
            text = WRONG if refusal.status == 401 else refusal.message
            return html(_documents().log_in(wanted, text, username, wanted.endswith(BIG)), refusal.status)
        request.caller = caller
        self._sessions.end(_secret(http))
        secret = self._sessions.start(caller.id, stored).secret
        is_secure = http.headers.get("origin", "").startswith("https:")
        return _moved(wanted, sessions.set_cookie(_host(http), secret, is_secure))

    async def _log_out(self, request: Request, http: HttpRequest) -> Response:
        _require_own_page(http)
        self._sessions.end(_secret(http))
        self.live.renew()
        return _moved(LOG_IN, sessions.remove_cookie(_host(http)))


NO_TASK = "There is no such task, or your roles do not let you see it."


# Requests


def _host(http: HttpRequest) -> str:
    return http.headers.get("host", "")


def _secret(http: HttpRequest) -> str | None:
    """Return the text in the cookie of a session."""
    return http.cookies.get(sessions.cookie_name(_host(http)))


def _is_big(http: HttpRequest) -> bool:
    return BIG in http.query_params


def _query(http: HttpRequest) -> str:
    return f"?{BIG}" if _is_big(http) else ""


def _wanted(text: str | None) -> str:
    """Return where a log-in leads: an address of a page of ours, else the overview."""
    return text if text is not None and WANTED.fullmatch(text) else "/"


def _require_own_page(http: HttpRequest) -> None:
    """Raise a 403 unless a form was sent by a page of this server, as browsers say."""
    site, origin = http.headers.get("sec-fetch-site"), http.headers.get("origin")
    is_own = site == "same-origin" if site is not None else (origin or "").partition("://")[2] == _host(http) != ""
    if not is_own:
        raise Refusal(403, "this form was sent by a page of another address: open this server's own page and try again")


async def _form(http: HttpRequest) -> dict[str, str]:
    """Return the fields of a form, the last of each name. A 408, 413 or 415 if it is late, too long, or no form."""
    if http.headers.get("content-type", "").partition(";")[0].strip().lower() != FORM:
        raise Refusal(415, f"a form has the header Content-Type: {FORM}")
    try:
        async with asyncio.timeout(FORM_PATIENCE):
            body = await _form_body(http)
    except TimeoutError:
        raise Refusal(408, f"the form has not arrived within {FORM_PATIENCE} seconds") from None
    try:
        fields = parse_qs(body.decode("ascii"), keep_blank_values=True, max_num_fields=MAX_FIELDS)
    except ValueError:
        raise Refusal(400, "this is no form") from None
    return {name: values[-1] for name, values in fields.items()}


async def _form_body(http: HttpRequest) -> bytes:
    body = b""
    async for chunk in http.stream():
        body += chunk
        if len(body) > MAX_FORM:
            raise Refusal(413, f"the form is longer than {MAX_FORM // 1024} KB")
    return body


# Responses


def _without_session(http: HttpRequest, path: str) -> Response:
    """Return the way to the log-in, for a request without a session.

    Who follows a link of another site has sent no cookie, because that is strict: a page of ours leads to itself.
    """
    if http.headers.get("sec-fetch-site") == "cross-site":
        return html(_documents().notice("One moment", "The page opens.", onward=path))
    return _moved(f"{LOG_IN}?to={quote(path)}")


def html(text: str, status: int = 200) -> Response:
    """Return a page."""
    return Response(text, status, HEADERS, HTML)


def refused(answer: Answer) -> Response:
    """Return an error as a page."""
    return html(_documents().notice("This did not work", answer.value["msg"]), answer.status)


def _moved(address: str, headers: Mapping[str, str] | None = None) -> Response:
    return Response("", 303, {**HEADERS, **(headers or {}), "location": address}, HTML)


async def _static(name: str, request: Request, http: HttpRequest) -> Response:
    return Response(_documents().static(name), 200, {**HEADERS, "cache-control": "no-cache"}, STATIC[name])


async def _encoded(stream: AsyncIterator[str]) -> AsyncIterator[bytes]:
    async for text in stream:
        yield text.encode("utf-8", "replace")
