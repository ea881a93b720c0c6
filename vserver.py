"""The program: its options, and the commands init, shell, wait, watch, demo and completion.

vserverlib/commands has the others: read.py (read-only), create.py, editor.py and edit.py (entities) and maintenance.py
(databases). A command parses, calls one function and prints the result.

Data goes to stdout; messages, warnings and errors go to stderr, one line each. Only `Commands` turns errors into exit
statuses. A command imports its modules when it runs, so that `vserver --help` is fast.
"""

from __future__ import annotations

if __name__ == "__main__":  # before the slow imports
    from vserverlib import signals

    signals.watch()
    from vserverlib import arguments

    arguments.hide()

import os
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

import click

from vserverlib import Error, pluralize, printable
from vserverlib.commands import clean_up, completers, create, edit, editor, maintenance, node, read, run, start
from vserverlib.commands.options import BEFORE, MAX_COUNT, Command, Commands, Target, misplaced, one_database
from vserverlib.messages import notify, plain_warnings

__version__ = "1.1.0"

SIZE = click.IntRange(1, MAX_COUNT)


# The program


@click.group(
    cls=Commands,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.option(
    "-d",
    "--database",
    metavar="URL|PATH",
    multiple=True,
    callback=one_database,
    shell_complete=completers.files,
    help="Database to open: a file or postgresql://…  [default: VSERVER_DATABASE or vserver.db]",
)
@click.option(
    "--strict",
    is_flag=True,
    envvar="VSERVER_STRICT",
    help="Refuse to save anything that prints a warning, as VSERVER_STRICT=1 does.",
)
@click.option("--write", is_flag=True, help="Plan changes of a server's database, show them, ask, and apply them.")
@click.option("--dry-run", is_flag=True, help="Only show what would change.")
@click.option("--yes", is_flag=True, help="Answer all questions with yes, as scripts must.")
@click.option("--no-backup", is_flag=True, help="With --write, apply without a backup.")
@click.option(
    "-o", "--output", type=click.Choice(["table", "json"]), default="table", help="With --dry-run, its output format."
)
@click.option("--no-pager", is_flag=True, help="Do not page output that is longer than the screen.")
@click.option("--debug", is_flag=True, help="Print the traceback of an error.")
@click.version_option(__version__, message="vserver %(version)s")
@click.pass_context
def main(
    ctx: click.Context,
    /,
    database: str | None,
    strict: bool,
    no_pager: bool,
    debug: bool,
    no_backup: bool,
    **planning: Any,
) -> None:
    """Manage the database of a vantage6 server: organizations, users, collaborations, nodes, tasks and results.

    Without a command, at a terminal, shows the overview of the database, if there is one.

    $ vserver shell --demo
    $ vserver init --demo
    $ vserver list tasks --where status=failed
    """
    if no_backup and not planning["write"]:
        raise click.UsageError("--no-backup needs --write")
    if planning["output"] != "table" and not planning["dry_run"]:
        raise click.UsageError("-o before the command needs --dry-run; the format of a command goes after it")
    ctx.obj = Target(database, debug, strict, backup=not no_backup, **planning)
    ctx.with_resource(plain_warnings())
    if ctx.invoked_subcommand is None:
        _without_command(ctx)


def _without_command(ctx: click.Context) -> None:
    """Show the overview if there is a terminal and a database, else the help with the status of a usage error."""
    if sys.stdout.isatty() and ctx.obj.is_there:
        ctx.invoke(read.overview, output="table", everything=False)
    else:
        click.echo(ctx.get_help(), err=True)
        ctx.exit(2)


@main.command()
@click.option("--demo", is_flag=True, help="Add example data: a consortium with tasks and results.")
@click.option(
    "--nodes",
    metavar="FOLDER",
    help="With --demo, create FOLDER with a file for its nodes and made-up patients.",
)
@click.pass_obj
def init(target: Target, demo: bool, nodes: str | None) -> None:
    """Create a new database.

    Refuses a file that exists. In a PostgreSQL database, creates the tables, and refuses if there are any of them.

    $ vserver init
    $ vserver -d demo.db init --demo --nodes sites
    $ vserver -d postgresql://admin@db.example.org/vserver init
    """
    from vserverlib.databases import connecting

    if not demo:
        if nodes is not None:
            raise click.UsageError("--nodes needs --demo")
        connecting.create(target.path)
        notify(f"created {target.name}; open it with: {target.command('shell')}")
        return
    from pathlib import Path

    from vserverlib.examples import demo as example
    from vserverlib.examples import patients
    from vserverlib.files import refuse_taken

    if nodes is not None:
        refuse_taken(Path(nodes))
    example.make(target.path)
    notify(f"created {target.name}; open it with: {target.command('shell')}")
    click.echo(example.log_ins(), err=True)
    if nodes is not None:
        file = patients.create(Path(nodes))
        notify(f"created {printable(nodes)}; run its nodes with: {target.command('start', '--nodes', str(file))}")


for _command in (
    *read.COMMANDS,
    *create.COMMANDS,
    *editor.COMMANDS,
    *edit.COMMANDS,
    *clean_up.COMMANDS,
    *maintenance.COMMANDS,
    *start.COMMANDS,
    *node.COMMANDS,
    *run.COMMANDS,
):
    main.add_command(_command)


# The shell


class WithArguments(Command):
    """A command that runs a program and passes on the arguments after `--` unread."""

    def collect_usage_pieces(self, ctx: click.Context) -> list[str]:
        return [*super().collect_usage_pieces(ctx), "[-- ARGUMENT...]"]

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        end = args.index("--") if "--" in args else len(args)
        own, ctx.params["arguments"] = args[:end], tuple(args[end + 1 :])
        try:
            rest: list[str] = super().parse_args(ctx, list(own))
            return rest
        except click.UsageError as error:
            raise self._misplaced(ctx, own) or error from None

    def _misplaced(self, ctx: click.Context, words: list[str]) -> click.UsageError | None:
        """Return an error for words that look like arguments of the program; None for other words."""
        own_options = {name for param in self.get_params(ctx) for name in param.opts}
        if option := next((word for word in words if word in BEFORE and word not in own_options), None):
            return misplaced(option, ctx)
        at = next((at for at, word in enumerate(words) if word[:1] != "-" or words[at - 1 : at] == ["-c"]), None)
        flags = {name for param in self.get_params(ctx) for name in param.opts}
        if at is None or set(words[at + 1 :]) <= flags or not {"-d", "--database"}.isdisjoint(words):
            return None
        own = [*words[: at + 1], *(word for word in words[at + 1 :] if word in flags)]
        line = ctx.obj.command("shell", *own, "--", *(word for word in words[at + 1 :] if word not in flags))
        return click.UsageError(f"arguments of the program go after --: {line}", ctx)


@main.command("shell", cls=WithArguments)
@click.argument("file", required=False, shell_complete=completers.files)
@click.option("-c", "code", metavar="CODE", help="Run this Python code instead of a file.")
@click.option("--demo", is_flag=True, help="Open a private copy of the example data; discard it at the end.")
@click.option("--read-only", is_flag=True, help="Refuse every change.")
@click.option("--sandbox", is_flag=True, help="Work on a private copy; report at the end what would have changed.")
@click.option("--atomic", is_flag=True, help="Run FILE or CODE in one transaction: if it fails, nothing is saved.")
@click.option("--print-sql", is_flag=True, help="Print each SQL statement and its duration to stderr.")
@click.option("-q", "--quiet", is_flag=True, help="Start without the welcome text.")
@click.pass_context
def shell_command(
    ctx: click.Context, /, file: str | None, code: str | None, arguments: tuple[str, ...], **options: bool
) -> None:
    """Open a Python prompt on the database, or run Python code.

    Runs FILE, CODE or standard input as plain Python, without a prompt; FILE - is standard input. The arguments after
    -- are in its sys.argv. Without -d, creates vserver.db if it does not exist. If it fails and has saved something,
    prints how to undo that.

    $ vserver shell --demo
    $ vserver shell --read-only -c 'print(len(db.Task.get()))'
    $ echo 'print(db.Organization.get(1).name)' | vserver shell - -- argument
    """
    print_sql, quiet, atomic = options.pop("print_sql"), options.pop("quiet"), options.pop("atomic")
    _refuse_contradictions(ctx, file, code, options)
    if arguments and file is None and code is None:
        raise click.UsageError(
            "the arguments after -- are for FILE or CODE: put one of them before --, or - for standard input", ctx
        )
    source = _source(file, code)
    if atomic and (source is None or options["read_only"]):
        raise click.UsageError("--atomic is for a FILE or CODE that saves: leave it out", ctx)
    target = ctx.obj._replace(yes=ctx.obj.yes and source is not None)  # a prompt always asks before it applies a plan
    with target.open_session(**options) as database:
        import shell

        if source is None:
            shell.start(database, quiet=quiet, debug=ctx.obj.debug, print_sql=print_sql)
            return
        if print_sql:
            shell.print_queries(database)
        from vserverlib.arguments import of_script

        run = partial(shell.run, *source, database, arguments=of_script(arguments), debug=ctx.obj.debug, atomic=atomic)
        status = _plan_script(ctx.obj, database, run) if ctx.obj.write else run()
        if status and not ctx.obj.write and not any(options.values()):
            _report_saved(ctx.obj, database, atomic)
    ctx.exit(status)


def _plan_script(target: Target, database: Any, run: Callable[[], int]) -> int:
    """Run a script on a working copy, apply what it has planned unless it failed, and return its status."""
    from vserverlib.commands import plan_session

    with plan_session.planning(target):
        status = run()
    if status:
        but = "; what it had applied before stays" if database.session.applied else ""
        notify(f"the script failed: its changes were not written to {target.name}{but}", "yellow")
    else:
        database.applying()
    return status


def _report_saved(target: Target, database: Any, atomic: bool) -> None:
    """Say what a script had saved when it failed, and how to undo it."""
    import shell

    if atomic:
        notify("nothing was saved: --atomic rolled it back", "yellow")
    elif number := shell.changes_saved(database):
        undo = target.command("undo", "--session", database.recorder.session)
        notify(f"saved {pluralize(number, 'change')} before it failed; undo with: {undo}", "yellow")


def _refuse_contradictions(ctx: click.Context, file: str | None, code: str | None, options: dict[str, bool]) -> None:
    """Raise a UsageError for options that exclude each other."""
    parent = ctx.parent or ctx
    if options["demo"] and parent.get_parameter_source("database") is click.core.ParameterSource.COMMANDLINE:
        raise click.UsageError("--demo and -d name two databases: choose one", ctx)
    if options["read_only"] and options["sandbox"]:
        raise click.UsageError("--read-only and --sandbox exclude each other: choose one", ctx)
    if file is not None and code is not None:
        raise click.UsageError("-c and FILE name two programs: choose one; arguments of CODE go after --", ctx)


def _source(file: str | None, code: str | None) -> tuple[str | bytes, str] | None:
    """Return the source code to run, and its name in tracebacks; None for a prompt."""
    if code is not None:
        return _checked(os.fsencode(code), "<command line>")
    if file not in (None, "-"):
        with open(str(file), "rb") as script:
            return _checked(script.read(), str(file))
    if file == "-" or not sys.stdin.isatty():
        return _checked(sys.stdin.buffer.read(), "<stdin>")
    if not sys.stdout.isatty():
        raise Error("the shell needs a terminal for its output: to redirect output, run a FILE, or CODE with -c")
    return None


def _checked(source: bytes, name: str) -> tuple[bytes, str]:
    """Return the source and its name. Raises an Error unless it is text in UTF-8 or in the encoding that it names."""
    import importlib.util

    try:
        if "\0" in importlib.util.decode_source(source):
            raise ValueError
    except (ValueError, SyntaxError):
        raise Error(
            f"{printable(name, 200)} is not Python: it is not text, or not in the encoding that it names"
        ) from None
    return source, name


# Tasks


@main.command()
@click.argument("tasks", metavar="TASK...", nargs=-1, required=True, shell_complete=completers.tasks)
@click.option("--timeout", metavar="AGE|TIME", help="Stop waiting after 5m (s, m, h, d, w) or 60 s, or at a time.")
@click.pass_context
def wait(ctx: click.Context, tasks: tuple[str, ...], timeout: str | None) -> None:
    """Wait until tasks have finished.

    TASK is an id or a name. The exit status is 0 if all tasks completed, 1 if one failed, 3 after the timeout, and 4 if
    the tasks could not be read. Fails at once for a task without results, which can never finish. `--timeout 0` checks
    once.

    $ vserver wait 1 2
    $ vserver wait task/1 "Kaplan-Meier survival" --timeout 5m
    """
    from vserverlib.entities import ages
    from vserverlib.terminal import watching

    seconds = None if timeout is None else ages.timeout(timeout)
    with ctx.obj.open(read_only=True) as database:
        ending = watching.wait(database, tasks, seconds)
    if ending.message:
        notify(ending.message, "yellow")
    ctx.exit(ending.status)


@main.command()
@click.argument("tasks", metavar="[TASK]...", nargs=-1, shell_complete=completers.tasks)
@click.pass_obj
def watch(target: Target, tasks: tuple[str, ...]) -> None:
    """Show the progress of tasks until they have finished.

    TASK is an id or a name. Without TASK, shows all unfinished tasks, newest first, and adds new ones. In a pipe,
    prints a line of JSON for each task and for each change.

    $ vserver watch
    $ vserver watch 9 11
    """
    from vserverlib.terminal import watching

    with target.open(read_only=True) as database:
        watching.watch(database, tasks)


@main.command("demo")
@click.option("--tasks", metavar="N", type=SIZE, help="Create this many tasks.  [default: 1000]")
@click.option("--organizations", metavar="N", type=SIZE, help="Create this many organizations.  [default: 12]")
@click.option("--live", is_flag=True, help="Simulate nodes until Ctrl-C; alone, also in a database with entities.")
@click.option("--until-done", is_flag=True, help="With --live, create no new tasks and stop when all have finished.")
@click.option("--yes", is_flag=True, help="With --live, accept real organizations, with domains outside .example.")
@click.pass_obj
def demo_command(
    target: Target, tasks: int | None, organizations: int | None, live: bool, until_done: bool, yes: bool
) -> None:
    """Fill a database with a made-up consortium of any size.

    Creates the database if it does not exist; refuses one with entities. Nobody can log in, because there are no
    passwords and keys. `vserver init --demo` creates a small example with log-ins.

    $ vserver -d big.db demo --tasks 5000 --organizations 20
    $ vserver -d live.db demo --tasks 100 --live
    """
    import models
    from vserverlib.examples import simulation

    if (until_done or yes) and not live:
        raise click.UsageError("--until-done and --yes need --live")
    size, is_new = (tasks or simulation.TASKS, organizations or simulation.ORGANIZATIONS), not target.is_there
    if is_new:
        _fill(simulation.make, target.file, *size)
        notify(f"created a new database, {target.file}")
    with target.open() as database:
        is_filled = is_new or not (tasks or organizations or not live or not models.is_filled())
        if not is_filled:
            _fill(simulation.fill, database, *size)
        if is_new or not is_filled:
            notify(f"{database.title} has {pluralize(size[0], 'task')} of a made-up consortium")
        if live:
            simulation.refuse_real(yes)
            _play(database, until_done, target.command("watch"))
        else:
            notify(f"simulate its nodes with: {target.command('demo', '--live')}")


def _fill(fill: Callable[..., None], place: Any, tasks: int, organizations: int) -> None:
    from vserverlib.terminal import live_display

    with live_display.progress_bar("tasks", tasks) as advance:
        fill(place, tasks, organizations, advance)


def _play(database: Any, until_done: bool, watch_command: str) -> None:
    from vserverlib.examples import simulation

    notify(f"this is a simulation: nothing is computed, and results in {database.title} are made up")
    notify(f"watch it in another terminal with: {watch_command} (Ctrl-C here stops it)")
    try:
        simulation.play(until_done=until_done)
    except KeyboardInterrupt:
        notify("the simulation was stopped")


# Completion


@main.command("completion")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion_command(shell: str) -> None:
    """Print a script for a shell that completes commands, fields, names and files.

    Type the line of your shell once; new sessions then complete with Tab. In ~/.zshrc, the line belongs after compinit.

    $ echo 'eval "$(vserver completion bash)"' >> ~/.bashrc
    $ echo 'eval "$(vserver completion zsh)"' >> ~/.zshrc
    $ vserver completion fish > ~/.config/fish/completions/vserver.fish
    """
    from vserverlib.commands import shell_completion

    click.echo(shell_completion.script(shell, main), nl=False)


# Notebooks


def load_ipython_extension(ipython: Any) -> None:
    """Load our extension into a notebook or a plain IPython: `%load_ext vserver`."""
    from vserverlib.notebooks import extension

    extension.load(ipython)


def unload_ipython_extension(ipython: Any) -> None:
    """Undo load_ipython_extension(): `%unload_ext vserver`."""
    from vserverlib.notebooks import extension

    extension.unload(ipython)


if __name__ == "__main__":
    main(prog_name="vserver")
