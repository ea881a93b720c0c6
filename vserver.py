"""The program and its commands: parse what was typed, call one function, print what it returns.

Those that look, that change entities, and that keep the database are in read.py, edit.py and maintenance.py of
vserverlib; here are the program itself, init, the shell, and what waits and plays.

Data goes to stdout; messages, warnings and errors go to stderr, each in one line. What an error means for the exit
status is decided in one place, `Commands`. What a command needs is imported when it runs: `vserver --help` is instant.
"""

from __future__ import annotations

if __name__ == "__main__":  # before the other imports, which take their time
    from vserverlib import signals

    signals.watch()
    from vserverlib import arguments

    arguments.hide()

import os
import sys
from collections.abc import Callable
from typing import Any

import click

from vserverlib import Error, pluralize, printable
from vserverlib.commands import completers, edit, maintenance, read
from vserverlib.commands.options import Commands, Ordinal, Target, one_database
from vserverlib.messages import notify, plain_warnings

__version__ = "1.1.0"


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
    help="The database: a file, or postgresql://… Without it VSERVER_DATABASE of the environment, else vserver.db.",
)
@click.option(
    "--strict",
    is_flag=True,
    envvar="VSERVER_STRICT",
    help="Refuse what would be saved with a warning. VSERVER_STRICT=1 in the environment does the same.",
)
@click.option("--debug", is_flag=True, help="Show where an error comes from, with all frames.")
@click.version_option(__version__, message="vserver %(version)s")
@click.pass_context
def main(ctx: click.Context, database: str | None, strict: bool, debug: bool) -> None:
    """Look after the database of a vantage6 server: organizations, users, collaborations, nodes, tasks and results.

    Start with `vserver shell --demo`, or make a database with `vserver init` and open it with `vserver shell`.
    """
    ctx.obj = Target(database, debug, strict)
    ctx.with_resource(plain_warnings())
    if ctx.invoked_subcommand is None:
        _without_command(ctx)


def _without_command(ctx: click.Context) -> None:
    """At a terminal, show how things stand where there is a database; else the help: what was typed is no command."""
    if sys.stdout.isatty() and ctx.obj.is_there:
        ctx.invoke(read.overview, output="table")
    else:
        click.echo(ctx.get_help(), err=True)
        ctx.exit(2)


@main.command()
@click.option("--demo", is_flag=True, help="Fill it with example data: a consortium, its tasks and their results.")
@click.pass_obj
def init(target: Target, demo: bool) -> None:
    """Make a new database.

    A file that exists is refused. With the URL of a PostgreSQL database, its tables are made, if it has none of them.
    """
    from vserverlib.databases import connecting

    if demo:
        from vserverlib.examples.demo import LOG_INS, make
    (make if demo else connecting.create)(target.path)
    notify(f"made {target.name}; open it with: {target.command('shell')}")
    if demo:
        notify(LOG_INS)


for _command in (*read.COMMANDS, *edit.COMMANDS, *maintenance.COMMANDS):
    main.add_command(_command)


# The shell


class WithArguments(completers.Command):
    """A command that runs a program: what comes behind `--` is that program's, and not looked at."""

    def collect_usage_pieces(self, ctx: click.Context) -> list[str]:
        return [*super().collect_usage_pieces(ctx), "[-- ARGUMENT...]"]

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        end = args.index("--") if "--" in args else len(args)
        own, ctx.params["arguments"] = args[:end], tuple(args[end + 1 :])
        try:
            rest: list[str] = super().parse_args(ctx, list(own))
            return rest
        except click.UsageError as error:
            raise self._meant(ctx, own) or error from None

    def _meant(self, ctx: click.Context, words: list[str]) -> click.UsageError | None:
        """Return the error for words that are meant for the program, as far as can be seen; None for others."""
        at = next((at for at, word in enumerate(words) if word[:1] != "-" or words[at - 1 : at] == ["-c"]), None)
        flags = {name for param in self.get_params(ctx) for name in param.opts}
        if at is None or set(words[at + 1 :]) <= flags or not {"-d", "--database"}.isdisjoint(words):
            return None
        own = [*words[: at + 1], *(word for word in words[at + 1 :] if word in flags)]
        line = ctx.obj.command("shell", *own, "--", *(word for word in words[at + 1 :] if word not in flags))
        return click.UsageError(f"what is for the program comes behind --: {line}", ctx)


