"""A base in 4 bits: its memory, its losses beside the base in float32, and an adapter on it, saved, loaded and shared."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from conftest import save_causal, topic_recipe

from vertical_sdk import VerticalModel, train
from vertical_sdk.adapters.folder import open_adapter
from vertical_sdk.bases.base import pull_base
from vertical_sdk.checking import check_recipe
from vertical_sdk.engines.torch import TorchEngine
from vertical_sdk.errors import AdapterError, MissingExtra, RecipeError
from vertical_sdk.families.lora import with_lora
from vertical_sdk.families.quantized import full_shape
from vertical_sdk.families.shared_base import share_weights
from vertical_sdk.families.specialist import load_backbone
from vertical_sdk.kernels.fused_lora import fast_training
from vertical_sdk.recipe import Recipe, load_recipe

pytest.importorskip("bitsandbytes")  # not in `dev`: PEFT imports it in each process, which takes 3 seconds
IDS = torch.arange(5, 69).reshape(2, 32)
NF4 = torch.tensor(
    [
        -1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635, -0.18477343022823334,
        -0.09105003625154495, 0.0, 0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224,
        0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0,
    ]
)  # fmt: skip
"""The 16 values of NF4, from the appendix of the QLoRA paper."""


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Llama with layers so wide that they are most of its weights."""
    folder = save_causal(tmp_path_factory.mktemp("wide"))
    config = transformers.AutoConfig.from_pretrained(folder)
    config.update({"hidden_size": 256, "intermediate_size": 768, "head_dim": 64})
    torch.manual_seed(0)
    transformers.LlamaForCausalLM(config).save_pretrained(folder)
    return folder


def _linear_weights(model: Any) -> dict[str, torch.Tensor]:
    return {n: m.weight for n, m in model.named_modules() if isinstance(m, torch.nn.Linear) and n != "lm_head"}


def test_each_block_of_64_weights_becomes_the_nearest_values_of_nf4(wide: Path) -> None:
    from bitsandbytes.functional import dequantize_4bit

    plain, stored = load_backbone(pull_base(str(wide))), load_backbone(pull_base(str(wide)), quantize="nf4")

    for name, weight in _linear_weights(stored).items():
        original = _linear_weights(plain)[name]
        assert tuple(full_shape(weight)) == tuple(original.shape)
        blocks = original.reshape(-1, 64)
        scale = blocks.abs().amax(1, keepdim=True)
        nearest = NF4[(blocks[..., None] / scale[..., None] - NF4).abs().argmin(-1)] * scale
        read = dequantize_4bit(weight, weight.quant_state).reshape(-1, 64)  # type: ignore[attr-defined]
        # the scales are in 8 bits: they are about 1% from the exact ones
        assert (read - nearest).abs().max() < 0.03 * scale.max()
        assert (read - nearest).norm() < 0.02 * nearest.norm()


def test_a_linear_weight_takes_an_eighth_of_float32(wide: Path) -> None:
    plain, stored = load_backbone(pull_base(str(wide))), load_backbone(pull_base(str(wide)), quantize="nf4")

    def size(model: Any) -> int:
        total = 0
        for weight in _linear_weights(model).values():
            state = getattr(weight, "quant_state", None)
            more = [] if state is None else [state.absmax, state.state2.absmax]
            total += sum(tensor.numel() * tensor.element_size() for tensor in (weight, *more))
        return total

    assert size(plain) == 4 * sum(weight.numel() for weight in _linear_weights(plain).values())
    assert size(stored) == pytest.approx(size(plain) * 4.13 / 32, rel=0.01)
    assert stored.get_memory_footprint() < plain.get_memory_footprint() / 4  # the embeddings stay in float32


