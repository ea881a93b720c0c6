"""The command that posts a task to the running server: run."""

from __future__ import annotations

import sys
from typing import Any

import click

from vserverlib import Error
from vserverlib.commands import completers, printing
from vserverlib.commands.options import Target, command, output, several
from vserverlib.messages import is_capable, notify
from vserverlib.posting import DEFAULT_LABEL

STDIN = "-"  # in place of the arguments: a JSON object
DEMO_USER = "anna.devries"

CHOICES = several(
    click.option(
        "--organization",
        "organizations",
        metavar="NAME",
        multiple=True,
        shell_complete=completers.organizations,
        help="Run it at this organization. Repeatable.  [default: the user's]",
    ),
    click.option("--all", "everywhere", is_flag=True, help="Run it at all organizations that have a node."),
    click.option(
        "--collaboration",
        metavar="NAME",
        shell_complete=completers.collaborations,
        help="Post it in this collaboration.",
    ),
    click.option("--user", metavar="NAME", shell_complete=completers.usernames, help="Post it for this user."),
)


@command()
@click.argument("image", shell_complete=completers.images)
@click.argument("method")
@click.argument("words", metavar="[KEY=VALUE]...", nargs=-1, type=click.UNPROCESSED)
@CHOICES
@click.option(
    "--database",
    "labels",
    metavar="LABEL",
    multiple=True,
    default=(DEFAULT_LABEL,),
    show_default=True,
    help="Use this database of the nodes. Repeatable.",
)
@click.option("--name", help="Name the task.  [default: METHOD and its arguments]")
@click.option("--no-wait", is_flag=True, help="Print its reference, such as task/12, and do not wait.")
@click.option("--demo", is_flag=True, help="Post it to the server of `vserver start --demo`.")
@output("json", "jsonl", "yaml")
@click.pass_context
def run(
    ctx: click.Context,
    /,
    image: str,
    method: str,
    words: tuple[str, ...],
    labels: tuple[str, ...],
    name: str | None,
    no_wait: bool,
    demo: bool,
    output: str,
    **wanted: Any,
) -> None:
    """Post a task to the running server, and show its results.

    You must have started `vserver start` on this machine; its nodes run METHOD of the algorithm IMAGE.

    KEY=VALUE is an argument of METHOD. VALUE is JSON or else text; @FILE is the text of a file (@@ for text that begins
    with @). With - instead, reads all arguments from stdin, as a JSON object.

    Without --user, posts for the only user who may. Without --collaboration, posts in the only one that is not
    encrypted, or whose nodes are online. With --demo, the user is anna.devries.

    After Ctrl-C, the nodes continue the task. The exit status is 0 if the task completed, 1 if it failed, and 4 if it
    was not posted.

    $ vserver run --demo demo/average:1 central_average column_name=age
    $ vserver run demo/average:1 partial_average column_name=age --all --user anna
    """
    from vserverlib.entities.typed_values import encodable
    from vserverlib.posting import posting
    from vserverlib.posting.choosing import Wanted
    from vserverlib.terminal import watching

    if wanted["everywhere"] and wanted["organizations"]:
        raise click.UsageError("--all and --organization exclude each other: choose one", ctx)
    target = _of_demo(ctx, wanted) if demo else _own(ctx.obj)
    image, method, *rest = map(encodable, (image, method, *words))
    order = posting.Order(image, method, _arguments(rest), Wanted(**wanted), labels, name)
    with target.open(read_only=True) as database:
        id = posting.post(database, order)
        if no_wait:
            click.echo(f"task/{id}")
            return
        try:
            ending = watching.follow(database, id)
        except KeyboardInterrupt:
            notify(f"task {id} goes on; wait for it with: {target.command('wait', str(id))}", "yellow")
            raise
        _print(id, output)
    if ending.message:
        notify(f"{ending.message}; see: {target.command('why', str(id))}", "yellow")
    ctx.exit(ending.status)


def _own(target: Target) -> Target:
    """Return the database of the command line. Raises an Error if only that of the example data can be meant."""
    from vserverlib import running_servers

    if target.url is None and not target.is_there and running_servers.demos():
        raise Error(f"there is no database {target.name}; for the server of the example data, add --demo")
    return target


def _of_demo(ctx: click.Context, wanted: dict[str, Any]) -> Target:
    """Return the database of the server of the example data, and choose a user who may post there."""
    from vserverlib import running_servers

    if (ctx.parent or ctx).get_parameter_source("database") is click.core.ParameterSource.COMMANDLINE:
        raise click.UsageError("--demo and -d name two databases: choose one", ctx)
    found = running_servers.demos()
    if not found:
        raise Error("no server of the example data runs: start one in another terminal, with: vserver start --demo")
    wanted["user"] = wanted["user"] or DEMO_USER
    target: Target = ctx.obj._replace(url=found[0].place)
    return target


def _arguments(words: list[str]) -> dict[str, Any]:
    from vserverlib.posting import method_arguments

    if words == [STDIN]:
        return method_arguments.of_object(sys.stdin.buffer.read())
    return method_arguments.parse(words)


def _print(id: int, output: str) -> None:
    from vserverlib.queries import formats, outcomes

    outcome = outcomes.of_task(id)
    if output == "table":
        from vserverlib.terminal import outcome_view, views

        if is_capable(sys.stdout):
            click.echo()  # below the bars
        views.console().print(outcome_view.OutcomeView(outcome))
    else:
        printing.write(formats.WRITERS[output], outcomes.as_rows(outcome))


COMMANDS = (run,)
