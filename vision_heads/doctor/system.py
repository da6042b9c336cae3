"""What checks see of the machine. Tests hand them another one, of files and answers they wrote."""

from __future__ import annotations

import glob
import hashlib
import importlib.metadata
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from vision_heads.doctor.versions import Version, canonical

COMMAND_SECONDS = 10.0
"""Time a command of the system gets; nvidia-smi may take seconds to wake a GPU."""

PROBE_SECONDS = 60.0
"""Time a child process gets: a first import of torch from a slow disk takes half of it."""


class Ran(NamedTuple):
    """A command that ran to its end: exit code and what it printed, both streams together."""

    code: int
    text: str


class ProbeError(Exception):
    """Something that was tried did not work; its text says in a line what happened."""


@dataclass(frozen=True, slots=True)
class Package:
    """An installed Python package: its version, and what it asks for (Requires-Dist)."""

    version: str
    requires: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Host:
    """What Python knows of the machine.

    Attributes:
        system: "Linux", "Darwin" or "Windows".
        machine: "x86_64", "aarch64", ...
        release: of the kernel.
        python: version.
        executable: of this Python.
        cores: that the system shows.
        allowed: of these, that this process may run on.
    """

    system: str
    machine: str
    release: str
    python: Version
    executable: str
    cores: int
    allowed: int


class System(Protocol):
    """A machine to look at. Nothing here raises for what is not there, except `probe`."""

    host: Host

    def read(self, path: str) -> str | None:
        """Return a small text file's content, None when it cannot be read."""
        ...

    def glob(self, pattern: str) -> list[str]:
        """Return the paths that match, sorted."""
        ...

    def run(self, command: Sequence[str], limit: float = COMMAND_SECONDS) -> Ran | None:
        """Run a program of the system.

        Returns:
            None when there is no such program.

        Raises:
            ProbeError: it did not end in `limit` seconds.
        """
        ...

    def packages(self) -> Mapping[str, Package]:
        """Return installed Python packages by canonical name."""
        ...

    def sha256(self, path: str) -> str | None:
        """Return a file's SHA-256 in hexadecimal, None when it cannot be read."""
        ...

    def free_disk(self, path: str) -> int:
        """Return the bytes that are free where `path` is."""
        ...

    def folders(self) -> Mapping[str, str]:
        """Return the folders this program writes to: "current folder", "temporary folder"."""
        ...

    def probe(self, name: str, *arguments: str, limit: float = PROBE_SECONDS) -> dict[str, Any]:
        """Run a function of `vision_heads.doctor.probes` in a child process.

        Raises:
            ProbeError: it failed, crashed or did not end in `limit` seconds.
        """
        ...


class LocalSystem:
    """The machine this runs on; see `System`."""

    def __init__(self) -> None:
        cores = os.cpu_count() or 1
        affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else cores
        self.host = Host(
            platform.system(),
            platform.machine(),
            platform.release(),
            tuple(sys.version_info[:3]),
            sys.executable,
            cores,
            affinity,
        )
        self._packages: dict[str, Package] = {}

    def read(self, path: str) -> str | None:
        """Return a small text file's content; see `System.read`."""
        try:
            return Path(path).read_text(encoding="utf-8", errors="replace")
        except OSError:
            return None

    def glob(self, pattern: str) -> list[str]:
        """Return the paths that match; see `System.glob`."""
        return sorted(glob.glob(pattern))  # noqa: PTH207  (patterns are absolute)

    def run(self, command: Sequence[str], limit: float = COMMAND_SECONDS) -> Ran | None:
        """Run a program of the system; see `System.run`."""
        program = shutil.which(command[0])
        if program is None:
            return None
        try:
            done = subprocess.run(
                [program, *command[1:]],
                stdin=subprocess.DEVNULL,  # nothing may ask for a password
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                timeout=limit,
                check=False,
                env={**os.environ, "LC_ALL": "C"},
            )
        except subprocess.TimeoutExpired as error:
            raise ProbeError(f"{command[0]} did not answer within {limit:g} s") from error
        except OSError as error:
            raise ProbeError(f"{command[0]} cannot be started: {error.strerror}") from error
        return Ran(done.returncode, done.stdout.decode(errors="replace"))

    def packages(self) -> Mapping[str, Package]:
        """Return installed Python packages; the first of a name counts, as for an import."""
        if self._packages:
            return self._packages
        for distribution in importlib.metadata.distributions():
            name = distribution.metadata["Name"]
            if name and canonical(name) not in self._packages:
                requires = tuple(distribution.requires or ())
                self._packages[canonical(name)] = Package(distribution.version or "", requires)
        return self._packages

    def sha256(self, path: str) -> str | None:
        """Return a file's SHA-256; see `System.sha256`."""
        try:
            with Path(path).open("rb") as file:
                digest = hashlib.sha256()
                while block := file.read(1 << 20):
                    digest.update(block)
        except OSError:
            return None
        return digest.hexdigest()

    def free_disk(self, path: str) -> int:
        """Return the bytes that are free where `path` is."""
        return shutil.disk_usage(path).free

    def folders(self) -> Mapping[str, str]:
        """Return the folders this program writes to."""
        return {"current folder": str(Path.cwd()), "temporary folder": tempfile.gettempdir()}

    def probe(self, name: str, *arguments: str, limit: float = PROBE_SECONDS) -> dict[str, Any]:
        """Run a function of `vision_heads.doctor.probes` in a child; see `System.probe`."""
        try:
            done = subprocess.run(
                [sys.executable, "-m", "vision_heads.doctor.probes", name, *arguments],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=limit,
                check=False,
                env=_child_environment(),
            )
        except subprocess.TimeoutExpired as error:
            raise ProbeError(f"no answer within {limit:g} s") from error
        lines = done.stdout.decode(errors="replace").splitlines()
        noise = done.stderr.decode(errors="replace")
        try:
            answer: dict[str, Any] = json.loads(lines[-1])
        except (IndexError, ValueError):
            raise ProbeError(_last_words(done.returncode, noise)) from None
        if "failed" in answer:
            raise ProbeError(str(answer["failed"]))
        return answer | {"noise": noise[-4000:]}


def _child_environment() -> dict[str, str]:
    """Return an environment in which the child finds this very package, and no other `cv2.py`."""
    root = str(Path(__file__).resolve().parents[2])
    paths = [root, *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "PYTHONSAFEPATH": "1"}


def _last_words(code: int, noise: str) -> str:
    """Say how a child ended that gave no answer."""
    words = [line.strip() for line in noise.splitlines() if line.strip()]
    last = f": {words[-1]}" if words else ""
    return f"crashed by signal {-code}{last}" if code < 0 else f"ended with code {code}{last}"
