"""Write docs/schema.json, the JSON Schemas of the output of list, show, why and check with `-o json`.

    python docs/make_schema.py

Tests compare the file with page(), and the output of the commands with the schema.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))


def page() -> str:
    """Return the text of the file."""
    import models
    from vserverlib.queries import columns, json_schema, related

    defs = {model.noun: columns.schema(model) for model in models.ENTITIES}
    defs |= {f"{model.noun}_shown": related.schema(model) for model in models.ENTITIES}
    defs |= json_schema.answers()
    message = (
        "task: an item of vserver list tasks -o json; task_shown: vserver show task ID -o json. So for each entity. "
        "why: vserver why TASK -o json; finding: an item of vserver check -o json."
    )
    head = {"$schema": "https://json-schema.org/draft/2020-12/schema", "description": message}
    return json.dumps({**head, "$defs": defs}, indent=2) + "\n"


if __name__ == "__main__":
    (HERE / "schema.json").write_text(page())
    print("written: docs/schema.json")
