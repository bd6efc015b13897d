"""Specialists that several files of this folder ask: of texts, records, series and pictures."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import topic_recipe, topic_rows, up_weights, write_csv
from numpy.typing import NDArray
from transformers import ResNetConfig, ResNetModel

from vertical_sdk.inference import VerticalModel
from vertical_sdk.recipe import Recipe
from vertical_sdk.training import train

WRITERS = {"short": {"r": 4, "lora_alpha": 8}, "wide": {"r": 8, "lora_alpha": 32}, "dora": {"r": 2, "use_dora": True}}
TRAIN = {"num_train_epochs": 3, "learning_rate": 0.01, "per_device_train_batch_size": 8, "bf16": False}


def striped(standing: bool, seed: int = 0) -> NDArray[np.uint8]:
    """16 × 16 greys: vertical or horizontal stripes."""
    stripes = np.tile((np.arange(16) % 4 < 2) * 150, (16, 1))
    noise = np.random.default_rng(seed).integers(0, 100, (16, 16))
    return ((stripes if standing else stripes.T) + noise).astype(np.uint8)


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that tells lying stripes from standing ones."""
    folder = tmp_path_factory.mktemp("pictures")
    torch.manual_seed(0)
    sizes = {"embedding_size": 8, "hidden_sizes": [8, 16], "depths": [1, 1], "layer_type": "basic"}
    ResNetModel(ResNetConfig(**sizes, architectures=["ResNetModel"])).save_pretrained(folder / "base")
    images, labels = np.stack([striped(n % 2 == 1, n) for n in range(120)]), np.arange(120) % 2
    np.savez(
        folder / "s.npz", train_images=images[:80], train_labels=labels[:80], val_images=images[80:], val_labels=labels[80:]
    )
    recipe = {
        "name": "stripes",
        "task": "classification",
        "base": str(folder / "base"),
        "domain": "medical",
        "data": {
            "source": str(folder / "s.npz"),
            "modality": "image",
            "reader": {"use": "medical.medmnist", "names": ["lying", "standing"]},
            "clean": [],
            "split": {"use": "given", "validation": 0.2},
            "decontaminate": None,
        },
        "image": {"size": 16},
        "adapter": {"r": 4, "lora_alpha": 8},
        "train": TRAIN,
        "evaluate": {"baselines": ["probe"]},
    }
    return train(Recipe.model_validate(recipe), out=folder / "run").path


@pytest.fixture(scope="session")
def beats(tmp_path_factory: pytest.TempPathFactory, encoder: Path) -> Path:
    """A run that tells rising series from falling ones."""
    folder = tmp_path_factory.mktemp("beats")
    rng = np.random.default_rng(0)
    rows = [",".join([*(f"s{k}" for k in range(8)), "kind"])]
    for n in range(80):
        values = np.linspace(-1, 1, 8) * (1 if n % 2 else -1) + rng.normal(0, 0.1, 8)
        rows.append(",".join([*(f"{v:.3f}" for v in values), "rising" if n % 2 else "falling"]))
    (folder / "beats.csv").write_text("\n".join(rows) + "\n")
    recipe = {
        "name": "beats",
        "task": "classification",
        "base": str(encoder),
        "data": {
            "source": str(folder / "beats.csv"),
            "modality": "series",
            "reader": {"use": "table", "values": "all"},
            "columns": {"label": "kind"},
        },
        "series": {"patch": 4},
        "train": TRAIN,
        "evaluate": {"baselines": ["probe"]},
    }
    return train(Recipe.model_validate(recipe), out=folder / "run").path


@pytest.fixture(scope="session")
def words(tmp_path_factory: pytest.TempPathFactory, encoder: Path) -> VerticalModel:
    """A specialist that reads texts."""
    folder = tmp_path_factory.mktemp("words")
    return VerticalModel.from_pretrained(train(topic_recipe(folder, encoder, train__max_steps=3), out=folder / "run").path)


@pytest.fixture(scope="session")
def records(tmp_path_factory: pytest.TempPathFactory, encoder: Path) -> Path:
    """A run that tells good risks from bad ones by a word; another column is the row's group."""
    folder = tmp_path_factory.mktemp("risks")
    rng = random.Random(0)
    rows = []
    for n in range(120):
        debt = rng.gauss(5, 2)
        rows.append((f"{debt:.2f}", "heart" if n % 2 else "lung", f"c{n // 2}", "bad" if n % 2 else "good"))
    recipe = {
        "name": "risk",
        "task": "classification",
        "base": str(encoder),
        "data": {
            "source": str(write_csv(folder / "risks.csv", rows, ("debt", "unit", "customer", "risk"))),
            "columns": {"label": "risk", "group": "customer"},
            "reader": {"use": "table", "record": {"debt": "debt", "unit": "ward"}},
            "decontaminate": None,
            "max_length": 32,
            "limits": {"unknown": 1.0},
        },
        "train": TRAIN,
        "evaluate": {"baselines": ["probe"]},
    }
    return train(Recipe.model_validate(recipe), out=folder / "run").path


@pytest.fixture(scope="session")
def writers(tmp_path_factory: pytest.TempPathFactory, causal: Path) -> VerticalModel:
    """Three specialists that write; one of them is more than LoRA."""
    folder = tmp_path_factory.mktemp("writers")
    rows = write_csv(folder / "rows.csv", topic_rows(60), ("prompt", "completion"))
    model = None
    for seed, (name, adapter) in enumerate(WRITERS.items()):
        (folder / name).mkdir()
        recipe = topic_recipe(
            folder / name, causal, name=name, task="generation", adapter=adapter, evaluate={"baselines": ["base"]},
            data={"source": str(rows), "decontaminate": None},
            train__max_steps=3, train__learning_rate=0.01, train__seed=seed,
        )  # fmt: skip
        run = train(recipe, out=folder / name / "run").path
        if model is None:
            model = VerticalModel.from_pretrained(run, name=name)
        else:
            model.add(run, name=name)
    assert model is not None
    torch.manual_seed(0)
    for name in WRITERS:  # large random changes write longer and more different texts than a few steps of training
        backbone: Any = model.specialist(name).backbone
        with torch.no_grad():
            for weight in up_weights(backbone):
                weight.normal_(std=0.5)
            for key, weight in backbone.named_parameters():
                if "lora_magnitude" in key:
                    weight.mul_(40)
    return model
