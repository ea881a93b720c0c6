"""The command edit: one entity as YAML in the user's editor.

entity_text.py owns the text. The edited file is kept, and named, whenever its changes were not saved.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from vserverlib import Error, Locked, ReadOnly, printable
from vserverlib.commands import completers
from vserverlib.commands.create import DRY_RUN, chosen, print_changes, report_update, transaction
from vserverlib.commands.options import Target, command
from vserverlib.messages import notify

DEFAULT = "vi"


@command("edit")
@click.argument("entity", shell_complete=completers.nouns)
@click.argument("words", metavar="ID|NAME", nargs=-1, shell_complete=completers.labels)
@DRY_RUN
@click.pass_obj
def edit(target: Target, entity: str, words: tuple[str, ...], dry_run: bool) -> None:
    """Edit an entity in your editor.

    Opens its fields as YAML in VISUAL, EDITOR or vi, and saves what you changed. If a value is refused, says so with
    its line, and opens the editor again. A text that was not saved is kept in a file. Secrets are not part of it.

    ENTITY is organization, user, collaboration, node, task or result. ENTITY and ID can be one word: task/12.

    $ vserver edit organization "Kankerregister Noord"
    $ vserver edit user/1
    """
    from vserverlib.entities import finding
    from vserverlib.transfer import entity_text

    model, word, more = chosen(target, entity, words)
    if more:
        raise click.UsageError(f'edit takes one entity, not "{printable(more[0])}" too: quote a name with blanks')
    _require_editor()
    with target.open(dry_run=dry_run) as database:
        found = finding.one(model, word, to_change=True)
        before = entity_text.values(found)
        with _draft(f"{found.noun}-{found.id}.yaml", entity_text.write(found, before)) as draft:
            names = _edited(database, found, before, draft, dry_run)
        change = database.last_change
    report_update(target, found, names, change, dry_run)


def _edited(database: Any, found: Any, before: dict[str, Any], draft: Draft, dry_run: bool) -> list[str]:
    """Run the editor until its text is saved; return the names of what was changed."""
    from vserverlib.transfer import entity_text

    while True:
        _run(draft.path)
        draft.read()
        try:
            edited = entity_text.changes(type(found), draft.path, draft.original)
            return _saved(database, found, edited, before, draft, dry_run) if edited else []
        except (Locked, ReadOnly):
            raise
        except entity_text.FaultyText as error:
            faults: Sequence[str] = error.faults
        except Error as error:  # such as a user name that is taken
            faults = [str(error)]
        _require_retry(faults)
        draft.write(entity_text.with_faults(draft.text, faults))


def _saved(
    database: Any, found: Any, edited: Sequence[Any], before: dict[str, Any], draft: Draft, dry_run: bool
) -> list[str]:
    """Save the changes, to the entity as it is now."""
    from vserverlib.transfer import entity_text

    with transaction(database, dry_run) as changes:
        current = type(found).by_id(found.id)
        if current is None:
            raise Error(f"{found.named()} was deleted meanwhile: nothing was saved")
        names = entity_text.assign(current, edited, draft.path, before)
        if names:
            current.save()
        if dry_run:
            print_changes(changes(), None)
    return names


def _require_retry(faults: Sequence[str]) -> None:
    """Show the faults and ask whether to edit again. Raises an Error after a no, or without a terminal."""
    for line in faults:
        notify(line, "red")
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise Error("nothing was changed")
    if not click.confirm("Edit again?", default=True, err=True):
        raise Error("nothing was changed")


# The file


class Draft:
    """The text in the editor. path: the file that is edited; original: a file with the text before; text: as read."""

    def __init__(self, path: Path, text: str) -> None:
        from vserverlib import files

        self.path, self.text, self._before = path, text, text
        self.original = path.with_name(f".{path.name}")
        for file in (self.path, self.original):
            files.make_private(file).write_text(text, encoding="utf-8")

    def read(self) -> None:
        """Read what the editor has written, without the faults that were added to it."""
        from vserverlib.transfer import entity_text

        try:
            data = self.path.read_bytes()
        except FileNotFoundError:
            raise Error(f"the editor deleted {printable(self.path, 200)}: nothing was changed") from None
        text = data.decode("utf-8", "surrogateescape")
        self.text = entity_text.without_faults(text)
        if self.text != text:
            self.write(self.text)

    def write(self, text: str) -> None:
        """Replace the text in the file."""
        self.path.write_bytes(text.encode("utf-8", "surrogateescape"))

    @property
    def is_changed(self) -> bool:
        """Whether the file has a text that would be lost."""
        return self.path.exists() and self.path.read_bytes() != self._before.encode()


@contextmanager
def _draft(name: str, text: str) -> Iterator[Draft]:
    """Create a private file with a text. It is removed at the end; after an error it is kept if it was changed."""
    import shutil
    import tempfile

    folder = Path(tempfile.mkdtemp(prefix="vserver-edit-"))
    draft = Draft(folder / name, text)
    try:
        yield draft
    except BaseException:
        if draft.is_changed:
            notify(f"your text is kept in {printable(draft.path, 200)}", "yellow")
            draft.original.unlink(missing_ok=True)
        else:
            shutil.rmtree(folder, ignore_errors=True)
        raise
    shutil.rmtree(folder, ignore_errors=True)


# The editor


def _command() -> str:
    return os.environ.get("VISUAL") or os.environ.get("EDITOR") or ""


def _require_editor() -> None:
    """Raise an Error if there is neither a named editor nor a terminal for the default one."""
    if not _command() and not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise Error("no terminal for an editor: use vserver set, or name a program with EDITOR")


def _run(path: Path) -> None:
    """Run the editor on a file, and wait for its end. Ctrl-C is the editor's until then."""
    import shlex
    import subprocess

    from vserverlib import files

    editor = _command() or DEFAULT
    shown, remedy = printable(editor), "set VISUAL or EDITOR"
    try:
        child = subprocess.Popen([*shlex.split(editor), str(path)])
    except ValueError:
        raise Error(f'"{shown}" is not a command, its quotes do not match: {remedy}') from None
    except OSError as error:
        raise Error(f'the editor "{shown}" cannot be run: {files.reason(error)}: {remedy}') from None
    handler = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        status = child.wait()
    except BaseException:
        child.terminate()
        raise
    finally:
        signal.signal(signal.SIGINT, handler)
    if status:
        end = f"was ended by signal {-status}" if status < 0 else f"ended with status {status}"
        raise Error(f'the editor "{shown}" {end}: nothing was changed')


COMMANDS = (edit,)
