"""Write data/schema-N.sqlite: a database of this release with a few rows of each entity, for later ones to upgrade.

`make released` runs it before a release with new migrations. An existing file stays: only its own release could write
it again.
"""

from __future__ import annotations

import contextlib
from pathlib import Path

import models as db
from vserverlib import hashing
from vserverlib.databases import schemas, storage

KEY = "00000000-0000-4000-8000-00000000000{}"


def fill() -> None:
    """Create the entities that tests/test_upgrades.py expects."""
    hospitals = [db.Organization(name="IKNL", zipcode="0123"), db.Organization(name="Oslo [beta]", country="NO")]
    gone = db.Organization(name="deleted: its id is not given again")
    for organization in (*hospitals, gone):
        organization.save()
    gone.delete()
    db.User(username="root", password="Geheim-123!", email="root@iknl.example", organization=hospitals[0]).save()
    collaboration = db.Collaboration(name="ROTTERDAM", encrypted=False, organizations=hospitals)
    collaboration.save()
    for number, each in enumerate(hospitals, 1):
        name, key = f"{each.name} node", KEY.format(number)
        db.Node(name=name, api_key=key, collaboration=collaboration, organization=each).save()
    task = db.Task(name="average", image="harbor/average", collaboration=collaboration, initiator=hospitals[0])
    task.save()
    db.Task(image="harbor/average", collaboration=collaboration, initiator=hospitals[0], parent=task).save()
    for each, status in zip(hospitals, ("completed", "crashed"), strict=True):
        times = dict.fromkeys(("started_at", "finished_at") if status == "completed" else (), task.created_at)
        db.Result(task=task, organization=each, assigned_at=task.created_at, status=status, **times).save()


def main() -> None:
    """Create the file unless it exists."""
    file = Path(__file__).parent.parent / "data" / f"schema-{schemas.NEWEST}.sqlite"
    if file.exists():
        print(f"{file.name} exists already")
        return
    hashing.ROUNDS = 4  # faster than a release's, and as valid
    with contextlib.closing(db.connect(storage.create(file))) as database:
        fill()
        database.execute_sql("VACUUM")
        database.execute_sql("PRAGMA wal_checkpoint(TRUNCATE)")
    print(f"created {file.name}")


if __name__ == "__main__":
    main()
