"""Made-up patients of the organizations of the example data, as CSV files, and the file of the nodes that have them.

They are always the same: each organization has a seed. Average ages differ, so that the average over all
organizations is not that of one of them.
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


def create(folder: Path) -> Path:
    """Write the files to a new folder, which only its owner can read. Return the path of the node's file."""
    files.refuse_taken(folder)
    with files.as_error(f"{files.shown(folder)} cannot be created"):
        folder.mkdir(mode=0o700)
        return write(folder)


def write(folder: Path) -> Path:
    """Write the CSV files, and the file of the nodes of the first collaboration. Return the path of that."""
    path = files.make_private(folder / "nodes.yaml")
    lines = ["algorithms:"]
    lines += [f"  {image}: {{file: {json.dumps(str(BUILT_IN / name))}}}" for image, name in ALGORITHMS.items()]
    lines.append("nodes:")
    for id, organization in enumerate(PATIENTS, 1):
        data = _write_data(folder, organization)
        lines.append(f"  - {{api_key: {demo.key_of(id)}, databases: {{default: {data.name}}}}}")
    path.write_text("".join(f"{line}\n" for line in lines))
    return path


def _write_data(folder: Path, organization: int) -> Path:
    """Write the patients of an organization to a file that is named after it."""
    path = folder / f"{demo.ORGANIZATIONS[organization - 1][1].partition('.')[0]}.csv"
    with open(path, "w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        writer.writerows(rows(organization))
    return path
