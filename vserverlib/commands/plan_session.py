"""Changing a server's database: the command works on a private copy; its plan is shown, asked for and applied.

It owns --write and --dry-run of all commands: what they refuse, the question, the messages and the exit status. plans/
makes the plan and applies it.
"""

from __future__ import annotations

import contextlib
import re
import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Protocol

import click

from vserverlib import Error, messages, printable, signals
from vserverlib.commands import printing
from vserverlib.commands.completers import TYPED
from vserverlib.commands.confirmation import NotConfirmed
from vserverlib.messages import notify

if TYPE_CHECKING:
    from vserverlib.plans.plan import Applied, Plan

REFUSED = {  # commands that are not planned, and why
    "init": "it creates a database of vserver",
    "copy": "it copies databases of vserver",
    "demo": "it writes made-up data",
    "restore": "it replaces the whole database; undo an applied plan with: {undo}",
    "upgrade": "the schema is the server's",
    "import": "only `import --merge` can be planned",
    "start": "it serves databases of vserver",
    "run": "it posts to the server of a database of vserver",
    "backup": "a plan backs up the database before it is applied",
    "log": "only a database of vserver has a journal to prune",
}
ANYWHERE = ("init", "copy")  # refused with --write for a database of ours, too
NO_DRY_RUN = ("init", "demo", "restore", "backup", "export", "copy", "completion", "start", "run")
READ_ONLY = ("read_only", "sandbox")  # options of the shell that exclude --write
Apply = Callable[["Plan"], "Applied"]


class Target(Protocol):
    """The database of a command, and how it is opened: options.Target."""

    @property
    def path(self) -> str: ...
    @property
    def name(self) -> str: ...
    @property
    def strict(self) -> bool: ...
    @property
    def write(self) -> bool: ...
    @property
    def dry_run(self) -> bool: ...
    @property
    def yes(self) -> bool: ...
    @property
    def backup(self) -> bool: ...
    @property
    def output(self) -> str: ...
    def command(self, *words: str) -> str: ...


# Before a command


def prepare(ctx: click.Context) -> None:
    """Settle what --write and --dry-run mean for a command; raise an Error if it can be neither planned nor tried."""
    target, name = ctx.obj, str(ctx.info_name)
    is_of_server = name not in ANYWHERE and target.is_there and target.is_of_server
    if (target.write and name in ANYWHERE) or (is_of_server and _is_refused(name, ctx.params)):
        option = "--write" if target.write else "--dry-run"
        why = REFUSED[name].format(undo=target.command("--write", "undo"))
        raise Error(f"{name} is not for {option}: {why}; nothing was changed")
    if is_of_server:
        ctx.obj = _planned(ctx)
        return
    ctx.obj = target._replace(write=False)
    if target.dry_run:
        _try_out(ctx, name)


def refuse_unplanned(ctx: click.Context, error: Error) -> None:
    """Raise an Error with the line to type, if a command has tried to change a server's database without --write."""
    from vserverlib.databases import recognition

    target, name = ctx.obj, str(ctx.info_name)
    if not isinstance(error, recognition.Vantage6Database) or _is_refused(name, ctx.params):
        return
    if not target.is_url:
        from vserverlib.plans import working_copy

        working_copy.refuse_old_file(target.file)
    why = "is the database of a vantage6 server, which is only viewed without --write: nothing was changed"
    line = target.command("--write", name, *ctx.meta[TYPED])
    raise Error(f"{_name(target)} {why}; plan this change with: {line}") from None


def _is_refused(name: str, params: dict[str, Any]) -> bool:
    if name == "log":
        return params["prune"] is not None
    return not params["merge"] if name == "import" else name in REFUSED


