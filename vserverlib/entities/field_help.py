"""The text of help(): the fields, computed fields and relations of a model."""

from __future__ import annotations

from vserverlib.entities.choices import GeneratedField
from vserverlib.entities.computed import ComputedAttribute
from vserverlib.entities.fields import Secret
from vserverlib.entities.orm import EntityBase
from vserverlib.entities.relations import relations


def describe(model: type[EntityBase]) -> str:
    """Return the fields of a model, their types, and its relations, in at most 80 columns."""
    lines = [f"{model.__name__}: {model.about}", "", "Fields"]
    for field in model._meta.sorted_fields:
        notes = ["unique"] if field.unique else []
        if field.name == "id":
            notes = ["set at the first save"]
        if isinstance(field, Secret):
            notes = ["stored hashed, never shown"]
        takes = "computed, cannot be assigned" if isinstance(field, GeneratedField) else field.takes
        lines.append(f"  {field.name:<14} {takes}" + "".join(f", {note}" for note in notes))
    computed = {
        name: value.__doc__ or "" for name, value in vars(model).items() if isinstance(value, ComputedAttribute)
    }
    lines += ["", "Computed"] if computed else []
    lines += [f"  {name:<14} {text[0].lower()}{text[1:].rstrip('.')}" for name, text in computed.items()]
    many = relations(model)
    lines += ["", "Relations"] if many else []
    for name, other, editable in many:
        lines.append(f"  {name:<14} {other.plural}" + (", can be edited: append, extend, remove" if editable else ""))
    return "\n".join(lines)
