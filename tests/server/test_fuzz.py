"""Requests generated from the API's own document: no answer is a 5xx, and every answer is documented."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.specs.openapi.checks import negative_data_rejection, positive_data_acceptance

from vertical_sdk.server.settings import Limits

MakeAdapter = Callable[..., Path]
NOT_OURS = [positive_data_acceptance, negative_data_rejection]
"""Names have more rules than a schema can express, and unknown query parameters are not an error."""


def run(server: Any, make_adapter: MakeAdapter, examples: int) -> None:
    app, served = server.app(Limits(rate=1e9, burst=10**9))
    served.registry.publish(make_adapter(1))
    served.registry.publish(make_adapter(2))
    served.registry.set_alias("medical/triage", "production", 1)
    headers = {"Authorization": f"Bearer {served.secrets['boss']}"}
    schema = schemathesis.openapi.from_asgi("/api/v1/openapi.json", app, headers=headers)
    operations = [result.ok() for result in schema.get_all_operations()]
    assert len(operations) == 19
    for operation, mode in itertools.product(operations, GenerationMode):

        @settings(
            max_examples=examples,
            deadline=None,
            database=None,
            derandomize=examples < 100,
            suppress_health_check=list(HealthCheck),
        )
        @given(case=operation.as_strategy(generation_mode=mode))
        def call(case: Any) -> None:
            case.call_and_validate(headers=headers, excluded_checks=NOT_OURS)

        with contextlib.suppress(Unsatisfiable):  # an operation without parameters has no invalid requests
            call()

    assert {line["token"] for line in served.log} <= {"boss", None}
    assert not [line for line in served.log if line["status"] >= 500]
    assert served.registry.verify() == []


def test_generated_requests_do_not_break_the_server(server: Any, make_adapter: MakeAdapter) -> None:
    run(server, make_adapter, 5)


@pytest.mark.slow
def test_many_generated_requests_do_not_break_the_server(server: Any, make_adapter: MakeAdapter) -> None:
    run(server, make_adapter, 200)
