"""The command that serves a database: start."""

from __future__ import annotations

import re
import signal
from typing import Any

import click

from vserverlib import Error, UsageError, printable
from vserverlib.commands.options import command
from vserverlib.messages import notify

NO_LIBRARIES = (
    "the server needs libraries that are not installed; install starlette, uvicorn, python-socketio, PyJWT, jinja2"
)
HOST, PORT, API_PATH = "127.0.0.1", 7601, "/api"
LOOPBACK = ("127.0.0.1", "::1", "localhost")
EVERYWHERE = {"0.0.0.0": "127.0.0.1", "[::]": "[::1]"}  # addresses to listen on, and where this machine finds itself
PATH = r"(/[A-Za-z0-9_-][A-Za-z0-9._-]*)*/?"
HOST_NAME = r"[A-Za-z0-9._-]+|[0-9A-Fa-f:.]+"
NO_TLS = "passwords and tokens cross the network as plain text: put a proxy with TLS in front, or use --host 127.0.0.1"
# Logs the real client in.
SNIPPET = """\
log in with the client of vantage6 4:
    from vantage6.client import UserClient
    client = UserClient("http://{host}", {port}, "{path}")
    client.authenticate("anna.devries", "Demo-Anna-1")
    client.setup_encryption(None)
    client.task.list()"""


@command()
@click.option("--host", default=HOST, show_default=True, help="Address to listen on.")
@click.option("--port", type=click.IntRange(0, 65535), default=PORT, show_default=True, help="Port; 0 is any free one.")
@click.option("--api-path", default=API_PATH, show_default=True, metavar="PATH", help="Path before all calls.")
@click.option("--allowed-host", metavar="NAME", multiple=True, help="Answer to this name too, which a proxy passes on.")
@click.option("--demo", is_flag=True, help="Serve a private copy of the example data; discard it at the end.")
@click.option("--open", "open_page", is_flag=True, help="Open the page in a browser.")
@click.option("-q", "--quiet", is_flag=True, help="Log only errors of the server.")
@click.option("-v", "--verbose", is_flag=True, help="Log queries and events, too.")
@click.pass_context
def start(
    ctx: click.Context, /, host: str, port: int, api_path: str, allowed_host: tuple[str, ...], **flags: bool
) -> None:
    """Serve a database to users and nodes of vantage6 4, until Ctrl-C.

    The unmodified client and nodes of vantage6 4.15 log in to it. The shell and all other commands work beside it.
    Logs a line for each request to standard error. At / is a page for the browser: users log in and see what runs.

    $ vserver start --demo --open
    $ vserver -d vserver.db start --port 8080
    $ vserver start --host 0.0.0.0 --allowed-host v6.example.org
    """
    from vserverlib.opening import opener

    _check(ctx, host, api_path, allowed_host, flags)
    try:
        from vserverlib.serving import starting
    except ImportError as error:
        raise Error(f"{NO_LIBRARIES} ({error.name} is missing)") from None
    level, is_demo, target = _level(flags), flags["demo"], ctx.obj
    options = starting.Options(host, port, api_path.rstrip("/"), allowed_host, level, keeps_secret=not is_demo)

    def opened() -> Any:
        return starting.opened_for_serving(opener.demo if is_demo else lambda: opener.connect(target.path))

    if host not in LOOPBACK:
        notify(f"listening on {host}: {NO_TLS}", "yellow")

    def announce(title: str, address: str) -> None:
        (_announced if is_demo else _named)(title, address)
        if flags["open_page"]:
            _open(_page(address))

    came = starting.serve(opened, options, announce)
    notify("the server was stopped")
    if came != signal.SIGINT:
        signal.raise_signal(came)


def _check(ctx: click.Context, host: str, api_path: str, names: tuple[str, ...], flags: dict[str, bool]) -> None:
    """Raise a UsageError for options that do not fit."""
    parent = ctx.parent or ctx
    if flags["demo"] and parent.get_parameter_source("database") is click.core.ParameterSource.COMMANDLINE:
        raise click.UsageError("--demo and -d name two databases: choose one", ctx)
    if flags["demo"] and host not in LOOPBACK:
        raise click.UsageError("--demo is for --host 127.0.0.1 only, because its passwords are public", ctx)
    if flags["quiet"] and flags["verbose"]:
        raise click.UsageError("-q and -v exclude each other: choose one", ctx)
    if not re.fullmatch(PATH, api_path) or api_path.split("/")[1:2] in (["socket.io"], ["page"]):
        raise UsageError(f'--api-path is a path such as /api, not "{printable(api_path)}"')
    for name in (host, *names):
        if not re.fullmatch(HOST_NAME, name):
            raise UsageError(f'"{printable(name)}" is not the name of a host: leave out the port and the http://')


def _level(flags: dict[str, bool]) -> int:
    if flags["quiet"]:
        return 0
    return 2 if flags["verbose"] else 1


def _named(title: str, address: str) -> None:
    notify(f"serving {title} at {address} (Ctrl-C stops it); its page is {_page(address)}")


def _page(address: str) -> str:
    """Return the address of the page, from that of the API."""
    host, _, rest = address.removeprefix("http://").rpartition(":")
    return f"http://{EVERYWHERE.get(host, host)}:{rest.partition('/')[0]}/"


def _open(address: str) -> None:
    """Open a page in a browser, without waiting for that."""
    import threading

    threading.Thread(target=_opened, args=[address], daemon=True).start()


def _opened(address: str) -> None:
    import webbrowser

    if not webbrowser.open(address):
        notify(f"no browser was found: open {address} yourself", "yellow")


def _announced(title: str, address: str) -> None:
    """Say where the example data is served, and how to log in."""
    from vserverlib.examples.demo import LOG_INS

    _named(title, address)
    notify(LOG_INS)
    host, _, rest = address.removeprefix("http://").rpartition(":")
    port, _, path = rest.partition("/")
    click.echo(SNIPPET.format(host=host, port=port, path=f"/{path}"), err=True)


COMMANDS = (start,)
