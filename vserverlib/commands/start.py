"""The command that serves a database: start."""

from __future__ import annotations

import contextlib
import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from vserverlib import Error, UsageError, printable
from vserverlib.commands import completers
from vserverlib.commands.node import NO_LIBRARIES as NO_LIBRARIES_OF_NODES
from vserverlib.commands.options import command
from vserverlib.messages import notify

HOST, PORT, API_PATH = "127.0.0.1", 7601, "/api"
LOOPBACK = ("127.0.0.1", "::1", "localhost")
LEVELS = (("--quiet",), (), ("--verbose",))  # options of the nodes
ANY_SERVER = f"http://{HOST}:{PORT}{API_PATH}"  # stands for this one, before it has a port
COMPUTE = "type in another terminal:\nvserver run --demo demo/average:1 central_average column_name=age"
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
@click.option(
    "--nodes",
    "nodes_files",
    metavar="FILE",
    multiple=True,
    shell_complete=completers.files,
    help="Run the nodes of FILE beside the server, as `vserver node` does. Repeatable.",
)
@click.option(
    "--demo", is_flag=True, help="Serve a private copy of the example data, and nodes; discard it at the end."
)
@click.option("--open", "open_page", is_flag=True, help="Open the page in a browser.")
@click.option("-q", "--quiet", is_flag=True, help="Log only errors of the server.")
@click.option("-v", "--verbose", is_flag=True, help="Log queries and events, too.")
@click.pass_context
def start(
    ctx: click.Context,
    /,
    host: str,
    port: int,
    api_path: str,
    allowed_host: tuple[str, ...],
    nodes_files: tuple[str, ...],
    **flags: bool,
) -> None:
    """Serve a database to users and nodes of vantage6 4, until Ctrl-C.

    The unmodified client and nodes of vantage6 4.15 log in to it. The shell and all other commands work beside it.
    Logs a line for each request to standard error. `vserver run` posts tasks to it. At / is a page for the
    browser: users log in and see what runs.

    --demo also runs nodes of made-up patients, with the algorithms demo/average:1 and demo/crosstab:1.

    $ vserver start --demo --open
    $ vserver -d vserver.db start --port 8080 --nodes nodes.yaml
    $ vserver start --host 0.0.0.0 --allowed-host v6.example.org
    """
    from vserverlib.opening import opener

    _check(ctx, host, api_path, allowed_host, flags)
    from vserverlib.serving import NO_LIBRARIES

    try:
        from vserverlib.serving import node_processes, starting
    except ImportError as error:
        raise Error(f"{NO_LIBRARIES} ({error.name} is missing)") from None
    level, is_demo, target = _level(flags), flags["demo"], ctx.obj
    options = starting.Options(host, port, api_path.rstrip("/"), allowed_host, level, is_demo)

    def opened() -> Any:
        return starting.opened_for_serving(opener.demo if is_demo else lambda: opener.connect(target.path))

    def announced(title: str, address: str) -> None:
        if host not in LOOPBACK:
            notify(f"listening on {host}: {NO_TLS}", "yellow")
        (_announced if is_demo else _named)(title, address)
        if flags["open_page"]:
            _open(_page(address))

    if nodes_files:
        _check_nodes(nodes_files)
    with _of_demo(is_demo) as more:
        hint = ("--hint", COMPUTE) if more else ()
        nodes = node_processes.NodeProcesses([*map(Path, nodes_files), *more], (*LEVELS[level], *hint))
        came = starting.serve(opened, options, announced, nodes)
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


def _check_nodes(nodes_files: tuple[str, ...]) -> None:
    """Raise an Error for a node's file with a fault, before anything is served; warn of one that others can read."""
    from vserverlib.nodes import settings

    if missing := _missing_for_nodes():
        raise Error(f"{NO_LIBRARIES_OF_NODES} ({missing} is missing)")
    settings.refuse_repeated([settings.read(Path(file), ANY_SERVER) for file in nodes_files])


def _missing_for_nodes() -> str:
    import importlib.util

    return next((name for name in ("socketio", "requests") if importlib.util.find_spec(name) is None), "")


@contextlib.contextmanager
def _of_demo(is_demo: bool) -> Iterator[list[Path]]:
    """Give the file of the nodes of the example data, in a folder that is removed at the end; none of other data."""
    from vserverlib import files

    if not is_demo or (missing := _missing_for_nodes()):
        if is_demo:
            notify(f"no nodes run: {NO_LIBRARIES_OF_NODES} ({missing} is missing)", "yellow")
        yield []
        return
    from vserverlib.examples import patients

    with files.temporary_folder() as folder:
        yield [patients.write(folder)]


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

    with contextlib.suppress(webbrowser.Error):
        found = webbrowser.get()
        takes_terminal = type(found) is webbrowser.GenericBrowser and "BROWSER" not in os.environ  # such as lynx
        if not takes_terminal and found.open(address):
            return
    notify(f"no browser was found: open {address} yourself", "yellow")


def _announced(title: str, address: str) -> None:
    """Say where the example data is served, and how to log in."""
    from vserverlib.examples import demo

    _named(title, address)
    click.echo(demo.log_ins(), err=True)
    host, _, rest = address.removeprefix("http://").rpartition(":")
    port, _, path = rest.partition("/")
    click.echo(SNIPPET.format(host=host, port=port, path=f"/{path}"), err=True)


COMMANDS = (start,)
