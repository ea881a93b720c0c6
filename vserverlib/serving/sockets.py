"""The web sockets: socket.io (Engine.IO 4, by long polling or WebSocket) around the application, namespace /tasks.

Nodes receive their tasks by these events, and report what they do; users may follow. The token of the handshake says
who it is. An expired or invalid one is accepted, gets the event `expired_token` or `invalid_token`, and is closed soon:
real nodes then log in again. Rooms hold who receives what; they follow from the rights, and are computed again each
minute. What a node reports about a run is passed on only if the run is its own.

socket.io is imported with the first connection. It owns presence by web sockets; run_logs keeps the lines of runs.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import sys
import time
import traceback
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any
from urllib.parse import parse_qs

from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from vserverlib import Error, printable
from vserverlib.entities.progress import STATUSES
from vserverlib.messages import notify
from vserverlib.serving import presence, rooms
from vserverlib.serving.callers import NODE, Caller
from vserverlib.serving.desk import Busy
from vserverlib.serving.refusals import Refusal
from vserverlib.serving.requests import Event
from vserverlib.serving.run_logs import RunLogs
from vserverlib.serving.server import Server

NAMESPACE, PATH = "/tasks", "/socket.io/"
PING_EVERY, PING_PATIENCE = 25, 60  # seconds: Engine.IO's own pings, and how long it waits for an answer
SILENT = 65.0  # seconds without an event `ping`, which nodes send each minute, after which a node is offline
SWEEP_EVERY, RIGHTS_EVERY = 1.0, 60.0  # seconds
UNKNOWN_FOR = 2.0  # seconds that a connection without a valid token stays open
MAX_CONNECTIONS = 2000
MAX_WAITING = 2000  # packets that a client has not fetched; then it is disconnected
MAX_MESSAGE = 1_000_000  # bytes
MAX_ENTRIES, MAX_KEY, MAX_VALUE = 1000, 200, 2000  # of a node's configuration; characters
MAX_RUNS = 1000  # runs that are remembered as a connection's own

if importlib.util.find_spec("socketio") is None:  # it is imported with the first connection
    raise ImportError("socketio is missing", name="socketio")


def attach(app: ASGIApp, server: Server) -> ASGIApp:
    """Return the application with socket.io in front of it, and have the server's events published."""
    return Sockets(app, server)


