"""Fixtures that several tests use."""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path

import pytest
from hypothesis import settings

REPOSITORY = Path(__file__).resolve().parent.parent

# Two cores: more threads than that only make tests slower and less repeatable. Of several processes
# (`-n 2`) each gets one.
os.environ.setdefault("OMP_NUM_THREADS", "1" if "PYTEST_XDIST_WORKER" in os.environ else "2")
# Threads that spin while they wait make tests many times slower on a machine that does other work.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

# uvicorn's settings of logging close every handler there is, and absl's (of tensorboard) closes the
# stderr that it was imported with: here the file into which pytest captures.
with contextlib.suppress(ImportError):
    from absl import logging as absl_logging

    absl_logging.get_absl_handler().python_handler.stream = sys.__stderr__

# No time limit an example: on a busy machine it fails tests that are right.
settings.register_profile("vision_heads", deadline=None)
settings.load_profile("vision_heads")


@pytest.fixture(scope="session")
def repository() -> Path:
    """Return the checkout's root."""
    return REPOSITORY


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Return the folder of real pictures, or skip: they are not part of the repository."""
    folder = REPOSITORY.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"real pictures are not here: {folder}")
    return folder


@pytest.fixture(scope="session")
def fixtures_dir() -> Path:
    """Return the folder of reference results by other programs, or skip."""
    folder = REPOSITORY.parent / "shared" / "fixtures"
    if not folder.is_dir():
        pytest.skip(f"reference results are not here: {folder}")
    return folder
