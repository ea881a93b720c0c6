"""Command lines of other programs, and IPython magics: which of their words the history may keep.

A password can be any word of a command line, and no list of words finds it. So a word is kept only if it is known to be
harmless: as an argument of its command (`ls`, `%save`), as an option, or as the name of a secret, which then follows.
Everything from the first other word on is masked.

IPython turns such a line into a call, which this module reads: `get_ipython().system('ls')`.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Sequence

from vserverlib.scanning import MASK, names_secret, scan


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


# These take any number of plain words: names of files, variables or settings, numbers. The first two lines are
# system programs, which IPython also has as magics.
HARMLESS = _words(
    "vserver cat cd chmod clear cp date df diff du file free head hostname less ls man mkdir more mv pwd rm rmdir stat"
    " tail touch tree uptime wc which whoami ldir lf lk ll lx"
    " autoawait autocall autoindent automagic bookmark code_wrap colors dhist dirs doctest_mode ed edit gui"
    " killbgscripts load_ext logoff logon logstate logstop lsmagic macro magic matplotlib page pdb pdef pdoc pfile"
    " pinfo pinfo2 popd pprint precision psearch psource pushd pycat pylab quickref rehashx reload_ext reset"
    " reset_selective save tb unalias unload_ext who who_ls whos xdel xmode"
)
# These take one: the arguments of a script, the value of a variable or the command of an alias follow it.
ONE_WORD = _words("alias alias_magic config env load loadpy logstart notebook run set_env store")
LINES = _words("hist history recall rep rerun")  # these take line numbers, or a text to search for
PYTHON = _words("capture debug prun time timeit")  # these take Python code
SYSTEM = frozenset({"sx", "system", "!"})  # these take a system command
SYSTEM_CALLS = frozenset({"system", "system_raw", "system_piped", "getoutput", "getoutput_raw"})

_PLAIN = re.compile(r"[\w./~*?,+-]+")
_OPTION = re.compile(r"-[A-Za-z]|--[a-z][a-z-]*")
_NAME_OF_SECRET = re.compile(r"-{0,2}[A-Za-z_-]+")
_RANGE = re.compile(r"-[a-fh-z]|[-\d~/:]+")
_NAME = re.compile(r"[^\W\d]\w*")
_BEGINNING = re.compile(r"\s*(?:(?:\w[\w,\ .\[\]]*=[^\S\n]*)?(?:!!?|(?P<magic>%%?))|[,;/])?[^\S\n]*")
_BEFORE_NAME = re.compile(r"[\w.-]*")
_WORD = re.compile(r"(?:\\\n|\S)+")
_GIVES = (" ", "=", ":", "(")  # separators of a secret's name and the secret

MaskPython = Callable[[str], str]


def mask_command(text: str) -> str:
    """Return a command line, or a magic, masked from the first word that is not known to be harmless.

    Prefixes such as `x = !` and `%` stay, and the number of lines. A harmless text comes back unchanged.
    """
    beginning = _BEGINNING.match(text)
    assert beginning is not None
    start = beginning.end()
    if beginning["magic"] and (first := _NAME.match(text, start)) and first[0] in PYTHON:
        return text  # its argument is masked as Python
    end = start + _harmless_length(text[start:])
    rest = text[end:]
    if not rest.strip():
        return text
    between = rest[0] if rest[0] in _GIVES else ""
    return text[:end] + between + MASK + "\\\n" * rest.count("\n")


def _harmless_length(command: str) -> int:
    """Return the length of the harmless beginning of a command."""
    end, program, free = 0, "", 0
    for word in _WORD.finditer(command):
        text = word[0]
        named = None if not program and text in HARMLESS else _secret_name(text)
        may_stand = bool(_PLAIN.fullmatch(text)) if not program else _is_harmless(text, program, free)
        if named is not None and (may_stand or _asks(text, named)):
            return word.start() + named
        if named is not None or not may_stand:
            break
        free = int(text in ONE_WORD) if not program else free - (not _OPTION.fullmatch(text))
        program, end = program or text, word.end()
    return end


def _is_harmless(word: str, program: str, free: int) -> bool:
    """Whether an argument of a program is harmless."""
    if program in LINES:
        return bool(_RANGE.fullmatch(word))
    is_plain = bool(_PLAIN.fullmatch(word)) and (program in HARMLESS or free > 0)
    return is_plain or bool(_OPTION.fullmatch(word))


def _asks(word: str, end: int) -> bool:
    """Whether a word is the name of a secret that follows: `--password`, `api-key=…`."""
    gives = word[end : end + 1] in ("=", ":") and len(word) > end + 1
    return bool(_OPTION.fullmatch(word) or (gives and _NAME_OF_SECRET.fullmatch(word, 0, end)))


def _secret_name(word: str) -> int | None:
    """Return the end of a secret's name within a word, 0 if other text precedes it; None without such a name."""
    end = next((found.end() for found in _NAME.finditer(word) if names_secret(found[0])), None)
    return end if end is None or _BEFORE_NAME.fullmatch(word, 0, end) else 0


