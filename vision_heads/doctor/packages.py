"""Python packages: what is installed, whether it imports, and whether it goes together."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from vision_heads.doctor.lines import Line, broken, joined, ok, warning
from vision_heads.doctor.system import Package, ProbeError, System
from vision_heads.doctor.versions import Requirement, parse, requirement

OURS = "vision-heads"

OPENCV = (
    "opencv-python",
    "opencv-python-headless",
    "opencv-contrib-python",
    "opencv-contrib-python-headless",
)
"""Wheels that all install the one folder `cv2`."""

RUNTIMES = (
    "onnxruntime",
    "onnxruntime-gpu",
    "onnxruntime-openvino",
    "onnxruntime-directml",
    "onnxruntime-migraphx",
    "onnxruntime-qnn",
    "onnxruntime-training",
)
"""Wheels that all install the one folder `onnxruntime`."""

CORE = {"numpy": "numpy", "cv2": "opencv-python", "onnxruntime": "onnxruntime"}
COMPILED = {
    "av": "av",
    "torch": "torch",
    "torchvision": "torchvision",
    "onnx": "onnx",
    "scipy": "scipy",
    "matplotlib": "matplotlib",
}
"""Modules with compiled parts, which other versions break, and the packages they come from."""

_OLD_NUMPY = re.compile(
    r"compiled using NumPy 1|_ARRAY_API not found|numpy\.dtype size changed|"
    r"multiarray failed to import"
)


def opencv_wheels(system: System) -> Iterator[Line]:
    """Look for two wheels that overwrite each other's files (docs/install.md)."""
    packages = system.packages()
    there = {name: packages[name].version for name in OPENCV if name in packages}
    listed = joined(f"{name} {version}" for name, version in there.items())
    remove = f"python -m pip uninstall -y {' '.join(there)}"
    if not there:
        yield ok("opencv wheels", "none by pip; cv2 comes from elsewhere, if at all")
    elif len(there) == 1:
        yield ok("opencv wheels", listed)
    elif len(set(there.values())) == 1:
        yield ok("opencv wheels", f"{listed}: one folder, but of one version, so that is well")
    else:
        yield warning(
            "opencv wheels",
            f"{listed}: both fill the folder cv2, and you get a mixture of the two",
            f"{remove} && python -m pip install {' '.join(there)}",
        )


def runtime_wheels(system: System) -> Iterator[Line]:
    """Look for two wheels of ONNX Runtime, of which only one can be had."""
    packages = system.packages()
    there = {name: packages[name].version for name in RUNTIMES if name in packages}
    listed = joined(f"{name} {version}" for name, version in there.items())
    if not there:
        yield ok("onnxruntime wheels", "none by pip; onnxruntime comes from elsewhere, if at all")
    elif len(there) == 1:
        yield ok("onnxruntime wheels", listed)
    else:
        wanted = next(name for name in (*RUNTIMES[1:], RUNTIMES[0]) if name in there)
        yield warning(
            "onnxruntime wheels",
            f"{listed}: all fill the folder onnxruntime, and the one installed last is what runs",
            f"python -m pip uninstall -y {' '.join(there)} && python -m pip install {wanted}",
        )


def imports(system: System) -> Iterator[Line]:
    """Import every compiled package, each in a process of its own."""
    packages = system.packages()
    for module, package in (CORE | COMPILED).items():
        names = {"cv2": OPENCV, "onnxruntime": RUNTIMES}.get(module, (package,))
        present = any(name in packages for name in names)
        if module in COMPILED and not present:
            continue
        yield _imported(system, module, package)


def _imported(system: System, module: str, package: str) -> Line:
    check = f"import {module}"
    again = f"python -m pip install --force-reinstall --no-deps {package}"
    try:
        answer = system.probe("imported", module)
    except ProbeError as error:
        return broken(check, str(error), _mend_import(module, str(error), again))
    noise = str(answer.get("noise", ""))
    if _OLD_NUMPY.search(noise):
        return warning(
            check,
            f"{answer['version']}, built for numpy 1, and numpy 2 is installed",
            f"python -m pip install --upgrade {package}",
        )
    return ok(check, f"{answer['version']} in {answer['seconds']:.1f} s")


def _mend_import(module: str, error: str, again: str) -> str:
    library = re.search(r"(lib[\w.+-]+\.so[.\d]*)", error)
    if module == "cv2":
        if "libGL" in error or "libgthread" in error or "libxcb" in error:
            return "python -m pip install --force-reinstall --no-deps opencv-python-headless"
        return (
            "python -m pip uninstall -y opencv-python opencv-python-headless && "
            "python -m pip install opencv-python"
        )
    if _OLD_NUMPY.search(error):
        return f"{again} --upgrade"
    if module == "torchvision":
        return (
            "python -m pip uninstall -y torch torchvision && "
            'python -m pip install "vision-heads[train]"'
        )
    if "No module named" in error or not library:
        return again
    return f"install the system's package that has {library[1]}, or: {again}"