@main.command("shell", cls=WithArguments)
@click.argument("file", required=False, shell_complete=completers.files)
@click.option("-c", "code", metavar="CODE", help="Run this as Python, in place of a file.")
@click.option("--demo", is_flag=True, help="Open a private copy of the example data, thrown away at the end.")
@click.option("--read-only", is_flag=True, help="Have the database refuse every change.")
@click.option("--sandbox", is_flag=True, help="Work on a private copy; tell at the end what would have changed.")
@click.option("--print-sql", is_flag=True, help="Write each statement to stderr, with the time that it took.")
@click.option("-q", "--quiet", is_flag=True, help="Leave out what the shell says at its start.")
@click.pass_context
def shell_command(
    ctx: click.Context, /, file: str | None, code: str | None, arguments: tuple[str, ...], **options: bool
) -> None:
    """Open a Python prompt on the entities, or run Python.

    FILE, CODE, or what is piped in, is run as plain Python, without a prompt. FILE may be - for what is piped in. What
    comes behind -- are its arguments, in sys.argv. Without -d, and where there is no vserver.db, an empty one is made.
    """
    print_sql, quiet = options.pop("print_sql"), options.pop("quiet")
    _refuse_contradictions(ctx, file, code, options)
    if arguments and file is None and code is None:
        raise click.UsageError(
            "behind -- come the arguments of FILE or CODE: name it before, - for what is piped in", ctx
        )
    source = _source(file, code)
    with ctx.obj.open_session(**options) as database:
        import shell

        if source is None:
            shell.start(database, quiet=quiet, debug=ctx.obj.debug, print_sql=print_sql)
            return
        if print_sql:
            shell.print_queries(database)
        from vserverlib.arguments import of_script

        status = shell.run(*source, database, arguments=of_script(arguments), debug=ctx.obj.debug)
    ctx.exit(status)


def _refuse_contradictions(ctx: click.Context, file: str | None, code: str | None, options: dict[str, bool]) -> None:
    """Raise a UsageError where two options each mean another database, or another source."""
    parent = ctx.parent or ctx
    if options["demo"] and parent.get_parameter_source("database") is click.core.ParameterSource.COMMANDLINE:
        raise click.UsageError("--demo and -d are two databases: choose one", ctx)
    if options["read_only"] and options["sandbox"]:
        raise click.UsageError("--read-only and --sandbox exclude each other: choose one", ctx)
    if file is not None and code is not None:
        raise click.UsageError("-c and FILE are two programs: choose one; arguments of CODE come behind --", ctx)


def _source(file: str | None, code: str | None) -> tuple[str | bytes, str] | None:
    """Return what is to be run, and the name that tracebacks give it; None for a prompt."""
    if code is not None:
        return _checked(os.fsencode(code), "<command line>")
    if file not in (None, "-"):
        with open(str(file), "rb") as script:
            return _checked(script.read(), str(file))
    if file == "-" or not sys.stdin.isatty():
        return _checked(sys.stdin.buffer.read(), "<stdin>")
    if not sys.stdout.isatty():
        raise Error("the shell needs a terminal to write to: run a FILE, or CODE with -c, to have its output elsewhere")
    return None


def _checked(source: bytes, name: str) -> tuple[bytes, str]:
    """Return a source and its name; an Error where it is no text in the encoding that it tells, or in UTF-8."""
    import importlib.util

    try:
        if "\0" in importlib.util.decode_source(source):
            raise ValueError
    except (ValueError, SyntaxError):
        raise Error(
            f"{printable(name, 200)} is not Python: it is no text, or not in the encoding that it names"
        ) from None
    return source, name


# Waiting, watching, playing


