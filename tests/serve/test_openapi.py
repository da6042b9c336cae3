"""The OpenAPI description is true: schemathesis asks everything it describes, and more."""

from __future__ import annotations

import contextlib

import pytest

pytest.importorskip("schemathesis", reason="schemathesis is not installed")

import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.specs.openapi.checks import positive_data_acceptance

from vision_heads.serve.urls import StreamRules

BOUNDED = settings(
    max_examples=8,
    deadline=None,
    derandomize=True,
    database=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)


def no_such_host(host: str, port: int) -> list[str]:
    raise OSError(-2, "nobody is looked up in this test")


@pytest.fixture
def api(service_of):
    """Return the description of a service on loopback, to which no stream can be added."""
    service = service_of(rules=StreamRules(look_up=no_such_host))
    return schemathesis.openapi.from_url(f"{service.url}/openapi.json")


def test_every_answer_is_as_described(api):
    asked = set()
    for found in api.get_all_operations():
        operation = found.ok()
        # Without schemathesis' own plugin, whose subtests follow pytest's inner workings.
        for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE):

            @BOUNDED
            @given(case=operation.as_strategy(generation_mode=mode))
            def ask(case):
                asked.add(case.operation.label)
                # No schema tells a picture or a camera from other bytes and texts.
                unknown = case.operation.label in ("POST /v1/detect", "POST /v1/streams")
                left_out = [positive_data_acceptance] if unknown else []
                case.call_and_validate(excluded_checks=left_out)

            with contextlib.suppress(Unsatisfiable):  # nothing can be wrong about /healthz
                ask()
    assert len(asked) >= 12


def test_everything_is_described_with_examples(client_of):
    description = client_of().get("/openapi.json").json()
    assert {"/v1/detect", "/v1/streams", "/v1/streams/{key}/events", "/healthz", "/metrics"} <= set(
        description["paths"]
    )
    for path, methods in description["paths"].items():
        for method, route in methods.items():
            where = f"{method} {path}"
            assert route["summary"] and route["description"], where
            for status, answer in route["responses"].items():
                assert answer["description"], where
                if not status.startswith("2"):
                    (content,) = answer["content"].values()
                    assert content["schema"]["$ref"].endswith("/ErrorBody"), where
    detect = description["paths"]["/v1/detect"]["post"]
    assert set(detect["requestBody"]["content"]) == {"multipart/form-data", "application/json"}
    assert detect["responses"]["200"]["content"]["application/json"]["example"]["heads"]
    assert "HTTPValidationError" not in str(description)


def test_the_token_is_described(client_of):
    client = client_of(token="correct-horse-battery")
    headers = {"Authorization": "Bearer correct-horse-battery"}
    description = client.get("/openapi.json", headers=headers).json()
    (name,) = description["components"]["securitySchemes"]
    assert description["security"] == [{name: []}]
    assert description["paths"]["/healthz"]["get"]["security"] == []
    assert "401" in description["paths"]["/v1/streams"]["get"]["responses"]
