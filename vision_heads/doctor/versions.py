"""Version numbers and requirements, as far as a diagnosis needs them.

The core install does not have the package `packaging`. Only numbers are compared: a pre-release
counts as its release, and a local part such as +cu126 does not count.
"""

from __future__ import annotations

import re
from typing import NamedTuple

Version = tuple[int, ...]

_REQUIREMENT = re.compile(
    r"\s*(?P<name>[A-Za-z0-9][A-Za-z0-9._-]*)\s*(?:\[(?P<extras>[^\]]*)\])?\s*"
    r"\(?(?P<limits>[^;)]*)\)?\s*(?:;(?P<marker>.*))?"
)
_EXTRA = re.compile(r"""extra\s*==\s*['"]([^'"]+)['"]""")
_LIMIT = re.compile(r"(==|!=|<=|>=|~=|<|>)\s*([0-9][^\s,]*)")


def parse(text: str) -> Version:
    """Return a version's numbers: "10.3.0.30-1+cuda12.5" is (10, 3, 0, 30); () when it has none."""
    found = re.match(r"v?(\d+(?:\.\d+)*)", text.strip())
    return tuple(int(part) for part in found[1].split(".")) if found else ()


def show(version: Version) -> str:
    """Return a version as text."""
    return ".".join(map(str, version))


def agree(left: Version, right: Version) -> bool:
    """Tell whether two versions are the same as far as both are given: 12.6 agrees with 12.6.68."""
    length = min(len(left), len(right))
    return left[:length] == right[:length]


def canonical(name: str) -> str:
    """Return a package's name as indexes write it (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


class Requirement(NamedTuple):
    """What a package asks for.

    Attributes:
        name: canonical.
        extras: of that package, comma-separated.
        limits: e.g. ">=1.26,<3".
        extra: the extra that asks for it, "" when the package itself does.
        conditional: whether something else than an extra decides too (a platform, a Python).
    """

    name: str
    extras: str
    limits: str
    extra: str
    conditional: bool

    def allows(self, version: str) -> bool:
        """Tell whether a version is within the limits."""
        return satisfies(version, self.limits)


def requirement(text: str) -> Requirement | None:
    """Parse one entry of Requires-Dist; None when it is none."""
    found = _REQUIREMENT.fullmatch(text)
    if found is None:
        return None
    marker = found["marker"] or ""
    extra = _EXTRA.search(marker)
    return Requirement(
        canonical(found["name"]),
        (found["extras"] or "").strip(),
        found["limits"].strip(),
        extra[1] if extra else "",
        bool(_EXTRA.sub("", marker).strip()),
    )


def satisfies(version: str, limits: str) -> bool:
    """Tell whether a version is within limits like ">=2.4,<3" or "==2.0.*"."""
    number = parse(version)
    return all(_within(number, sign, text) for sign, text in _LIMIT.findall(limits))


def _within(number: Version, sign: str, text: str) -> bool:
    bound, any_after = parse(text), text.endswith(".*")
    left, right = _filled(number, bound)
    if any_after:
        left, right = number[: len(bound)], bound
    return {
        "==": left == right,
        "!=": left != right,
        ">=": left >= right,
        "<=": left <= right,
        ">": left > right,
        "<": left < right,
        "~=": left >= right and number[: len(bound) - 1] == bound[:-1],
    }[sign]


def _filled(left: Version, right: Version) -> tuple[Version, Version]:
    """Fill the shorter one with zeros: 2.0 is 2.0.0."""
    length = max(len(left), len(right))
    return left + (0,) * (length - len(left)), right + (0,) * (length - len(right))
