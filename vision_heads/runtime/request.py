"""A user's settings of one prediction, checked against the model before any work."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from vision_heads.errors import UserError, require
from vision_heads.heads.base import DecodeOptions
from vision_heads.runtime.checks import is_real, is_whole
from vision_heads.runtime.engines import Engine
from vision_heads.runtime.merging import Merging, plan_merging
from vision_heads.runtime.slicing import Slicing
from vision_heads.runtime.suppressed import require_possible
from vision_heads.spec import MAX_SIDE, MERGED, HeadSpec, ModelSpec, near_sizes


@dataclass(frozen=True, slots=True)
class Request:
    """What to compute, and how.

    Attributes:
        options: of each wanted head, by name, in the model's order.
        height, width: of the network's input.
        batch: pictures or tiles a call of the network.
        slicing: None to look at whole pictures only.
        keep_image: whether results hold their picture.
        merging: of classes across heads; None for results of each head by itself.
    """

    options: dict[str, DecodeOptions]
    height: int
    width: int
    batch: int
    slicing: Slicing | None
    keep_image: bool
    merging: Merging | None = None


def make_request(
    engine: Engine,
    options: DecodeOptions | Mapping[str, DecodeOptions],
    *,
    classes: Sequence[int | str] | None = None,
    heads: Sequence[str] | None = None,
    imgsz: int | tuple[int, int] | None = None,
    batch: int | None = None,
    slicing: Slicing | int | None = None,
    keep_image: bool = False,
    merge: Mapping[str, Sequence[str]] | None = None,
) -> Request:
    """Check everything; the arguments are those of `Predictor.stream`.

    Raises:
        UserError: names the argument that is wrong and what would be right.
    """
    spec = engine.spec
    height, width = _size(engine, imgsz)
    require(
        batch is None or (is_whole(batch) and batch >= 1),
        f"batch must be a whole number of at least 1, got {batch!r}",
    )
    if slicing is not None and not isinstance(slicing, Slicing):
        slicing = Slicing(size=slicing)
    merge = spec.merge if merge is None else merge
    if isinstance(options, Mapping):
        require(classes is None and heads is None, "options by head say which heads and classes")
        require(not merge, "merge: takes one set of options, not one a head; or give merge={}")
        by_head, merging = _each_its_own(spec, options), None
    else:
        by_head, merging = _all_alike(spec, options, classes, heads, merge)
    for one in by_head.values():
        require_possible(spec, one)
    return Request(by_head, height, width, batch or engine.batch or 1, slicing, keep_image, merging)


def _each_its_own(
    spec: ModelSpec, options: Mapping[str, DecodeOptions]
) -> dict[str, DecodeOptions]:
    for one in options.values():
        check_options(one)
    heads = _unique_heads(spec, list(options))
    return {head.name: _of_one(head, options[head.name]) for head in heads}


def _of_one(head: HeadSpec, options: DecodeOptions) -> DecodeOptions:
    """Return options with classes by index; none at all stay none, which find nothing."""
    if options.classes is None or (isinstance(options.classes, tuple) and not options.classes):
        return options
    return replace(options, classes=class_filters((head,), options.classes)[head.name])


def _all_alike(
    spec: ModelSpec,
    options: DecodeOptions,
    classes: Sequence[int | str] | None,
    heads: Sequence[str] | None,
    merge: Mapping[str, Sequence[str]],
) -> tuple[dict[str, DecodeOptions], Merging | None]:
    check_options(options)
    wanted = spec.heads if heads is None else tuple(_unique_heads(spec, heads))
    merging = plan_merging(merge, spec.heads, wanted, iou=options.iou, max_det=options.max_det)
    filters = class_filters(wanted, options.classes if classes is None else classes, merging)
    return {head.name: replace(options, classes=filters[head.name]) for head in wanted}, merging


def check_options(options: DecodeOptions) -> None:
    """Raise `UserError` naming the first option that is out of range."""
    require(
        isinstance(options, DecodeOptions),
        f"options must be DecodeOptions, e.g. DecodeOptions(conf=0.3), got {options!r}",
    )
    for name in ("conf", "iou"):
        value = getattr(options, name)
        require(is_real(value) and 0 <= value <= 1, f"{name} must be in 0..1, got {value!r}")
    count = options.max_det
    require(
        is_whole(count) and count >= 1,
        f"max_det must be a whole number of at least 1, got {count!r}",
    )


def class_filters(
    heads: Sequence[HeadSpec],
    classes: Sequence[int | str] | None,
    merging: Merging | None = None,
) -> dict[str, tuple[int, ...] | None]:
    """Turn class names or indices into the indices of each head.

    The name of a merged class stands for all that goes into it. A head that has none of the
    classes gives no results.

    Raises:
        UserError: no head has a class of that name or index.
    """
    if classes is None:
        return {head.name: None for head in heads}
    if isinstance(classes, str) or not isinstance(classes, Iterable):
        classes = [classes]
    classes = list(classes)
    require(classes, "classes: none given")
    found: dict[str, set[int]] = {head.name: set() for head in heads}
    for wanted in classes:
        hits = [(head.name, index) for head in heads for index in _indices(head, wanted)]
        if merging is not None and wanted in merging.names:
            hits += merging.members(str(wanted))
        if not hits:
            known = "; ".join(f"{head.name}: {', '.join(head.classes)}" for head in heads)
            if merging is not None:
                known += f"; {MERGED}: {', '.join(merging.names)}"
            raise UserError(f"classes: no class {wanted!r}; there are {known}")
        for name, index in hits:
            found[name].add(index)
    return {name: tuple(sorted(indices)) for name, indices in found.items()}


def _indices(head: HeadSpec, wanted: int | str) -> list[int]:
    if isinstance(wanted, str):
        return [head.classes.index(wanted)] if wanted in head.classes else []
    return [int(wanted)] if is_whole(wanted) and 0 <= wanted < len(head.classes) else []


def _unique_heads(spec: ModelSpec, names: Sequence[str]) -> list[HeadSpec]:
    if isinstance(names, str) or not isinstance(names, Iterable):
        names = [names]
    names = list(names)
    require(names, f"heads: none given; this model has {[head.name for head in spec.heads]}")
    chosen = {spec.head(name).name for name in names}
    return [head for head in spec.heads if head.name in chosen]


def _size(engine: Engine, imgsz: int | tuple[int, int] | None) -> tuple[int, int]:
    spec = engine.spec.input
    if imgsz is None:
        return spec.height, spec.width
    sides = tuple(imgsz) if isinstance(imgsz, (tuple, list)) else (imgsz, imgsz)
    wanted = f"imgsz must be a multiple of 32, or height and width, up to {MAX_SIDE}, got {imgsz!r}"
    require(len(sides) == 2 and all(is_whole(side) for side in sides), wanted)
    if any(not 32 <= side <= MAX_SIDE or side % 32 for side in sides):
        raise UserError(f"{wanted}; near it: {near_sizes(sides)}")
    height, width = sides
    require(
        engine.any_size or (height, width) == (spec.height, spec.width),
        f"imgsz: this model file is made for {spec.height}x{spec.width} only; export it for "
        f"{height}x{width}, or use its .safetensors",
    )
    return int(height), int(width)
