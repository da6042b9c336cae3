"""Which values pass as numbers where a user gives them."""

from __future__ import annotations

from typing import Any

import numpy as np


def is_whole(value: Any) -> bool:
    """Tell integers, NumPy's too, from everything else; True and False are none."""
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool)


def is_real(value: Any) -> bool:
    """Tell integers and floats, NumPy's too, from everything else; True and False are none."""
    return is_whole(value) or isinstance(value, (float, np.floating))
