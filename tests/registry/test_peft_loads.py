from __future__ import annotations

import json
import logging
from pathlib import Path

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from registry.conftest import resolve_recipe
from torch import nn

from vertical_sdk.card import Card, Fingerprint, write_card
from vertical_sdk.registry import Registry


class Tiny(nn.Module):
    """One linear layer, always with the same weights."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 2, bias=False)
        nn.init.constant_(self.layer.weight, 0.5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(x)


def test_peft_loads_a_version_from_its_folder(tmp_path: Path) -> None:
    torch.set_num_threads(1)
    logging.getLogger("peft").setLevel(logging.ERROR)
    trained = get_peft_model(Tiny(), LoraConfig(r=1, lora_alpha=1, target_modules=["layer"]))
    for parameter in trained.parameters():
        if parameter.requires_grad:
            nn.init.constant_(parameter, 1.0)
    trained.save_pretrained(tmp_path / "adapter")
    config = tmp_path / "adapter" / "adapter_config.json"
    config.write_text(
        json.dumps({**json.loads(config.read_text()), "auto_mapping": None})
    )  # PEFT would import the module of this test from it
    base = Fingerprint(name="tiny", architecture="Tiny", weights="0" * 64, tokenizer="1" * 64, vocab_size=1)
    recipe = resolve_recipe("tiny", task="regression", evaluate={"gate": False})
    card = Card(name="tiny", task="regression", family="encoder", base=base, **recipe)
    write_card(tmp_path / "adapter", card)

    version = Registry(tmp_path / "registry").publish(tmp_path / "adapter")
    loaded = PeftModel.from_pretrained(Tiny(), version.path)

    # x W' with W = 0.5 everywhere gives 3; the adapter adds B A x = 1 · (1 + 2 + 3) = 6
    torch.testing.assert_close(loaded(torch.tensor([[1.0, 2.0, 3.0]])), torch.tensor([[9.0, 9.0]]))
