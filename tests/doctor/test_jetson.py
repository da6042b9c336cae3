"""A Jetson, by what its files and commands say."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.doctor.fake import JETSON, LINUX, RELEASE_70, FakeSystem, by_check, orin
from vision_heads.doctor import jetson, stack
from vision_heads.doctor.system import ProbeError, Ran

CHECKS = (jetson.release, jetson.power_mode, jetson.clocks, jetson.throttling)


def test_the_version_of_jetson_linux():
    assert stack.l4t(orin()) == (36, 4, 3)
    assert stack.l4t(FakeSystem(files={stack.RELEASE: RELEASE_70})) == (38, 2, 0)
    assert stack.l4t(FakeSystem()) == ()


def test_nothing_is_said_of_other_machines():
    assert [line for check in CHECKS for line in check(FakeSystem(LINUX))] == []


def test_a_container_that_hides_the_release():
    (line,) = jetson.release(FakeSystem(JETSON))
    assert line.status == "warning" and "--runtime nvidia" in line.mend


def test_a_complete_jetpack():
    lines = by_check(jetson.release(orin()))
    assert "Orin Nano" in lines["jetson"].found and "(JetPack 6.2)" in lines["jetson"].found
    assert {line.status for line in lines.values()} == {"ok"}
    assert set(lines) == {"jetson"} | {
        f"{what} of JetPack 6.2" for what in ("cuda", "tensorrt", "cudnn")
    }
    assert "12.6.11" in lines["cuda of JetPack 6.2"].found
    assert "10.3.0.30 (libnvinfer10)" in lines["tensorrt of JetPack 6.2"].found


def test_what_is_missing_or_foreign():
    system = orin(
        commands={
            "dpkg libcudnn*": "",
            "dpkg libnvinfer*": "ii  libnvinfer8 8.6.2.3-1+cuda12.2\n",
        }
    )
    lines = by_check(jetson.release(system))
    assert lines["cudnn of JetPack 6.2"].status == "warning"
    assert "nvidia-jetpack" in lines["cudnn of JetPack 6.2"].mend
    assert "brings 10.3" in lines["tensorrt of JetPack 6.2"].found


def test_another_python_than_jetpacks():
    system = orin()
    system.host = replace(JETSON, python=(3, 12, 1))
    line = by_check(jetson.release(system))["jetson"]
    assert line.status == "warning" and line.mend == "python3.10 -m venv --system-site-packages vh"


def test_jetpack_5_has_no_python_for_us():
    files = {stack.RELEASE: "# R35 (release), REVISION: 4.1, GCID: 33958178, BOARD: t186ref\n"}
    assert by_check(jetson.release(orin(files=files)))["jetson"].status == "broken"


def test_a_release_in_no_table_is_not_compared():
    files = {stack.RELEASE: "# R44 (release), REVISION: 1.0, GCID: 1\n"}
    (line,) = jetson.release(orin(files=files))
    assert line.status == "ok" and "nothing is compared" in line.found


@pytest.mark.parametrize(
    ("said", "conf", "status", "mend"),
    [
        ("NV Power Mode: 25W\n1\n", True, "warning", "sudo nvpmodel -m 2"),
        ("NV Power Mode: MAXN_SUPER\n2\n", True, "ok", ""),
        ("NV Fan Mode:quiet\nNV Power Mode: MODE_15W_6CORE\n2\n", True, "warning", "-m 2"),
        ("NV Power Mode: MAXN\n0\n", False, "ok", ""),
        ("NV Power Mode: 15W\n0\n", False, "warning", "sudo nvpmodel -p --verbose"),
        (Ran(1, "NVPM ERROR: Error opening /sys/x: 13\n"), True, "ok", ""),
        (ProbeError("did not answer"), True, "ok", ""),
    ],
)
def test_power_mode(said, conf, status, mend):
    system = orin(commands={"nvpmodel -q": said})
    if not conf:
        del system.files["/etc/nvpmodel.conf"]
    line = by_check(jetson.power_mode(system))["power mode"]
    assert line.status == status
    assert line.mend.startswith(mend) or mend in line.mend


def test_a_power_mode_that_is_not_known_is_said():
    system = orin()
    del system.commands["nvpmodel -q"]
    line = by_check(jetson.power_mode(system))["power mode"]
    assert line.status == "ok" and "not known" in line.found


def test_clocks():
    line = by_check(jetson.clocks(orin()))["clocks"]
    assert line.status == "warning" and "processor, GPU" in line.found
    assert line.mend.startswith("sudo jetson_clocks")
    held = {
        "/sys/devices/system/cpu/cpu0/cpufreq/scaling_min_freq": "1344000\n",
        "/sys/class/devfreq/17000000.gpu/min_freq": "918000000\n",
    }
    assert by_check(jetson.clocks(orin(files=held)))["clocks"].status == "ok"
    bare = FakeSystem(JETSON, {stack.RELEASE: RELEASE_70})
    assert "not readable" in by_check(jetson.clocks(bare))["clocks"].found


def test_throttling():
    assert by_check(jetson.throttling(orin()))["throttling"].status == "ok"
    files = {"/sys/class/hwmon/hwmon1/oc3_event_cnt": "7\n"}
    line = by_check(jetson.throttling(orin(files=files)))["throttling"]
    assert line.status == "warning" and "oc3 7 times" in line.found
    cooler = "/sys/class/thermal/cooling_device2"
    files = {f"{cooler}/cur_state": "1\n", f"{cooler}/type": "gpu-throttle-alert\n"}
    line = by_check(jetson.throttling(orin(files=files)))["throttling"]
    assert line.status == "warning" and "gpu-throttle-alert" in line.found
    files = {f"{cooler}/cur_state": "2\n", f"{cooler}/type": "pwm-fan\n"}
    assert by_check(jetson.throttling(orin(files=files)))["throttling"].status == "ok"
