"""Encoders without the layers of transformers: the same hidden states, with adapters, in mixed batches and as the base alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from vertical_sdk.families.lora import attach, with_lora
from vertical_sdk.families.low_rank import AdaptedModel, mix_adapters
from vertical_sdk.families.plain_encoder import find_encoder, read_encoder
from vertical_sdk.families.shared_base import use_base

SIZES = {"vocab_size": 40, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
DISTIL = {"vocab_size": 40, "dim": 32, "n_layers": 2, "n_heads": 4, "hidden_dim": 64}
KNOWN: dict[str, tuple[str, dict[str, Any]]] = {
    "bert": ("BertModel", {**SIZES, "hidden_act": "gelu_new"}),
    "roberta": ("RobertaModel", SIZES),
    "xlm-roberta": ("XLMRobertaModel", SIZES),
    "camembert": ("CamembertModel", SIZES),
    "distilbert": ("DistilBertModel", DISTIL),
}
OTHERS: dict[str, tuple[str, dict[str, Any]]] = {
    "modernbert": ("ModernBertModel", {**SIZES, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "cls_token_id": 1, "sep_token_id": 2}),
    "mpnet": ("MPNetModel", SIZES),
    "electra": ("ElectraModel", {**SIZES, "embedding_size": 16}),
    "a decoder of BERT's layers": ("BertModel", {**SIZES, "is_decoder": True}),
}  # fmt: skip
LENGTHS = (9, 4, 6, 9, 2)


def build(kind: str, settings: dict[str, Any]) -> Any:
    torch.manual_seed(0)
    model_class: Any = getattr(transformers, kind)
    return model_class(model_class.config_class(**settings)).eval().requires_grad_(False)


def texts(model: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """Ids and mask of rows of several lengths, without the token of padding in a text."""
    mask = torch.tensor([[int(place < length) for place in range(max(LENGTHS))] for length in LENGTHS])
    ids = torch.randint(4, 40, mask.shape, generator=torch.Generator().manual_seed(1))
    return ids.masked_fill(mask == 0, model.config.pad_token_id), mask


def attach_random(base: Any, folder: Path, seed: int, **settings: Any) -> tuple[AdaptedModel, Any]:
    """A random adapter on the base, and PEFT's own model of it."""
    import copy

    theirs = with_lora(
        copy.deepcopy(base), {"r": 4, "target_modules": "all-linear", **settings}, "FEATURE_EXTRACTION", "x"
    ).eval()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in theirs.parameters():
            if parameter.requires_grad:
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.1)
    theirs.save_pretrained(str(folder), save_embedding_layers=False)
    ours = attach(base, folder)
    assert isinstance(ours, AdaptedModel)
    return ours, theirs


@pytest.mark.parametrize("name", KNOWN)
@torch.inference_mode()
def test_hidden_states_are_those_of_transformers_and_peft(name: str, tmp_path: Path) -> None:
    base = build(*KNOWN[name])
    with torch.inference_mode(False):
        ours, theirs = attach_random(base, tmp_path, 1)
    (ids, mask), encoder = texts(base), find_encoder(base)
    assert encoder is not None
    real = mask.bool()

    adapted = encoder(ids, mask, ours.find_change())[real]
    alone = torch.cat(
        [encoder(row[None, :n], own[None, :n], ours.find_change())[0] for row, own, n in zip(ids, mask, LENGTHS, strict=True)]
    )
    with use_base():
        plain = encoder(ids, mask, ours.find_change())[real]

    expected = theirs(input_ids=ids, attention_mask=mask).last_hidden_state[real]
    torch.testing.assert_close(adapted, expected, atol=3e-6, rtol=0)
    torch.testing.assert_close(alone, expected, atol=3e-6, rtol=0)
    before = base(input_ids=ids, attention_mask=mask).last_hidden_state[real]
    torch.testing.assert_close(plain, before, atol=3e-6, rtol=0)
    assert float((expected - before).abs().max()) > 0.01


@pytest.mark.parametrize("rows", [(2, 3), (1, 1, 1, 1, 1)], ids=str)
@torch.inference_mode()
def test_a_mixed_batch_gives_each_row_its_own_adapter(rows: tuple[int, ...], tmp_path: Path) -> None:
    base = build(*KNOWN["bert"])
    with torch.inference_mode(False):
        pairs = [
            attach_random(base, tmp_path / str(n), n, **({"r": n + 1} if n else {"target_modules": ["query"]}))
            for n in range(len(rows))
        ]
    mixing = AdaptedModel(base, sorted(set().union(*(ours.names for ours, _ in pairs))), None)
    (ids, mask), encoder = texts(base), find_encoder(base)
    assert encoder is not None

    with mix_adapters([ours.low_rank for ours, _ in pairs if ours.low_rank], rows):
        mixed = encoder(ids, mask, mixing.find_change())

    parts = zip(pairs, mixed.split(rows), ids.split(rows), mask.split(rows), strict=True)
    for (_, theirs), own, own_ids, own_mask in parts:
        expected = theirs(input_ids=own_ids, attention_mask=own_mask).last_hidden_state
        torch.testing.assert_close(own[own_mask.bool()], expected[own_mask.bool()], atol=3e-6, rtol=0)


@pytest.mark.parametrize("name", OTHERS)
def test_other_networks_are_left_to_transformers(name: str) -> None:
    assert read_encoder(build(*OTHERS[name])) is None


def test_a_network_that_computes_something_else_is_left_to_transformers(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if a version of transformers ordered the embeddings of BERT in another way."""
    base = build(*KNOWN["bert"])
    forward = type(base.embeddings).forward
    monkeypatch.setattr(type(base.embeddings), "forward", lambda self, **inputs: forward(self, **inputs).flip(-1))

    assert read_encoder(base) is None


def test_half_precision_is_left_to_transformers() -> None:
    assert read_encoder(build(*KNOWN["bert"]).to(torch.bfloat16)) is None


def test_weights_are_not_copied() -> None:
    base = build(*KNOWN["bert"])
    encoder = read_encoder(base)
    assert encoder is not None
    own = {weight.data_ptr() for weight in base.parameters()}

    assert {layer.up.weight.data_ptr() for layer in encoder._layers} <= own
