"""Cards that agree with the files of their folder, and with nothing else: each is refused before the adapter answers."""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import topic_recipe

from vertical_sdk import VerticalModel, train
from vertical_sdk.card import CARD
from vertical_sdk.errors import CorruptAdapter, RegistryError
from vertical_sdk.registry import Registry

TEXTS = ["red itch rash", "cough and lung wheeze"]


@pytest.fixture(scope="module")
def adapter(tmp_path_factory: pytest.TempPathFactory, encoder: Path) -> Path:
    folder = tmp_path_factory.mktemp("honest")
    recipe = topic_recipe(folder, encoder, train__max_steps=6, train__learning_rate=0.05, evaluate__gate=False)
    return train(recipe, out=folder / "run").path / "adapter"


@pytest.fixture(scope="module")
def model(adapter: Path) -> VerticalModel:
    return VerticalModel.from_pretrained(adapter)


def test_of(card: dict[str, Any], **changes: Any) -> dict[str, Any]:
    first, *others = card["self_tests"]
    return {"self_tests": [{**first, **changes}, *others]}


test_of.__test__ = False  # type: ignore[attr-defined]
ODD: dict[str, tuple[Callable[[dict[str, Any]], dict[str, Any]], str]] = {
    "another task": (lambda card: {"task": "regression"}, "the card is for 'regression'"),
    "another family": (lambda card: {"family": "vision"}, "a base of the kind vision"),
    "a label twice": (lambda card: {"labels": {**card["labels"], "labels": ["a", "a", "b"]}}, "has a label twice"),
    "a long self-test": (lambda card: test_of(card, text="red " * 1_000_000), "at most 50000 characters"),
    "half a character": (lambda card: test_of(card, text="\ud800"), "half of a character"),
    "a number beyond float32": (lambda card: test_of(card, adapter=[1e308] * 3), "self_tests.0.adapter.0"),
    "many self-tests": (lambda card: {"self_tests": card["self_tests"] * 100}, "at most 100 items"),
    "a long name of a file": (lambda card: {"files": card["files"] | {"a" * 5000: "0" * 64}}, "this file is missing"),
    "a name with a zero byte": (lambda card: {"files": card["files"] | {"a\0b": "0" * 64}}, "this file is missing"),
}


@pytest.mark.parametrize("name", ODD)
def test_an_odd_card_is_refused(adapter: Path, model: VerticalModel, tmp_path: Path, name: str) -> None:
    change, problem = ODD[name]
    copy = Path(shutil.copytree(adapter, tmp_path / "copy"))
    card, before = json.loads((copy / CARD).read_text()), model.predict_proba(TEXTS)
    (copy / CARD).write_text(json.dumps(card | change(card)))

    with pytest.raises(CorruptAdapter) as raised:
        model.add(copy)

    assert problem in str(raised.value)
    np.testing.assert_array_equal(model.predict_proba(TEXTS), before)


def test_a_character_that_needs_two_halves_is_read(adapter: Path, model: VerticalModel, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(adapter, tmp_path / "copy"))
    card = json.loads((copy / CARD).read_text())
    (copy / CARD).write_text(json.dumps({**card, "forced": "a smile \U0001f600"}, ensure_ascii=True))

    assert model.add(copy, name="smile") == "smile"


@pytest.mark.parametrize(
    "statement", ["UPDATE versions SET record = x'fffe'", "UPDATE tags SET value = x'ff'", "DROP TABLE tags"]
)
def test_an_index_with_bytes_or_without_a_table_is_an_error(adapter: Path, tmp_path: Path, statement: str) -> None:
    registry = Registry(tmp_path / "registry")
    version = registry.publish(adapter, "medical/topics", tags={"stage": "pilot"})
    registry.close()
    with sqlite3.connect(tmp_path / "registry" / "index.sqlite") as index:
        index.execute("DROP TRIGGER versions_stay")
        index.execute(statement)

    with pytest.raises(RegistryError):
        registry.resolve(str(version))
