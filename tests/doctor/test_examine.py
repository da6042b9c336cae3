"""The whole diagnosis: nothing ends it, nothing hangs it; and the probes on this machine."""

from __future__ import annotations

import json
import threading

import pytest

from tests.doctor.fake import FakeSystem
from vision_heads.doctor import LocalSystem, Report, diagnose, examine, model, probes
from vision_heads.doctor.lines import broken, ok, warning
from vision_heads.doctor.system import ProbeError
from vision_heads.paths import assets


def test_a_machine_that_answers_nothing_gives_lines_and_no_error():
    report = Report(tuple(diagnose(FakeSystem())))
    assert not report.sound
    groups = list(dict.fromkeys(line.group for line in report.lines))
    assert groups == ["machine", "packages", "pictures", "gpu", "model"]
    assert all(line.mend for line in report.lines if line.status != "ok")
    assert not any("could not be looked at" in line.found for line in report.lines)


def test_a_check_that_raises_or_hangs_is_a_broken_line(monkeypatch):
    never = threading.Event()

    def raises(system):
        raise ZeroDivisionError("a fault")

    def hangs(system):
        never.wait(60)
        return []

    def half(system):
        yield ok("first", "fine")
        raise SystemExit(3)

    checks = (("all", (raises, hangs, half)),)
    monkeypatch.setattr(examine, "GROUPS", checks)
    lines = list(diagnose(FakeSystem(), seconds=0.2))
    never.set()
    assert [line.status for line in lines] == ["broken"] * 3
    assert "ZeroDivisionError: a fault" in lines[0].found
    assert "no answer within 0.2 s" in lines[1].found
    assert "SystemExit" in lines[2].found


def test_report_as_json():
    lines = (ok("a", "b"), warning("c", "d", "e"), broken("f", "g", "h"))
    record = json.loads(json.dumps(Report(lines).to_dict()))
    assert record["sound"] is False
    assert record["counts"] == {"ok": 1, "warning": 1, "broken": 1}
    assert record["lines"][1]["mend"] == "e"
    assert Report(lines[:2]).sound


def test_weights_that_changed_are_broken():
    folder = assets("weights")
    text = (folder / "SHA256SUMS").read_text()
    sums = {f"{folder}/{line.split()[1]}": line.split()[0] for line in text.splitlines()}
    system = FakeSystem(files={f"{folder}/SHA256SUMS": text}, sums=sums)
    (line,) = model.weights(system)
    assert line.status == "ok"
    changed = next(iter(sums))
    system.sums = sums | {changed: "0" * 64}
    assert [line.status for line in model.weights(system)] == ["broken", "ok"]
    system.sums = {}
    assert {line.status for line in model.weights(system)} == {"broken"}
    system.files = {}
    assert [line.status for line in model.weights(system)] == ["warning"]


def test_a_detection_that_finds_nothing_is_broken():
    answer = {"model": "m", "picture": "p", "found": 0, "seconds": 0.1}
    (line,) = model.detection(FakeSystem(probes={"detection": answer}))
    assert line.status == "broken"
    (line,) = model.detection(FakeSystem(probes={"detection": answer | {"found": 3}}))
    assert line.status == "ok" and "100 ms" in line.found


def test_this_machine_runs_and_hashes():
    system = LocalSystem()
    ran = system.run(["uname", "-s"])
    assert ran is not None and ran.code == 0 and ran.text.strip() == system.host.system
    assert system.run(["no-such-program-here"]) is None
    with pytest.raises(ProbeError, match="sleep did not answer within"):
        system.run(["sleep", "20"], 0.2)
    (line,) = model.weights(system)
    assert line.status == "ok"
    assert "numpy" in system.packages()
    assert system.read("/no/such/file") is None and system.sha256("/no/such/file") is None


def test_a_child_that_fails_crashes_or_hangs_is_told_in_a_line(monkeypatch):
    system = LocalSystem()
    with pytest.raises(ProbeError, match="No module named 'no_such_module'"):
        system.probe("imported", "no_such_module")
    with pytest.raises(ProbeError, match="no answer within"):
        system.probe("imported", "numpy", limit=0.01)
    monkeypatch.setenv("PYTHONFAULTHANDLER", "0")
    monkeypatch.setenv("PYTHONHOME", "/no/such/folder")
    with pytest.raises(ProbeError, match="ended with code"):
        system.probe("imported", "numpy")


def test_a_child_answers():
    answer = LocalSystem().probe("imported", "numpy")
    assert answer["version"] and answer["seconds"] >= 0


def test_a_module_that_lost_its_files_does_not_count(tmp_path, monkeypatch):
    (tmp_path / "cv2").mkdir()
    (tmp_path / "cv2" / "__init__.py").touch()
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(ProbeError, match="its folder is incomplete"):
        LocalSystem().probe("imported", "cv2")


def test_pictures_and_videos_here():
    formats = probes.picture_formats()["formats"]
    assert formats["jpg"] == formats["png"] == "both"
    build = probes.opencv_build()
    assert set(build["features"]) == {"FFmpeg", "GStreamer", "V4L"}
    assert probes.video_opencv()["codecs"]["H.264"] == "reads"


def test_videos_of_pyav_here():
    pytest.importorskip("av")
    codecs = probes.video_pyav()["codecs"]
    assert codecs["H.264"]["decoded"] and codecs["MJPEG"]["encoder"] == "mjpeg"


def test_frames_that_come_back_wrong_are_noticed():
    frames = probes._pictures()
    assert probes._compare(frames) == ""
    assert "5 of 6" in probes._compare(frames[:5])
    assert "grey levels off" in probes._compare(frames[::-1])


def test_the_network_of_one_operator_runs_here():
    answer = probes.providers()
    assert answer["runs"]["CPUExecutionProvider"]["ran"]
    onnxruntime = pytest.importorskip("onnxruntime")
    if "CUDAExecutionProvider" not in answer["available"]:
        with pytest.warns(UserWarning, match="not in available"):
            refused = probes._run_on(onnxruntime, "CUDAExecutionProvider")
        assert not refused["ran"] and refused["reason"]


def test_a_detection_here():
    answer = probes.detection()
    assert answer["found"] > 10 and answer["model"] == "aerial-n"


def test_main_prints_one_line_of_json_last(capsys):
    probes.main(["imported", "json"])
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["version"]
    probes.main(["imported", "no_such_module"])
    assert "failed" in json.loads(capsys.readouterr().out.splitlines()[-1])
