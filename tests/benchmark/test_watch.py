"""What disturbed a measurement, by the files that Linux tells it in."""

from __future__ import annotations

from dataclasses import replace

import pytest

from vision_heads.benchmark.watch import Counters, Watch, compare

CALM = Counters(wall=0.0, own=0.0, busy=0.0, stolen=0.0, throttled=0.0, hot=0)


def write(root, path, text):
    file = root / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)


@pytest.fixture
def root(tmp_path):
    write(tmp_path, "proc/loadavg", "0.50 0.40 0.30 1/99 20113\n")
    write(tmp_path, "proc/stat", "cpu  1000 0 500 9000 7 0 20 40 0 0\ncpu0 1 2 3 4 5 6 7 8 9 9\n")
    write(tmp_path, "proc/self/cgroup", "0::/box\n")
    write(tmp_path, "sys/fs/cgroup/box/cpu.stat", "usage_usec 5\nthrottled_usec 1000\n")
    write(tmp_path, "sys/devices/system/cpu/cpu0/thermal_throttle/package_throttle_count", "3\n")
    write(tmp_path, "sys/class/thermal/cooling_device0/cur_state", "0\n")
    write(tmp_path, "sys/class/thermal/cooling_device0/type", "Processor\n")
    return tmp_path


def test_a_calm_machine_has_nothing_to_say(root):
    watch = Watch(root, cores=4)
    watch.start()
    assert watch.notes() == []
    assert watch.begin is not None and watch.begin.busy is not None
    assert watch.begin.stolen == pytest.approx(watch.begin.busy * 40 / 1520)
    assert watch.begin.throttled == 0.001 and watch.begin.hot == 3


def test_a_busy_machine_is_told(root):
    write(root, "proc/loadavg", "9.00 8.00 7.00 3/99 1\n")
    watch = Watch(root, cores=4)
    watch.start()
    assert watch.notes() == ["the machine was busy before it began: load 9.0 on 4 cores"]


def test_cooling_is_told_but_no_fan(root):
    write(root, "sys/class/thermal/cooling_device0/cur_state", "2\n")
    write(root, "sys/class/thermal/cooling_device1/cur_state", "3\n")
    write(root, "sys/class/thermal/cooling_device1/type", "pwm-fan\n")
    watch = Watch(root, cores=4)
    watch.start()
    assert watch.notes() == ["the machine slows itself down now: Processor"]


def test_throttling_of_a_container_by_both_versions(root):
    watch = Watch(root, cores=4)
    watch.start()
    write(root, "sys/fs/cgroup/box/cpu.stat", "throttled_usec 9001000\n")
    (note,) = watch.notes()
    assert "held this program back for 9.0 s" in note
    write(root, "proc/self/cgroup", "2:cpu,cpuacct:/old\n")
    write(root, "sys/fs/cgroup/cpu/old/cpu.stat", "nr_throttled 4\nthrottled_time 2000000000\n")
    watch.start()
    assert watch.begin is not None and watch.begin.throttled == 2.0


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"busy": 30.0, "own": 15.0}, "other programs used 1.5 of 4 cores"),
        ({"busy": 16.0, "own": 15.0}, ""),
        ({"stolen": 10.0}, "the hypervisor took 1.0 of 4 cores"),
        ({"throttled": 0.5}, "for 0.5 s"),
        ({"throttled": 0.01}, ""),
        ({"hot": 2}, "slowed down for heat 2 times"),
        ({"busy": None, "stolen": None, "throttled": None, "hot": None}, ""),
    ],
)
def test_counters(change, words):
    notes = compare(CALM, replace(CALM, wall=10.0, **change), 4)
    assert [words in note for note in notes] == ([True] if words else [])


def test_a_system_without_these_files(tmp_path):
    watch = Watch(tmp_path, cores=1000)
    watch.start()
    assert watch.notes() == []
    with pytest.raises(RuntimeError):
        Watch(tmp_path).notes()
