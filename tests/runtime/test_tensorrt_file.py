"""The engine's file, without TensorRT: what is damaged, foreign or for another machine."""

from __future__ import annotations

import json
import struct

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vision_heads.errors import UserError
from vision_heads.runtime.tensorrt_file import (
    MAGIC,
    EngineFacts,
    LayerPrecision,
    Machine,
    check_machine,
    json_path,
    read_engine,
    read_facts,
    write_engine,
)
from vision_heads.spec import HeadSpec, ModelSpec

PLAN = bytes(range(256)) * 4
FACTS = EngineFacts(
    spec=ModelSpec(heads=(HeadSpec(name="aerial", classes=("car", "van")),)),
    source="m.onnx",
    source_sha256="0" * 64,
    precision="fp16",
    strongly_typed=False,
    batch=(1, 4, 8),
    tensorrt="10.3.0",
    gpu="Orin",
    capability="8.7",
    driver="12.6",
    cuda="12.6",
    layers=(LayerPrecision(name="a", kind="b", operator="Conv", precision="float16"),),
    rebuild="vh export m.onnx --format engine --output m.engine",
)
HERE = Machine("10.3.0", "Orin", "8.7")


def test_what_is_written_is_read(tmp_path):
    path = tmp_path / "m.engine"
    written = write_engine(path, FACTS, PLAN)
    assert read_engine(path) == (written, PLAN)
    assert written.model_copy(update={"plan_bytes": 0, "plan_sha256": ""}) == FACTS
    assert json.loads(json_path(path).read_text())["gpu"] == "Orin"
    assert sorted(file.name for file in tmp_path.iterdir()) == ["m.engine", "m.engine.json"]
    # The layout that the documentation promises to other programs.
    data = path.read_bytes()
    (length,) = struct.unpack("<Q", data[8:16])
    assert data[:8] == b"VHENGINE" and json.loads(data[16 : 16 + length])["format"] == 1
    assert data[16 + length :] == PLAN


def test_vh_info_reads_it_without_tensorrt(tmp_path):
    from typer.testing import CliRunner

    from vision_heads.cli.main import app

    write_engine(tmp_path / "m.engine", FACTS, PLAN)
    shown = CliRunner().invoke(app, ["info", str(tmp_path / "m.engine")])
    assert shown.exit_code == 0, shown.output
    for text in ("classes      2: car, van", "Orin (compute capability 8.7), TensorRT 10.3.0",
                 "fp16, batch 1-4-8", "Conv: 1 float16", FACTS.rebuild):  # fmt: skip
        assert text in shown.output


def test_one_file_is_enough(tmp_path):
    write_engine(tmp_path / "m.engine", FACTS, PLAN)
    json_path(tmp_path / "m.engine").unlink()
    assert read_engine(tmp_path / "m.engine")[1] == PLAN


def test_damage_is_said_in_one_line(tmp_path):
    path = tmp_path / "m.engine"
    write_engine(path, FACTS, PLAN)
    whole = path.read_bytes()
    changed = bytearray(whole)
    changed[-1] ^= 1
    text = bytearray(whole)
    text[40] = 0xFF
    newer = json.dumps({"format": 2}).encode()
    for data, message in [
        (b"", "is empty"),
        (PLAN, "no engine of vision_heads .*vh export MODEL --format engine"),
        (whole[:12], "is cut off"),
        (whole[:200], "is cut off"),
        (whole[:-1], r"is cut off \(\d+ of \d+ bytes\); copy or build it again"),
        (bytes(changed), "is damaged .*SHA-256"),
        (bytes(text), "its description"),
        (MAGIC + struct.pack("<Q", 1 << 60), "is damaged"),
        (MAGIC + struct.pack("<Q", len(newer)) + newer, "its description: format"),
    ]:
        path.write_bytes(data)
        with pytest.raises(UserError, match=rf"m\.engine: {message}") as caught:
            read_engine(path)
        assert "\n" not in str(caught.value)
    with pytest.raises(UserError, match=r"none\.engine: no such file"):
        read_facts(tmp_path / "none.engine")


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(at=st.integers(0, 10**6), by=st.integers(1, 255), cut=st.booleans())
def test_any_damage_is_noticed(tmp_path, at, by, cut):
    path = tmp_path / "m.engine"
    written = write_engine(path, FACTS, PLAN)
    data = bytearray(path.read_bytes())
    at %= len(data)
    if cut:
        del data[at:]
    else:
        data[at] = (data[at] + by) % 256
    path.write_bytes(data)
    try:
        facts, plan = read_engine(path)
    except UserError as error:
        assert "\n" not in str(error) and str(error).startswith(str(path))
    else:
        # Only the description's own words may have changed unseen; the plan is whole.
        assert not cut and plan == PLAN and facts != written


@pytest.mark.parametrize(
    ("here", "difference"),
    [
        (Machine("10.13.3", "Orin", "8.7"), r"has Orin \(8\.7\) with TensorRT 10\.13\.3"),
        (Machine("10.3.0", "NVIDIA Thor", "11.0"), r"has NVIDIA Thor \(11\.0\)"),
        (Machine("10.3.0", "Orin", "8.6"), r"has Orin \(8\.6\)"),
    ],
)
def test_an_engine_for_another_machine_is_refused(here, difference):
    check_machine(FACTS, HERE, "m.engine")
    wanted = (
        r"^m\.engine: built for Orin \(compute capability 8\.7\) with TensorRT 10\.3\.0; this "
        rf"machine {difference}.*\. Build it here: vh export m\.onnx --format engine "
        r"--output m\.engine$"
    )
    with pytest.raises(UserError, match=wanted):
        check_machine(FACTS, here, "m.engine")
