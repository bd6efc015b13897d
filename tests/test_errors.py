"""Errors carry their place as a field."""

from __future__ import annotations

import pickle
from pathlib import Path

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
    assert "vertical_sdk[trees]" in str(MissingExtra("trees", "boosted_trees"))