def test_losses_are_near_those_on_the_base_in_float32(wide: Path) -> None:
    losses: dict[str | None, list[float]] = {}
    for quantize in (None, "nf4"):
        torch.manual_seed(0)
        backbone = load_backbone(pull_base(str(wide)), quantize=quantize)
        model = with_lora(backbone, {"r": 8, "init_lora_weights": "gaussian"}, "CAUSAL_LM", "test").train()
        optimizer = torch.optim.AdamW((p for p in model.parameters() if p.requires_grad), lr=5e-4)
        losses[quantize] = []
        with fast_training(model, bf16=False):
            for _ in range(20):
                loss = model(input_ids=IDS, labels=IDS).loss
                loss.backward()
                optimizer.step()
                optimizer.zero_grad()
                losses[quantize].append(loss.item())

    assert losses["nf4"] == pytest.approx(losses[None], rel=0.03)
    assert losses["nf4"] != losses[None]
    assert losses["nf4"][-1] < 0.9 * losses["nf4"][0]


def test_the_training_kernels_leave_its_layers_to_peft(wide: Path) -> None:
    gradients = []
    for fast in (True, False):
        torch.manual_seed(0)
        model = with_lora(load_backbone(pull_base(str(wide)), quantize="nf4"), {"r": 4}, "CAUSAL_LM", "test").train()
        for name, weight in model.named_parameters():
            if "lora_B" in name:
                torch.nn.init.normal_(weight, std=0.1)
        if fast:
            with fast_training(model, bf16=False):
                model(input_ids=IDS, labels=IDS).loss.backward()
        else:
            model(input_ids=IDS, labels=IDS).loss.backward()
        gradients.append({n: p.grad for n, p in model.named_parameters() if p.grad is not None})

    assert gradients[0].keys() == gradients[1].keys()
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradient, gradients[1][name], rtol=1e-4, atol=1e-6)


def test_gradients_are_those_through_the_weights_that_are_read_back(wide: Path) -> None:
    from bitsandbytes.functional import dequantize_4bit

    base = pull_base(str(wide))
    stored, plain = load_backbone(base, quantize="nf4"), load_backbone(base)
    for name, weight in _linear_weights(stored).items():
        _linear_weights(plain)[name].data.copy_(dequantize_4bit(weight, weight.quant_state))  # type: ignore[attr-defined]
    results = []
    for backbone in (stored, plain):
        model = with_lora(backbone, {"r": 4}, "CAUSAL_LM", "test").train()
        generator = torch.Generator().manual_seed(3)
        for name, weight in sorted(model.named_parameters()):
            if "lora_" in name:
                weight.data.copy_(0.1 * torch.randn(weight.shape, generator=generator))
        model.eval()
        with torch.no_grad():
            model(input_ids=IDS)  # a call without gradients first, as the probe of a head makes it
        model.train()
        model(input_ids=IDS, labels=IDS).loss.backward()
        results.append({n: p.grad for n, p in model.named_parameters() if p.grad is not None})

    for name, gradient in results[0].items():
        assert (gradient - results[1][name]).norm() < 1e-3 * results[1][name].norm(), name


def test_copies_for_several_adapters_share_weights_and_scales(wide: Path) -> None:
    backbone = load_backbone(pull_base(str(wide)), quantize="nf4")
    copied = share_weights(backbone)

    for name, weight in _linear_weights(backbone).items():
        other = copied.get_submodule(name)
        assert other.weight is weight
        assert other.quant_state is weight.quant_state  # type: ignore[attr-defined]


