"""The IPython shell: its prompt, display, completion, history and error messages. Only shell.start() imports it.

Its configuration is here and in NO_COLOR and VSERVER_THEME: it neither reads nor writes the user's IPython profile,
start-up files and themes. completion.py completes, masking.py finds secrets, views.py draws entities.
"""

from __future__ import annotations

import contextlib
import linecache
import shutil
import subprocess
import sys
import tokenize
from collections.abc import Callable, Container
from pathlib import Path
from typing import Any

from IPython.core.compilerop import CachingCompiler
from IPython.terminal.embed import InteractiveShellEmbed
from IPython.terminal.prompts import Prompts, RichPromptDisplayHook
from IPython.terminal.ptutils import IPythonPTLexer
from prompt_toolkit.history import InMemoryHistory
from pygments.token import Token
from traitlets.config import Config

from vserverlib import database_errors, home, masking, messages, printable, signals, tracebacks
from vserverlib.entities.lists import EntityList
from vserverlib.entities.orm import EntityBase
from vserverlib.entities.relations import MemberList
from vserverlib.scanning import MASK
from vserverlib.terminal import display, notices
from vserverlib.terminal.history import History, Recall
from vserverlib.terminal.magics import NoLog, OurMagics
from vserverlib.terminal.matcher import matcher

LONGEST_TITLE = 40  # characters of the database's name in the prompt
COLOURS = {"light": "lightbg", "dark": "linux", "none": "nocolor", "": "neutral"}  # VSERVER_THEME: IPython's name
ATTENTION = Token.Prompt.Attention
LISTS = (list, tuple, EntityList, MemberList)


# Input and output


class Compiler(CachingCompiler):
    """Compiles cells and keeps their lines for tracebacks, secrets masked. known: the defined names."""

    known: Container[str] | None = None

    def cache(self, transformed_code: str, number: int = 0, raw_code: str | None = None) -> str:
        name: str = super().cache(transformed_code, number, raw_code)
        lines = masking.mask(transformed_code, self.known).splitlines(keepends=True)
        linecache.cache[name] = (len(transformed_code), None, lines, name)
        return name


class Lexer(IPythonPTLexer):
    """Colours the input. An empty line does not import Pygments, so that the first prompt appears sooner."""

    def lex_document(self, document: Any) -> Any:
        return super().lex_document(document) if document.text else lambda line: []


class DisplayHook(RichPromptDisplayHook):
    """Writes a view without `Out[1]: ` before it, which would shift its frame."""

    def __call__(self, result: Any = None) -> None:
        if callable(result) and (hint := _hints().of_callable(result, self.shell.source)):
            messages.notify(hint, "yellow")
            return
        self.is_view = display.is_viewed(result)
        super().__call__(result)

    def quiet(self) -> bool:
        """Whether the running cell ends with a semicolon. The history may hold a masked version of it."""
        return bool(self.shell.history_manager.is_quiet)

    def write_output_prompt(self) -> None:
        if self.is_view:
            self.prompt_end_newline = True
        else:
            super().write_output_prompt()


class Prompt(Prompts):
    """Names the database and, unless it is read-write, its mode; in red if others may be working in it."""

    def in_prompt_tokens(self) -> list[tuple[Any, str]]:
        database = self.shell.database
        mode = {"read-write": "", "plan": " [plan]"}.get(database.mode, f" ({database.mode})")
        live = mode == "" and not database.is_sqlite
        text, number = (ATTENTION, ATTENTION) if live else (Token.Prompt, Token.PromptNum)
        name = f"{self.vi_mode()}{printable(database.place, LONGEST_TITLE)}{mode} ["
        return [(text, name), (number, str(self.shell.execution_count)), (text, "]: ")]


# Errors


def _hints() -> Any:
    """Return the module of hints, which sessions without a mistake do not import."""
    from vserverlib.terminal import hints

    return hints


# The shell


