"""A Jetson: does its software belong together, and does it run as fast as it can."""

from __future__ import annotations

import re
from collections.abc import Iterator

from vision_heads.doctor import stack
from vision_heads.doctor.facts import JetPack, jetpack_of
from vision_heads.doctor.lines import Line, broken, joined, ok, warning
from vision_heads.doctor.machine import OLDEST_PYTHON
from vision_heads.doctor.system import ProbeError, Ran, System
from vision_heads.doctor.versions import Version, agree, show

MODES = "/etc/nvpmodel.conf"
"""Lists the board's power modes, which differ from board to board."""

FASTEST = ("MAXN_SUPER", "MAXN")
"""Names of the modes without a limit of power."""


def release(system: System) -> Iterator[Line]:
    """Name the board and its JetPack, and compare CUDA, TensorRT, cuDNN and Python with it."""
    version = stack.l4t(system)
    if not version:
        if "tegra" in system.host.release:
            yield warning(
                "jetson",
                f"a Jetson's kernel, but no {stack.RELEASE}: a container that does not see it",
                f"start the container with --runtime nvidia -v {stack.RELEASE}:{stack.RELEASE}:ro",
            )
        return
    board = (system.read("/proc/device-tree/model") or "a Jetson").strip("\0 \n")
    known = jetpack_of(version)
    name = f"{board}, Jetson Linux {show(version)}"
    if known is None:
        yield ok("jetson", f"{name}, which is in no table here: nothing is compared")
        return
    yield _python(system, known, f"{name} ({known.name})")
    for what, wanted, found in (
        ("cuda", known.cuda, stack.cuda(system)),
        ("tensorrt", known.tensorrt, stack.tensorrt(system)),
        ("cudnn", known.cudnn, stack.cudnn(system)),
    ):
        yield _compared(known, what, wanted, found)


def power_mode(system: System) -> Iterator[Line]:
    """Check that no power mode holds the board back."""
    if not stack.l4t(system):
        return
    ran = _either(system, ("nvpmodel", "-q"), ("/usr/sbin/nvpmodel", "-q"))
    found = re.search(r"NV Power Mode:\s*(\S+)", ran.text) if ran else None
    if found is None:
        said = ran.text.strip().splitlines()[-1] if ran and ran.text.strip() else "no answer"
        missing = "there is no nvpmodel here, as in most containers" if ran is None else said
        yield ok("power mode", f"not known: {missing}; sudo nvpmodel -q tells on the device")
        return
    modes = _modes(system.read(MODES) or "")
    best = next((name for name in FASTEST if name in modes), None)
    if found[1].startswith(FASTEST[1]) and (best is None or found[1] == best or best == "MAXN"):
        yield ok("power mode", found[1])
    elif best is not None:
        yield warning(
            "power mode",
            f"{found[1]}, which limits the clocks; this board has {best}",
            f"sudo nvpmodel -m {modes[best]}",
        )
    elif found[1].startswith(FASTEST[1]):
        yield ok("power mode", found[1])
    else:
        yield warning(
            "power mode",
            f"{found[1]}, which limits the clocks",
            "sudo nvpmodel -p --verbose lists the modes; sudo nvpmodel -m NUMBER sets one",
        )


def clocks(system: System) -> Iterator[Line]:
    """Check whether the clocks are held at their highest (jetson_clocks)."""
    if not stack.l4t(system):
        return
    ranges = _ranges(system)
    if not ranges:
        yield ok("clocks", "not readable; sudo jetson_clocks --show tells on the device")
        return
    loose = [name for name, (least, most) in ranges.items() if least < most]
    if loose:
        yield warning(
            "clocks",
            f"{joined(loose)} go up and down with the load: the first pictures are slow and "
            "measurements scatter",
            "sudo jetson_clocks, after each start; the fan must run",
        )
    else:
        yield ok("clocks", f"{joined(ranges)} are held at the highest of this power mode")


