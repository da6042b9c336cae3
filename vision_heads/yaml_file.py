"""YAML as people write it: mistakes are named, and nothing is dropped without a word."""

from __future__ import annotations

from itertools import chain
from pathlib import Path
from typing import Any

import yaml

from vision_heads.errors import UserError
from vision_heads.paths import read_text

MOST_VALUES = 1_000_000
"""Of a file, with what its aliases repeat: a few lines of them can stand for billions."""


class _Loader(yaml.SafeLoader):
    """Refuses a key that is there twice: YAML keeps the last one and says nothing."""

    def get_single_node(self) -> Any:
        node = super().get_single_node()
        if node is not None:
            _count(node, {})
        return node

    def compose_mapping_node(self, anchor: Any) -> Any:
        node = super().compose_mapping_node(anchor)
        seen: set[str] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.value in seen:
                line = key.start_mark.line + 1
                raise yaml.YAMLError(f"{key.value!r} is there twice, again in line {line}")
            seen.add(str(key.value))
        return node


def _count(node: Any, known: dict[int, int]) -> int:
    """Return how many values a node stands for; `YAMLError` where they are too many."""
    if isinstance(node, yaml.ScalarNode):
        return 1
    if id(node) not in known:
        known[id(node)] = 0
        inside = node.value if isinstance(node, yaml.SequenceNode) else chain(*node.value)
        known[id(node)] = 1 + sum(_count(each, known) for each in inside)
    line, count = node.start_mark.line + 1, known[id(node)]
    if not count:
        raise yaml.YAMLError(f"what begins in line {line} holds itself")
    if count > MOST_VALUES:
        raise yaml.YAMLError(f"line {line}: aliases make more than {MOST_VALUES:,} values of it")
    return count


def parse_yaml(text: str, where: str) -> Any:
    """Return what a text in YAML says.

    Args:
        text: the whole document.
        where: what messages begin with: the file.

    Raises:
        UserError: it is no YAML, names a key twice, or stands for too many values.
    """
    try:
        return yaml.load(text, Loader=_Loader)
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # ValueError: a date like 13-45
        raise UserError(f"{where}: not YAML: {' '.join(str(error).split())}") from error
    except (LookupError, AttributeError) as error:  # from PyYAML's own readers of tags
        raise UserError(f"{where}: not YAML: a tag like !!int before what is none") from error


def read_yaml(file: Path) -> Any:
    """Return what a YAML file in UTF-8 or UTF-16 holds.

    Raises:
        UserError: it is missing, or `parse_yaml` refuses it.
    """
    try:
        text = read_text(file)
    except OSError as error:
        raise UserError(f"{file}: {error.strerror}") from error
    except ValueError as error:
        raise UserError(f"{file}: not YAML: {error}") from error
    return parse_yaml(text, str(file))
