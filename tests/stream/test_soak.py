"""A short soak: memory does not grow with frames, nor with connections. tools/soak.py is long."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from tests.media.clips import write_clip
from tools.soak import NOISE, Outcome, TinyEngine, soak


@pytest.mark.slow
def test_memory_is_flat(tmp_path):
    pytest.importorskip("av")
    if sys.platform != "linux":
        pytest.skip("reads /proc")
    clip = write_clip(tmp_path / "clip.mp4", [index / 25 for index in range(50)])
    (tmp_path / "out").mkdir()
    outcome = soak(TinyEngine(), clip, tmp_path / "out", 12, rate=100, cut_after=0.4)
    assert outcome.growth < NOISE, outcome.samples[::10]
    assert min(outcome.shown[name] for name in ("file-a", "file-b", "live")) > 30
    assert outcome.shown["dead"] == 0
    assert outcome.reconnects > 3 and outcome.delivered > 3


def test_the_soak_notices_growth():
    seconds = np.arange(100.0)
    leaking = np.stack([seconds, 300 + seconds * 0.5], axis=1)
    assert Outcome(leaking, {}, 0, 0).growth == pytest.approx(24.5)
    flat = np.stack([seconds, np.where(seconds < 20, 200, 300)], axis=1)
    assert abs(Outcome(flat, {}, 0, 0).growth) < 1e-6
