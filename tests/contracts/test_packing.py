"""Bases of many architectures learn without padding what they learn with it."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from conftest import save_causal, save_encoder

from vertical_sdk.bases.base import pull_base
from vertical_sdk.families.batching import Encoded
from vertical_sdk.families.specialist import create_specialist
from vertical_sdk.kernels.fused_lora import fast_training
from vertical_sdk.losses import bind_loss
from vertical_sdk.recipe import Recipe
from vertical_sdk.training import trainer as trainer_module
from vertical_sdk.training.frozen_layers import count_frozen_layers
from vertical_sdk.training.packing import find_obstacle, packed_loss
from vertical_sdk.training.trainer import VerticalTrainer
from vertical_sdk.training_arguments import training_arguments
from vertical_sdk.types import LabelSpace, silent

SIZES = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "max_position_embeddings": 80,
}
KEYS = {"num_key_value_heads": 2, "head_dim": 8}
OFF = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
DROPS = ("embd_pdrop", "attn_pdrop", "resid_pdrop")
DISTIL = {"dim": 32, "n_layers": 2, "n_heads": 4, "hidden_dim": 64, "max_position_embeddings": 80, "dropout": 0.0}
CAUSAL: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("LlamaForCausalLM", {**SIZES, **KEYS}),
    "qwen2": ("Qwen2ForCausalLM", {**SIZES, "num_key_value_heads": 2}),
    "qwen3": ("Qwen3ForCausalLM", {**SIZES, **KEYS}),
    "gemma": ("GemmaForCausalLM", {**SIZES, **KEYS}),
    "gemma2": ("Gemma2ForCausalLM", {**SIZES, **KEYS, "query_pre_attn_scalar": 8}),
    "mistral": ("MistralForCausalLM", {**SIZES, **KEYS, "sliding_window": 6}),
    "gpt2": ("GPT2LMHeadModel", {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 80, **dict.fromkeys(DROPS, 0.0)}),
}  # fmt: skip
ENCODERS: dict[str, tuple[str, dict[str, Any]]] = {
    "bert": ("BertModel", {**SIZES, **OFF}),
    "roberta": ("RobertaModel", {**SIZES, **OFF, "pad_token_id": 0}),
    "distilbert": ("DistilBertModel", DISTIL),
    "modernbert": ("ModernBertModel", {**SIZES, "local_attention": 8, "global_attn_every_n_layers": 2, "cls_token_id": 2, "sep_token_id": 3}),
}  # fmt: skip
PADDED = {"gemma2": "attention of its own", "modernbert": "windows"}
"""Architectures whose attention is not known, with a word of the reason."""
STEPS = 25


def _save(folder: Path, name: str) -> Path:
    """A base of an architecture, with random weights."""
    causal = name in CAUSAL
    save = save_causal if causal else save_encoder
    save(folder)
    kind, sizes = (CAUSAL if causal else ENCODERS)[name]
    vocabulary = transformers.AutoConfig.from_pretrained(folder).vocab_size
    ends = {"pad_token_id": 0, "eos_token_id": 1, "bos_token_id": None} if causal else {"pad_token_id": 0}
    torch.manual_seed(0)
    model_class: Any = getattr(transformers, kind)
    config = model_class.config_class(**{"vocab_size": vocabulary, **ends, **sizes, "architectures": [kind]})
    model_class(config).save_pretrained(folder)
    return folder


def _rows(*, causal: bool, seed: int = 0) -> list[Encoded]:
    """Rows of 5 to 40 tokens; those of a causal base begin alike, and their answers are learned."""
    rng = torch.Generator().manual_seed(seed)
    rows = []
    for number in range(24):
        length = int(torch.randint(5, 41, (1,), generator=rng))
        ids = tuple(torch.randint(6, 20, (length,), generator=rng).tolist())
        if causal:
            ids = (7, 9, 8, 7, 12, *ids)
            rows.append(Encoded(ids, tuple(at >= 5 + length // 3 for at in range(len(ids)))))
        else:
            rows.append(Encoded((2, *ids, 3), target=number % 3))
    return rows


def _specialist(folder: Path, name: str, **adapter: Any) -> tuple[Any, Any]:
    """A specialist whose LoRA changes what the base computes, and its loss."""
    causal = name in CAUSAL
    settings: dict[str, Any] = {
        "name": "test",
        "task": "generation" if causal else "classification",
        "base": str(folder),
        "adapter": {"r": 4, **adapter},
        "head": {"dropout": 0.0},
        "data": {"source": "none.csv"},
    }
    recipe = Recipe.model_validate(settings)
    labels = None if causal else LabelSpace(("a", "b", "c"))
    specialist: Any = create_specialist(pull_base(str(folder)), recipe, labels)
    rng = torch.Generator().manual_seed(1)
    for weight in specialist.parameters():
        if weight.requires_grad:
            weight.data.copy_(0.1 * torch.randn(weight.shape, generator=rng))
    return specialist, bind_loss(recipe, labels, default="cross_entropy")


def _train(specialist: Any, loss: Any, rows: list[Encoded], folder: Path, **settings: Any) -> list[float]:
    """The loss of each step."""
    arguments = training_arguments(
        {
            "max_steps": STEPS,
            "learning_rate": 1e-2,
            "per_device_train_batch_size": 6,
            "logging_steps": 1,
            "save_strategy": "no",
            "eval_strategy": "no",
            "bf16": False,
            "token_budget": 128,
            **settings,
        },
        folder,
        "test",
    )
    trainer = VerticalTrainer(specialist, arguments, rows, [], loss, silent)
    with fast_training(specialist.backbone, bf16=False):
        trainer.train()
    return [log["loss"] for log in trainer.state.log_history if "loss" in log]


@pytest.mark.parametrize("name", [*CAUSAL, *ENCODERS])
def test_losses_are_those_of_padded_rows(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    specialist, loss = _specialist(_save(tmp_path / "base", name), name)
    rows = _rows(causal=name in CAUSAL)
    twin = copy.deepcopy(specialist)
    packed = _train(specialist, loss, rows, tmp_path / "packed")

    monkeypatch.setattr(trainer_module, "find_obstacle", lambda *_, **__: "a test")
    padded = _train(twin, loss, rows, tmp_path / "padded", token_budget=10_000)

    assert len(packed) == STEPS
    assert max(padded) > 1.02 * min(padded)  # something is learned
    assert packed == pytest.approx(padded, rel=1e-4)


@pytest.mark.parametrize("name", [*CAUSAL, *ENCODERS])
def test_rows_are_padded_only_if_the_attention_is_not_known(name: str, tmp_path: Path) -> None:
    specialist, _ = _specialist(_save(tmp_path, name), name)

    with fast_training(specialist.backbone, bf16=False):
        obstacle = find_obstacle(specialist, _rows(causal=name in CAUSAL), checkpointing=False)

    assert (PADDED[name] in obstacle) if name in PADDED else obstacle == ""


def test_rows_are_not_padded_for_rounding_in_bfloat16(tmp_path: Path) -> None:
    specialist, _ = _specialist(_save(tmp_path, "llama"), "llama")
    layers = [module for module in specialist.backbone.modules() if isinstance(module, torch.nn.Linear)]
    frozen = [layer.weight for layer in layers if not layer.weight.requires_grad]
    with torch.no_grad():
        for weight in frozen:
            weight.mul_(40)  # sharp attention: a small difference becomes a large one
    before = [weight.clone() for weight in frozen]
    rows = _rows(causal=True)

    with fast_training(specialist.backbone, bf16=True), torch.autocast("cpu", dtype=torch.bfloat16), torch.no_grad():
        padded, packed = (specialist.features(batch).float() for batch in (specialist.collate(rows), specialist.pack(rows)))
        obstacle = find_obstacle(specialist, rows, checkpointing=False)
        halves = {weight.dtype for weight in frozen}

    assert (padded - packed).abs().max() > 0.05 * padded.abs().max()
    assert obstacle == ""
    assert halves == {torch.bfloat16}
    assert all(torch.equal(weight, old) for weight, old in zip(frozen, before, strict=True))


@pytest.mark.parametrize("name", ["llama", "mistral", "gpt2"])
def test_one_row_does_not_change_the_loss_of_another(name: str, tmp_path: Path) -> None:
    specialist, _ = _specialist(_save(tmp_path, name), name)
    rows = _rows(causal=True)[:5]
    changed = [Encoded((*rows[0].ids[:-4], 19, 18, 17, 16), rows[0].learn), *rows[1:]]

    with fast_training(specialist.backbone, bf16=False), torch.no_grad():
        losses = [_losses_of_tokens(specialist, part) for part in (rows, changed)]

    first = sum(rows[0].learn[1:])
    assert losses[0][:first].tolist() != pytest.approx(losses[1][:first].tolist(), rel=1e-3)
    assert losses[0][first:].tolist() == pytest.approx(losses[1][first:].tolist(), rel=1e-6)


def _losses_of_tokens(specialist: Any, rows: list[Encoded]) -> torch.Tensor:
    """The loss of each learned token, in the order of the rows."""
    found: list[torch.Tensor] = []

    def keep(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        found.append(torch.nn.functional.cross_entropy(logits, targets, reduction="none"))
        return found[-1].mean()

    packed_loss(specialist, specialist, rows, keep)
    return torch.cat(found)


def test_a_token_of_the_shared_beginning_may_be_learned(tmp_path: Path) -> None:
    specialist, loss = _specialist(_save(tmp_path, "llama"), "llama")
    rows = [Encoded(row.ids, (True,) * len(row.ids)) for row in _rows(causal=True)[:4]]

    with fast_training(specialist.backbone, bf16=False):
        packed = packed_loss(specialist, specialist, rows, loss)
    logits, targets = specialist(specialist.collate(rows))

    assert packed.item() == pytest.approx(loss(logits, targets).item(), rel=1e-5)


@pytest.mark.parametrize(
    "change",
    [{"lora_dropout": 0.5}, {"modules_to_save": ["lm_head"]}, {"target_modules": ["q_proj", "lm_head"]}],
    ids=["dropout", "trained head", "head with LoRA"],
)
def test_dropout_and_a_trained_head_keep_their_gradients(change: dict[str, Any], tmp_path: Path) -> None:
    folder = _save(tmp_path, "llama")
    config = transformers.AutoConfig.from_pretrained(folder)
    config.tie_word_embeddings = False
    transformers.LlamaForCausalLM(config).save_pretrained(folder)
    specialist, loss = _specialist(folder, "llama", **change)
    rows = _rows(causal=True)[:4]
    specialist.eval()

    with fast_training(specialist.backbone, bf16=False):
        assert find_obstacle(specialist, rows, checkpointing=False) == ""
        packed = packed_loss(specialist, specialist, rows, loss)
        packed.backward()
    gradients = {name: weight.grad.clone() for name, weight in specialist.named_parameters() if weight.grad is not None}
    specialist.zero_grad()
    logits, targets = specialist(specialist.collate(rows))
    loss(logits, targets).backward()

    assert specialist.pack(rows)["layout"].shared == (0 if "lora_dropout" in change else 5)
    for name, weight in specialist.named_parameters():
        if weight.grad is not None:
            assert (gradients[name] - weight.grad).norm() <= 1e-4 * weight.grad.norm() + 1e-9, name


def test_a_base_that_answers_otherwise_without_padding_is_padded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    specialist, _ = _specialist(_save(tmp_path, "bert"), "bert")
    pack: Callable[..., Any] = specialist.pack

    def misplace(rows: Any) -> Any:
        batch = pack(rows)
        batch["input_ids"] = batch["input_ids"].flip(1)
        return batch

    monkeypatch.setattr(type(specialist), "pack", lambda _, rows: misplace(rows))
    with fast_training(specialist.backbone, bf16=False):
        assert "answers otherwise" in find_obstacle(specialist, _rows(causal=False), checkpointing=False)


@pytest.mark.parametrize(
    ("name", "target"),
    [("llama", "q_proj"), ("gpt2", "c_attn"), ("bert", "query"), ("roberta", "query"), ("distilbert", "q_lin")],
)
def test_layers_below_the_trained_ones_run_once_for_each_row(
    name: str, target: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    specialist, loss = _specialist(_save(tmp_path / "base", name), name, target_modules=[target], layers_to_transform=[1])
    rows = _rows(causal=name in CAUSAL)
    twin = copy.deepcopy(specialist)
    below, layers = count_frozen_layers(specialist.backbone)
    assert layers is not None
    read: list[int] = []
    attention: Any = next(module for module in layers[0].children() if any(module.children()))
    attention.register_forward_hook(lambda _, inputs, output: read.append(_tokens(output)))

    kept = _train(specialist, loss, rows, tmp_path / "kept")
    monkeypatch.setattr(trainer_module, "open_cache", lambda *_: None)
    computed = _train(twin, loss, rows, tmp_path / "computed")

    assert below == 1
    assert kept == pytest.approx(computed, rel=1e-5)
    assert sum(read) <= sum(row.length for row in rows) * 2  # some when it is tried whether they can be packed
    assert not list((tmp_path / "kept").rglob("*.bin"))


def _tokens(output: Any) -> int:
    """Tokens of which a layer has computed the states."""
    states = output[0] if isinstance(output, tuple) else output
    return int(states.shape[:-1].numel())


@pytest.mark.parametrize("layers", [None, [1]], ids=["all layers", "the upper layer"])
def test_label_words_of_several_tokens_are_learned_without_padding(
    layers: list[int] | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = Recipe.model_validate(
        {
            "name": "test",
            "task": "classification",
            "base": str(_save(tmp_path / "base", "llama")),
            "adapter": {"r": 4, "target_modules": ["q_proj", "up_proj"], **({"layers_to_transform": layers} if layers else {})},
            "data": {"source": "none.csv"},
        }
    )
    labels = LabelSpace(("ab", "abc", "abcd", "x"))
    specialist: Any = create_specialist(pull_base(recipe.base), recipe, labels)
    for weight in specialist.parameters():
        if weight.requires_grad:
            torch.nn.init.normal_(weight, std=0.1)
    loss = bind_loss(recipe, labels, default="cross_entropy")
    rows = [Encoded(row.ids, target=number % 4) for number, row in enumerate(_rows(causal=True))]
    twin = copy.deepcopy(specialist)

    with fast_training(specialist.backbone, bf16=False):
        assert find_obstacle(specialist, rows, checkpointing=False) == ""
    packed = _train(specialist, loss, rows, tmp_path / "packed")
    monkeypatch.setattr(trainer_module, "find_obstacle", lambda *_, **__: "a test")
    padded = _train(twin, loss, rows, tmp_path / "padded")

    assert specialist.choices.depths == (1, 2, 3)
    assert packed == pytest.approx(padded, rel=1e-4)
