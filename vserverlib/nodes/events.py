"""The web socket of a node: connects and stays connected, passes events on, sends `ping` and the lines of logs.

It decides when to connect again, and with which token; node.py decides what an event means.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import socketio

from vserverlib import Error
from vserverlib.nodes.client import Client, Session

NAMESPACE = "/tasks"
EVENT = "2"  # begins a packet of socket.io that is an event
RECEIVED = ("sync", "new_task", "kill_containers")
PING_EVERY = 60.0  # seconds; a server sets a node offline after 65 without
MAX_PIECE = 100_000  # characters of a log in an event: JSON may take six bytes for each, and servers take a megabyte
CONNECT_SECONDS = 10
FIRST_PAUSE, LONGEST_PAUSE = 0.25, 10.0  # seconds between two tries
LASTING = 5.0  # seconds after which a connection counts as good, so that pauses begin anew
CLOSE_SECONDS = 3.0


def pauses() -> Iterator[float]:
    """Return growing pauses between tries, in seconds."""
    pause = FIRST_PAUSE
    while True:
        yield pause
        pause = min(2 * pause, LONGEST_PAUSE)


class Events:
    """The events from and to a server.

    handle: is called with the name and the data of each event from the server, and each minute with `sync`, from any
    thread. report: is called with the Error of a try to connect.
    """

    def __init__(self, client: Client, handle: Callable[[str, Any], object], report: Callable[[Error], object]) -> None:
        self._client, self._handle, self._report = client, handle, report
        self._sio: Any = None
        self._session = Session(client)
        self._closing, self._wake = threading.Event(), threading.Event()
        self._renewal: Callable[[], object] | None = None
        self._thread = threading.Thread(target=self._run, name="events", daemon=True)

    def start(self) -> None:
        """Connect, and stay connected."""
        self._thread.start()

    def close(self) -> None:
        """Disconnect."""
        self._closing.set()
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join(CLOSE_SECONDS)  # a long poll may last longer

    # To the server

    def emit(self, name: str, data: Any = None) -> None:
        """Send an event; it is lost without a connection."""
        with contextlib.suppress(socketio.exceptions.SocketIOError):
            if self._sio is not None:
                self._sio.emit(name, data, namespace=NAMESPACE)

    def log(self, about: dict[str, Any], text: str) -> None:
        """Send text of a run's log, in pieces that a server takes. about: the other fields of the event."""
        for start in range(0, len(text), MAX_PIECE):
            self.emit("algorithm_log", {**about, "log": text[start : start + MAX_PIECE]})

    # The connection

    def _run(self) -> None:
        pause = pauses()
        while not self._closing.is_set():
            try:
                self._connect()
            except Error as error:
                self._report(error)
            else:
                if self._stay():
                    pause = pauses()
            self._closing.wait(next(pause))

    def _connect(self) -> None:
        """Connect with a valid token. Raises an Error if that fails."""
        renewal, self._renewal = self._renewal, None
        if renewal is not None:
            renewal()
        self._session = Session(self._client)
        sio = socketio.Client(
            reconnection=False,
            handle_sigint=False,
            logger=_Quiet(),
            engineio_logger=_Quiet(),
            http_session=self._session,
            websocket_extra_options={} if self._session.trust_env else {"http_no_proxy": ["*"]},
        )
        for name in RECEIVED:
            sio.on(name, _passing(self._handle, name), namespace=NAMESPACE)
        used = self._client.token
        sio.on("expired_token", lambda *_: self._turned_away(lambda: self._client.renew(used)), namespace=NAMESPACE)
        sio.on("invalid_token", lambda *_: self._turned_away(self._client.log_in), namespace=NAMESPACE)
        sio.on("disconnect", lambda *_: self._wake.set(), namespace=NAMESPACE)
        sio.eio.start_background_task = _inline(sio.eio.start_background_task)
        self._sio = sio
        try:
            headers = {"Authorization": f"Bearer {used}"}
            sio.connect(self._url, headers, namespaces=[NAMESPACE], wait_timeout=CONNECT_SECONDS)
        except Exception:  # socket.io raises what its parsers and its HTTP client do
            self._disconnect()
            raise Error(f"{self._url} does not answer (its web socket)") from None

    @property
    def _url(self) -> str:
        return f"{self._client.server.host}:{self._client.server.port}"

    def _turned_away(self, renewal: Callable[[], object]) -> None:
        self._renewal = renewal
        self._wake.set()

    def _stay(self) -> bool:
        """Stay until the connection ends; return whether it was a good one."""
        began = time.monotonic()
        ping_at = began + PING_EVERY
        while self._sio.connected and self._renewal is None and not self._closing.is_set():
            self._wake.wait(max(ping_at - time.monotonic(), 0))
            self._wake.clear()
            if time.monotonic() >= ping_at:
                ping_at += PING_EVERY
                self.emit("ping")
                self._handle("sync", None)
        self._disconnect()
        return time.monotonic() - began > LASTING

    def _disconnect(self) -> None:
        with contextlib.suppress(Exception):  # as above; a connection that cannot be ended has ended
            self._sio.disconnect()
        self._session.close()


def _inline(start_thread: Callable[..., Any]) -> Callable[..., Any]:
    """Have events handled by the thread that reads them, in their order, instead of by a new thread each.

    A run is five events for each node of its collaboration: threads for 24 nodes took as long as the run.
    """

    def start(target: Callable[..., Any], *args: Any, **options: Any) -> Any:
        if args and isinstance(args[0], str) and args[0].startswith(EVENT):
            with contextlib.suppress(Exception):  # as a thread of its own would end, and nothing else
                target(*args)
            return None
        return start_thread(target, *args, **options)

    return start


def _passing(handle: Callable[[str, Any], object], name: str) -> Callable[..., None]:
    def pass_on(*data: Any) -> None:
        handle(name, data[0] if data else None)

    return pass_on


class _Quiet:
    """A logger for socket.io that drops everything: what goes wrong is reported once, by report()."""

    def _drop(self, *_: object, **__: object) -> None: ...

    debug = info = warning = error = critical = exception = log = _drop
