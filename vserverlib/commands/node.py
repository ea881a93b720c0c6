"""The command that runs nodes: node."""

from __future__ import annotations

from pathlib import Path

import click

from vserverlib import Error
from vserverlib.commands import completers
from vserverlib.commands.options import command
from vserverlib.messages import notify

NO_LIBRARIES = "nodes need libraries that are not installed; install python-socketio, requests, websocket-client"


@command()
@click.argument("paths", metavar="FILE...", nargs=-1, required=True, shell_complete=completers.files)
@click.option("--init", is_flag=True, help="Write a commented example to FILE.")
@click.option("--keep", is_flag=True, help="Keep the folder of each run.")
@click.option("--beside", metavar="URL", hidden=True, help="Run beside this server, and end with standard input.")
@click.option("--hint", hidden=True, help="Print this once all nodes are online.")
@click.option("-q", "--quiet", is_flag=True, help="Print only warnings.")
@click.option("-v", "--verbose", is_flag=True, help="Print details, too.")
@click.pass_context
def node(
    ctx: click.Context,
    /,
    paths: tuple[str, ...],
    init: bool,
    keep: bool,
    beside: str | None,
    hint: str | None,
    quiet: bool,
    verbose: bool,
) -> None:
    """Run the nodes of files, without Docker, until Ctrl-C.

    FILE names a server, the API keys and data of nodes, and the algorithms that may run. The server is one of vantage6
    4, or `vserver start`. Each run is a process with your rights, in an environment and a folder of its own. A change
    of an algorithm or of data counts from the next run on.

    $ vserver node --init nodes.yaml
    $ vserver node nodes.yaml
    """
    from vserverlib.nodes import settings

    if quiet and verbose:
        raise click.UsageError("-q and -v exclude each other: choose one", ctx)
    if init:
        for path in paths:
            settings.write_example(Path(path))
            notify(f"created {path}: write your keys and data into it, then run: vserver node {path}")
        return
    found = [settings.read(Path(path), beside, warns=beside is None) for path in paths]
    settings.refuse_repeated(found)
    try:
        from vserverlib.nodes import running
    except ImportError as error:
        raise Error(f"{NO_LIBRARIES} ({error.name} is missing)") from None
    level = 0 if quiet else 2 if verbose else 1
    running.serve(found, running.Options(keep, level, beside is not None, hint or ""))
    notify("the nodes were stopped")


COMMANDS = (node,)
