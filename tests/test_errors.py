"""Errors carry their place as a field."""

from __future__ import annotations

import importlib.metadata
import pickle
from pathlib import Path

import pytest

from vertical_sdk.errors import CorruptAdapter, DataError, MissingExtra, UnknownName, VerticalError


def test_an_error_joins_its_place_and_its_message() -> None:
    error = CorruptAdapter("head.safetensors was changed.", where=Path("/srv/a"))

    assert (str(error), error.message, error.where) == (
        "/srv/a: head.safetensors was changed.",
        "head.safetensors was changed.",
        "/srv/a",
    )


def test_an_error_without_a_place_is_its_message() -> None:
    assert str(DataError("no rows.")) == "no rows."
    assert DataError("no rows.").where == ""


def test_an_unknown_name_keeps_its_place_apart_from_the_hint() -> None:
    error = UnknownName("loss", "focl", ["focal"], "triage.yaml: loss")

    assert error.where == "triage.yaml: loss"
    assert error.message == "no loss is called 'focl'. Did you mean 'focal'? Available: focal."


def test_every_error_survives_pickling_with_its_text() -> None:
    for error in (DataError("no rows.", where="x.csv"), VerticalError("stopped.")):
        assert str(pickle.loads(pickle.dumps(error))) == str(error)


@pytest.mark.parametrize(
    ("origin", "command"),
    [
        (
            '{"dir_info": {"editable": true}, "url": "file:///home/ada/x"}',
            "pip install -c constraints.txt '.[trees]', in the folder of",
        ),
        ('{"dir_info": {}, "url": "file:///home/ada/x"}', "pip install -c constraints.txt '.[trees]', in the folder of"),
        (
            '{"archive_info": {}, "url": "file:///x/vertical_sdk.whl"}',
            "pip install 'vertical_sdk[trees] @ file:///x/vertical_sdk.whl'",
        ),
        (
            '{"vcs_info": {"vcs": "git", "commit_id": "1"}, "url": "https://git.example/x"}',
            "pip install 'vertical_sdk[trees] @ git+https://git.example/x'",
        ),
        (None, "pip install 'vertical_sdk[trees]'"),
    ],
)
def test_a_missing_extra_is_installed_from_where_the_library_came(
    monkeypatch: pytest.MonkeyPatch, origin: str | None, command: str
) -> None:
    class Installed:
        @staticmethod
        def read_text(name: str) -> str | None:
            assert name == "direct_url.json"
            return origin

    monkeypatch.setattr(importlib.metadata, "distribution", lambda _: Installed())

    assert f"boosted trees needs the extra 'trees': {command}" in str(MissingExtra("trees", "boosted trees"))
