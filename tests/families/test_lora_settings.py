"""Each setting of peft.LoraConfig works, saved and loaded, or is refused with its reason before training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import peft
import pytest
import torch
import transformers

from vertical_sdk.checking import check_recipe
from vertical_sdk.errors import BaseMismatch, RecipeError
from vertical_sdk.families.lora import attach, with_lora
from vertical_sdk.families.shared_base import use_base
from vertical_sdk.recipe import Recipe

pytestmark = pytest.mark.filterwarnings("ignore:Model has .tie_word_embeddings:UserWarning")
TEXT = torch.tensor([[2, 5, 6, 7, 3]])


def recipe(**adapter: Any) -> Recipe:
    data = {"source": "rows.csv"}
    return Recipe.model_validate({"name": "own", "task": "classification", "data": data, "adapter": adapter})


@pytest.mark.parametrize(
    ("setting", "reason"),
    [
        ({"init_lora_weights": "pissa"}, "changes the base's own weights"),
        ({"init_lora_weights": "pissa_niter_16"}, "changes the base's own weights"),
        ({"init_lora_weights": "PiSSA"}, "changes the base's own weights"),
        ({"init_lora_weights": "olora"}, "changes the base's own weights"),
        ({"init_lora_weights": "corda"}, "changes the base's own weights"),
        ({"init_lora_weights": "loftq"}, "changes the base's own weights"),
        ({"init_lora_weights": "lora_ga"}, "changes the base's own weights"),
        ({"init_lora_weights": "mica"}, "changes the base's own weights"),
        ({"init_lora_weights": "eva"}, "needs rows before training starts"),
        ({"init_lora_weights": "gausian"}, "it should"),
        ({"bias": "all"}, "changes the base's own biases"),
        ({"bias": "lora_only"}, "changes the base's own biases"),
        ({"lora_bias": True}, "do not read biases"),
        ({"trainable_token_indices": [1]}, "changes the base's own embeddings"),
        ({"layer_replication": [[0, 1]]}, "changes the layers of the base"),
        ({"megatron_config": {"a": 1}}, "imports classes by name"),
        ({"megatron_core": "x"}, "serves only megatron_config"),
        ({"use_qalora": True}, "more than low-rank weights"),
        ({"qalora_group_size": 2}, "serves only use_qalora"),
        ({"velora_config": {}}, "more than low-rank weights"),
        ({"alora_invocation_tokens": [1]}, "more than low-rank weights"),
        ({"arrow_config": {"x": 1}}, "more than low-rank weights"),
        ({"loftq_config": {"loftq_bits": 4}}, "serves only an init_lora_weights"),
        ({"eva_config": {}}, "serves only an init_lora_weights"),
        ({"runtime_config": {}}, "not part of a saved adapter"),
        ({"fan_in_fan_out": True}, "from the kind of each layer"),
        ({"peft_version": "1"}, "PEFT writes it"),
        ({"lora_alpha": 0}, "would change nothing"),
        ({"lora_dropout": 1.0}, "less than 1"),
        ({"lora_dropout": -0.1}, "at least 0"),
    ],
)
def test_an_unsupported_setting_is_refused_before_training(setting: dict[str, Any], reason: str) -> None:
    with pytest.raises(RecipeError, match=f"own: adapter: .*{reason}"):
        check_recipe(recipe(**setting))


@pytest.mark.parametrize(
    ("setting", "reason"),
    [
        ({"r": 0}, "positive integer"),
        ({"target_modules": ["nope"]}, "No modules were targeted"),
        ({"target_modules": []}, "No modules were targeted"),
        ({"layers_to_transform": [99], "target_modules": ["query"]}, "No modules were targeted"),
        ({"layers_to_transform": [0]}, "cannot be used when `target_modules` is a str"),
        ({"rank_pattern": {"nope": 2}}, r"did not match any targeted module"),
        ({"alpha_pattern": {"nope": 2}}, r"did not match any targeted module"),
        ({"exclude_modules": ["nope"]}, "no modules were excluded"),
        ({"target_parameters": ["nope.weight"]}, "no parameter was matched"),
        ({"modules_to_save": ["nope"]}, "the base has no module 'nope'"),
        ({"modules_to_save": ["embeddings"]}, "the embeddings of all tokens"),
        ({"modules_to_save": ["word_embeddings"]}, "the embeddings of all tokens"),
        ({"ensure_weight_tying": True}, "no tied modules"),
    ],
)
def test_a_setting_that_matches_nothing_in_the_base_is_refused(encoder: Path, setting: dict[str, Any], reason: str) -> None:
    base = transformers.AutoModel.from_pretrained(encoder)

    with pytest.raises(RecipeError, match=f"(?s)own: adapter: .*{reason}"):
        with_lora(base, setting, "FEATURE_EXTRACTION", "own")


@pytest.mark.parametrize(
    "setting",
    [
        {},
        {"init_lora_weights": "gaussian"},
        {"init_lora_weights": "orthogonal"},
        {"init_lora_weights": False},
        {"use_dora": True},
        {"use_rslora": True},
        {"modules_to_save": ["LayerNorm"]},
        {"target_modules": ["query"]},
        {"target_modules": r".*\.(query|value)"},
        {"target_modules": ["word_embeddings"]},
        {"target_modules": ["query", "word_embeddings"]},
        {"layers_to_transform": [0], "target_modules": ["query"]},
        {"layers_to_transform": [0], "layers_pattern": "layer", "target_modules": ["query"]},
        {"rank_pattern": {"query": 2}, "alpha_pattern": {"query": 3}},
        {"exclude_modules": ["query"]},
        {"lora_dropout": 0.5},
    ],
    ids=str,
)
def test_an_adapter_with_a_supported_setting_computes_the_same_after_loading(
    encoder: Path, tmp_path: Path, setting: dict[str, Any]
) -> None:
    base = transformers.AutoModel.from_pretrained(encoder).eval()
    with torch.inference_mode():
        plain = base(TEXT).last_hidden_state.clone()
    check_recipe(recipe(**setting))
    trained = with_lora(base, {"r": 4, **setting}, "FEATURE_EXTRACTION", "own").eval()
    randomize(trained)
    trained.save_pretrained(str(tmp_path), save_embedding_layers=False)

    loaded = attach(transformers.AutoModel.from_pretrained(encoder), tmp_path)

    with torch.inference_mode():
        torch.testing.assert_close(loaded(TEXT).last_hidden_state, trained(TEXT).last_hidden_state)
        assert not torch.equal(loaded(TEXT).last_hidden_state, plain)
        with use_base():
            torch.testing.assert_close(loaded(TEXT).last_hidden_state, plain)


def randomize(model: Any) -> None:
    """Give all trained weights random values."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.3)


