"""Plain LoRA without PEFT: the same layers, the same numbers, for one adapter and for a batch that mixes several."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import peft
import pytest
import torch
import transformers

from vertical_sdk.families.lora import attach, hide_peft_notice, with_lora
from vertical_sdk.families.lora_plan import plan_layers
from vertical_sdk.families.low_rank import AdaptedModel, UnmixableBatch, mix_adapters
from vertical_sdk.families.shared_base import use_base

pytestmark = pytest.mark.filterwarnings("ignore:Model has .tie_word_embeddings:UserWarning")
TEXTS = torch.randint(2, 30, (12, 7), generator=torch.Generator().manual_seed(0))


def save_random(base: Any, folder: Path, seed: int, **settings: Any) -> Any:
    """Save an adapter with random weights by PEFT, and return PEFT's own model of it."""
    model = with_lora(base, {"r": 4, **settings}, "FEATURE_EXTRACTION", "own").eval()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.3)
    model.save_pretrained(str(folder), save_embedding_layers=False)
    return model


def read_base(folder: Path) -> Any:
    return transformers.AutoModel.from_pretrained(folder).eval()


@pytest.mark.parametrize(
    "settings",
    [
        {"target_modules": ["query", "value"]},
        {"target_modules": ["dense"], "exclude_modules": ["pooler.dense"]},
        {"target_modules": ["encoder.layer.0.attention.self.query"]},
        {"target_modules": ["query", "key", "dense"], "layers_to_transform": [1]},
        {"target_modules": ["query"], "layers_to_transform": 0, "layers_pattern": "layer"},
        {"target_modules": ["query", "key"], "rank_pattern": {"key": 2, "layer.1.attention.self.key": 3}},
        {"target_modules": ["query", "key"], "rank_pattern": {"^encoder.layer.0.attention.self.key": 3}, "use_rslora": True},
        {"target_modules": ["query", "dense"], "alpha_pattern": {"output.dense": 3, "dense": 5}, "lora_alpha": 7},
        {"target_modules": ["query", "key"], "use_rslora": True, "rank_pattern": {"query": 9}},
    ],
    ids=str,
)
def test_the_plan_has_the_layers_ranks_and_scales_of_peft(encoder: Path, settings: dict[str, Any]) -> None:
    plan = plan_layers(read_base(encoder), {"r": 4, "lora_alpha": 8, **settings})

    with hide_peft_notice():
        model = peft.get_peft_model(read_base(encoder), peft.LoraConfig(**{"r": 4, "lora_alpha": 8, **settings}))
    theirs = {
        name.removeprefix("base_model.model."): (
            layer.r["default"],
            layer.in_features,
            layer.out_features,
            pytest.approx(layer.scaling["default"]),
        )
        for name, layer in model.named_modules()
        if isinstance(layer, peft.tuners.lora.Linear)
    }
    assert plan == theirs


@pytest.mark.parametrize(
    "settings",
    [
        {"target_modules": ["query"], "use_dora": True},
        {"target_modules": ["query"], "modules_to_save": ["LayerNorm"]},
        {"target_modules": ["query", "word_embeddings"]},
        {"target_modules": ["nope"]},
        {"target_modules": "all-linear"},
        {"target_modules": None},
    ],
    ids=str,
)
def test_other_kinds_of_adapters_are_left_to_peft(encoder: Path, settings: dict[str, Any]) -> None:
    assert plan_layers(read_base(encoder), {"r": 4, **settings}) is None


def test_an_attached_adapter_computes_as_peft_and_shares_the_base(encoder: Path, tmp_path: Path) -> None:
    theirs = save_random(read_base(encoder), tmp_path, 1)
    base = read_base(encoder)
    before = {name: (type(module), id(module)) for name, module in base.named_modules()}

    ours = attach(base, tmp_path)

    assert isinstance(ours, AdaptedModel)
    assert {name: (type(module), id(module)) for name, module in base.named_modules()} == before
    assert {id(weight) for weight in ours.model.parameters()} <= {id(weight) for weight in base.parameters()}
    with torch.inference_mode():
        torch.testing.assert_close(ours(TEXTS).last_hidden_state, theirs(TEXTS).last_hidden_state)
        plain = read_base(encoder)(TEXTS).last_hidden_state
        torch.testing.assert_close(base(TEXTS).last_hidden_state, plain)
        with use_base():
            torch.testing.assert_close(ours(TEXTS).last_hidden_state, plain)


