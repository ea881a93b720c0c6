"""The commands that delete much at once: prune, `delete --where`, `check --fix`.

Each counts, asks and calls one function. vserver.py adds prune to the program; edit.py and read.py call the others.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import click

from vserverlib import Error, UsageError, pluralize
from vserverlib.commands import completers
from vserverlib.commands.confirmation import require_yes
from vserverlib.commands.options import YES, Target, command, where
from vserverlib.messages import notify

NEEDS_DEPENDENTS = "delete refuses this without --dependents"  # said by a dry run


class Work(NamedTuple):
    """One clean-up: what to do, as the words of messages, and how to start it again."""

    wanted: Any
    verb: str  # delete, empty
    words: list[str]  # of the command line, without --yes

    @property
    def done(self) -> str:
        return "emptied" if self.verb == "empty" else "deleted"


@command("prune")
@click.argument("entity", metavar="tasks", shell_complete=completers.prunable)
@where("Which finished tasks, such as 'finished_at<-90d'. Repeatable: all filters must match.")
@click.option("--results-only", is_flag=True, help="Keep tasks and results, and empty their inputs and results.")
@click.option("--forget", is_flag=True, help="Delete it from the journal too; then it cannot be undone.")
@click.option("--dry-run", is_flag=True, help="Only count.")
@YES
@click.pass_obj
def prune_command(
    target: Target, entity: str, where: tuple[str, ...], results_only: bool, forget: bool, dry_run: bool, yes: bool
) -> None:
    """Delete old tasks that have finished, with their results.

    A failed task has finished when none of its results is awaited. A task stays if a task that descends from it does
    not match. Deletes in batches, so that others can write meanwhile, and prints the line that undoes all of them.

    The journal keeps all deleted values, so the database does not shrink. --forget deletes them there too.

    $ vserver prune tasks --where 'finished_at<-90d' --dry-run
    $ vserver prune tasks --where 'finished_at<2026-01-01' --forget --yes
    $ vserver prune tasks --where 'finished_at<-30d' --results-only --yes
    """
    from vserverlib.entities import bulk_deleting
    from vserverlib.queries import kinds

    if kinds.kind(entity).noun != "task":
        line = target.command("delete", entity, "--where", "…")
        raise click.UsageError(f"prune is for tasks that have finished: for others, use {line}")
    if not where:
        raise click.UsageError("which finished tasks? Give a filter, such as --where 'finished_at<-90d'")
    words = ["prune", entity, *_filters(where), *_flags(results_only=results_only, forget=forget)]
    with target.open(read_only=dry_run) as database:
        if results_only:
            wanted = bulk_deleting.finished_with_results(where, forget)
            run(target, database, Work(wanted, "empty", words), dry_run, yes)
        else:
            run(target, database, Work(bulk_deleting.finished(where, forget), "delete", words), dry_run, yes)


def delete_matching(
    target: Target, model: Any, where: tuple[str, ...], *, dependents: bool, forget: bool, dry_run: bool, yes: bool
) -> None:
    """Run `vserver delete ENTITY --where …`."""
    from vserverlib.entities import bulk_deleting, filters

    words = ["delete", model.plural, *_filters(where), *_flags(dependents=dependents, forget=forget)]
    with target.open(read_only=dry_run) as database:
        conditions = tuple(filters.conditions(model, where))
        wanted = bulk_deleting.Wanted(model, conditions, dependents=dependents, forget=forget)
        run(target, database, Work(wanted, "delete", words), dry_run, yes)


def _filters(where: tuple[str, ...]) -> list[str]:
    return [word for text in where for word in ("--where", text)]


def _flags(**flags: bool) -> list[str]:
    return [f"--{name.replace('_', '-')}" for name, given in flags.items() if given]


def run(target: Target, database: Any, work: Work, dry_run: bool, yes: bool) -> None:
    """Count, ask, and delete in batches; say how to undo that."""
    from vserverlib.entities import bulk_deleting, forgetting

    if work.wanted.forget and target.write:
        raise UsageError(
            "--forget is for the journal of a vserver database, which a server does not have: leave it out"
        )
    counted = bulk_deleting.count(database, work.wanted)
    if counted.dependents and not (work.wanted.dependents or dry_run):
        subject = pluralize(counted.number, work.wanted.model.noun, work.wanted.model.plural)
        verb = "has" if counted.number == 1 else "have"
        raise Error(f"{subject} still {verb} {_numbers(counted.dependents)}: --dependents deletes them too")
    for line in _plan(target, database, work, counted):
        click.echo(line) if dry_run else notify(line)
    if dry_run and counted.dependents and not work.wanted.dependents:
        notify(NEEDS_DEPENDENTS, "yellow")
    if dry_run or not counted.number:
        return
    require_yes(f"{work.verb.capitalize()} these?", yes)
    if work.wanted.forget:
        forgetting.overwrite_deleted(database)
    _run_batches(target, bulk_deleting.Batches(database, work.wanted), work, counted)


def _plan(target: Target, database: Any, work: Work, counted: Any) -> list[str]:
    """Return the lines that say what would be done."""
    from vserverlib.entities import bulk_deleting

    model = work.wanted.model
    tasks = pluralize(counted.number, model.noun, model.plural)
    if not counted.number and not counted.kept:
        return [f"no {model.plural} match: there is nothing to {work.verb}"]
    if work.verb == "empty":
        number = bulk_deleting.count_full_results(database, work.wanted)
        lines = [f"inputs and results to empty: {pluralize(number, 'result')} of {tasks}"]
    elif counted.dependents:
        also = f"and with {'it' if counted.number == 1 else 'them'} {_numbers(counted.dependents)}"
        lines = [f"to delete: {tasks}, {also}"]
    else:
        lines = [f"to delete: {tasks}"]
    if counted.kept:
        lines.append(f"kept: {pluralize(counted.kept, 'task')} above a task that does not match")
    has_journal = not database.is_view and not target.write
    return [*lines, *_about_journal(target, work)] if has_journal and counted.number else lines


def _about_journal(target: Target, work: Work) -> list[str]:
    if work.wanted.forget:
        return ["the journal forgets it too: it cannot be undone; backups and copies still have it"]
    later = target.command("log", "--prune", "90d")
    return [
        "the journal keeps it, so this frees no room and erases nothing",
        f"to erase it: --forget, or later {later}",
    ]


def _numbers(dependents: dict[Any, int]) -> str:
    return ", ".join(pluralize(number, model.noun, model.plural) for model, number in dependents.items() if number)


def _run_batches(target: Target, batches: Any, work: Work, counted: Any) -> None:
    """Run all batches. After an error or Ctrl-C, print the numbers so far, and the lines to undo them and to go on."""
    from vserverlib.terminal import live_display

    start: Callable[[int], None] = batches.empty_results if work.verb == "empty" else batches.delete
    try:
        with live_display.progress_bar(work.wanted.model.plural, counted.number) as batches.advance:
            start(counted.last)
    except BaseException:
        if batches.changes:
            notify(f"stopped: {_report(target, batches, work)}", "yellow")
            notify(f"go on with: {target.command(*work.words)}", "yellow")
        raise
    notify(_report(target, batches, work))


def _report(target: Target, batches: Any, work: Work) -> str:
    """Return the numbers of deleted or emptied rows, and the line that undoes it."""
    done = dict(sorted(batches.done.items(), key=lambda each: each[0] is not work.wanted.model))
    report = f"{work.done} {_numbers(done) or 'nothing'}"
    if work.wanted.forget or target.write or not batches.changes:
        return report
    if len(batches.changes) == 1:
        return f"{report}; {target.undo_hint(batches.changes[0])}"
    line = target.command("undo", "--session", batches.session)
    return f"{report} in {len(batches.changes):,} changes; undo all of them with: {line}"


# Fixing


def fix(target: Target, asked: list[Any], dry_run: bool, yes: bool) -> None:
    """Show what can be fixed without a guess, ask, and fix it."""
    from vserverlib.entities import fixing

    with target.open(read_only=dry_run) as database:
        found = fixing.fixable(database, asked)
        for line in _fixes(target, found):
            click.echo(line) if dry_run else notify(line)
        if not found:
            notify("nothing can be fixed without a guess")
        elif not dry_run:
            require_yes("Fix these?", yes)
            number = fixing.fix(database, found)
            undo = "" if target.write else f"; {target.undo_hint(database.last_change)}"
            notify(f"fixed {pluralize(number, 'row')}{undo}")


def _fixes(target: Target, found: list[Any]) -> Iterator[str]:
    """Yield a line for each row that would be fixed."""
    for rule, ids, findings in found:
        yield from (f"{rule.code} {finding.message}: {rule.fix.does}" for finding in findings)
        if len(ids) > len(findings):
            more, line = len(ids) - len(findings), target.command("check", "--rule", rule.code, "-o", "jsonl")
            yield f"{rule.code} {pluralize(more, 'more row')}: {rule.fix.does}; see them all with: {line}"


COMMANDS = (prune_command,)
