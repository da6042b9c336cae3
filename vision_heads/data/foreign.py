"""Files of other programs where a data-set card is wanted."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from vision_heads.errors import require

_SPLITS = {"train", "val", "test"}


def refuse_others(content: Mapping[str, Any], file: Path) -> None:
    """Raise `UserError` where a file is clearly something else than a card, saying what."""
    require(
        not {"images", "annotations"} <= set(content),
        f"{file}: COCO labels, not a card; write a card that names them (docs/data.md)",
    )
    require(
        "splits" in content or "format" not in content or not _SPLITS & set(content),
        f"{file}: train, val and test belong below splits; without format and splits this would "
        "be ultralytics' data.yaml",
    )


def is_ultralytics(content: Mapping[str, Any]) -> bool:
    """Say whether the fields of a file are those of ultralytics' data.yaml."""
    return not {"format", "splits"} & set(content) and bool(_SPLITS & set(content))


def from_ultralytics(content: Mapping[str, Any], file: Path) -> dict[str, Any]:
    """Turn the fields of ultralytics' data.yaml into a card's; its other fields are its own."""
    names = content.get("names")
    count = content.get("nc")
    if names is None:
        require(isinstance(count, int) and count > 0, f"{file}: names: missing")
        names = [f"class_{number}" for number in range(count or 0)]
    require(isinstance(names, list | dict), f"{file}: names: a list or a mapping is needed")
    require(
        count is None or count == len(names), f"{file}: nc: {count!r}, but {len(names)} are named"
    )
    for name in names.values() if isinstance(names, dict) else names:
        require(
            isinstance(name, str | int | float) and not isinstance(name, bool),
            f"{file}: names: {name!r} is no name; YAML takes yes, no, on, off and null for "
            "something else unless they are in quotes",
        )
    splits = {}
    for split in ("train", "val", "test"):
        where = content.get(split)
        if split == "val" and where is None:
            where = content.get("validation")  # ultralytics takes it for val too
        if not where:
            continue
        parts = where if isinstance(where, list) else [where]
        for part in parts:
            require(isinstance(part, str), f"{file}: {split}: {part!r} is no path")
        splits[split] = [{"images": part} for part in parts]
    own = {key: content[key] for key in ("terms", "category_ids", "obtain") if key in content}
    return {
        "format": "yolo",
        "path": str(content.get("path") or "."),
        "splits": splits,
        "names": {_number(index, names): str(name) for index, name in names.items()}
        if isinstance(names, dict)
        else [str(name) for name in names],
        "keypoints": "kpt_shape" in content,
        "foreign": True,
        **own,
    }


def _number(index: Any, keys: Collection[Any]) -> Any:
    """Return a class's number; ultralytics takes it in quotes too, where all of them are."""
    quoted = all(isinstance(key, str) and key.isdecimal() for key in keys)
    return int(index) if quoted else index
