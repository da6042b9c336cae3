"""Python, processor, limits of a container, memory, disk."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.doctor.fake import JETSON, LINUX, FakeSystem, by_check
from vision_heads.doctor import machine

X86 = "processor\t: 0\nmodel name\t: Some Processor\nflags\t\t: fpu sse4_2 {}\n\n"
ARM = "processor\t: 0\nBogoMIPS\t: 62.50\nFeatures\t: fp asimd {}\n"
MEMORY = "MemTotal:       16000000 kB\nMemFree:  100 kB\nMemAvailable:   {} kB\n"


def test_python_too_old_is_broken():
    line = by_check(machine.python(FakeSystem(replace(LINUX, python=(3, 8, 10)))))["python"]
    assert line.status == "broken" and "3.8.10" in line.found and "3.10" in line.mend
    assert by_check(machine.python(FakeSystem()))["python"].status == "ok"


def test_platform_names_the_system_and_a_container():
    files = {"/etc/os-release": 'NAME="x"\nPRETTY_NAME="Ubuntu 24.04.1 LTS"\n', "/.dockerenv": ""}
    line = by_check(machine.platform(FakeSystem(files=files)))["platform"]
    assert line.found == "Ubuntu 24.04.1 LTS, Linux 6.8.0, x86_64, in a container"


@pytest.mark.parametrize(
    ("host", "text", "status", "words"),
    [
        (LINUX, X86.format("avx avx2 fma avx512f avx512_vnni"), "ok", "int8 is fast"),
        (LINUX, X86.format("avx avx2 fma"), "ok", "int8 is slow"),
        (LINUX, X86.format("avx"), "warning", "no AVX2"),
        (LINUX, X86.format(""), "warning", "not even AVX"),
        (JETSON, ARM.format("asimdhp asimddp"), "ok", "int8 dot product"),
        (JETSON, ARM.format(""), "ok", "int8 is slow"),
        (LINUX, "", "ok", "not readable"),
    ],
)
def test_processor(host, text, status, words):
    line = by_check(machine.processor(FakeSystem(host, {"/proc/cpuinfo": text})))["processor"]
    assert line.status == status and words in line.found
    assert bool(line.mend) == (status != "ok")


def test_limit_of_a_container_below_the_cores_it_sees():
    files = {
        "/proc/self/cgroup": "0::/a/b\n",
        "/sys/fs/cgroup/a/b/cpu.max": "max 100000\n",
        "/sys/fs/cgroup/a/cpu.max": "250000 100000\n",
    }
    line = by_check(machine.threads(FakeSystem(files=files)))["threads"]
    assert line.status == "warning" and "2.5" in line.found and "--threads 2" in line.mend


def test_limit_of_the_older_control_groups():
    files = {
        "/proc/self/cgroup": "4:memory:/\n2:cpu,cpuacct:/x\n0::/\n",
        "/sys/fs/cgroup/cpu/x/cpu.cfs_quota_us": "50000\n",
        "/sys/fs/cgroup/cpu/x/cpu.cfs_period_us": "100000\n",
    }
    assert machine.cpu_limit(FakeSystem(files=files)) == 0.5
    files["/sys/fs/cgroup/cpu/x/cpu.cfs_quota_us"] = "-1\n"
    assert machine.cpu_limit(FakeSystem(files=files)) is None
    line = by_check(machine.threads(FakeSystem(files=files)))["threads"]
    assert line.status == "ok" and "8 of 8" in line.found


@pytest.mark.parametrize(
    ("free", "status"), [(9_000_000, "ok"), (900_000, "warning"), (90_000, "broken")]
)
def test_memory(free, status):
    files = {"/proc/meminfo": MEMORY.format(free)}
    assert by_check(machine.memory(FakeSystem(files=files)))["memory"].status == status


def test_memory_of_a_container():
    files = {
        "/proc/meminfo": MEMORY.format(9_000_000),
        "/proc/self/cgroup": "0::/\n",
        "/sys/fs/cgroup/memory.max": str(600 << 20),
        "/sys/fs/cgroup/memory.current": str(200 << 20),
    }
    line = by_check(machine.memory(FakeSystem(files=files)))["memory"]
    assert line.status == "warning" and line.found.startswith("400 MiB free below the container")


def test_memory_that_is_not_readable_is_said():
    assert "not readable" in by_check(machine.memory(FakeSystem()))["memory"].found


@pytest.mark.parametrize(
    ("free", "status"), [(50 << 30, "ok"), (500 << 20, "warning"), (1 << 20, "broken")]
)
def test_disk(free, status):
    lines = by_check(machine.disk(FakeSystem(free=free)))
    assert {line.status for line in lines.values()} == {status}
    assert "/home/me" in lines["current folder"].found
