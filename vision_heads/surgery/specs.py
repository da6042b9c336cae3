"""New specs out of old ones, checked as if they came from a file."""

from __future__ import annotations

from typing import Any

from pydantic import ValidationError

from vision_heads.errors import UserError
from vision_heads.spec import ModelSpec, first_problem


def remade(spec: ModelSpec, **changes: Any) -> ModelSpec:
    """Return a spec with other fields, validated and in its plainest form.

    Args:
        spec: the model before.
        changes: plain values of the fields that change.

    Raises:
        UserError: names the field that cannot be so.
    """
    fields = spec.model_dump() | changes
    try:
        made = ModelSpec.model_validate(fields)
        if made.lowest == made.levels[0]:  # says what the heads say already
            made = ModelSpec.model_validate(fields | {"lowest": None})
    except ValidationError as error:
        raise UserError(first_problem(error)) from error
    return made
