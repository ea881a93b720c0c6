"""How a help page is built: the examples at its end, and the topics of `vserver help`.

A command's docstring is its help; its last lines, each after `$ `, are the examples. topics.py owns the texts of the
topics and is imported only to print one.
"""

from __future__ import annotations

from typing import Any

import click

from vserverlib import UsageError

CUT = "\f"  # click prints the help up to here
TOPICS = {
    "environment": "Environment variables.",
    "exit-statuses": "What the exit status of a command means.",
    "filters": "How to write filters, as in: --where status=failed",
    "formats": "Output formats, as in: -o json",
    "rules": "The rules that saving and `vserver check` apply.",
    "servers": "How to change the database of a vantage6 server.",
}


class HelpPage(click.Command):
    """A command whose help ends with the examples of its docstring."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.help = (self.help or "").replace("$ ", f"{CUT}$ ", 1)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse the command line. A usage error that comes of a habit from another program names our line for it."""
        typed = list(args)
        try:
            return super().parse_args(ctx, args)
        except (click.UsageError, UsageError) as error:
            from vserverlib.commands import habits

            raise habits.answer(error, ctx, typed) or error from None

    @property
    def examples(self) -> list[str]:
        """Return the examples, one command line each."""
        lines = (self.help or "").partition(CUT)[2].splitlines()
        return [line.strip().removeprefix("$ ") for line in lines if line.strip()]

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the examples, each on its own line, however narrow the terminal is."""
        if examples := self.examples:
            with formatter.section("Examples"):
                for line in examples:
                    formatter.write(f"{'':{formatter.current_indent}}{line}\n")
