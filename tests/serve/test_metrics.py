"""Prometheus' text format."""

from __future__ import annotations

import re

from tests.serve.conftest import jpeg, red_square
from vision_heads.serve.metrics import Counter, Histogram, Metrics, Sample

LABEL = r'[a-z]+="(?:[^"\\]|\\.)*"'
LINE = re.compile(rf"[a-z_]+(\{{{LABEL}(,{LABEL})*\}})? (\d+(\.\d+)?(e-?\d+)?|\+Inf)")


def check(text: str) -> dict[str, float]:
    """Check every line and return the numbers."""
    numbers, declared = {}, set()
    assert text.endswith("\n")
    for line in text.splitlines():
        if line.startswith("# TYPE "):
            name = line.split()[2]
            assert name not in declared, f"{name} is declared twice"
            declared.add(name)
        elif not line.startswith("# HELP "):
            assert LINE.fullmatch(line), line
            key, _, value = line.rpartition(" ")
            assert key not in numbers, f"{key} is there twice"
            base = re.sub(r"_(bucket|sum|count)$", "", key.partition("{")[0])
            assert base in declared or key.partition("{")[0] in declared
            numbers[key] = float(value)
    return numbers


def test_counters_and_labels():
    counter = Counter("vh_x_total", "X.")
    counter.add(route='a"b\\c\nd')
    counter.add(2, route="plain")
    lines = list(counter.lines())
    assert lines[2] == r'vh_x_total{route="a\"b\\c\nd"} 1'
    assert lines[3] == 'vh_x_total{route="plain"} 2'


def test_histograms_count_up_to_each_bound():
    histogram = Histogram("vh_s", "S.", (1, 2.5))
    for value in (0.5, 1, 2, 9):
        histogram.add(value)
    assert list(histogram.lines())[2:] == [
        'vh_s_bucket{le="1"} 2',
        'vh_s_bucket{le="2.5"} 3',
        'vh_s_bucket{le="+Inf"} 4',
        "vh_s_sum 12.5",
        "vh_s_count 4",
    ]


def test_samples_are_read_when_asked_for():
    values = iter([1, 2.5])
    metrics = Metrics(lambda: [Sample("vh_g", "gauge", "G.", [((), next(values))])])
    assert check(metrics.text())["vh_g"] == 1
    assert check(metrics.text())["vh_g"] == 2.5


def test_the_service_counts_routes_not_paths(client_of):
    client = client_of()
    client.post("/v1/detect", files={"image": ("x.jpg", jpeg(red_square()))})
    for number in range(20):
        client.get(f"/v1/streams/{number}")
        client.get(f"/invented/{number}")
        client.request("BREW", "/")
    answer = client.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    numbers = check(answer.text)
    assert numbers['vh_requests_total{method="POST",route="/v1/detect",status="200"}'] == 1
    assert numbers['vh_requests_total{method="GET",route="/v1/streams/{key}",status="404"}'] == 20
    assert numbers['vh_requests_total{method="GET",route="none",status="404"}'] == 20
    assert numbers["vh_batch_pictures_count"] == 1 and numbers["vh_pictures_in_work"] == 0
    assert "BREW" not in answer.text and "invented" not in answer.text