def throttling(system: System) -> Iterator[Line]:
    """Check whether the board has slowed down because of heat or current since it started."""
    if not stack.l4t(system):
        return
    events = {
        path.rsplit("/", 1)[1].removesuffix("_event_cnt"): int(text)
        for path in system.glob("/sys/class/hwmon/hwmon*/oc*_event_cnt")
        if (text := (system.read(path) or "").strip()).isdecimal() and int(text)
    }
    hot = [
        kind
        for path in system.glob("/sys/class/thermal/cooling_device*/cur_state")
        if (system.read(path) or "0").strip() not in ("0", "")
        and "throttl" in (kind := _cooler(system, path))
    ]
    if events:
        listed = joined(f"{name} {count} times" for name, count in events.items())
        yield warning(
            "throttling",
            f"slowed down for too much current since the start: {listed}",
            "use the supply that came with the board, or a lower power mode",
        )
    elif hot:
        yield warning(
            "throttling", f"slowed down for heat now: {joined(sorted(set(hot)))}", "cool the board"
        )
    else:
        yield ok("throttling", "none")


def _python(system: System, known: JetPack, name: str) -> Line:
    if known.python < OLDEST_PYTHON:
        return broken(
            "jetson",
            f"{name}: its Python is {show(known.python)}, and NVIDIA's packages for it have none "
            f"for {show(OLDEST_PYTHON)}",
            "install JetPack 6 or newer (Orin); Xavier and older boards have no such release",
        )
    if not agree(system.host.python, known.python):
        return warning(
            "jetson",
            f"{name} brings Python {show(known.python)}; its TensorRT cannot be imported by "
            f"{show(system.host.python)}",
            f"python{show(known.python)} -m venv --system-site-packages vh",
        )
    return ok("jetson", name)


def _compared(known: JetPack, what: str, wanted: Version, found: dict[str, Version]) -> Line:
    check = f"{what} of {known.name}"
    listed = joined(f"{show(version)} ({where})" for where, version in found.items())
    if not found:
        return warning(
            check,
            f"not found{f', {show(wanted)} belongs to it' if wanted else ''}",
            "sudo apt install nvidia-jetpack; in a container use an image of NVIDIA's for Jetson",
        )
    if not wanted or any(agree(version, wanted) for version in found.values()):
        return ok(check, listed)
    return warning(
        check,
        f"{listed}, where {known.name} brings {show(wanted)}",
        "sudo apt install --reinstall nvidia-jetpack, and take off what pip brought",
    )


def _modes(text: str) -> dict[str, int]:
    """Return power modes by name: lines such as `< POWER_MODEL ID=2 NAME=MAXN_SUPER >`."""
    found = re.findall(r"<\s*POWER_MODEL\s+ID=(\d+)\s+NAME=(\S+)\s*>", text)
    return {name: int(number) for number, name in found}


def _ranges(system: System) -> dict[str, tuple[int, int]]:
    """Return the least and the highest frequency that are allowed now, of processor and GPU."""
    pairs = {
        "processor": (
            "/sys/devices/system/cpu/cpu0/cpufreq/scaling_min_freq",
            "/sys/devices/system/cpu/cpu0/cpufreq/scaling_max_freq",
        )
    }
    for folder in system.glob("/sys/class/devfreq/*"):
        if re.search(r"gpu|gpc|ga10b|gv11b", folder.rsplit("/", 1)[1]):
            pairs["GPU"] = (f"{folder}/min_freq", f"{folder}/max_freq")
    found = {}
    for name, (least, most) in pairs.items():
        texts = [(system.read(path) or "").strip() for path in (least, most)]
        if all(text.isdecimal() for text in texts):
            found[name] = (int(texts[0]), int(texts[1]))
    return found


def _cooler(system: System, state: str) -> str:
    return (system.read(state.replace("/cur_state", "/type")) or "").strip()


def _either(system: System, *commands: tuple[str, ...]) -> Ran | None:
    """Return what the first command that is there says, None when none is or it hangs."""
    for command in commands:
        try:
            ran = system.run(command)
        except ProbeError:
            return None
        if ran is not None:
            return ran
    return None
