"""A small client of socket.io, by long polling as real nodes, or by a web socket."""

from __future__ import annotations

import http.client
import json
import socket
import time
from typing import Any

import wsproto
from wsproto import events
from wsproto.utilities import LocalProtocolError

NAMESPACE = "/tasks"
SEPARATOR = "\x1e"
SECONDS = 180.0  # that an event is waited for
OPEN, CLOSE, PING, PONG, CONNECT, DISCONNECT, EVENT = "0", "1", "2", "3", "40", "41", "42"


class Gone(Exception):
    """The server has ended the connection."""


class Polling:
    """Packets by long polling."""

    def __init__(self, port: int, token: str | None) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=SECONDS)
        self._headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        self._path = "/socket.io/?EIO=4&transport=polling"
        self._waiting: list[str] = []
        self._is_asking = False
        opened = self._asked("GET")
        self._path += f"&sid={json.loads(opened[1:])['sid']}"

    def _asked(self, method: str, body: str | None = None) -> str:
        try:
            if not self._is_asking:
                self._connection.request(method, self._path, body, self._headers)
            self._is_asking = False
            answer = self._connection.getresponse()
            text = answer.read().decode()
        except (http.client.HTTPException, ConnectionError) as error:
            raise Gone(str(error)) from None
        if answer.status != 200:
            self._connection.close()
            raise Gone(f"{answer.status} {text}")
        return text

    def send(self, packet: str) -> None:
        self._asked("POST", packet)

    def receive(self) -> str:
        if not self._waiting:
            self._waiting = self._asked("GET").split(SEPARATOR)
        return self._waiting.pop(0)

    def poll(self) -> None:
        """Send a poll, whose answer receive() reads."""
        self._connection.request("GET", self._path, None, self._headers)
        self._is_asking = True

    def close(self) -> None:
        self._connection.close()


class WebSocket:
    """Packets by a web socket."""

    def __init__(self, port: int, token: str | None) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=SECONDS)
        self._protocol = wsproto.WSConnection(wsproto.ConnectionType.CLIENT)
        self._waiting: list[str] = []
        self._part = ""
        headers = [] if token is None else [(b"Authorization", f"Bearer {token}".encode())]
        target = "/socket.io/?EIO=4&transport=websocket"
        self._send(events.Request(host=f"127.0.0.1:{port}", target=target, extra_headers=headers))
        self.receive()

    def _send(self, event: events.Event) -> None:
        try:
            self._socket.sendall(self._protocol.send(event))
        except (OSError, LocalProtocolError) as error:
            raise Gone(str(error)) from None

    def send(self, packet: str) -> None:
        self._send(events.TextMessage(packet))

    def receive(self) -> str:
        while not self._waiting:
            try:
                data = self._socket.recv(65536)
            except ConnectionError:
                data = b""
            self._protocol.receive_data(data or None)
            for event in self._protocol.events():
                self._take(event)
        return self._waiting.pop(0)

    def _take(self, event: events.Event) -> None:
        if isinstance(event, events.CloseConnection | events.RejectConnection):
            raise Gone(str(event))
        if isinstance(event, events.Ping):
            self._send(event.response())
        elif isinstance(event, events.TextMessage):
            self._part += event.data
            if event.message_finished:
                self._waiting.append(self._part)
                self._part = ""

    def close(self) -> None:
        self._socket.close()


TRANSPORTS = {"polling": Polling, "websocket": WebSocket}


class Socket:
    """A connection to the namespace /tasks. events: all that came, as (name, data)."""

    def __init__(self, port: int, token: str | None, transport: str = "polling") -> None:
        self._packets: Any = TRANSPORTS[transport](port, token)
        self.events: list[tuple[str, Any]] = []
        self._packets.send(f"{CONNECT}{NAMESPACE},")
        while not self._took(self._packets.receive()).startswith(CONNECT):
            pass

    def _took(self, packet: str) -> str:
        if packet == PING:
            self._packets.send(PONG)
        elif packet == CLOSE or packet.startswith(DISCONNECT):
            raise Gone(packet)
        elif packet.startswith(EVENT):
            name, *data = json.loads(packet.partition(",")[2])
            self.events.append((name, data[0] if data else None))
        return packet

    def emit(self, name: str, *data: Any) -> None:
        """Send an event."""
        self._packets.send(f"{EVENT}{NAMESPACE},{json.dumps([name, *data])}")

    def until(self, name: str, seconds: float = SECONDS, **wanted: Any) -> Any:
        """Wait for an event with these values that was not returned before, and return its data. Raises Gone."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            for each in self.events:
                if each[0] == name and all(each[1].get(key) == value for key, value in wanted.items()):
                    self.events.remove(each)
                    return each[1]
            self._took(self._packets.receive())
        raise AssertionError(f"no {name} came, but {self.events}")

    def until_pings(self, number: int) -> list[str]:
        """Wait for some pings of Engine.IO, one each 25 seconds, and return the names of all events that came."""
        while number:
            number -= self._took(self._packets.receive()) == PING
        return [name for name, _ in self.events]

    def poll(self) -> None:
        """Send a long poll that the server answers when there is something."""
        self._packets.poll()

    def until_gone(self) -> str:
        """Wait until the server ends the connection, and return how: CLOSE, or an error."""
        while True:
            try:
                self._took(self._packets.receive())
            except Gone as error:
                return str(error)

    def send(self, packet: str) -> None:
        """Send any text as a packet."""
        self._packets.send(packet)

    def leave(self) -> None:
        """Leave in order."""
        self._packets.send(f"{DISCONNECT}{NAMESPACE},")
        self._packets.send(CLOSE)
        self._packets.close()

    def vanish(self) -> None:
        """Close the connection without a word."""
        self._packets.close()
