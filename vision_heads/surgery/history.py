"""Provenance of models made from models: nothing said about the parts is lost."""

from __future__ import annotations

from collections.abc import Sequence

from vision_heads.surgery.model import Model

HISTORY = "history"
"""Provenance entry: what was done to the model since it was trained."""

_LISTS = ("terms", "data")
"""Entries that are lists with "; " between: what holds for a part holds for the whole."""


def continued(provenance: dict[str, str], step: str) -> dict[str, str]:
    """Return provenance with one more step in its history."""
    before = provenance.get(HISTORY)
    return provenance | {HISTORY: f"{before}; then {step}" if before else step}


def combined(models: Sequence[Model]) -> dict[str, str]:
    """Return the provenance of a model made of several.

    Terms and data of all are listed; what else differs is kept with its file's name before it.
    """
    found: dict[str, str] = {}
    for key in dict.fromkeys(key for model in models for key in model.spec.provenance):
        values = [model.spec.provenance.get(key) for model in models]
        if key in _LISTS:
            found[key] = united(*values)
        elif len(set(values)) == 1:
            found[key] = str(values[0])
        else:
            named = zip(models, values, strict=True)
            found[key] = "; ".join(f"[{m.file.name}] {value}" for m, value in named if value)
    return found


def united(*lists: str | None) -> str:
    """Return the entries of several "; "-separated lists, each once."""
    entries = [entry for text in lists for entry in (text or "").split("; ")]
    return "; ".join(dict.fromkeys(entry for entry in entries if entry))
