"""Requests generated from the document of served specialists: no answer is a 5xx, and every answer is documented."""

from __future__ import annotations

import contextlib
import itertools
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.specs.openapi.checks import negative_data_rejection, positive_data_acceptance, unsupported_method
from server.test_model_api import NOTES, ONE, TAGS, build
from serving.conftest import Published

NOT_OURS = [positive_data_acceptance, negative_data_rejection, unsupported_method]
"""References have more rules than a schema can express, and unknown query parameters are not an error."""


def run(what: Published, folder: Path, examples: int) -> None:
    app, serving, secrets, log = build(what, folder, ONE, TAGS, NOTES, timeout=20.0, longest=32)
    headers = {"Authorization": f"Bearer {secrets['boss']}"}
    schema = schemathesis.openapi.from_asgi("/openapi.json", app, headers=headers)
    operations = [result.ok() for result in schema.get_all_operations()]
    assert len(operations) == 15
    models = itertools.cycle([ONE, TAGS, NOTES, "encoder0", "causal0"])
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
            if isinstance(case.body, dict) and isinstance(case.body.get("model"), str):
                case.body["model"] = next(models)  # else nearly every request would be about a model that is not served
            case.call_and_validate(headers=headers, excluded_checks=NOT_OURS, timeout=120)

        with contextlib.suppress(Unsatisfiable):  # an operation without parameters has no invalid requests
            call()
    serving.close()

    assert not [line for line in log if line["status"] >= 500 or "trace" in line]


def test_generated_requests_do_not_break_the_server(published: Published, tmp_path: Path) -> None:
    run(published, tmp_path, 5)


@pytest.mark.slow
def test_many_generated_requests_do_not_break_the_server(published: Published, tmp_path: Path) -> None:
    run(published, tmp_path, 200)
