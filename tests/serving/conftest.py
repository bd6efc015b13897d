"""Published specialists of several kinds on two tiny bases, and clients that ask a service of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from conftest import topic_recipe, topic_rows, write_csv

from vertical_sdk.inference import VerticalModel
from vertical_sdk.registry import Registry
from vertical_sdk.serving import Serving, ServingSettings
from vertical_sdk.training import train

TOPICS = "care/topics"
RISK = "care/risk"
TAGS = "care/tags"
NOTES = "care/notes"
LETTERS = "care/letters"
TURNED = {"skin": "lung", "lung": "heart", "heart": "skin"}


@dataclass(frozen=True)
class Published:
    """A registry with specialists, and the places of their bases."""

    registry: Registry
    bases: tuple[str, ...]

    def model(self, reference: str) -> VerticalModel:
        """A specialist alone, as a program of its own would load it."""
        from vertical_sdk.adapters.folder import open_adapter

        adapter = open_adapter(reference, self.registry)
        base = self.bases[1] if adapter.card.family == "causal" else self.bases[0]
        return VerticalModel.from_adapter(adapter, name=reference, base=base)


def train_topics(folder: Path, base: Path, labels: dict[str, str], seed: int, **keys: object) -> Path:
    """Train a specialist of topics whose labels have other names; two of them never give the same answer."""
    folder.mkdir()
    rows = [(text, labels.get(label, label)) for text, label in topic_rows(120)]
    recipe = topic_recipe(folder, base, evaluate__gate=False, train__seed=seed, train__num_train_epochs=4, **keys)
    write_csv(folder / "topics.csv", rows)
    return train(recipe, out=folder / "run").path


def train_writer(folder: Path, causal: Path, seed: int) -> Path:
    """Train a specialist that writes one of the topics' words; another seed learns other answers."""
    folder.mkdir()
    answers = [("it is warm", "it is cold"), ("yes", "no")][seed]
    rows = [(text, answers[number % 2]) for number, (text, _) in enumerate(topic_rows(40, seed))]
    recipe = topic_recipe(
        folder, causal, task="generation", evaluate={"baselines": ["base"], "gate": False},
        data={"source": str(write_csv(folder / "rows.csv", rows, ("prompt", "completion"))), "decontaminate": None},
        train__max_steps=8, train__learning_rate=0.03, train__seed=seed,
    )  # fmt: skip
    return train(recipe, out=folder / "run").path


def train_risk(folder: Path, encoder: Path) -> Path:
    """Train a specialist of records with members."""
    import yaml

    folder.mkdir()
    rows = [(str(n % 7), "heart" if n % 2 else "lung", "bad" if n % 2 else "good") for n in range(80)]
    recipe = {
        "name": "risk",
        "task": "classification",
        "base": str(encoder),
        "data": {
            "source": str(write_csv(folder / "risks.csv", rows, ("debt", "ward", "risk"))),
            "columns": {"label": "risk"},
            "reader": {"use": "table", "record": {"debt": "debt", "ward": "ward"}},
            "decontaminate": None,
            "clean": [],
            "max_length": 32,
            "limits": {"unknown": 1.0},
        },
        "ensemble": [{"use": "probe"}, {"use": "tfidf"}],
        "train": {"max_steps": 10, "learning_rate": 0.01, "per_device_train_batch_size": 8, "bf16": False},
        "evaluate": {"baselines": ["probe"], "gate": False},
    }
    (folder / "risk.yaml").write_text(yaml.safe_dump(recipe))
    return train(folder / "risk.yaml", out=folder / "run").path


def train_tags(folder: Path, encoder: Path) -> Path:
    """Train a specialist that names none, one or two labels."""
    folder.mkdir()
    rows = [(text, label if n % 3 else f"{label}|urgent") for n, (text, label) in enumerate(topic_rows(90))]
    data = {
        "source": str(write_csv(folder / "tags.csv", rows)),
        "columns": {"text": "text", "label": "label"},
        "reader": {"use": "table", "separator": "|"},
        "max_length": 48,
        "decontaminate": None,
    }
    recipe = topic_recipe(
        folder, encoder, name="tags", task="multilabel", data=data, evaluate={"baselines": ["probe"], "gate": False}
    )
    return train(recipe, out=folder / "run").path


@pytest.fixture(scope="session")
def published(tmp_path_factory: pytest.TempPathFactory, encoder: Path, causal: Path) -> Published:
    """Topics in three versions (the labels of the second are turned), records, tags, and two that write."""
    folder = tmp_path_factory.mktemp("published")
    registry = Registry(folder / "registry")
    registry.publish(train_topics(folder / "one", encoder, {}, 0), TOPICS)
    registry.publish(train_topics(folder / "two", encoder, TURNED, 1, adapter__r=8), TOPICS)
    registry.publish(train_risk(folder / "risk", encoder), RISK)
    registry.publish(train_tags(folder / "tags", encoder), TAGS)
    registry.publish(train_writer(folder / "notes", causal, 0), NOTES)
    registry.publish(train_writer(folder / "letters", causal, 1), LETTERS)
    return Published(registry, (str(encoder), str(causal)))


@pytest.fixture
def own(published: Published, tmp_path: Path) -> Published:
    """The same in a registry of the test's own, in which aliases may move."""
    import shutil

    shutil.copytree(published.registry.location, tmp_path / "own")
    registry = Registry(tmp_path / "own")
    registry.set_alias(TOPICS, "production", 1, force=True, why="test")
    return Published(registry, published.bases)


def start(what: Published, *references: str, **settings: Any) -> Serving:
    """A service that has loaded references."""
    serving = Serving(what.registry, ServingSettings(**{"poll": 600.0, **settings}), bases=what.bases)
    serving.start(references)
    return serving


@pytest.fixture(scope="session")
def serving(published: Published) -> Iterator[Serving]:
    """A service of all specialists."""
    service = start(published, f"{TOPICS}@1", f"{TOPICS}@2", RISK, TAGS, NOTES, LETTERS)
    yield service
    service.close()
