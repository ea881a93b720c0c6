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
@click.argument("paths", metavar="FILE...", nargs=-1, shell_complete=completers.files)
@click.option("--init", is_flag=True, help="Write a commented example to FILE.")
@click.option("--make-environment", is_flag=True, help="Install vantage6's algorithm tools; FILE is their folder.")
@click.option("--keep", is_flag=True, help="Keep the folder of each run.")
@click.option("--watch", is_flag=True, help="Report when a file of an algorithm or of data changes.")
@click.option("--beside", metavar="URL", hidden=True, help="Run beside this server, and end with standard input.")
@click.option("--hint", hidden=True, help="Print this once all nodes are online.")
@click.option("-q", "--quiet", is_flag=True, help="Print only warnings.")
@click.option("-v", "--verbose", is_flag=True, help="Print details, too.")
@click.pass_context
def node(ctx: click.Context, /, paths: tuple[str, ...], beside: str | None, hint: str | None, **flags: bool) -> None:
    """Run the nodes of files, without Docker, until Ctrl-C.

    FILE names a server, the API keys and data of nodes, and the algorithms that may run. The server is one of vantage6
    4, or `vserver start`. Each run is a process with your rights, in an environment and a folder of its own, and reads
    the algorithm and the data anew. An algorithm that needs vantage6's tools finds them in the environment that
    --make-environment creates, by default in vserver's folder.

    $ vserver node --init nodes.yaml
    $ vserver node nodes.yaml
    """
    _check(ctx, paths, flags)
    files = [Path(path) for path in paths]
    if flags["make_environment"]:
        _make_environment(*files)
    elif flags["init"]:
        _write_examples(files)
    else:
        _run(files, beside, hint, flags)


def _check(ctx: click.Context, paths: tuple[str, ...], flags: dict[str, bool]) -> None:
    """Raise a UsageError for words that do not fit."""
    if flags["quiet"] and flags["verbose"]:
        raise click.UsageError("-q and -v exclude each other: choose one", ctx)
    if flags["init"] and flags["make_environment"]:
        raise click.UsageError("--init and --make-environment exclude each other: choose one", ctx)
    if flags["make_environment"] and len(paths) > 1:
        raise click.UsageError("--make-environment creates one environment: name one folder, or none", ctx)
    if not paths and not flags["make_environment"]:
        raise click.UsageError("name a FILE of nodes; vserver node --init FILE writes an example", ctx)


def _make_environment(folder: Path | None = None) -> None:
    from vserverlib.nodes import environments

    python = environments.make_environment(folder or environments.default_folder(), notify)
    what = "packages without python in a node's file use it" if folder is None else f"use it with: python: {python}"
    notify(f"the environment is complete: {what}")


def _write_examples(files: list[Path]) -> None:
    from vserverlib.files import shown
    from vserverlib.nodes import settings

    for file in files:
        settings.write_example(file)
        notify(f"created {shown(file)}: write your keys and data into it, then run: vserver node {shown(file)}")


def _run(files: list[Path], beside: str | None, hint: str | None, flags: dict[str, bool]) -> None:
    from vserverlib.nodes import settings

    found = [settings.read(file, beside, warns=beside is None) for file in files]
    settings.refuse_repeated(found)
    try:
        from vserverlib.nodes import running
    except ImportError as error:
        raise Error(f"{NO_LIBRARIES} ({error.name} is missing)") from None
    level = 0 if flags["quiet"] else 2 if flags["verbose"] else 1
    running.serve(found, running.Options(flags["keep"], flags["watch"], level, beside is not None, hint or ""))
    notify("the nodes were stopped")


COMMANDS = (node,)
