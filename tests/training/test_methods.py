"""The methods of `train` compute what their papers say, with and without padding, and after a stop."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
import transformers
from conftest import TOPICS, save_causal, topic_recipe, topic_rows
from peft.optimizers import create_loraplus_optimizer
from safetensors.torch import load_file

from vertical_sdk import train
from vertical_sdk.bases.base import pull_base
from vertical_sdk.checking import check_recipe
from vertical_sdk.errors import RecipeError
from vertical_sdk.families.specialist import create_specialist
from vertical_sdk.kernels.fused_lora import fast_training
from vertical_sdk.losses import bind_loss
from vertical_sdk.recipe import Recipe, load_recipe
from vertical_sdk.training.encode import encode_rows
from vertical_sdk.training.rdrop import rdrop_loss
from vertical_sdk.training.trainer import VerticalTrainer
from vertical_sdk.training_arguments import training_arguments
from vertical_sdk.types import Example, LabelSpace, silent

CPU = torch.device("cpu")


def make_trainer(recipe: Recipe, folder: Path, *, watchers: Any = (), validation: bool = False) -> VerticalTrainer:
    """A trainer whose adapter already changes what the base computes."""
    labels = LabelSpace(tuple(sorted(TOPICS)))
    torch.manual_seed(0)
    specialist: Any = create_specialist(pull_base(recipe.base), recipe, labels)
    for name, weight in specialist.named_parameters():
        if "lora_B" in name:
            weight.data.normal_(std=0.1)
    rows = encode_rows(specialist, [Example(str(i), t, y) for i, (t, y) in enumerate(topic_rows(24))], learn=True)
    loss = bind_loss(recipe, labels, default="cross_entropy")
    arguments = training_arguments(recipe.train, folder, "test")
    return VerticalTrainer(specialist, arguments, rows, rows[:6] if validation else [], loss, silent, watchers)


def run_step(trainer: VerticalTrainer) -> tuple[float, dict[str, torch.Tensor]]:
    """The loss and the gradients of one step over all rows."""
    model, batch = trainer.model, list(trainer.train_dataset)  # type: ignore[arg-type]
    with fast_training(trainer.specialist.backbone, bf16=False):
        value = trainer.training_step(model, batch, trainer._get_num_items_in_batch([batch], CPU))
    return float(value), {name: weight.grad.clone() for name, weight in trainer._trained().items() if weight.grad is not None}


def test_final_weights_are_the_moving_average_and_evaluations_see_it(encoder: Path, tmp_path: Path) -> None:
    seen: list[dict[str, torch.Tensor]] = []
    evaluated: list[dict[str, torch.Tensor]] = []

    class Watcher(transformers.TrainerCallback):
        def on_optimizer_step(self, *_: Any, **__: Any) -> None:
            seen.append({name: weight.detach().clone() for name, weight in trainer._trained().items()})

        def on_evaluate(self, *_: Any, **__: Any) -> None:
            evaluated.append({name: weight.detach().clone() for name, weight in trainer._trained().items()})

    settings = {"train.ema_decay": 0.3, "train.max_steps": 8, "train.eval_steps": 4, "train.save_strategy": "no"}
    recipe = load_recipe(topic_recipe(tmp_path, encoder)).replace(settings)
    trainer = make_trainer(recipe, tmp_path, watchers=[Watcher()], validation=True)
    average = {name: weight.detach().clone() for name, weight in trainer._trained().items()}
    trainer.train()

    averages = []
    for step, weights in enumerate(seen, 1):
        decay = min(0.3, (1 + step) / (10 + step))
        average = {name: decay * value + (1 - decay) * weights[name] for name, value in average.items()}
        averages.append(average)
    assert len(averages) == 8
    for name, weight in trainer._trained().items():
        torch.testing.assert_close(weight.detach(), averages[-1][name])
        torch.testing.assert_close(evaluated[0][name], averages[3][name])
    assert not torch.allclose(averages[-1]["head.linear.weight"], seen[-1]["head.linear.weight"], rtol=1e-3)


def test_stopped_run_with_all_methods_ends_with_the_weights_of_a_whole_one(encoder: Path, tmp_path: Path) -> None:
    recipe = topic_recipe(
        tmp_path, encoder, train__save_steps=3, train__max_steps=8, train__ema_decay=0.9, train__rdrop_alpha=1.0,
        train__adversarial_epsilon=0.1, train__layerwise_lr_decay=0.8, train__loraplus_lr_ratio=4.0,
    )  # fmt: skip

    def stop(what: str, share: float | None = None) -> None:
        if what == "training" and share is not None and share > 0.5:
            raise KeyboardInterrupt

    whole = train(recipe, out=tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        train(recipe, out=tmp_path / "stopped", progress=stop)
    resumed = train(recipe, out=tmp_path / "stopped", resume=True)

    assert resumed.resumed_from == 3
    for file in ("adapter_model.safetensors", "head.safetensors"):
        one, other = (load_file(run.adapter / file) for run in (whole, resumed))
        assert one.keys() == other.keys()
        assert all(torch.equal(one[name], other[name]) for name in one)
    newest = whole.path / "checkpoints" / "checkpoint-6"
    last, average = (load_file(newest / f"{name}.safetensors") for name in ("trained", "average"))
    assert not torch.equal(last["head.linear.weight"], average["head.linear.weight"])


def test_rdrop_adds_the_divergence_in_both_directions() -> None:
    outputs = torch.tensor(
        [[2.0, 0.0, -1.0], [0.5, 0.4, 9.0], [1.0, 1.0, 0.0], [1.5, 0.5, -1.0], [0.5, 0.4, 0.0], [0.0, 1.0, 2.0]]
    )
    targets = torch.tensor([0, -100, 2, 0, -100, 2])
    logp, logq = outputs.log_softmax(-1).chunk(2)
    learned = [0, 2]
    both = F.kl_div(logq, logp, reduction="none", log_target=True) + F.kl_div(logp, logq, reduction="none", log_target=True)
    expected = F.cross_entropy(outputs[[0, 2, 3, 5]], targets[[0, 2, 3, 5]]) + 0.7 * both.sum(-1)[learned].mean() / 2

    value = rdrop_loss(F.cross_entropy, 0.7, exclusive=True, outputs=outputs, targets=targets)

    torch.testing.assert_close(value, expected)


def test_rdrop_of_many_labels_compares_each_label() -> None:
    outputs = torch.tensor([[2.0, 0.0], [0.0, -3.0]])
    targets = torch.tensor([[1.0, 0.0], [1.0, 0.0]])
    p, q = (torch.distributions.Bernoulli(logits=one) for one in outputs)
    divergence = (torch.distributions.kl_divergence(p, q) + torch.distributions.kl_divergence(q, p)).mean() / 2
    loss = F.binary_cross_entropy_with_logits

    value = rdrop_loss(loss, 2.0, exclusive=False, outputs=outputs, targets=targets)

    torch.testing.assert_close(value, loss(outputs, targets) + 2.0 * divergence)


@pytest.mark.parametrize("family", ["encoder", "causal"])
def test_rdrop_step_reads_each_row_twice(family: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    base = request.getfixturevalue(family)
    settings = {"train.rdrop_alpha": 3.0, "train.token_budget": 100_000, "adapter.lora_dropout": 0.3}
    trainer = make_trainer(load_recipe(topic_recipe(tmp_path, base)).replace(settings), tmp_path)
    specialist: Any = trainer.specialist
    rows: Any = sorted(trainer.train_dataset, key=lambda row: row.length)  # type: ignore[arg-type]
    with fast_training(specialist.backbone, bf16=False):
        assert trainer._packs
        specialist.train()
        torch.manual_seed(5)
        outputs, targets = specialist(specialist.pack([*rows, *rows]))
    outputs = outputs.detach().float()
    p, q = (one.log_softmax(-1) for one in outputs.chunk(2))
    divergence = ((p.exp() - q.exp()) * (p - q)).sum(-1).mean()

    torch.manual_seed(5)
    value, _ = run_step(trainer)

    assert divergence > 1e-4
    assert value == pytest.approx(float(F.cross_entropy(outputs, targets) + 3.0 * divergence / 2), rel=1e-5)


@pytest.mark.parametrize("budget", [40, 100_000])
def test_adversarial_gradient_is_that_of_moved_embeddings(budget: int, encoder: Path, tmp_path: Path) -> None:
    settings = {"train.adversarial_epsilon": 0.5, "train.token_budget": budget, "head.dropout": 0.0}
    trainer = make_trainer(load_recipe(topic_recipe(tmp_path, encoder)).replace(settings), tmp_path)
    value, gradients = run_step(trainer)
    assert trainer._packs

    # the same by hand: padded rows, given as embeddings
    specialist: Any = trainer.specialist
    specialist.zero_grad()
    batch = specialist.collate(list(trainer.train_dataset))  # type: ignore[arg-type]
    plain = specialist.backbone.get_input_embeddings()(batch["input_ids"]).detach().requires_grad_()

    def read(embeddings: torch.Tensor) -> torch.Tensor:
        hidden = specialist.backbone(inputs_embeds=embeddings, attention_mask=batch["attention_mask"]).last_hidden_state
        mask = batch["attention_mask"][..., None]
        pooled = F.normalize((hidden * mask).sum(1) / mask.sum(1), dim=-1)
        return F.cross_entropy(specialist.head(pooled), batch["targets"])

    first = read(plain)
    first.backward()
    assert plain.grad is not None
    step = torch.stack([0.5 * row / row.norm() for row in plain.grad])
    second = read(plain.detach() + step)
    second.backward()

    assert second > first
    assert value == pytest.approx(first.item(), rel=1e-5)
    for name, gradient in gradients.items():
        torch.testing.assert_close(gradient, trainer._trained()[name].grad, atol=1e-6, rtol=1e-3)


def test_adversarial_step_of_causal_base_pads_rows_and_says_so(tmp_path: Path) -> None:
    base = save_causal(tmp_path / "base")
    lines: list[str] = []
    settings = {"train.adversarial_epsilon": 0.5, "train.max_steps": 2}
    trainer = make_trainer(load_recipe(topic_recipe(tmp_path, base)).replace(settings), tmp_path)
    trainer.report = lambda what, _share=None: lines.append(what)
    _, gradients = run_step(trainer)

    assert not trainer._packs
    assert any("adversarial_epsilon moves the tokens of each row" in line for line in lines)
    assert max(float(gradient.abs().max()) for gradient in gradients.values()) > 0


def test_learning_rates_fall_with_depth_and_rise_for_b(encoder: Path, tmp_path: Path) -> None:
    settings = {"train.layerwise_lr_decay": 0.5, "train.loraplus_lr_ratio": 8.0, "train.learning_rate": 0.01}
    trainer = make_trainer(load_recipe(topic_recipe(tmp_path, encoder)).replace(settings), tmp_path)
    trainer.create_optimizer_and_scheduler(10)
    optimizer: Any = trainer.optimizer
    rates = {id(weight): group["initial_lr"] for group in optimizer.param_groups for weight in group["params"]}
    decays = {id(weight): group["weight_decay"] for group in optimizer.param_groups for weight in group["params"]}

    for name, weight in trainer._trained().items():
        expected = 0.01 * (0.5 if ".layer.0." in name else 1.0) * (8.0 if "lora_B" in name else 1.0)
        assert rates[id(weight)] == pytest.approx(expected), name
        assert decays[id(weight)] == (0.0 if name.endswith("bias") else 0.01), name
    assert len(rates) == len(trainer._trained())
    assert optimizer.param_groups[0]["initial_lr"] == 0.01


def test_ratio_gives_the_learning_rates_of_peft(encoder: Path, tmp_path: Path) -> None:
    settings = {"train.loraplus_lr_ratio": 8.0, "train.learning_rate": 0.01}
    trainer = make_trainer(load_recipe(topic_recipe(tmp_path, encoder)).replace(settings), tmp_path)
    own: Any = trainer.create_optimizer()
    backbone: Any = trainer.specialist.backbone
    theirs = create_loraplus_optimizer(backbone, torch.optim.AdamW, lr=0.01, loraplus_lr_ratio=8.0)

    def list_rates(optimizer: Any) -> dict[int, float]:
        return {id(weight): group["lr"] for group in optimizer.param_groups for weight in group["params"]}

    peft = list_rates(theirs)
    assert peft
    assert {key: list_rates(own)[key] for key in peft} == pytest.approx(peft)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"train.rdrop_alpha": 1.0, "head.dropout": 0.0}, "rdrop_alpha compares two passes with different dropout"),
        (
            {"train.rdrop_alpha": 1.0, "task": "regression", "evaluate": {}},
            "the probabilities of two passes, and a regression model has none",
        ),
        (
            {"train.adversarial_epsilon": 1.0, "data.modality": "image", "evaluate": {"baselines": ["probe"]}},
            "moves the embeddings",
        ),
        ({"train.ema_decay": "much"}, "ema_decay = 'much' is wrong"),
        ({"train.ema_decay": 1.0}, "ema_decay = 1.0 is wrong: it should be more than 0 and less than 1."),
        ({"train.layerwise_lr_decay": 0}, "layerwise_lr_decay = 0 is wrong: it should be more than 0 and less than 1."),
        ({"train.adversarial_epsilon": -1}, "adversarial_epsilon = -1 is wrong: it should be a finite number above 0."),
    ],
)
def test_method_without_meaning_is_refused_before_weights_load(settings: dict[str, Any], message: str, tmp_path: Path) -> None:
    recipe = load_recipe(topic_recipe(tmp_path, tmp_path / "no-such-base")).replace(settings)

    def check() -> None:
        check_recipe(recipe)
        training_arguments(recipe.train, tmp_path, "topics")

    with pytest.raises(RecipeError, match=message):
        check()


def test_rdrop_on_a_causal_base_needs_dropout_of_lora(causal: Path, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"nothing in this specialist has dropout. Set adapter\.lora_dropout above 0"):
        make_trainer(load_recipe(topic_recipe(tmp_path, causal, train__rdrop_alpha=1.0)), tmp_path)