def test_gradients_of_the_input_are_those_of_peft(encoder: Path, tmp_path: Path) -> None:
    theirs = save_random(read_base(encoder), tmp_path, 1)
    gradients = []
    for model in (theirs, attach(read_base(encoder), tmp_path)):
        words = model.get_base_model().get_input_embeddings()(TEXTS).detach().requires_grad_()
        model(inputs_embeds=words).last_hidden_state.square().sum().backward()
        gradients.append(words.grad)

    torch.testing.assert_close(gradients[1], gradients[0])


@pytest.mark.parametrize("base", ["encoder", "causal"])
@pytest.mark.parametrize("rows", [[5, 7], [2, 2, 2, 2, 2, 2], [1, 3, 1, 1, 4, 2]], ids=str)
def test_a_mixed_batch_computes_each_row_as_peft_does_alone(
    request: pytest.FixtureRequest, tmp_path: Path, base: str, rows: list[int]
) -> None:
    """Ranks, scales and layers differ between the adapters; the first and the last have layers in common with no other."""
    folder: Path = request.getfixturevalue(base)
    names = {"encoder": ("query", "value", "dense"), "causal": ("q_proj", "v_proj", "down_proj")}[base]
    settings: list[dict[str, Any]] = [
        {"target_modules": [names[0]], "lora_alpha": 4},
        {"target_modules": list(names), "r": 3, "use_rslora": True},
        {"target_modules": [names[1]], "r": 8},
        {"target_modules": [names[0], names[1]], "rank_pattern": {names[1]: 2}},
        {"target_modules": list(names), "r": 5},
        {"target_modules": [names[2]], "r": 1, "lora_alpha": 3},
    ]
    shared = read_base(folder)
    theirs, ours = [], []
    for number, _ in enumerate(rows):
        theirs.append(save_random(read_base(folder), tmp_path / str(number), number, **settings[number]))
        ours.append(attach(shared, tmp_path / str(number)))
    mixing = AdaptedModel(shared, sorted(set().union(*(model.names for model in ours))), None)

    with torch.inference_mode(), mix_adapters([model.low_rank for model in ours], rows):
        mixed = mixing(TEXTS).last_hidden_state

    with torch.inference_mode():
        for model, own, texts in zip(theirs, mixed.split(rows), TEXTS.split(rows), strict=True):
            torch.testing.assert_close(own, model(texts).last_hidden_state, atol=1e-5, rtol=1e-5)


def test_a_row_does_not_depend_on_the_adapters_of_other_rows(encoder: Path, tmp_path: Path) -> None:
    shared = read_base(encoder)
    for number in range(7):
        save_random(read_base(encoder), tmp_path / str(number), number)
    ours = [attach(shared, tmp_path / str(number)) for number in range(7)]
    mixing = AdaptedModel(shared, sorted(ours[0].names), None)
    results = []
    with torch.inference_mode():
        for last in (5, 6):
            with mix_adapters([ours[n].low_rank for n in (0, 1, 2, 3, 4, last)], [2] * 6):
                results.append(mixing(TEXTS).last_hidden_state)

    assert torch.equal(results[0][:10], results[1][:10])
    assert not torch.allclose(results[0][10:], results[1][10:], atol=1e-3)


def test_a_layer_that_does_not_see_the_rows_refuses_a_mixed_batch(encoder: Path, tmp_path: Path) -> None:
    save_random(read_base(encoder), tmp_path, 1, target_modules=["query"])
    ours = attach(read_base(encoder), tmp_path)
    layer = next(module for module in ours.model.modules() if type(module).__name__ == "LowRankLinear")

    with torch.inference_mode(), mix_adapters([ours.low_rank] * 2, [3, 3]):
        for shape in ((6, 1), (5, 2, 1), (2, 3, 4, 1)):
            with pytest.raises(UnmixableBatch, match="the batch has 6 rows"):
                layer(torch.zeros(*shape[:-1], layer.base_layer.in_features))


def test_a_second_adapter_of_the_same_kind_uses_the_first_one_s_plan(
    encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from vertical_sdk.families import lora_plan

    save_random(read_base(encoder), tmp_path, 1)
    shared, counted = read_base(encoder), []
    monkeypatch.setattr(lora_plan, "plan_layers", lambda *given: counted.append(given) or plan_layers(*given))

    for base in (shared, shared, read_base(encoder)):
        attach(base, tmp_path)

    assert len(counted) == 2
