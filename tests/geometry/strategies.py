"""Hypothesis strategies for boxes and pictures' sizes."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

SIDES = st.integers(1, 3000)
NETWORK_SIDES = st.integers(1, 20).map(lambda n: 32 * n)


@st.composite
def boxes_in(
    draw: st.DrawFn, width: float = 1000, height: float = 1000, max_count: int = 40
) -> NDArray[np.float32]:
    """(N, 4) valid xyxy boxes inside (width, height), some empty, some equal."""
    count = draw(st.integers(0, max_count))
    # Few distinct coordinates, so that touching, nested and equal boxes come up often.
    unit = draw(hnp.arrays(np.int64, (count, 2, 2), elements=st.integers(0, 24)))
    corners = np.sort(unit, axis=1) / 24 * np.array([width, height])
    return corners.reshape(-1, 4).astype(np.float32)
