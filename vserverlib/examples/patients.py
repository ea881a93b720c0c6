"""Made-up patients of the organizations of the example data, as CSV files, and the file of the nodes that have them.

Always the same: the random numbers come from a seed for each organization. Registries differ on purpose, so that an
average over all of them is none of theirs.
"""

from __future__ import annotations

import csv
import json
import random
from collections.abc import Iterator
from pathlib import Path

from vserverlib import files
from vserverlib.examples import demo

PATIENTS = {demo.NOORD: 412, demo.ELODIE: 318, demo.GRUENWALDE: 365, demo.EBRO: 274}  # by organization
AVERAGE_AGES = {demo.NOORD: 66, demo.ELODIE: 71, demo.GRUENWALDE: 63, demo.EBRO: 68}
COLUMNS = ("age", "sex", "stage", "bmi", "months", "deceased")
STAGES = ("I", "II", "III", "IV")
DEATHS = {"I": 0.08, "II": 0.2, "III": 0.45, "IV": 0.8}  # the part that dies within the time of observation
MISSING = 0.03  # the part of values that are not known
LONGEST = 60  # months of observation
ALGORITHMS = {"demo/average:1": "average.py", "demo/crosstab:1": "crosstab.py"}
BUILT_IN = Path(__file__).parent.parent / "nodes" / "algorithms"


def rows(organization: int) -> Iterator[tuple[object, ...]]:
    """Yield the patients of an organization: values of COLUMNS."""
    dice = random.Random(organization)
    for _ in range(PATIENTS[organization]):
        # The sum of uniform numbers is about normal; unlike gauss(), it is the same in every release of Python.
        age = round(AVERAGE_AGES[organization] + 9 * (sum(dice.random() for _ in range(12)) - 6))
        stage = STAGES[int(len(STAGES) * dice.random())]
        is_dead = dice.random() < DEATHS[stage]
        months = round(LONGEST * (dice.random() if is_dead else 0.5 + dice.random() / 2), 1)
        bmi = round(19 + 12 * dice.random() * dice.random() + 4 * dice.random(), 1)
        known = (dice.random() >= MISSING, dice.random() >= MISSING)
        yield age, "FM"[dice.random() < 0.54], stage if known[0] else "", bmi if known[1] else "", months, int(is_dead)


def write(folder: Path) -> Path:
    """Write the CSV files and the file of the nodes of the first collaboration to a folder. Return the path of that."""
    nodes = [_node(folder, id, organization) for id, organization in enumerate(PATIENTS, 1)]
    algorithms = {image: {"file": str(BUILT_IN / name)} for image, name in ALGORITHMS.items()}
    path = files.make_private(folder / "nodes.yaml")
    path.write_text(json.dumps({"nodes": nodes, "algorithms": algorithms}, indent=2))  # JSON is YAML
    return path


def _node(folder: Path, id: int, organization: int) -> dict[str, object]:
    """Write the patients of an organization, and return its node as in a node's file."""
    path = folder / f"patients-{organization}.csv"
    with open(path, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        writer.writerows(rows(organization))
    return {"api_key": demo.key_of(id), "databases": {"default": path.name}}
