"""Train, evaluate and load a specialist for pictures."""

from __future__ import annotations

import base64
import io
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from transformers import ResNetConfig, ResNetModel

from vertical_sdk.adapters.folder import read_adapter
from vertical_sdk.adapters.load import load_specialist
from vertical_sdk.bases.base import pull_base
from vertical_sdk.data.prepare import prepare
from vertical_sdk.evaluation import evaluate
from vertical_sdk.families.specialist import load_backbone, run_rows
from vertical_sdk.recipe import Recipe
from vertical_sdk.training import train


def save_base(folder: Path) -> Path:
    torch.manual_seed(0)
    config = ResNetConfig(
        embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic", architectures=["ResNetModel"]
    )
    ResNetModel(config).save_pretrained(folder)
    return folder


def save_pictures(path: Path) -> Path:
    """Save pictures of horizontal and vertical stripes."""
    rng = np.random.default_rng(0)
    labels = np.arange(120) % 2
    stripes = np.tile((np.arange(16) % 4 < 2) * 150, (16, 1))
    images = np.stack([(stripes if label else stripes.T) + rng.integers(0, 100, (16, 16)) for label in labels]).astype(np.uint8)
    np.savez(path, train_images=images[:80], train_labels=labels[:80], val_images=images[80:], val_labels=labels[80:])
    return path


def test_vision_specialist_is_trained_saved_and_loaded(tmp_path: Path) -> None:
    recipe = Recipe.model_validate(
        {
            "name": "stripes",
            "task": "classification",
            "base": str(save_base(tmp_path / "base")),
            "domain": "medical",
            "data": {
                "source": str(save_pictures(tmp_path / "stripes.npz")),
                "modality": "image",
                "reader": {"use": "medical.medmnist", "names": ["lying", "standing"]},
                "clean": [],
                "split": {"use": "given", "validation": 0.2},
                "decontaminate": None,
                "augment": [{"use": "medical.shift", "p": 1.0}],
            },
            "image": {"size": 16},
            "loss": {"use": "focal", "costs": {"standing": 2.0}},
            "adapter": {"r": 4, "lora_alpha": 8},
            "ensemble": [{"use": "pixels", "side": 16}],
            "evaluate": {"metrics": ["accuracy", "auc"], "baselines": ["probe", "pixels"], "resamples": 100},
            "train": {"num_train_epochs": 3, "learning_rate": 0.01, "per_device_train_batch_size": 8, "bf16": False},
        }
    )

    run = train(recipe, out=tmp_path / "run")
    base = pull_base(recipe.base)
    adapter = read_adapter(tmp_path / "run" / "adapter")
    specialist, card = load_specialist(adapter, base, load_backbone(base)), adapter.card

    prepared = prepare(recipe)
    rows = [specialist.encode(row, learn=True) for row in prepared.test]
    predictions = run_rows(specialist, rows, lambda batch: specialist(batch)[0]).argmax(1).tolist()
    assert np.mean([a == row.target for a, row in zip(predictions, rows, strict=True)]) > 0.9
    assert (card.family, card.base.vocab_size, run.resumed_from) == ("vision", 0, None)
    assert set(card.training["ensemble"]) == {"adapter", "pixels"}
    assert "pipeline_tag: image-classification" in (tmp_path / "run" / "adapter" / "README.md").read_text()

    evaluation = evaluate(run.path)
    assert evaluation.systems["adapter"].metrics["accuracy"].value > 0.9
    assert evaluation.curves["auc"]["title"] == "ROC curve"
    example = evaluation.examples[0]
    for address in (example.picture, example.evidence):
        assert address is not None
        image = Image.open(io.BytesIO(base64.b64decode(address.removeprefix("data:image/png;base64,"))))
        assert image.size == (112, 112)
    assert example.picture != example.evidence
    assert str(example.picture) in (run.path / "report.html").read_text()