def requirements(system: System) -> Iterator[Line]:
    """Check what this package needs, and tell which extras are there."""
    packages = system.packages()
    ours = packages.get(OURS)
    if ours is None:
        yield warning(
            "requirements",
            "vision-heads runs from a folder and is not installed; its versions are not checked",
            "python -m pip install .",
        )
        return
    asked = [found for text in ours.requires if (found := requirement(text))]
    yield _core(packages, [entry for entry in asked if not entry.extra])
    for extra in sorted({entry.extra for entry in asked if entry.extra}):
        yield _extra(packages, extra, [entry for entry in asked if entry.extra == extra])


def _core(packages: Mapping[str, Package], asked: list[Requirement]) -> Line:
    missing = [entry for entry in asked if not entry.conditional and not _there(packages, entry)]
    wrong = [entry for entry in asked if _outside(packages, entry)]
    if missing or wrong:
        what = joined(
            [f"no {entry.name}" for entry in missing] + [_clash(packages, e) for e in wrong]
        )
        wanted = " ".join(f'"{entry.name}{entry.limits}"' for entry in (*missing, *wrong))
        return broken("requirements", what, f"python -m pip install {wanted}")
    names = joined(f"{e.name} {_there(packages, e)}" for e in asked if _there(packages, e))
    return ok("requirements", names)


def _extra(packages: Mapping[str, Package], extra: str, asked: list[Requirement]) -> Line:
    check, install = f"extra {extra}", f'python -m pip install "vision-heads[{extra}]"'
    asked = [entry for entry in asked if entry.name != OURS]  # [dev] asks for [train] and others
    missing = [
        entry.name for entry in asked if not entry.conditional and not _there(packages, entry)
    ]
    wrong = [entry for entry in asked if _outside(packages, entry)]
    if wrong and not missing:
        return warning(check, joined(_clash(packages, entry) for entry in wrong), install)
    if missing:
        few = joined(missing[:4]) + (f" and {len(missing) - 4} more" if len(missing) > 4 else "")
        return ok(check, f"not installed, without {few}; to have it: {install}")
    return ok(check, "installed")


def conflicts(system: System) -> Iterator[Line]:
    """Ask pip whether any installed package lacks what it needs."""
    ran = system.run([system.host.executable, "-m", "pip", "check"], 60.0)
    if ran is None or "No module named pip" in ran.text:
        yield ok("pip check", "not looked at: there is no pip in this environment")
        return
    lines = [line for line in ran.text.splitlines() if line.strip() and "WARNING" not in line]
    if ran.code == 0:
        yield ok("pip check", lines[-1] if lines else "nothing amiss")
        return
    more = f" (and {len(lines) - 3} more)" if len(lines) > 3 else ""
    yield warning(
        "pip check",
        "; ".join(lines[:3]) + more,
        "python -m pip install --upgrade the packages it names, or a fresh virtual environment",
    )


def torch_pair(system: System) -> Iterator[Line]:
    """Check that torchvision is the one that belongs to torch."""
    packages = system.packages()
    torch, vision = packages.get("torch"), packages.get("torchvision")
    if torch is None or vision is None:
        if torch is not None:
            yield ok("torch and torchvision", f"torch {torch.version} without torchvision")
        return
    both = f"torch {torch.version}, torchvision {vision.version}"
    asked = [entry for text in vision.requires if (entry := requirement(text))]
    wrong = [entry for entry in asked if entry.name == "torch" and not entry.allows(torch.version)]
    builds = {version.partition("+")[2] for version in (torch.version, vision.version)}
    install = (
        "python -m pip uninstall -y torch torchvision && "
        'python -m pip install "vision-heads[train]"'
    )
    if wrong:
        yield broken("torch and torchvision", f"{both}: it needs torch {wrong[0].limits}", install)
    elif len(builds - {""}) > 1:
        yield broken("torch and torchvision", f"{both}: built for different CUDA", install)
    else:
        yield ok("torch and torchvision", both)


def _there(packages: Mapping[str, Package], entry: Requirement) -> str:
    """Return the version of a package that is there, "" when it is not.

    Another wheel of OpenCV or ONNX Runtime stands in for the one that is asked for.
    """
    for family in (OPENCV, RUNTIMES):
        if entry.name == family[0]:
            found = [packages[name].version for name in family if name in packages]
            return found[0] if found else ""
    return packages[entry.name].version if entry.name in packages else ""


def _outside(packages: Mapping[str, Package], entry: Requirement) -> bool:
    version = _there(packages, entry)
    return bool(parse(version)) and not entry.conditional and not entry.allows(version)


def _clash(packages: Mapping[str, Package], entry: Requirement) -> str:
    return f"{entry.name} {_there(packages, entry)} is not {entry.limits}"
