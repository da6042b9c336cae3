"""YAML as people write it: mistakes are named, and nothing is dropped without a word."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from vision_heads.errors import UserError


class _Loader(yaml.SafeLoader):
    """Refuses a key that is there twice: YAML keeps the last one and says nothing."""

    def compose_mapping_node(self, anchor: Any) -> Any:
        node = super().compose_mapping_node(anchor)
        seen: set[str] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.value in seen:
                line = key.start_mark.line + 1
                raise yaml.YAMLError(f"{key.value!r} is there twice, again in line {line}")
            seen.add(str(key.value))
        return node


def read_yaml(file: Path) -> Any:
    """Return what a YAML file in UTF-8 holds.

    Raises:
        UserError: it is missing, no YAML, or names a key twice.
    """
    try:
        return yaml.load(file.read_text(encoding="utf-8-sig"), Loader=_Loader)
    except OSError as error:
        raise UserError(f"{file}: {error.strerror}") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # ValueError: a date like 13-45
        raise UserError(f"{file}: not YAML: {' '.join(str(error).split())}") from error
