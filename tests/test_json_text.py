"""JSON that somebody else wrote: what is refused, and that ordinary documents are read as `json` reads them."""

from __future__ import annotations

import json

import pytest

from vertical_sdk.json_text import DEEPEST, parse_json


@pytest.mark.parametrize("text", ['{"a": [1, 2.5, true, null, "\\u00e9"], "b": {}}', "[]", "1", '"x"'])
def test_reads_ordinary_documents(text: str) -> None:
    assert parse_json(text) == json.loads(text)
    assert parse_json(text.encode()) == json.loads(text)


def test_reads_many_small_lists() -> None:
    assert parse_json(json.dumps([[1]] * 1000)) == [[1]] * 1000


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"\xff{}", "utf-8"),
        ("{", "Expecting"),
        ('{"a": NaN}', "NaN is not a finite number"),
        ("[-Infinity]", "-Infinity is not a finite number"),
        ("[1e999]", "1e999 is not a finite number"),
        ('{"a": 1, "a": 2}', "the key 'a' is repeated"),
        ("[" * (DEEPEST + 1) + "]" * (DEEPEST + 1), "nested more than"),
        ('{"a":' * 100_000 + "1" + "}" * 100_000, "nested more than"),
        ("9" * 5000, "Exceeds the limit"),
        ("[" + "1," * 100 + "1]", "at most 100"),
    ],
)
def test_refuses_what_no_honest_program_writes(content: str | bytes, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        parse_json(content, largest=100 if "at most" in reason else 2 << 20)


def test_reads_the_deepest_document_that_it_allows() -> None:
    assert parse_json("[" * DEEPEST + "]" * DEEPEST) == json.loads("[" * DEEPEST + "]" * DEEPEST)
