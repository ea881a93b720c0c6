"""The commands that change entities, and those for the journal: passwd, unlock, apikey, fail, delete, log, undo.

Each parses, asks for confirmation if needed, calls one function and reports the result. vserver.py adds them to the
program.
"""

from __future__ import annotations

import itertools
import re
import sys
from collections.abc import Iterator
from functools import partial
from typing import Any, TextIO

import click

from vserverlib import pluralize, printable
from vserverlib.commands import clean_up, completers, passwords, printing
from vserverlib.commands.confirmation import require_yes
from vserverlib.commands.options import JSON_OUTPUT, MAX_COUNT, YES, Target, command, paging, where
from vserverlib.commands.printing import Paging
from vserverlib.messages import notify

PAGE_SIZE = 20  # rows of the journal on a page, and before the confirmation of an undo


class Id(click.ParamType[int]):
    """An id as lists print it."""

    name = "id"
    form = re.compile("-?[1-9][0-9]{0,18}")

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Return the number. Raises a usage error for other spellings (003, +3, 1_000) and for over 64 bits."""
        text = str(value)
        if not self.form.fullmatch(text) or abs(int(text)) >= 2**63:
            self.fail(
                f'"{printable(value)}" is not an id: write a whole number as lists print it, such as 12', param, ctx
            )
        return int(text)


# Secrets


@command()
@click.argument("username", shell_complete=completers.usernames)
@click.option("--stdin", "piped", is_flag=True, help="Read the password from stdin, as one line.")
@click.pass_obj
def passwd(target: Target, username: str, piped: bool) -> None:
    """Set the password of a user.

    Asks for the password twice, without showing it.

    $ vserver passwd anna.devries
    $ vserver passwd anna.devries --stdin < password.txt
    """
    given = passwords.piped("--stdin") if piped else None
    with target.open() as database:
        import models
        from vserverlib.entities import lock_outs

        user = models.User.get_by_username(username)
        database.refuse_unplannable(user, "password")
        is_in_keycloak = _is_in_keycloak(user, "password")
        prompt = f"New password for {user.named()}"
        asked = passwords.typed(prompt, "--stdin") if given is None else given
        user.password = passwords.require(asked, "--stdin")
        user.save()
        lock_outs.lift(user.id)
        notify(f"{user.named()} has a new password")
        if is_in_keycloak:
            notify(f"the server that {user.named()} came from keeps passwords in Keycloak: set it there, too", "yellow")


def _is_in_keycloak(entity: Any, secret: str) -> bool:
    """Whether an entity was imported from a server of release 5, and its secret was not set since."""
    from vserverlib import hashing

    return bool(entity.stored_hash(secret) == hashing.KEYCLOAK)


@command()
@click.argument("username", shell_complete=completers.usernames)
@click.option("--two-factor", is_flag=True, help="Also have the user set up two-factor authentication again.")
@click.pass_obj
def unlock(target: Target, username: str, two_factor: bool) -> None:
    """Let a user log in to a server again after five wrong passwords.

    The database of a vantage6 server needs --write: see `vserver help servers`. A new password lifts the lock-out, too.

    $ vserver unlock anna.devries
    $ vserver -d server.sqlite --write --yes unlock user10
    $ vserver -d server.sqlite --write --dry-run unlock user10 --two-factor
    """
    with target.open():
        import models

        user = models.User.get_by_username(username)
        was_locked = user.unlock(two_factor=two_factor)
        if not target.write:
            notify(f"{user.named()} can log in again" if was_locked else f"{user.named()} was not locked out")


@command()
@click.argument("node", metavar="ID|NAME", shell_complete=completers.nodes)
@click.pass_obj
def apikey(target: Target, node: str) -> None:
    """Create a new API key for a node.

    Prints the key once. The old key stops working. If a word is the id of one node and the name of another, write
    node/12 for the id.

    $ vserver apikey 7
    $ vserver apikey node/7 > node.key
    """
    with target.open() as database, database.atomic():
        import models
        from vserverlib import hashing
        from vserverlib.entities import finding

        found = finding.one(models.Node, node, to_change=True)
        is_in_keycloak = _is_in_keycloak(found, "api_key")
        found.api_key = key = hashing.new_key()
        found.save()
        target.once_written(database, partial(_print_key, key))
    notify(f"{found.named()} has a new API key, which is not shown again")
    if is_in_keycloak:
        notify(
            f"the server that {found.named()} came from keeps keys in Keycloak: this one does not work there", "yellow"
        )


def _print_key(key: str) -> None:
    click.echo(key)
    sys.stdout.flush()


# Runs


@command()
@click.argument("results", metavar="RESULT...", nargs=-1, required=True, shell_complete=completers.results)
@click.option("--killed", is_flag=True, help='Set the status "killed by user" instead of "failed".')
@click.pass_obj
def fail(target: Target, results: tuple[str, ...], killed: bool) -> None:
    """End results that hang, as failed.

    RESULT is an id. Sets the status, and the missing times to now. Changes nothing if one of them has finished. No
    message goes to a node that still computes a result.

    $ vserver fail 43 44
    $ vserver fail 43 --killed
    $ vserver -d server.sqlite --write --dry-run fail 5
    """
    from vserverlib.entities import finding

    with target.open() as database, database.atomic():
        import models

        found = [finding.one(models.Result, word, to_change=True) for word in results]
        for result in found:
            result.fail(killed=killed)
    notify(f"{pluralize(len(found), 'result')} ended; {target.undo_hint(database.last_change)}")


# Deleting


@command("delete")
@click.argument("entity", shell_complete=completers.nouns)
@click.argument("words", metavar="ID|NAME...", nargs=-1, shell_complete=completers.labels)
@where("Delete all that match instead, after a confirmation. Repeatable: all filters must match.")
@click.option("--dependents", is_flag=True, help="Also delete their dependents, after a confirmation.")
@click.option("--forget", is_flag=True, help="With --where, delete them from the journal too, without undo.")
@click.option("--dry-run", is_flag=True, help="Only show what would be deleted.")
@YES
@click.pass_obj
def delete_command(
    target: Target, /, entity: str, words: tuple[str, ...], where: tuple[str, ...], forget: bool, **options: bool
) -> None:
    """Delete entities of one kind.

    Refuses to delete an entity that has dependents, such as the nodes of an organization or the results of a task,
    without --dependents. Deletes all in one transaction, with --where in batches, and prints how to undo it. If a word
    is the id of one entity and the name of another, write task/12 for the id.

    ENTITY is organization, user, collaboration, node, task or result.

    $ vserver delete task 19 20 --dependents --yes
    $ vserver delete organization 5 --dependents --dry-run
    $ vserver delete tasks --where status=empty --yes
    """
    from vserverlib.queries import kinds

    if where and (words or "/" in entity):
        raise click.UsageError("--where and ids or names are two ways to choose: give one of them")
    if forget and not where:
        raise click.UsageError("--forget needs --where, such as --where id=12")
    if where:
        clean_up.delete_matching(target, kinds.kind(entity), where, forget=forget, **options)
    elif not words and "/" not in entity:
        raise target.which(kinds.kind(entity))
    else:
        _delete_named(target, entity, words, **options)


def _delete_named(
    target: Target, entity: str, words: tuple[str, ...], *, dependents: bool, dry_run: bool, yes: bool
) -> None:
    from vserverlib.entities import deleting, finding
    from vserverlib.queries import kinds

    model, words = kinds.kind(entity.partition("/")[0] if not words else entity), words or (entity,)
    with target.open(read_only=dry_run):
        found = [finding.one(model, word, to_change=not dry_run) for word in words]
        plan = deleting.planned(found)
        if dry_run:
            _show_plan(plan, sys.stdout)
            if plan.branches and not dependents:
                notify(clean_up.NEEDS_DEPENDENTS, "yellow")
            return
        if dependents:
            require_yes("Delete all of these?", yes, lambda: _show_plan(plan, sys.stderr))
        done = deleting.delete(found, dependents, remedy="--dependents deletes them too", expected=plan)
    notify(f"{done.summary()}; {target.undo_hint(done.change)}")


def _show_plan(plan: Any, stream: TextIO) -> None:
    from vserverlib.terminal import trees, views

    views.console(stream).print(trees.PlanTree(plan))


# The journal


@command("log")
@click.option(
    "--entity",
    metavar="ENTITY",
    shell_complete=completers.recorded,
    help="Only this kind: tasks, users, memberships.",
)
@click.option("--id", metavar="N", type=Id(), help="Only the entity with this id; needs --entity.")
@click.option("--actor", metavar="NAME", help="Only changes by this user.")
@click.option("--since", metavar="AGE|TIME", help="Only changes since then: 2d (s, m, h, d, w), 2026-03-01.")
@click.option("--session", metavar="NAME", help="Only changes of this session.")
@click.option("--change", "changes", metavar="N", type=Id(), multiple=True, help="Only this change. Repeatable.")
@paging(PAGE_SIZE, f"{PAGE_SIZE} in a table, else all")
@JSON_OUTPUT
@click.option("--prune", metavar="AGE|TIME", help="Delete older changes, which then cannot be undone: 90d, 2026-03-01.")
@click.option("--yes", is_flag=True, help="With --prune, skip the confirmation.")
@click.pass_obj
def log_command(target: Target, /, output: str, paging: Paging, prune: str | None, yes: bool, **asked: Any) -> None:
    """Show who changed which fields, and when, newest first.

    Includes changes by other programs, without a name. Never shows a secret, only that it changed.

    Of a vantage6 server's database, shows the plans that vserver applied to it, by whom, and whether they were undone.

    $ vserver log --since 2d
    $ vserver log --entity tasks --id 12
    $ vserver log -o jsonl
    """
    if prune is not None:
        if paging != Paging(1, PAGE_SIZE, False) or output != "table" or _is_filtered(asked):
            raise click.UsageError("--prune forgets all older changes: leave out the other options")
        _prune(target, prune, yes)
        return
    if yes:
        raise click.UsageError("--yes needs --prune")
    if target.is_there and target.is_of_server:
        from vserverlib.commands import applied_log

        applied_log.show(target, output, paging, **asked)
        return
    with target.open(read_only=True) as database:
        from vserverlib.entities import journal

        _print_page(database, journal.conditions(**asked), output, paging)


def _print_page(database: Any, asked: list[Any], output: str, paging: Paging) -> None:
    """Print one page of the matching entries, or all; say how many more there are."""
    from vserverlib.entities import journal

    end = None if paging.everything else paging.first + paging.size
    found = journal.entries(database, asked)
    with printing.paged() as reader:
        number = _print_entries(itertools.islice(found, paging.first, end), output)
    if reader.has_quit or (number and not next(found, None)):
        return
    total = journal.total(database, asked)
    if total:
        printing.hint_at_pages(paging.first + number if number else 0, total, paging)
    elif output == "table":
        notify("nothing is recorded")


def _is_filtered(asked: dict[str, Any]) -> bool:
    return any(value not in (None, ()) for value in asked.values())


def _print_entries(entries: Iterator[Any], output: str) -> int:
    """Print entries, and return their number."""
    counter = itertools.count()
    passing = (entry for entry, _ in zip(entries, counter, strict=False))
    if output != "table":
        from vserverlib.entities import journal
        from vserverlib.queries import formats

        printing.write(formats.WRITERS[output], journal.as_rows(passing))
    else:
        from vserverlib.terminal import journal_screen, views

        console = views.console()
        for page in journal_screen.pages(passing):
            console.print(page)
    return next(counter)


def _prune(target: Target, older: str, yes: bool) -> None:
    from vserverlib.entities import journal

    journal.stored_time(older)  # refuses an invalid time before the database is opened, and perhaps upgraded
    with target.open() as database:
        number = journal.count_before(database, older)
        if number:
            message = pluralize(number, "change")
            require_yes(f"Delete {message} from the journal for good?", yes)
            number = journal.prune(database, older)
        notify(f"deleted {pluralize(number, 'change')} from the journal")


@command("undo")
@click.argument("count", metavar="[N]", required=False, type=click.IntRange(1, MAX_COUNT))
@click.option("--change", metavar="ID", type=Id(), help="Undo this change, by its number in the log.")
@click.option("--session", metavar="NAME", help="Undo all changes of this session, by its name in the log.")
@click.option("--force", is_flag=True, help="Also undo changes to rows that have changed since.")
@YES
@click.pass_obj
def undo_command(
    target: Target, count: int | None, change: int | None, session: str | None, force: bool, yes: bool
) -> None:
    """Undo the last N changes, or the last one.

    A change is one transaction. Refuses to undo a row that has changed since. An undo is recorded as a change too:
    --change undoes it, and another undo without --change goes further back.

    With --write, undoes the last plan that was applied to a server's database, or that of --change, by another plan.

    $ vserver undo
    $ vserver undo --change 1 --yes
    $ vserver undo --session 5kqm7c2a
    """
    from vserverlib.entities import undoing

    undoing.require_one_choice(count, change, session)
    if target.write:
        from vserverlib.commands import plan_session

        if count is not None or session is not None or force:
            raise click.UsageError("with --write, undo takes one plan: the last one, or that of --change")
        plan_session.undo(target, change)
        return
    with target.open() as database:
        ids = undoing.plan(database, count, change=change, session=session)
        require_yes(f"Undo {undoing.named_changes(ids)}?", yes, lambda: _show_changes(target, database, ids))
        done = undoing.undo_changes(database, ids, force)
    notify(f"{done}; {target.undo_hint(done.change)}")
    for line in done.left_out.summary():
        notify(line, "yellow")


def _show_changes(target: Target, database: Any, ids: list[int]) -> None:
    """Show the first rows of changes on stderr, before the confirmation, and say how to see the others."""
    from vserverlib.entities import journal, undoing
    from vserverlib.terminal import journal_screen, views

    asked = journal.conditions(changes=ids)
    shown = list(itertools.islice(journal.entries(database, asked), PAGE_SIZE))
    views.console(sys.stderr).print(journal_screen.Logbook(shown))
    more = journal.total(database, asked) - len(shown)
    if more:
        words = [word for id in ids[: undoing.MOST_NAMED] for word in ("--change", str(id))]
        notify(f"{pluralize(more, 'more row')}: see {target.command('log', *words, '--page', '2')}")


COMMANDS = (passwd, unlock, apikey, fail, delete_command, log_command, undo_command)
