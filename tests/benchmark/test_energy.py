"""tegrastats: lines of real boards, and a stand-in that prints them."""

from __future__ import annotations

import sys

import pytest

from vision_heads.benchmark import energy

# Formats of JetPack 6 and 7: NVIDIA's Jetson Linux Developer Guide, "tegrastats Utility".
ORIN_NANO = (
    "07-14-2026 10:29:36 RAM 2147/7620MB (lfb 2x4MB) SWAP 1476/3810MB (cached 1MB) "
    "CPU [0%@729,5%@729,0%@729,0%@729,off,off] EMC_FREQ 0%@2133 GR3D_FREQ 26%@[306] "
    "cpu@47.687C soc2@46.718C gpu@48.625C tj@48.625C "
    "VDD_IN 4556mW/4500mW VDD_CPU_GPU_CV 483mW/480mW VDD_SOC 1451mW/1450mW"
)
AGX_ORIN = (
    "07-25-2026 09:08:28 RAM 20642/62817MB (lfb 1x2MB) CPU [23%@2201,10%@2201] "
    "GR3D_FREQ 12%@[1300,1300] NVENC0 off APE 174 cpu@52.968C/52.968C "
    "VDD_GPU_SOC 5139mW/5139mW/5139mW VDD_CPU_CV 3268mW/3268mW/3268mW "
    "VIN_SYS_5V0 5500mW/5500mW/5500mW"
)
THOR = (
    "RAM 4722/125000MB (lfb 1x512kB) GR3D_FREQ @[1000,1000,1000] VDD_GPU 3000mW/3000mW "
    "VDD_CPU_SOC_MSS 6510mW/6500mW VIN_SYS_5V0 6520mW/6500mW VIN 23100mW/23000mW"
)


@pytest.mark.parametrize(
    ("line", "watts", "names"),
    [
        (ORIN_NANO, 4.556, ("VDD_IN",)),
        (AGX_ORIN, 13.907, energy.PARTS),
        (THOR, 23.1, ("VIN",)),
    ],
)
def test_power_of_the_board(line, watts, names):
    found = energy.board_power(energy.rails(line))
    assert found is not None and found[0] == pytest.approx(watts) and found[1] == names


def test_memory_is_no_rail():
    assert set(energy.rails(ORIN_NANO)) == {"VDD_IN", "VDD_CPU_GPU_CV", "VDD_SOC"}


def test_unknown_rails_give_no_figure():
    assert energy.board_power(energy.rails("VDD_SOMETHING 5000mW/5000mW")) is None
    assert energy.board_power(energy.rails("RAM 1/2MB CPU [0%@729]")) is None


def stand_in(lines):
    code = (
        "import itertools, time\n"
        f"for line in itertools.cycle({lines!r}):\n"
        "    print(line, flush=True)\n    time.sleep(0.01)\n"
    )
    return energy.Meter([sys.executable, "-c", code])


def test_energy_of_a_run(monkeypatch):
    import time

    pictures = []

    def run():
        pictures.append(1)
        time.sleep(0.02)
        return 2

    lines = ["VDD_IN 4000mW/4000mW", "VDD_IN 6000mW/5000mW"]
    (found,) = energy.measure([run], seconds=0.4, idle=0.4, meter=stand_in(lines))
    assert isinstance(found, energy.Energy), found
    assert found.watts == pytest.approx(5, abs=0.5) and found.readings > 5
    seconds = found.joules * 2 * len(pictures) / found.watts
    assert 0.4 <= seconds < 5
    assert found.to_dict()["rails"] == ["VDD_IN"]


def test_no_rail_of_the_board_is_said():
    (found,) = energy.measure([lambda: 1], seconds=0.2, idle=0.2, meter=stand_in(["RAM 1/2MB"]))
    assert found == "tegrastats names no rail of the whole board"


def test_the_child_is_ended():
    meter = stand_in(["x"])
    with meter:
        assert meter._child.poll() is None
    assert meter._child.poll() is not None
