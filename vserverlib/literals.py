"""The texts and numbers of a source that is Python: where they are, what they say, and the source without them.

It reads Python by Python's own parser, which knows what is a text in it, and runs nothing. Positions are those of
characters in the source.
"""

from __future__ import annotations

import ast
import itertools
import warnings
from collections.abc import Callable, Iterator
from typing import Any

from vserverlib.scanning import MASK, scan

Place = tuple[int, int]  # where something begins and ends in a source

TEMPLATE: Any = getattr(ast, "TemplateStr", ast.JoinedStr)  # t"…", of Python 3.14
FORMATTED = (ast.JoinedStr, TEMPLATE)
SINGLE = (True, False, None, ...)  # constants that say no secret
NAMED = ("name", "arg", "asname", "rest", "id")  # where a node says what it gives a value to


def parsed(source: str) -> ast.AST | None:
    """Return the tree of a source, None if it is no Python. `await` may be outside of functions, as at the prompt."""
    if "\r" in source.replace("\r\n", "\n"):
        return None  # to Python these are ends of lines, to nobody else
    flags = ast.PyCF_ONLY_AST | ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
    try:
        with warnings.catch_warnings(action="ignore"):
            tree: ast.AST = compile(source, "<typed>", "exec", flags, dont_inherit=True)
            return tree
    except (SyntaxError, ValueError, RecursionError, MemoryError, OverflowError):
        return None


def is_same(tree: ast.AST, source: str) -> bool:
    """Whether a source is the Python of a tree, but for texts, numbers, and names that were masked."""
    other = parsed(source)
    pairs: list[tuple[Any, Any]] = [(tree, other)]
    while pairs:
        one, two = pairs.pop()
        if isinstance(two, ast.Constant | ast.JoinedStr) and _is_leaf(one):
            if isinstance(one, ast.Constant) and _is_single(one) and one.value is not getattr(two, "value", MASK):
                return False
        elif isinstance(one, ast.AST) and type(one) is type(two):
            pairs += [(getattr(one, name, None), getattr(two, name, None)) for name in one._fields]
        elif isinstance(one, list) and isinstance(two, list) and len(one) == len(two):
            pairs += zip(one, two, strict=True)
        elif one != two:
            return False
    return True


def _is_single(node: Any) -> bool:
    return any(node.value is value for value in SINGLE)


def _is_leaf(node: Any) -> bool:
    is_read = isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)
    return is_read or isinstance(node, (ast.Constant, *FORMATTED))


def value(text: str) -> Any:
    """Return what the source of a text says: a str or bytes; None if it is formatted, or not closed."""
    try:
        with warnings.catch_warnings(action="ignore"):
            return ast.literal_eval(text)
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        return None


class Places:
    """Where the nodes of a source are. Python counts lines and bytes."""

    def __init__(self, source: str) -> None:
        self.lines = [line.encode(errors="surrogatepass") for line in source.split("\n")]
        lengths = (len(line) + 1 for line in source.split("\n"))
        self.starts = [0, *itertools.accumulate(lengths)]

    def of(self, node: Any) -> Place:
        """Return where a node is."""
        return self._at(node.lineno, node.col_offset), self._at(node.end_lineno, node.end_col_offset)

    def _at(self, line: int, column: int) -> int:
        before = self.lines[line - 1][:column].decode(errors="surrogatepass")
        return self.starts[line - 1] + len(before)


def leaves(node: ast.AST) -> Iterator[Any]:
    """Return the constants, formatted texts and names of a tree, in its order; a formatted text is one of them."""
    nodes = [node]
    while nodes:
        node = nodes.pop()
        if isinstance(node, (ast.Constant, ast.Name, *FORMATTED)):
            yield node
        else:
            nodes += reversed(list(ast.iter_child_nodes(node)))


def _is_text(leaf: Any) -> bool:
    return isinstance(leaf, FORMATTED) or isinstance(getattr(leaf, "value", None), str | bytes)


def texts(nodes: list[Any]) -> list[Any]:
    """Return the texts in some nodes."""
    return [leaf for node in nodes for leaf in leaves(node) if _is_text(leaf)]


def word(node: Any) -> str:
    """Return the text of a node; of bytes and formatted texts, their source."""
    return str(node.value) if isinstance(getattr(node, "value", None), str) else ast.unparse(node)


def written(text: str, source: str, place: Place) -> str:
    """Return the source of a text that takes the place of another, in as many lines."""
    lines = source.count("\n", *place)
    body = text.encode("unicode_escape").decode().replace('"', '\\"')
    return '"""' + body + "\\\n" * lines + '"""' if lines else f'"{body}"'


def without(source: str, tree: Any, is_defined: Callable[[str], bool], *, names_only: bool = False) -> str:
    """Return a source with a mask in place of each text, number, comment, and name that is not defined.

    names_only: of these names alone.
    """
    places, own = Places(source), set(_given(tree))
    pieces, at = [], 0
    for leaf in sorted(leaves(tree), key=lambda leaf: (leaf.lineno, leaf.col_offset)):
        start, end = places.of(leaf)
        pieces.append(source[at:start] if names_only else _without_comments(source[at:start]))
        if isinstance(leaf, ast.Name):
            is_kept = not isinstance(leaf.ctx, ast.Load) or leaf.id in own or is_defined(leaf.id)
        else:
            is_kept = names_only or (isinstance(leaf, ast.Constant) and _is_single(leaf))
        pieces.append(source[start:end] if is_kept else _masked_leaf(leaf, source, (start, end)))
        at = end
    return "".join([*pieces, source[at:] if names_only else _without_comments(source[at:])])


def _masked_leaf(leaf: Any, source: str, place: Place) -> str:
    """Return a mask of the kind of a leaf: a text of bytes cannot stand beside one of characters."""
    held = getattr(leaf, "value", MASK)
    numbers = {int: "0", float: "0.0", complex: "0j"}
    return numbers.get(type(held)) or ("b" * isinstance(held, bytes) + written(MASK, source, place))


def _without_comments(gap: str) -> str:
    return "".join(f"# {MASK}" if token.kind == "comment" else token.text for token in scan(gap))


def _given(tree: ast.AST) -> Iterator[str]:
    """Return the names that a source gives a value to, and those that it names in other ways."""
    for node in ast.walk(tree):
        if not (isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)):
            given = [getattr(node, name, None) for name in NAMED]
            yield from (name for name in [*given, *getattr(node, "names", ())] if isinstance(name, str))