@pytest.mark.parametrize("family", ["encoder", "causal"])
def test_a_trained_adapter_answers_the_same_in_another_process(
    family: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    recipe = topic_recipe(tmp_path, request.getfixturevalue(family), adapter__quantize="nf4", train__num_train_epochs=1)
    texts = ["red itch rash", "cough wheeze lung"]
    run = train(recipe, out=tmp_path / "run")
    here = [p.probabilities for p in VerticalModel.from_pretrained(run.path).predict(texts)]  # replays the self-tests

    code = (
        "import json, sys, torch; torch.set_num_threads(1)\n"
        "from vertical_sdk import VerticalModel\n"
        "model = VerticalModel.from_pretrained(sys.argv[1])\n"
        "kinds = {type(m).__name__ for m in model.specialist().backbone.modules()}\n"
        "print(json.dumps([[p.probabilities for p in model.predict(sys.argv[2:])], 'Linear4bit' in kinds]))"
    )
    done = subprocess.run([sys.executable, "-c", code, str(run.path), *texts], capture_output=True, text=True, check=True)

    there, quantized = json.loads(done.stdout.splitlines()[-1])
    assert quantized
    for ours, theirs in zip(here, there, strict=True):
        assert theirs == pytest.approx(ours, abs=1e-5)
    card = open_adapter(run.path).card
    assert card.recipe["adapter"]["quantize"] == "nf4"
    assert card.base.weights == pull_base(str(request.getfixturevalue(family))).fingerprint.weights
    assert "in 4 bits (nf4, bitsandbytes)" in (run.path / "adapter" / "README.md").read_text()


def test_an_engine_holds_the_base_both_ways(encoder: Path, tmp_path: Path) -> None:
    runs = {}
    for name, settings in (("plain", {}), ("small", {"adapter__quantize": "nf4"})):
        (tmp_path / name).mkdir()
        recipe = topic_recipe(tmp_path / name, encoder, train__num_train_epochs=1, **settings)
        runs[name] = train(recipe, out=tmp_path / name / "run")
    engine = TorchEngine(pull_base(str(encoder)))

    for name, run in runs.items():
        engine.load(open_adapter(run.path), name)

    def kinds(name: str) -> set[str]:
        return {type(layer).__name__ for layer in engine.specialist(name).backbone.modules()}

    assert "Linear4bit" not in kinds("plain")
    assert "Linear4bit" in kinds("small")


def test_training_from_an_adapter_on_the_base_in_float32_is_refused(encoder: Path, tmp_path: Path) -> None:
    recipe = load_recipe(topic_recipe(tmp_path, encoder, train__num_train_epochs=1))
    first = train(recipe, out=tmp_path / "first")

    with pytest.raises(AdapterError, match=r"adapter.quantize = None, and topics has nf4"):
        train(recipe, settings={"adapter.quantize": "nf4"}, out=tmp_path / "second", start=first.path)


def test_a_recipe_without_the_key_keeps_its_digest() -> None:
    plain = Recipe.model_validate(
        {"name": "own", "task": "classification", "data": {"source": "rows.csv"}, "adapter": {"r": 4}}
    )

    assert plain.to_dict()["adapter"] == {"r": 4}
    assert plain.replace({"adapter.quantize": "nf4"}).digest != plain.digest


@pytest.mark.parametrize("value", ["int8", "NF4", None, True, ["nf4"]])
def test_another_value_is_refused(value: Any) -> None:
    with pytest.raises(RecipeError, match=r"adapter = .*quantize: nf4, or no such key"):
        load_recipe({"name": "own", "task": "classification", "data": {"source": "rows.csv"}, "adapter": {"quantize": value}})


def test_a_misspelled_key_names_the_right_one() -> None:
    with pytest.raises(RecipeError, match=r"unknown key 'quantise'. Did you mean 'quantize'\?"):
        check_recipe(
            load_recipe({"name": "own", "task": "classification", "data": {"source": "r.csv"}, "adapter": {"quantise": "nf4"}})
        )


@pytest.mark.parametrize(("task", "modality"), [("classification", "image"), ("forecasting", "series")])
def test_other_kinds_of_rows_are_refused_before_training(task: str, modality: str) -> None:
    keys = {"name": "own", "task": task, "data": {"source": "rows.csv", "modality": modality}, "adapter": {"quantize": "nf4"}}

    with pytest.raises(RecipeError, match=f"own: adapter: .*only bases of text rows are stored in 4 bits.*{modality}"):
        check_recipe(load_recipe({**keys, "evaluate": {"baselines": [], "gate": False}}))


def test_without_the_library_the_error_names_the_extra(encoder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)

    with pytest.raises(MissingExtra, match=r"adapter\.quantize: nf4 needs the extra 'quantize'"):
        load_backbone(pull_base(str(encoder)), quantize="nf4")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_it_trains_and_answers_on_a_gpu(causal: Path, tmp_path: Path) -> None:
    recipe = topic_recipe(tmp_path, causal, adapter__quantize="nf4", train__num_train_epochs=1)

    run = train(recipe, out=tmp_path / "run")

    model = VerticalModel.from_pretrained(run.path)
    assert next(model.specialist().backbone.parameters()).is_cuda
    assert model.predict(["red itch rash"])[0].label in {"skin", "lung", "heart"}
