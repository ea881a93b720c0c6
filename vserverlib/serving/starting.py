"""Starting the server: opening the database, binding the port, running until Ctrl-C, ending in order."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

import uvicorn

from vserverlib import Error, files, running_servers
from vserverlib.databases.connection import DatabaseMixin
from vserverlib.entities.fields import key_salt
from vserverlib.messages import notify
from vserverlib.running_servers import RunningServer
from vserverlib.serving import application, connections, presence, tokens
from vserverlib.serving.desk import Busy, Desk
from vserverlib.serving.node_processes import NodeProcesses
from vserverlib.serving.server import Server
from vserverlib.serving.tokens import Signer, served_already

BACKLOG = 512  # connections that wait to be accepted
PATIENCE = 3  # seconds that open requests have at the end
KEEP_ALIVE = 75  # seconds that a connection without a request stays open: longer than proxies keep theirs
LOCK = 0x76737276  # "vsrv": the advisory lock of a server on PostgreSQL, until its session ends
LOCKED = "SELECT pg_try_advisory_lock(%s, hashtext(current_schema()))"
EVERYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}
ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Options(NamedTuple):
    """How a server is started. is_demo: it keeps no secret; the secret of others outlives a restart."""

    host: str
    port: int
    api_path: str
    allowed_hosts: tuple[str, ...] = ()
    level: int = 1
    is_demo: bool = False


def serve(
    open: Callable[[], DatabaseMixin],
    options: Options,
    announce: Callable[[str, str], object],
    nodes: NodeProcesses | None = None,
) -> int:
    """Serve a database until a signal comes, and return the number of that.

    open: opens the database, in the thread that will have it. announce: is called with the title of the database and
    the URL once the server answers. nodes: run beside it. Raises an Error if the port is taken, or the database is
    served already.
    """
    nodes = nodes or NodeProcesses(())
    with contextlib.closing(bound(options.host, options.port)) as listening, running(open, options) as server:
        app, title = application.create(server), server.desk.database.title

        def ready() -> None:
            announce(title, address(options, listening))
            nodes.start(local_address(options, listening))

        with _announced(server, options, local_address(options, listening)), _handlers_restored():
            return asyncio.run(_serve(app, server, listening, ready, nodes))


@contextlib.contextmanager
def _announced(server: Server, options: Options, url: str) -> Iterator[None]:
    """Leave a file for `vserver run`, as long as the server runs."""
    database = server.desk.database
    place = str(database.file) if database.is_sqlite else database.title
    found = RunningServer(url, os.getpid(), place, server.signer.secret.decode(), options.is_demo)
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(running_servers.announced(tokens.identity(database), found))
        except OSError as error:
            notify(f"vserver run will not find this server: {files.reason(error)}; set VSERVER_HOME", "yellow")
        yield


@contextlib.contextmanager
def _handlers_restored() -> Iterator[None]:
    """Restore the signal handlers at the end, which the event loop replaces."""
    handlers = {number: signal.getsignal(number) for number in ENDING}
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def running(open: Callable[[], DatabaseMixin], options: Options) -> Iterator[Server]:
    """Give a server with its database open, without a port. Closes all at the end."""
    desk = Desk(open)
    desk.start()
    if not desk.database.is_sqlite:
        desk.is_ours = partial(_has_lock, desk.database, [])
    try:
        with _secret(desk.database, options) as secret:
            hosts = frozenset(name.lower() for name in (options.host, *options.allowed_hosts))
            server = Server(desk, Signer(secret), options.api_path.rstrip("/"), hosts, options.level)
            try:
                yield server
            finally:
                server.hashing.end()
    finally:
        desk.end()


@contextlib.contextmanager
def _secret(database: Any, options: Options) -> Iterator[bytes]:
    if options.is_demo:
        yield tokens.new_secret()
        return
    with tokens.locked_secret(database.title, tokens.identity(database)) as secret:
        yield secret


def opened_for_serving(open: Callable[[], Any]) -> Any:
    """Open a database, in the thread of the desk: rules refuse, and the salt of API keys is read.

    Raises an Error if another server has it. That is not noticed behind a pooler; and in a file only on Linux, if the
    other server has another home.
    """
    database = open()
    try:
        database.strict = True
        key_salt(database)
        if not (_lock_file(database) if database.is_sqlite else _lock_on_server(database)):
            raise served_already(database.title)
    except BaseException:
        database.close()
        raise
    return database


def _lock_file(database: Any) -> bool:
    """Lock the file until the database is closed. On Linux such a lock has nothing to do with SQLite's own."""
    if sys.platform != "linux":
        return True
    import fcntl

    descriptor = os.open(database.file, os.O_RDONLY | os.O_CLOEXEC)
    database.at_close.append(partial(os.close, descriptor))  # earlier, SQLite would lose its own locks
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _lock_on_server(database: Any) -> bool:
    return database.is_pooled or bool(database.execute_sql(LOCKED, [LOCK]).fetchone()[0])