def _planned(ctx: click.Context) -> Any:
    """Return the target of a command that is planned. Its own --yes and --dry-run are meant for the plan."""
    target = ctx.obj
    if chosen := next((name for name in READ_ONLY if ctx.params.get(name)), None):
        option = f"--{chosen.replace('_', '-')}"
        raise click.UsageError(f"--write and {option} exclude each other: choose one", ctx)
    is_dry = target.dry_run or ctx.params.get("dry_run", False)
    if "dry_run" in ctx.params:
        ctx.params["dry_run"] = False
    wants_json = "json" in (target.output, ctx.params.get("output") if is_dry else None)
    yes = target.yes or ctx.params.get("yes", False)
    return target._replace(write=True, dry_run=is_dry, yes=yes, output="json" if wants_json else "table")


def _try_out(ctx: click.Context, name: str) -> None:
    """Have a command on a database of ours show what it would change: by its own --dry-run, or in a sandbox."""
    if name in NO_DRY_RUN:
        raise Error(f"{name} has no dry run: leave out --dry-run; nothing was changed")
    if "dry_run" in ctx.params:
        ctx.params["dry_run"] = True
    elif "sandbox" in ctx.params:
        ctx.params["sandbox"] = not ctx.params["read_only"]


# The database of a command


@contextlib.contextmanager
def of_command(target: Target) -> Iterator[Any]:
    """Open what a command changes: a working copy of a server's database, or a sandbox. The command ends here."""
    with _working_copy(target) if target.write else _sandbox(target) as database:
        yield database
    raise click.exceptions.Exit(0)


@contextlib.contextmanager
def _sandbox(target: Target) -> Iterator[Any]:
    """A sandbox of a database of ours; at the end, show what would have changed."""
    from vserverlib.entities import journal
    from vserverlib.opening import opener
    from vserverlib.queries import formats

    with contextlib.closing(opener.connect(target.path, sandbox=True)) as database:
        database.strict = target.strict
        with planning(target):
            yield database
        report = sandbox_report(database)
        found = journal.entries(database, journal.conditions(session=database.recorder.session))
        if target.output == "json":
            printing.write(formats.WRITERS["json"], journal.as_rows(found))
        else:
            _print_entries(found)
        notify(report)


def sandbox_report(database: Any) -> str:
    """Return a line that counts what a sandbox would have changed, by entity."""
    from models import MODELS
    from vserverlib.databases import sandbox_diff
    from vserverlib.queries import listing

    database.rollback()  # a transaction that is still open
    found = sandbox_diff.report(database)
    counts = [(MODELS[table], dict(zip(_CHANGES, numbers, strict=True))) for table, *numbers in found]
    done = []
    for verb in _CHANGES:
        words = [listing.pluralize(number[verb], model) for model, number in counts if number[verb]]
        done += [f"{verb} {', '.join(words)}"] if words else []
    return f"sandbox: would have {'; '.join(done) or 'changed nothing'}"


_CHANGES = ("added", "changed", "deleted")  # the counts of sandbox_diff.report(), in its order


def _print_entries(found: Iterator[Any]) -> None:
    from vserverlib.terminal import journal_screen, views

    console = views.console()
    for page in journal_screen.pages(found):
        console.print(page)


@contextlib.contextmanager
def _working_copy(target: Target) -> Iterator[Any]:
    with opened(target) as database:
        with messages.held(messages.PLANNED):  # a plan that is refused has done nothing
            with planning(target):
                yield database
            plan = planned(database)
        _apply_copy(target, database, plan)


@contextlib.contextmanager
def planning(target: Target) -> Iterator[None]:
    """While a command runs on a copy: its messages say so, and stdout is left to the plan of a dry run."""
    output = contextlib.redirect_stdout(sys.stderr) if target.dry_run else contextlib.nullcontext()
    with messages.prefixed(messages.PLANNED), output:
        yield


@contextlib.contextmanager
def opened(target: Target) -> Iterator[Any]:
    """Open a working copy of a server's database. `database.applying()` shows its plan, asks and applies it."""
    from vserverlib.opening import opener

    _refuse_silence(target)
    with contextlib.closing(opener.connect(target.path, write=True)) as database:
        database.strict = target.strict
        database.applying = lambda: _apply_copy(target, database, planned(database))
        yield database


def planned(database: Any) -> Plan:
    """Return the plan of a working copy. A bar shows the progress of a large one."""
    from vserverlib.terminal.live_display import progress_bar

    plan: Plan = database.plan(bar=progress_bar)
    return plan


