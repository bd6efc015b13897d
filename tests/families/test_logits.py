"""Bases that change the numbers of their output layer learn and choose by the logits that they compute themselves."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from conftest import save_causal

from vertical_sdk.bases.base import pull_base
from vertical_sdk.errors import BaseModelError
from vertical_sdk.families.batching import Encoded
from vertical_sdk.families.logits import find_logit_change
from vertical_sdk.families.specialist import create_specialist
from vertical_sdk.kernels.fused_lora import fast_training
from vertical_sdk.recipe import Recipe
from vertical_sdk.training.packing import packed_loss
from vertical_sdk.types import LabelSpace

SIZES = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 64,
    "max_position_embeddings": 80,
}
ARCHITECTURES: dict[str, tuple[str, dict[str, Any]]] = {
    "soft cap": ("Gemma2ForCausalLM", {**SIZES, "head_dim": 8, "query_pre_attn_scalar": 8, "final_logit_softcapping": 0.2}),
    "factor": ("CohereForCausalLM", {**SIZES, "logit_scale": 0.0625}),
    "divisor": ("GraniteForCausalLM", {**SIZES, "logits_scaling": 8.0}),
    "neither": ("LlamaForCausalLM", SIZES),
}
IDS = (7, 9, 8, 11, 12, 6)


def _specialist(folder: Path, name: str, task: str) -> Any:
    """An untrained specialist of an architecture, with random weights."""
    save_causal(folder)
    kind, sizes = ARCHITECTURES[name]
    vocabulary = transformers.AutoConfig.from_pretrained(folder).vocab_size
    torch.manual_seed(0)
    model_class: Any = getattr(transformers, kind)
    ends = {"vocab_size": vocabulary, "pad_token_id": 0, "eos_token_id": 1, "bos_token_id": None}
    model_class(model_class.config_class(**ends, **sizes, architectures=[kind])).save_pretrained(folder)
    recipe = Recipe.model_validate(
        {"name": "t", "task": task, "base": str(folder), "adapter": {"r": 4}, "data": {"source": "none.csv"}}
    )
    return create_specialist(pull_base(str(folder)), recipe, LabelSpace(("a", "b")) if task == "classification" else None)


def _own_logits(specialist: Any) -> torch.Tensor:
    """What the model of transformers computes: (tokens, vocabulary)."""
    return specialist.backbone.get_base_model()(input_ids=torch.tensor([IDS])).logits[0].float()


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_answers_are_learned_by_the_logits_of_the_base(name: str, tmp_path: Path) -> None:
    specialist = _specialist(tmp_path, name, "generation").eval()
    row = Encoded(IDS, (False, False, True, True, True, True))
    expected = torch.nn.functional.cross_entropy(_own_logits(specialist)[1:5], torch.tensor(IDS[2:]))
    loss = torch.nn.functional.cross_entropy

    logits, targets = specialist(specialist.collate([row]))
    with fast_training(specialist.backbone, bf16=False):
        packed = packed_loss(specialist, specialist, [row], loss) if name != "soft cap" else None  # Gemma 2 is padded

    assert loss(logits, targets).item() == pytest.approx(expected.item(), rel=1e-5)
    assert packed is None or packed.item() == pytest.approx(expected.item(), rel=1e-5)
    assert (specialist.logit_change is None) == (name == "neither")


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_labels_are_chosen_by_the_logits_of_the_base(name: str, tmp_path: Path) -> None:
    specialist = _specialist(tmp_path, name, "classification").eval()
    words = [specialist.text_tokenizer.encode(word).ids[0] for word in ("a", "b")]
    likelihoods = _own_logits(specialist)[-1].log_softmax(-1)[words]

    outputs, _ = specialist(specialist.collate([Encoded(IDS)]))

    assert (outputs[0, 0] - outputs[0, 1]).item() == pytest.approx((likelihoods[0] - likelihoods[1]).item(), rel=1e-4, abs=1e-7)


def test_a_base_that_changes_its_logits_otherwise_is_refused(tmp_path: Path) -> None:
    specialist = _specialist(tmp_path, "neither", "generation")
    model = copy.deepcopy(specialist.backbone.get_base_model())
    model.config.final_logit_softcapping = 0.5  # which Llama does not apply
    assert find_logit_change(model, "own", always=True) is None

    forward = model.forward

    def odd(*args: Any, **options: Any) -> Any:
        output = forward(*args, **options)
        output.logits = output.logits.abs()
        return output

    model.forward = odd
    with pytest.raises(BaseModelError, match="base own: its logits are not those of its output layer"):
        find_logit_change(model, "own", always=True)