@main.command()
@click.argument("tasks", metavar="TASK...", nargs=-1, required=True, shell_complete=completers.tasks)
@click.option("--timeout", metavar="SECONDS", type=float, help="Give up after this time: 60, 0.5, or 0 to look once.")
@click.pass_context
def wait(ctx: click.Context, tasks: tuple[str, ...], timeout: float | None) -> None:
    """Wait until all of these tasks have finished.

    TASK is an id or a name. The exit status is 0 when all are completed, 1 when one has failed, 3 when the time was up.
    A task without results is an error at once: it would never finish.
    """
    from vserverlib.terminal import watching

    with ctx.obj.open(read_only=True) as database:
        ending = watching.wait(database, tasks, timeout)
    if ending.message:
        notify(ending.message, "yellow")
    ctx.exit(ending.status)


@main.command()
@click.argument("tasks", metavar="[TASK]...", nargs=-1, shell_complete=completers.tasks)
@click.pass_obj
def watch(target: Target, tasks: tuple[str, ...]) -> None:
    """Show how far tasks are, as it changes, until all have finished.

    TASK is an id or a name; without one it is all tasks that are waited for, newest first, new ones too. In a pipe it
    is one line of JSON for each task, and one for each change.
    """
    from vserverlib.terminal import watching

    with target.open(read_only=True) as database:
        watching.watch(database, tasks)


@main.command("demo")
@click.option("--tasks", metavar="N", type=Ordinal(), help="How many tasks.  [default: 1000]")
@click.option("--organizations", metavar="N", type=Ordinal(), help="How many organizations.  [default: 12]")
@click.option("--live", is_flag=True, help="Play the nodes, until Ctrl-C; alone also in a database that is filled.")
@click.option("--until-done", is_flag=True, help="With --live: make no new tasks, and end when all have finished.")
@click.option("--yes", is_flag=True, help="Play also where organizations are real: their domain is none of .example.")
@click.pass_obj
def demo_command(
    target: Target, tasks: int | None, organizations: int | None, live: bool, until_done: bool, yes: bool
) -> None:
    """Fill a database with a made-up consortium of any size.

    It is made where there is none; one with entities is refused. Nobody can log in: no passwords or keys are set. For a
    small example that has log-ins, see: vserver init --demo
    """
    import models
    from vserverlib.examples import simulation

    if (until_done or yes) and not live:
        raise click.UsageError("--until-done and --yes go with --live")
    size, is_new = (tasks or simulation.TASKS, organizations or simulation.ORGANIZATIONS), not target.is_there
    if is_new:
        _fill(simulation.make, target.file, *size)
        notify(f"made a new database, {target.file}")
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
            notify(f"have its nodes at work with: {target.command('demo', '--live')}")


def _fill(fill: Callable[..., None], place: Any, tasks: int, organizations: int) -> None:
    from vserverlib.terminal import live_display

    with live_display.progress_bar("tasks", tasks) as advance:
        fill(place, tasks, organizations, advance)


def _play(database: Any, until_done: bool, look_on: str) -> None:
    from vserverlib.examples import simulation

    notify(f"this is a simulation: nothing is computed, and results in {database.title} are made up")
    notify(f"look on from another terminal: {look_on} (Ctrl-C here ends it)")
    try:
        simulation.play(until_done=until_done)
    except KeyboardInterrupt:
        notify("the simulation has ended")


# Tab


@main.command("completion")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion_command(shell: str) -> None:
    """Print what a shell needs so that Tab completes commands, fields, names and files.

    Have it read that in each session, by a line that is typed once:

    \b
      bash   echo 'eval "$(vserver completion bash)"' >> ~/.bashrc
      zsh    echo 'eval "$(vserver completion zsh)"' >> ~/.zshrc
      fish   vserver completion fish > ~/.config/fish/completions/vserver.fish

    A new shell has it. In ~/.zshrc it comes after the line with compinit.
    """  # noqa: D301  # the \b is click's, for lines that stay as they are
    from vserverlib.commands import shell_completion

    click.echo(shell_completion.script(shell, main), nl=False)


# Notebooks


def load_ipython_extension(ipython: Any) -> None:
    """Show entities and lists in a notebook, or a plain IPython, as the shell does: `%load_ext vserver`."""
    from vserverlib.terminal import display  # noqa: F401  # it registers itself


if __name__ == "__main__":
    main(prog_name="vserver")
