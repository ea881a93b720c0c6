"""What depends on what happens to be imported: nothing. Each question is asked where only its module is imported."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from helpers import process

ROOT = Path(__file__).parent.parent
MODULES = sorted(
    ".".join(path.relative_to(ROOT).with_suffix("").parts)
    for path in (ROOT / "vserverlib").rglob("[a-z]*.py")
    if "migrations" not in path.parts
)
OPEN = "from vserverlib.databases import connecting; database = connecting.connect({0!r}, read_only=True)\n"
MISFIT = "db.database.execute_sql(\"UPDATE organization SET name = x'00' WHERE id = 1\")"

# What is asked of the whole of a database, and what it prints of one with a misfit.
ASKED = {
    "misfits": "from vserverlib.queries import inspection; print(len([*inspection.misfits(database)]))",
    "orphans": "from vserverlib.queries import catalog; print(len(catalog.MODELS))",
    "log": "from vserverlib.entities import journal; print(len(journal.log(database, 'organization')) > 0)",
    "rows": "from vserverlib.transfer import writing; print(len(writing.MODELS))",
    "sandbox": "from vserverlib.databases import connecting, sandbox_diff\n"
    "print(sandbox_diff.report(connecting.connect({0!r}, sandbox=True)))",
}
ANSWERS = {"misfits": "1\n", "orphans": "7\n", "log": "", "rows": "7\n", "sandbox": ""}  # "": an error, never empty


@pytest.mark.parametrize("name", ASKED)
def test_a_question_of_all_tables_is_answered_or_refused_in_a_fresh_process(name: str, path: Path) -> None:
    process.vserver("-d", path, "shell", "-c", f"db.Organization(name='IKNL').save(); {MISFIT}")
    asked = process.python("-c", (OPEN + ASKED[name]).replace("{0!r}", repr(str(path))))
    assert asked.out == ANSWERS[name], asked.err
    assert ("the models are not known yet: import models first" in asked.err) is (ANSWERS[name] == "")


@pytest.mark.long
def test_each_module_can_be_imported_alone() -> None:
    """One process, which takes out what an earlier one has imported."""
    code = f"""
import importlib, sys
before = set(sys.modules)
for name in {MODULES!r}:
    importlib.import_module(name)
    for imported in [each for each in sys.modules if each.partition(".")[0] in ("vserverlib", "models", "shell")]:
        del sys.modules[imported]
    print(name)
"""
    assert process.python("-c", code).out.split() == MODULES


def test_nothing_asks_which_classes_happen_to_be_defined() -> None:
    sources = [*ROOT.glob("*.py"), *(ROOT / "vserverlib").rglob("*.py")]
    asking = [file.name for file in sources if re.search(r"__subclasses__|\bgc\.get_objects", file.read_text())]
    assert asking == []
