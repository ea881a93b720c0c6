"""The command that serves a database: start."""

from __future__ import annotations

from typing import Any

import click

from vserverlib import Error
from vserverlib.commands.options import Target, command
from vserverlib.messages import notify

NO_LIBRARIES = "the server needs libraries that are not installed: install starlette uvicorn python-socketio PyJWT"
HOST, PORT, API_PATH = "127.0.0.1", 7601, "/api"


@command()
@click.option("--host", default=HOST, show_default=True, help="Address to listen on.")
@click.option("--port", type=click.IntRange(0, 65535), default=PORT, show_default=True, help="Port; 0: any free one.")
@click.option("--api-path", default=API_PATH, show_default=True, help="Path before all calls.")
@click.option("--allowed-host", metavar="NAME", multiple=True, help="Answer to this name, too, as a proxy needs.")
@click.option("--demo", is_flag=True, help="Serve a private copy of the example data; discard it at the end.")
@click.option("-q", "--quiet", is_flag=True, help="Log only failures of the server.")
@click.option("-v", "--verbose", is_flag=True, help="Log queries and events, too.")
@click.pass_obj
def start(
    target: Target,
    host: str,
    port: int,
    api_path: str,
    allowed_host: tuple[str, ...],
    demo: bool,
    quiet: bool,
    verbose: bool,
) -> None:
    """Serve a database to clients and nodes of vantage6 4, until Ctrl-C.

    $ vserver start --demo
    $ vserver -d vserver.db start --port 0
    """
    from vserverlib.opening import opener

    try:
        from vserverlib.serving import starting
    except ImportError as error:
        raise Error(f"{NO_LIBRARIES} ({error.name} is missing)") from None
    level = 0 if quiet else 2 if verbose else 1
    options = starting.Options(host, port, api_path, allowed_host, level, keeps_secret=not demo)

    def open_database() -> Any:
        return starting.opened_for_serving(opener.demo if demo else lambda: opener.connect(target.path))

    starting.serve(open_database, options, lambda address: notify(f"serving {target.name} at {address}"))
    notify("the server was stopped")


COMMANDS = (start,)
