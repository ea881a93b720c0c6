"""Write docs/commands.md, the command reference, from the help texts.

    python docs/make_commands.py

A test compares the page with page().
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import click

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

WIDTH = 100  # columns of the help texts
OPENING = """\
# The commands

Generated from `vserver --help` by [make_commands.py](make_commands.py): change the help texts, then run `make docs`.

Data goes to stdout; messages, warnings and errors go to stderr, one line each. The exit status is 0 for success, 1 for
an error (also an id or a name that does not exist), 2 for a usage error (an option, an entity or a field that does not
exist), and 130 after Ctrl-C. SIGTERM and SIGHUP end the program, which a shell reports as 143 and 129.
"""


def page() -> str:
    """Return the text of the page."""
    return "\n".join([OPENING, *sections()])


def sections() -> Iterator[str]:
    """Yield the sections of the page: the program, then its commands in the order of its help."""
    import vserver

    program = context(vserver.main, "vserver", None)
    yield section(program)
    for name in vserver.main.list_commands(program):
        command = vserver.main.get_command(program, name)
        if command is not None and not command.hidden:
            yield section(context(command, name, program))


def context(command: click.Command, name: str, parent: click.Context | None) -> click.Context:
    settings = {**command.context_settings, "terminal_width": WIDTH, "max_content_width": WIDTH}
    return click.Context(command, info_name=name, parent=parent, **settings)


def section(command: click.Context) -> str:
    title = command.command_path.removeprefix("vserver ")
    return f"## {title}\n\n```text\n{command.get_help()}\n```\n"


if __name__ == "__main__":
    (HERE / "commands.md").write_text(page())
    print("written: docs/commands.md")