class Shell(InteractiveShellEmbed):
    """An IPython shell on a database."""

    source = ""  # of the running cell

    def __init__(self, database: Any, names: dict[str, Any], *, banner: str, debug: bool, quiet: bool = False) -> None:
        self.database, self.shows_tracebacks = database, debug
        self.may_leave: Callable[[], bool] = lambda: True  # asked when the user leaves
        self.notices = notices.Notices(database, summaries=not quiet)
        self._named_unsaved: list[Any] = []  # entities that were never saved, when the user wanted to leave
        self.has_colours = messages.is_colourful(sys.stdout)
        config = Config()
        config.Completer.use_jedi = False
        config.InteractiveShell.display_page = True  # no pager at the prompt, also for a long x?
        super().__init__(
            config=config,
            user_ns=names,
            banner1=banner,
            banner2="",
            enable_tip=False,
            confirm_exit=False,
            simple_prompt=not messages.is_capable(sys.stdout),
            colors=COLOURS[messages.theme()] if self.has_colours else "nocolor",
            highlighting_style_overrides={ATTENTION: "bold ansired"},
            prompts_class=Prompt,
            compiler_class=Compiler,
            displayhook_class=DisplayHook,
            xmode="Plain",
            _init_location_id="vserver",
        )
        self.compile.known = self.user_ns

    def run(self) -> None:
        """Show the banner and run the prompt until the user leaves."""
        hook = sys.excepthook
        try:
            self.show_banner()
            self._loop()
        finally:
            with signals.held():
                self._remove_drafts()
                self.notices.close()
                self._atexit_once()
                sys.excepthook = hook

    def _loop(self) -> None:
        while not signals.is_ending():
            try:
                self.mainloop()
                if self.may_leave():
                    break
            except KeyboardInterrupt:  # pressed again while the first was reported
                if not signals.is_ending():
                    messages.notify("interrupted", "yellow")

    def interact(self) -> None:
        """Run the prompt until the user leaves or a signal ends it."""
        with contextlib.suppress(signals.Terminated):
            super().interact()

    def run_cell(self, raw_cell: str, *args: Any, **options: Any) -> Any:
        """Run a cell, and print what it saved, deleted or did not find. A Ctrl-C from before it does not count."""
        signals.reset()
        self.source = raw_cell
        result = super().run_cell(raw_cell, *args, **options)
        self.notices.print(raw_cell, self.user_ns, result.result, failed=not result.success)
        return result

    def ask_exit(self) -> None:
        """Leave, unless the session has entities that were never saved and that were not named before."""
        writable = self.database.mode in ("read-write", "plan") and not signals.is_ending()
        new, changed = notices.unsaved(self.user_ns, self.user_ns.get("_oh", {}).values()) if writable else ([], [])
        if any(each not in self._named_unsaved for each in map(id, new)):
            self._named_unsaved = [*map(id, new)]
            messages.notify(f"never saved: {notices.named(new)}; save() each, or leave again to discard", "yellow")
            return
        if changed:
            messages.notify(f"discarded the unsaved changes of {notices.named(changed)}", "yellow")
        super().ask_exit()

    def _remove_drafts(self) -> None:
        """Remove the files that %edit wrote for the editor: IPython leaves every other one behind."""
        for folder in self.tempdirs:
            shutil.rmtree(folder, ignore_errors=True)

    # Parts of the user's own IPython that are not used

    def init_ipython_dir(self, ipython_dir: Any) -> None:
        """Do not use ~/.ipython, which belongs to another shell."""

    def init_profile_dir(self, profile_dir: Any) -> None:
        """Use no profile. What IPython stores in it, such as bookmarks, lasts for the session."""
        self.db: Any = {}

    def init_virtualenv(self) -> None:
        """Stay in our own environment, even if another one is active."""

    # Parts of our own

    def init_history(self) -> None:
        self.history_manager = History(shell=self, parent=self, hist_file=":memory:")
        self.configurables.append(self.history_manager)
        try:
            self.history_manager.keep_in(home.folder() / "history.sqlite")
        except OSError as error:  # a user who is only a number, as in a container
            messages.notify(f"history is off: {printable(error.strerror, 200)}", "yellow")

    def init_magics(self) -> None:
        super().init_magics()
        self.register_magics(OurMagics)
        self.logger = NoLog(self.home_dir)

    def init_display_formatter(self) -> None:
        super().init_display_formatter()
        display.show_in(self.display_formatter, self._view)

    def _view(self, obj: Any) -> str:
        try:
            return display.text(obj, color=self.colors != "nocolor")
        except Exception as error:
            if self.shows_tracebacks:
                raise
            kind = "" if database_errors.is_mistake(error) else f"{type(error).__name__}: "
            return f"({type(obj).__name__} cannot be shown: {kind}{printable(error, 300)})"

    def init_prompt_toolkit_cli(self) -> None:
        self.lexer = Lexer()
        self.debugger_history = InMemoryHistory()  # %debug would keep its input in ~/.pdbhistory
        super().init_prompt_toolkit_cli()
        if self.pt_app:
            self.pt_app.default_buffer.history = Recall(self)

    def _extra_prompt_options(self) -> dict[str, Any]:
        options: dict[str, Any] = super()._extra_prompt_options()
        return {**options, "lexer": self.lexer}

    def prompt_for_code(self) -> str:
        """Return the next input. A signal that ends the program leaves the prompt as Ctrl-D does."""
        if self.pt_app is None:
            return super().prompt_for_code()  # type: ignore[no-any-return]
        with signals.left_by(self._leave_prompt):
            self.pt_app.app.pre_run_callables.append(self._leave_prompt)  # for a signal that comes before it appears
            return super().prompt_for_code()  # type: ignore[no-any-return]

    def _leave_prompt(self) -> None:
        """Leave the prompt if a signal ends the program: in its event loop, or as soon as that runs."""
        app = self.pt_app.app

        def leave() -> None:
            if app.is_running and not app.is_done:
                app.exit(exception=EOFError())

        if signals.is_ending() and app.loop is not None:
            app.loop.call_soon_threadsafe(leave)

    def init_completer(self) -> None:
        super().init_completer()
        self.Completer.custom_matchers.append(matcher(self.user_ns))

    # Help

    def show_usage(self) -> None:
        """Show our help, for a single question mark."""
        from vserverlib.terminal import help_screen

        print(help_screen.text())  # noqa: T201  # printing is its purpose

    def _inspect(self, meth: str, oname: str, namespaces: Any = None, **options: Any) -> Any:
        """Show the fields of an entity, for `db.Task?`, and the summary for `db?`; other objects as IPython does."""
        found = self._object_find(oname, namespaces)
        if meth == "pinfo" and found.found and isinstance(found.obj, EntityBase):
            found.obj = type(found.obj)
        if meth == "pinfo" and found.found and display.is_viewed(found.obj) and not isinstance(found.obj, LISTS):
            print(self._view(found.obj))  # noqa: T201  # printing is its purpose
            return None
        return super()._inspect(meth, oname, namespaces, **options)

    # Files that run

    def safe_execfile(self, fname: Any, *where: Any, **options: Any) -> None:
        """Run a file, for %run and %edit. Tracebacks show its lines with secrets masked."""
        path = Path(fname).expanduser().resolve()
        # If it cannot be read, running it reports that.
        with contextlib.suppress(OSError, SyntaxError, UnicodeDecodeError), tokenize.open(path) as file:
            masking.remember(file.read(), str(path))
        super().safe_execfile(fname, *where, **options)

    # Errors

    def showtraceback(self, exc_tuple: Any = None, *args: Any, **options: Any) -> None:
        """Show an error of ours, or of the database, as its message and the line of the cell.

        set_custom_exc() would do this in cells alone: not in %run, for Ctrl-C at the prompt or for a failed display.
        """
        kind, error, frames = self._get_exc_info(exc_tuple)
        self.notices.print_done()  # what was saved before the error
        if isinstance(error, subprocess.CalledProcessError):
            error.cmd = MASK  # of %%bash it is the whole cell
        if signals.is_ending():
            self.ask_exit()
        elif issubclass(kind, KeyboardInterrupt):
            sys.stderr.write("\n")  # after the ^C
            messages.notify("interrupted", "yellow")
        elif message := self._message(error, frames):
            messages.notify(f"error: {message}", "red")
            if line := self._typed_line(frames):
                messages.notify(f"  {line}")
            if remedy := _hints().of_database_error(error):
                messages.notify(f"  {remedy}", "yellow")
        else:
            super().showtraceback(exc_tuple, *args, **options)

    def _message(self, error: BaseException, frames: Any) -> str:
        """Return an error of ours, of the database, or after a common mistake, in one line; "" for any other."""
        name = error.name if isinstance(error, NameError) else None
        if name == "vserver":
            return str(_hints().of_command(self.source))
        if hint := _hints().of_undefined(error, self.user_ns):
            return f"{str(error).partition(chr(10))[0]}{hint}"
        if self.shows_tracebacks:
            return ""
        none = _hints().of_none(error, self._typed_line(frames), self.notices.why_none)
        return none or (str(error).partition("\n")[0] if database_errors.is_mistake(error) else "")

    def showsyntaxerror(self, *args: Any, **options: Any) -> None:
        """Show a syntax error with secrets masked. The marks below a masked line would be in the wrong place."""
        error = self._get_exc_info()[1]
        line = getattr(error, "text", None) or ""
        if hint := _hints().of_command(line) or _hints().of_sql(line):
            messages.notify(f"error: {hint}", "red")
            return
        shown = masking.mask(line)
        if isinstance(error, SyntaxError) and error.text and shown != error.text:
            error.text, error.offset, error.end_offset = shown, None, None
        super().showsyntaxerror(*args, **options)

    def _typed_line(self, frames: Any) -> str:
        """Return the line of the cell that caused an error, secrets masked; with its number if there are several.

        Of a file that %run runs, the line of the file.
        """
        found, in_file = "", ""
        while frames is not None:
            label = self.compile.format_code_name(frames.tb_frame.f_code.co_filename)
            if label:
                lines = self._source(frames).splitlines()
                at = frames.tb_lineno
                number = f"line {at}: " if len(lines) > 1 else ""
                found = number + lines[at - 1].strip() if at <= len(lines) else ""
                found = "" if found.startswith("get_ipython()") else found  # a magic, not as typed
            elif not tracebacks.is_library(file := frames.tb_frame.f_code.co_filename):
                line = linecache.getline(file, frames.tb_lineno).strip()
                in_file = f"{Path(file).name}, line {frames.tb_lineno}: {line}" if line else in_file
            frames = frames.tb_next
        return found or in_file

    def _source(self, frames: Any) -> str:
        return "".join(linecache.getlines(frames.tb_frame.f_code.co_filename))

    def _format_exception_for_storage(self, *args: Any, **options: Any) -> dict[str, Any]:
        """Keep no tracebacks: IPython would render each one again, for notebooks."""
        return {}