def mask_magic(method: str, words: Sequence[str], mask_python: MaskPython) -> list[str]:
    """Return the texts that a method of IPython's shell is called with, masked; unchanged if they are harmless.

    method: such as run_line_magic, system. words: such as the name of a magic, its line, and its cell.
    """
    if method in SYSTEM_CALLS and len(words) == 1:
        return [mask_command(words[0])]
    if method == "run_line_magic" and len(words) == 2:
        return [words[0], mask_line(words[0], words[1], mask_python)]
    if method == "run_cell_magic" and len(words) == 3:
        cell = mask_python(words[2]) if words[0] in PYTHON else MASK
        return [words[0], mask_line(words[0], words[1], mask_python), cell]
    whole = "".join(words)  # an unknown method: all of its texts together
    is_python = method not in (*SYSTEM_CALLS, "run_line_magic", "run_cell_magic")
    return list(words) if is_python and mask_python(whole) == whole else [MASK] * len(words)


def mask_line(magic: str, line: str, mask_python: MaskPython) -> str:
    """Return the line of a magic, masked."""
    if magic in PYTHON:
        return mask_python(line)
    if magic in SYSTEM:
        return mask_command(line)
    return mask_command(f"{magic} {line}")[len(magic) + 1 :] if line.strip() else line


def is_harmless(words: Sequence[str]) -> bool:
    """Whether the words of a command contain nothing that may be a secret."""
    command = words[0] if len(words) == 1 else shlex.join(words)
    return mask_command(command) == command


# `!cmd`, `x = !cmd`, `%run …`, `,print a`; IPython's translation of these; commands without a prefix; and text that is
# piped to a program.
COMMAND = re.compile(
    r"""
    ^[^\S\n]* (?:\w[\w,\ .\[\]]*=[^\S\n]*)?
    (?: (?:[!%,;/] | get_ipython\(\) | (?:vserver|run|sx|system|alias)[^\S\n]) (?:\\\n|[^\n])*
      | [\w./-]+[^\S\n]+ (?=[^\n]*(?:\||<<)) (?=[^\n]*(?i:passw|apikey|api-key|secret|token)) (?:\\\n|[^\n])*
    )
    """,
    re.VERBOSE | re.MULTILINE,
)
# Two adjacent words, which are not Python: a command without its `!`.
_BARE = re.compile(
    r"^[^\S\n]*(?!(?:\w*[^\S\n]*=))[\w./-]+[^\S\n]+(?!(?:in|is|and|or|not|if|else|for|as|import|from|lambda)\b)[\w\"'$/.~-]",
    re.MULTILINE,
)


# The beginning of a command after another statement: `x = 1; !ls`. IPython does not run it, but users type it.
_INLINE = frozenset({(";", "!"), (";", "%"), (":", "!")})


def mask_inline(source: str) -> str:
    """Return a source that is not Python, with the commands masked that follow another statement."""
    done = []
    while (start := _inline(source)) is not None:
        line, newline, rest = source[start:].partition("\n")
        done += [source[:start], mask_command(line), newline]
        source = rest
    return "".join([*done, source])


def _inline(source: str) -> int | None:
    """Return the start of the first command that follows another statement, outside of texts."""
    before = ""
    for token in scan(source):
        if (before, token.text) in _INLINE:
            return token.start
        before = before if token.kind == "space" else token.text
    return None


def may_be_command(source: str) -> bool:
    """Whether a source that is not Python may contain a command of another program."""
    return bool(COMMAND.search(source) or _BARE.search(source)) or _inline(source) is not None