def _apply_copy(target: Target, database: Any, plan: Plan) -> None:
    from vserverlib.terminal.live_display import progress_bar

    shown = database.when_applied.copy()
    database.when_applied.clear()
    with signals.finishing():  # what was applied is reported, and its API key printed, in spite of Ctrl-C
        if settle(target, plan, lambda plan: database.apply(plan, backup=target.backup, bar=progress_bar)):
            for show in shown:
                show()


def undo(target: Target, change: int | None) -> None:
    """Undo a plan that was applied to a server's database, by another plan."""
    from vserverlib.plans import reverting, working_copy
    from vserverlib.terminal.live_display import progress_bar

    _refuse_silence(target)
    of = working_copy.target_of(target.path)
    plan = reverting.plan(of, change)
    with signals.finishing():
        settle(
            target, plan, lambda seen: reverting.apply(of, plan.reverts, seen, backup=target.backup, bar=progress_bar)
        )


# The plan


def settle(target: Target, plan: Plan, apply: Apply) -> bool:
    """Show a plan, ask, and apply it; return whether it was applied. A dry run ends after showing it.

    Raises an Error after a no.
    """
    with messages.prefixed(""):
        show(target, plan)
        if target.dry_run:
            notify(f"this was a dry run: nothing was written to {plan.server}")
        elif plan:
            _ask(target, plan)
            _report(target, apply(plan))
    return bool(plan) and not target.dry_run


def show(target: Target, plan: Plan) -> None:
    """Print a plan: the data of a dry run on stdout, else before the question on stderr."""
    if target.output != "table":
        printing.document(plan.as_json(), target.output)
    else:
        from vserverlib.terminal import plan_screen, views

        stream = sys.stdout if target.dry_run else sys.stderr
        stream.write(
            re.sub(
                r" +$", "", views.render_for(stream, plan_screen.Screen(plan, backup=target.backup)), flags=re.MULTILINE
            )
        )
        stream.flush()


def _refuse_silence(target: Target) -> None:
    """Raise an Error if nobody can be asked, before the database is copied."""
    if not (target.yes or target.dry_run or (sys.stdin.isatty() and sys.stderr.isatty())):
        remedy = "--yes before the command applies the plan without asking, --dry-run only shows it"
        raise Error(f"no terminal for the confirmation: nothing was written to {_name(target)}; {remedy}")


def _ask(target: Target, plan: Plan) -> None:
    """Ask at the terminal. Raises an Error after a no; Ctrl-C and Ctrl-D end the program as elsewhere."""
    if target.yes:
        return
    nothing = f"nothing was written to {plan.server}"
    try:
        is_agreed = click.confirm(f"Apply this to {printable(plan.server, 200)}?", default=False, err=True)
    except click.Abort:
        if not signals.is_ending():
            click.echo(err=True)  # after the terminal's ^C
            notify(nothing)
        raise KeyboardInterrupt from None
    if not is_agreed:
        raise NotConfirmed(nothing)


def _report(target: Target, applied: Applied) -> None:
    words = ["undo"] if applied.plan.reverts is None else ["undo", "--change", str(applied.number)]
    notify(f"{applied}; undo it with: {target.command('--write', *words)}")
    if applied.backup is not None:
        notify(f"the backup is {applied.backup}")
    for note in applied.notes:
        notify(note, "yellow")


def _name(target: Target) -> str:
    return printable(target.name, 200)


# The prompt


def may_leave(database: Any) -> bool:
    """Show what was not applied yet and ask, when a person leaves the prompt; False goes back to the prompt."""
    if signals.is_ending():
        return True
    try:
        database.applying()
    except KeyboardInterrupt:
        return True
    except NotConfirmed as error:
        notify(str(error))
    except Error as error:
        notify(f"error: {error}", "red")
        return _is_given_up()
    return True


def _is_given_up() -> bool:
    try:
        return click.confirm("Leave, and give the plan up?", default=False, err=True)
    except click.Abort:
        return True