def save_with_embeddings(causal: Path, folder: Path, *, tokens: int = 0, **config: Any) -> Path:
    """An adapter as PEFT saves it by default: with the embeddings beside it if LoRA is on them."""
    model = transformers.AutoModelForCausalLM.from_pretrained(causal)
    if tokens:
        model.resize_token_embeddings(model.config.vocab_size + tokens, mean_resizing=False)
    adapted = peft.get_peft_model(model, peft.LoraConfig(task_type="CAUSAL_LM", r=4, **config))
    randomize(adapted)
    adapted.save_pretrained(str(folder), save_embedding_layers=True)
    return folder


@pytest.mark.parametrize("modules", [["lm_head"], ["embed_tokens"], ["q_proj", "embed_tokens", "lm_head"]], ids=str)
@pytest.mark.filterwarnings("ignore")
def test_an_adapter_on_embeddings_loads_although_the_base_s_are_saved_with_it(
    causal: Path, tmp_path: Path, modules: list[str]
) -> None:
    folder = save_with_embeddings(causal, tmp_path / "made", target_modules=modules)
    expected = peft.PeftModel.from_pretrained(transformers.AutoModelForCausalLM.from_pretrained(causal), str(folder)).eval()

    loaded = attach(transformers.AutoModelForCausalLM.from_pretrained(causal), folder)

    with torch.inference_mode():
        torch.testing.assert_close(loaded(TEXT).logits, expected(TEXT).logits)


@pytest.mark.filterwarnings("ignore")
def test_an_adapter_with_embeddings_of_its_own_names_the_reason(causal: Path, tmp_path: Path) -> None:
    folder = save_with_embeddings(causal, tmp_path / "made", tokens=3, target_modules=["q_proj", "embed_tokens"])

    with pytest.raises(BaseMismatch, match=r"embed_tokens|lm_head"):
        attach(transformers.AutoModelForCausalLM.from_pretrained(causal), folder)