def _has_lock(database: Any, sessions: list[Any]) -> bool:
    """Whether this server has the lock, which ends with a session. In a new session it is taken anew.

    sessions: the one that is known to have it.
    """
    session = database.connection()
    if session not in sessions:
        sessions[:] = [session] if _lock_on_server(database) else []
    return bool(sessions)


def bound(host: str, port: int) -> socket.socket:
    """Return a socket that is bound to an address. Raises an Error if it is taken or not ours."""
    try:
        family, kind, protocol, _, place = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listening = socket.socket(family, kind, protocol)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(place)
        listening.listen(BACKLOG)  # only now does another server find the port taken
    except socket.gaierror:
        raise Error(f"there is no host {host}: use --host 127.0.0.1, or an address of this machine") from None
    except OSError as error:
        listening.close()
        if error.errno == errno.EADDRINUSE:
            raise Error(f"port {port} of {host} is taken: use another one with --port, or --port 0 for any") from None
        raise Error(f"{host}:{port} cannot be used ({error.strerror}): use another --host or --port") from None
    return listening


def address(options: Options, listening: socket.socket) -> str:
    """Return the URL of a server."""
    host = f"[{options.host}]" if ":" in options.host else options.host
    return f"http://{host}:{listening.getsockname()[1]}{options.api_path}"


def local_address(options: Options, listening: socket.socket) -> str:
    """Return the URL of a server for this machine: one that listens on all its addresses has no address by itself."""
    return address(options._replace(host=EVERYWHERE.get(options.host, options.host)), listening)


class _Program(uvicorn.Server):
    """uvicorn's server; signals are ours, and it says when it answers."""

    def __init__(
        self, config: uvicorn.Config, server: Server, ready: Callable[[], object], nodes: NodeProcesses
    ) -> None:
        super().__init__(config)
        self._server, self._ready, self._nodes = server, ready, nodes

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        if await self._server.desk.read(presence.is_anybody_online):
            with contextlib.suppress(Busy):  # another program writes for long: they stay as they are
                await self._server.desk.write(presence.set_all_offline)
        await super().startup(sockets)
        asyncio.get_running_loop().set_exception_handler(connections.Reporter())
        self._sweep = asyncio.ensure_future(connections.end_idle(self.server_state.connections))
        self._ready()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        await self._nodes.end()  # they report how their runs ended, while the server still answers
        self._sweep.cancel()
        for close in self._server.closing:  # long polls and streams are requests that uvicorn would wait for
            await close()
        await super().shutdown(sockets)


async def _serve(
    app: Any,
    server: Server,
    listening: socket.socket,
    ready: Callable[[], object],
    nodes: NodeProcesses,
) -> int:
    """Run until a signal, and return its number."""
    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        lifespan="off",
        backlog=BACKLOG,
        proxy_headers=False,
        server_header=False,
        ws="auto",
        timeout_graceful_shutdown=PATIENCE,
        timeout_keep_alive=KEEP_ALIVE,
    )
    program, came = _Program(config, server, ready, nodes), list[int]()

    def end(number: int) -> None:
        program.should_exit = True
        if came:  # the second one
            program.force_exit = True
            nodes.kill()
        came.append(number)

    loop = asyncio.get_running_loop()
    for number in ENDING:
        if signal.getsignal(number) is not signal.SIG_IGN:
            loop.add_signal_handler(number, end, number)
    try:
        await program.serve([listening])
    finally:
        await nodes.end()  # if the server fails
    return came[0] if came else 0