class Sockets:
    """The ASGI program that passes web sockets to a Hub, and all else to the application."""

    def __init__(self, app: ASGIApp, server: Server) -> None:
        self._app, self._server = app, server
        self._hub: Hub | None = None
        self._loading = asyncio.Lock()
        server.desk.publish = self._publish
        server.closing.append(self._close)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan" or not f"{scope['path']}/".startswith(PATH):
            await self._app(scope, receive, send)
        elif (refusal := self._refusal(scope)) is None:
            await self._handle(await self._loaded(), scope, receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
        else:
            await PlainTextResponse(refusal[1], refusal[0])(scope, receive, send)

    async def _handle(self, hub: Hub, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await hub.sio.handle_request(scope, receive, send)
        except Exception:  # socket.io raises what its parsers do: errors of ours end in Hub._guarded
            await hub.end_of(scope)
            with contextlib.suppress(RuntimeError):  # an answer has been begun
                if scope["type"] == "websocket":
                    await send({"type": "websocket.close", "code": 1002})
                else:
                    await PlainTextResponse("this is no packet of socket.io", 400)(scope, receive, send)

    def _refusal(self, scope: Scope) -> tuple[int, str] | None:
        """Return the status and text if a new connection is refused."""
        if "sid" in parse_qs(scope["query_string"].decode("latin-1")):  # as Engine.IO reads it: empty is none
            return None
        if not _token(scope):
            return 401, "Missing Authorization Header"
        if self._hub is not None and len(self._hub.sio.eio.sockets) >= MAX_CONNECTIONS:
            return 503, "too many connections: try again later"
        return None

    async def _loaded(self) -> Hub:
        async with self._loading:
            if self._hub is None:
                await asyncio.to_thread(__import__, "socketio")  # takes 0.1 seconds
                self._hub = Hub(self._server)
            return self._hub

    def _publish(self, events: list[Event]) -> None:
        if self._hub is not None:
            self._hub.outgoing.put_nowait(events)

    async def _close(self) -> None:
        if self._hub is not None:
            await self._hub.close()


def _token(scope: Scope) -> str:
    given = next((value for key, value in scope["headers"] if key == b"authorization"), b"").decode("latin-1")
    scheme, _, token = given.partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""


@dataclass
class Connection:
    """A node or user that is connected. seen: when it last sent `ping`. runs: those known to be its own."""

    sid: str
    claims: Mapping[str, Any]
    caller: Caller
    rooms: frozenset[str]
    seen: float = field(default_factory=time.monotonic)
    is_silent: bool = False
    runs: dict[int, dict[str, Any]] = field(default_factory=dict)

    @property
    def who(self) -> tuple[str, int]:
        return self.caller.kind, self.caller.id

    @property
    def has_expired(self) -> bool:
        """Whether the token of a user has expired. A node polls on with its first one while it refreshes others."""
        return self.caller.kind != NODE and time.time() > self.claims["exp"]

    @property
    def title(self) -> str:
        return f"{self.caller.kind} {printable(self.caller.name)}"


class Hub:
    """The connections, and the events between them and the server. Lives in the event loop."""

    def __init__(self, server: Server) -> None:
        import socketio

        self._server = server
        self.sio = socketio.AsyncServer(
            async_mode="asgi",
            async_handlers=False,  # the events of a connection are handled one after the other
            always_connect=True,  # a node with an expired token is told so by an event
            namespaces=[NAMESPACE],
            ping_interval=PING_EVERY,
            ping_timeout=PING_PATIENCE,
            max_http_buffer_size=MAX_MESSAGE,
            cors_credentials=False,
            logger=_Quiet(),
            engineio_logger=_Quiet(),
        )
        self.outgoing: asyncio.Queue[list[Event]] = asyncio.Queue()
        self._connections: dict[str, Connection] = {}
        self._unknown: dict[str, float] = {}  # Engine.IO's ids of connections without a valid token: since when
        self._logs = RunLogs(server)
        self._is_closing = False
        self.sio.eio.disconnect = self._end  # its own waits until the client has fetched all, which it may never do
        self.sio.on("connect", self._connected, namespace=NAMESPACE)
        self.sio.on("disconnect", self._disconnected, namespace=NAMESPACE)
        self.sio.on("*", self._received, namespace=NAMESPACE)
        self._tasks = [asyncio.ensure_future(each) for each in (self._send_events(), self._sweep())]

    # Coming and going

    async def _connected(self, sid: str, environ: Mapping[str, Any], auth: Any = None) -> None:
        await self._guarded(self._identified(sid, environ["asgi.scope"]))

    async def _identified(self, sid: str, scope: Scope) -> None:
        try:
            claims = self._server.signer.read(_token(scope))
        except Refusal as refusal:
            await self._turned_away(sid, "expired_token" if refusal.status == 401 else "invalid_token")
            return
        peer = scope["client"][0] if scope["client"] else None
        try:
            caller, joined = await self._server.desk.write(partial(rooms.arrived, claims, peer))
        except Refusal:
            await self._turned_away(sid, "invalid_token")
            return
        except Busy as error:
            self._log(f"a connection could not be registered: {error}")
            return  # the next sweeps end it, and the client connects again
        await self._joined(Connection(sid, claims, caller, joined))

    async def _joined(self, connection: Connection) -> None:
        sid, caller = connection.sid, connection.caller
        if not self.sio.manager.is_connected(sid, NAMESPACE):  # it has gone meanwhile
            if not self._is_connected(connection.who):
                await self._write_presence(caller, presence.OFFLINE)
            return
        self._connections[sid] = connection
        self._server.nodes.is_due(*connection.who)  # it was written just now
        if caller.kind == NODE:
            await self._emit("sync", None, sid)
        for room in connection.rooms:
            await self.sio.enter_room(sid, room, namespace=NAMESPACE)
        if caller.kind == NODE:
            await self._notify_node("node-online", caller)
        await self._announce(caller, "joined")
        self._log(f"{connection.title} connected")

    async def _turned_away(self, sid: str, event: str) -> None:
        """Send why, and have the connection closed by the next sweeps."""
        self._log(f"a connection was refused: {event}")
        await self._emit(event, None, sid)

    async def _disconnected(self, sid: str, reason: str = "") -> None:
        connection = self._connections.pop(sid, None)
        if connection is None or self._is_closing:
            return
        caller = connection.caller
        self._log(f"{connection.title} disconnected")
        if not self._is_connected(connection.who):
            await self._guarded(self._gone(caller))

    def _is_connected(self, who: tuple[str, int]) -> bool:
        return any(each.who == who for each in self._connections.values())

    async def _gone(self, caller: Caller) -> None:
        self._server.nodes.configurations.pop(caller.id, None) if caller.kind == NODE else None
        await self._write_presence(caller, presence.OFFLINE)
        if caller.kind == NODE:
            await self._notify_node("node-offline", caller)
        await self._announce(caller, "left")

    async def _write_presence(self, caller: Caller, status: str) -> None:
        await self._server.desk.write(partial(presence.write, caller.kind, caller.id, status))

    async def close(self) -> None:
        """Set all that are connected offline, write the lines that wait, and end the connections."""
        self._is_closing = True
        for task in self._tasks:
            task.cancel()
        left = {each.who for each in self._connections.values()}
        await self._guarded(self._server.desk.write(partial(rooms.all_left, left)))
        await self._guarded(self._logs.flush())
        for id in list(self.sio.eio.sockets):
            await self._guarded(self._end(id))

    # Events from the server

    async def _send_events(self) -> None:
        while True:
            for event in await self.outgoing.get():
                to = [rooms.EVERYBODY] if event.room is None else [event.room, rooms.EVERYTHING]
                await self._guarded(self._emit(event.name, event.data, to))

    async def _emit(self, name: str, data: Any, to: str | list[str]) -> None:
        if self._server.level > 1:
            self._log(f"event {name} to {to if isinstance(to, str) else ', '.join(to)}")
        await self.sio.emit(name, data, to=to, namespace=NAMESPACE)

    async def _notify_node(self, event: str, node: Caller) -> None:
        about = {"id": node.id, "name": node.name, "org_id": node.organization_id}
        await self._emit(event, about, [*rooms.node_rooms(node), rooms.EVERYTHING])

    async def _announce(self, caller: Caller, what: str) -> None:
        """Have a node's collaboration know that it came or went."""
        if caller.kind == NODE and caller.only_collaboration is not None:
            text = f"Node <{printable(caller.name)}> {what} the collaboration"
            await self._emit("message", text, [rooms.of(caller.only_collaboration), rooms.EVERYTHING])

    # Events from nodes and users

    async def _received(self, event: str, sid: str, *given: Any) -> None:
        connection, handle = self._connections.get(sid), HANDLERS.get(event)
        if connection is None or handle is None:
            return
        if self._server.level > 1:
            self._log(f"event {event} from {connection.title}")
        data = given[0] if given else None
        if event == "ping":
            await self._guarded(self._pinged(connection))
        elif connection.caller.kind == NODE and isinstance(data, dict):
            await self._guarded(handle(self, connection, data))

    async def _pinged(self, connection: Connection) -> None:
        connection.seen = time.monotonic()
        came_back, connection.is_silent = connection.is_silent, False
        if self._server.nodes.is_due(*connection.who) or came_back:
            await self._write_presence(connection.caller, presence.ONLINE)
        if came_back and connection.caller.kind == NODE:
            await self._notify_node("node-online", connection.caller)

    async def _configured(self, connection: Connection, data: dict[str, Any]) -> None:
        """Keep what a node reports about itself until it goes."""
        self._server.nodes.configurations[connection.caller.id] = list(_entries(data))[:MAX_ENTRIES]

    async def _status_changed(self, connection: Connection, data: dict[str, Any]) -> None:
        run = await self._own_run(connection, data.get("run_id"))
        if run is not None and data.get("status") in STATUSES:
            await self._to_partners(connection, "algorithm_status_change", {"status": data["status"], **run})

    async def _logged(self, connection: Connection, data: dict[str, Any]) -> None:
        run, text = await self._own_run(connection, data.get("run_id")), data.get("log")
        if run is not None and isinstance(text, str) and text:
            self._logs.add(run["run_id"], connection.caller, text)
            about = {"run_id": run["run_id"], "task_id": run["task_id"], "log": text}
            await self._to_partners(connection, "algorithm_log", about)

    async def _measured(self, connection: Connection, data: dict[str, Any]) -> None:
        """Ignore the figures of a node's machine: there is no Prometheus that would ask for them."""

    async def _own_run(self, connection: Connection, id: Any) -> dict[str, Any] | None:
        """Return the ids of a run if it is that of a node; None for any other."""
        if not isinstance(id, int) or isinstance(id, bool):
            return None
        if id not in connection.runs:
            found = await self._server.desk.read(partial(rooms.own_run, connection.caller, id))
            if found is None:
                return None
            if len(connection.runs) >= MAX_RUNS:
                connection.runs.clear()
            connection.runs[id] = found
        return connection.runs[id]

    async def _to_partners(self, connection: Connection, event: str, data: Any) -> None:
        collaboration = connection.caller.only_collaboration
        if collaboration is not None:
            await self._emit(event, data, [rooms.of(collaboration), rooms.EVERYTHING])

    # What happens now and then

    async def _sweep(self) -> None:
        rights_at = time.monotonic()
        while True:
            await asyncio.sleep(SWEEP_EVERY)
            await self._guarded(self._set_silent_offline())
            await self._guarded(self._end_hopeless())
            if time.monotonic() - rights_at >= RIGHTS_EVERY:
                rights_at = time.monotonic()
                await self._guarded(self._renew_rights())

    async def _set_silent_offline(self) -> None:
        """Set nodes offline that are connected but have not sent `ping` for a while."""
        moment = time.monotonic()
        for connection in list(self._connections.values()):
            if connection.caller.kind == NODE and not connection.is_silent and moment - connection.seen > SILENT:
                connection.is_silent = True
                await self._write_presence(connection.caller, presence.OFFLINE)
                await self._notify_node("node-offline", connection.caller)

    async def _end_hopeless(self) -> None:
        """End connections that have no valid token, or do not fetch what is sent to them."""
        moment, sockets = time.monotonic(), self.sio.eio.sockets
        known = {self.sio.manager.eio_sid_from_sid(each, NAMESPACE) for each in self._connections}
        self._unknown = {id: self._unknown.get(id, moment) for id in sockets if id not in known}
        ended = [id for id, since in self._unknown.items() if moment - since > UNKNOWN_FOR]
        ended += [id for id, each in sockets.items() if each.queue.qsize() > MAX_WAITING]
        for id in ended:
            await self._end(id)

    async def end_of(self, scope: Scope) -> None:
        """End the connection that a request has opened."""
        for id, environ in list(self.sio.environ.items()):
            if environ["asgi.scope"] is scope:
                await self._guarded(self._end(id))

    async def _end(self, id: str) -> None:
        """End a connection of Engine.IO: its open poll is answered.

        Without a packet that says so: real nodes connect again after an error, but not after such a packet.
        """
        found = self.sio.eio.sockets.get(id)
        if found is not None:
            await found.close(wait=False, abort=True)
            found.queue.put_nowait(None)
            self.sio.eio.sockets.pop(id, None)

    async def _renew_rights(self) -> None:
        """Compute the rooms of all connections again; end those whose user or node is gone, or whose token expired."""
        claims = {each.sid: each.claims for each in self._connections.values()}
        for sid, found in (await self._server.desk.read(partial(rooms.renewed, claims))).items():
            connection = self._connections.get(sid)
            if connection is None:
                continue
            if found is None or connection.has_expired:
                await self._emit("invalid_token" if found is None else "expired_token", None, sid)
                await self.sio.disconnect(sid, namespace=NAMESPACE)
                continue
            connection.caller, joined = found
            for room in connection.rooms - joined:
                await self.sio.leave_room(sid, room, namespace=NAMESPACE)
            for room in joined - connection.rooms:
                await self.sio.enter_room(sid, room, namespace=NAMESPACE)
            connection.rooms = joined

    async def _guarded(self, work: Any) -> None:
        """Await some work whose errors must end nothing but the work."""
        try:
            await work
        except (Busy, Refusal, Error) as error:
            self._log(str(error))
        except Exception:
            traceback.print_exc(file=sys.stderr)

    def _log(self, text: str) -> None:
        if self._server.level > 0:
            notify(f"{time.strftime('%H:%M:%S', time.gmtime())} web socket: {text}", "dim")


HANDLERS: Mapping[str, Callable[[Hub, Connection, dict[str, Any]], Any]] = {
    "ping": lambda hub, connection, data: hub._pinged(connection),
    "node_info_update": Hub._configured,
    "algorithm_status_change": Hub._status_changed,
    "algorithm_log": Hub._logged,
    "node_metrics_update": Hub._measured,
}


class _Quiet:
    """A logger for socket.io that drops everything: a client may cause any of its messages, tracebacks too."""

    def _drop(self, *_: object, **__: object) -> None: ...

    debug = info = warning = error = critical = exception = log = _drop


def _entries(data: Mapping[str, Any]) -> Iterable[dict[str, str]]:
    """Return what a node reports as keys and values: an item of a list, or of an inner object, is one of its own."""
    for key, value in data.items():
        for inner, each in value.items() if isinstance(value, dict) else [(key, value)]:
            for item in each if isinstance(each, list) else [each]:
                text = str(item).lower() if isinstance(item, bool) else str(item)
                yield {"key": str(inner)[:MAX_KEY], "value": text[:MAX_VALUE]}
