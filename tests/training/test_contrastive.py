"""The contrastive stage: its loss, its batches, and what a training with it stores."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import topic_recipe
from safetensors.torch import load_file
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_score

from vertical_sdk import train
from vertical_sdk.bases.base import pull_base
from vertical_sdk.data.prepare import prepare
from vertical_sdk.errors import DataError, RecipeError
from vertical_sdk.families.batching import Encoded
from vertical_sdk.families.head import STRENGTHS, fit_probe
from vertical_sdk.families.specialist import run_rows
from vertical_sdk.kernels.fused_lora import fast_training
from vertical_sdk.losses.contrastive import info_nce
from vertical_sdk.recipe import load_recipe
from vertical_sdk.training.compute import Compute
from vertical_sdk.training.contrastive import _Reader, draw_batches, train_contrastive
from vertical_sdk.training.job import Job
from vertical_sdk.training.run import Run
from vertical_sdk.training.stages import build_specialist, encode_job_rows
from vertical_sdk.training_arguments import training_arguments


def test_contrast_has_the_values_of_the_formula() -> None:
    # two labels of two equal rows each, at right angles: log((e^1 + 2 e^0) / e^1) for every row
    axes = torch.tensor([[2.0, 0.0], [5.0, 0.0], [0.0, 1.0], [0.0, 0.5]])
    assert info_nce(axes, torch.tensor([0, 0, 1, 1]), temperature=1.0).item() == pytest.approx(math.log(math.e + 2) - 1)

    # one row alone with its label: it is in the sums of the others, and has no value itself
    rows, labels, temperature = torch.randn(7, 5, generator=torch.Generator().manual_seed(0)), [0, 1, 0, 2, 1, 0, 1], 0.3
    units = [[value / math.sqrt(sum(v * v for v in row)) for value in row] for row in rows.tolist()]
    kernel = [[math.exp(sum(a * b for a, b in zip(x, y, strict=True)) / temperature) for y in units] for x in units]
    values = []
    for i, label in enumerate(labels):
        partners = [j for j, other in enumerate(labels) if other == label and j != i]
        everything = sum(kernel[i][j] for j in range(7) if j != i)
        if partners:
            values.append(-sum(math.log(kernel[i][j] / everything) for j in partners) / len(partners))
    assert len(values) == 6
    assert info_nce(rows, torch.tensor(labels), temperature=temperature).item() == pytest.approx(sum(values) / 6, rel=1e-5)

    lonely = torch.ones(2, 3, requires_grad=True)
    info_nce(lonely, torch.tensor([0, 1])).backward()  # type: ignore[no-untyped-call]
    assert lonely.grad is not None
    assert not lonely.grad.any()


def test_batches_are_pairs_of_one_label_and_every_row_takes_its_turn() -> None:
    rows = [Encoded(ids=(n,), target=n % 3) for n in range(12)] + [Encoded(ids=(99,), target=3)]

    batches = list(itertools.islice(draw_batches(rows, 8, seed=5), 6))

    assert batches == list(itertools.islice(draw_batches(rows, 8, seed=5), 6))
    assert batches != list(itertools.islice(draw_batches(rows, 8, seed=6), 6))
    for batch in batches:
        assert [row.target for row in batch[::2]] == [row.target for row in batch[1::2]]
        assert sorted(row.target for row in batch[::2]) == [0, 1, 2, 3]  # type: ignore[type-var]
    drawn = [row.ids[0] for batch in batches for row in batch]
    assert {n: drawn.count(n) for n in set(drawn)} == dict.fromkeys(range(12), 3) | {99: 12}


def test_stage_separates_labels_and_gradient_ignores_budget_of_tokens(encoder: Path, tmp_path: Path) -> None:
    gradients = []
    for budget in (16, 100_000):
        job = make_job(encoder, tmp_path, budget)
        torch.manual_seed(0)
        specialist = build_specialist(job)
        rows = encode_job_rows(job, specialist)
        with fast_training(specialist.backbone, bf16=False):
            _Reader(job, specialist, rows.train).learn(next(draw_batches(rows.train, 8, 0)))
        weights = [weight for weight in specialist.backbone.parameters() if weight.requires_grad]
        gradients.append(torch.cat([weight.grad.flatten() for weight in weights if weight.grad is not None]))
    specialist.backbone.zero_grad()
    before = measure_gap(specialist, rows.validation)
    train_contrastive(job, specialist, rows.train)

    assert gradients[0].abs().max() > 0
    torch.testing.assert_close(gradients[0], gradients[1], atol=1e-6, rtol=1e-4)
    assert before < 0.05
    assert measure_gap(specialist, rows.validation) > 0.15  # of rows that it was not trained on


def test_stopped_run_ends_with_same_weights_and_zero_epochs_fit_the_head_only(encoder: Path, tmp_path: Path) -> None:
    settings: dict[str, Any] = {"train.contrastive_steps": 6, "train.num_train_epochs": 1, "train.save_steps": 2}
    recipe = topic_recipe(tmp_path, encoder)
    whole = read_weights(train(recipe, out=tmp_path / "whole", settings=settings))
    for stage in ("contrastive training", "training"):
        stop = Stop(stage)
        with pytest.raises(KeyboardInterrupt):
            train(recipe, out=tmp_path / stage, settings=settings, progress=stop)
        resumed = train(recipe, out=tmp_path / stage, settings=settings, resume=True, progress=stop.count)
        assert (stop.seen > 0) == (stage == "contrastive training")  # what a checkpoint contains is not computed again
        same = read_weights(resumed)
        assert whole.keys() == same.keys()
        assert all(torch.equal(whole[name], same[name]) for name in whole)

    head_only = train(recipe, out=tmp_path / "head", settings={**settings, "train.num_train_epochs": 0})
    assert head_only.card.training["steps"] == 0
    assert any(bool(weight.any()) for name, weight in read_weights(head_only).items() if "lora_B" in name)
    probe, head = (load_file(head_only.adapter / f"{name}.safetensors")["linear.weight"] for name in ("probe", "head"))
    assert not torch.equal(probe, head)  # one of the frozen base, the other of the adapter's features


def test_penalty_is_chosen_by_cross_validation_if_no_row_is_held_out(encoder: Path, tmp_path: Path) -> None:
    settings: dict[str, Any] = {"data.split": {"use": "stratified", "validation": 0.0}, "train.num_train_epochs": 0}
    run = train(topic_recipe(tmp_path, encoder), out=tmp_path / "run", settings=settings)

    stored = load_file(run.adapter / "probe.safetensors")["linear.weight"]
    specialist = build_specialist(
        job := replace(make_job(encoder, tmp_path, 128), prepared=prepare(load_recipe(run.card.recipe)))
    )
    rows = encode_job_rows(job, specialist).train
    features, targets = run_rows(specialist, rows, specialist.features), [row.target for row in rows]
    probes = {C: fit_probe(features, targets, "classification", 3, strength=C).linear.weight for C in STRENGTHS}
    # scikit-learn's own cross-validation, over other folds
    losses = {
        C: -cross_val_score(LogisticRegression(C=C, max_iter=300), features, targets, scoring="neg_log_loss").mean()
        for C in STRENGTHS
    }
    best, other = sorted(STRENGTHS, key=losses.__getitem__)
    assert losses[other] - losses[best] > 0.01  # so that folds do not decide
    torch.testing.assert_close(stored, probes[best].detach(), atol=1e-3, rtol=1e-3)
    assert (probes[other] - stored).abs().max() > 0.01


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"task": "multilabel"}, "topics: train: contrastive_steps compares texts or images by their one label"),
        ({"task": "regression"}, "this recipe is regression of text rows. Leave it out."),
        ({"train.contrastive_steps": -1}, "contrastive_steps = -1 is wrong: it should be 0 or more."),
        ({"train.contrastive_steps": 1.5}, "contrastive_steps = 1.5 is wrong: it should be a valid integer"),
    ],
)
def test_recipe_without_one_label_a_row_is_refused(encoder: Path, tmp_path: Path, settings: dict[str, Any], said: str) -> None:
    recipe = topic_recipe(tmp_path, encoder, train__contrastive_steps=4)
    with pytest.raises(RecipeError) as error:
        train(recipe, out=tmp_path / "run", settings={"evaluate": {}, **settings})
    assert said in str(error.value)


def test_base_without_a_head_and_rows_of_one_label_are_refused(encoder: Path, causal: Path, tmp_path: Path) -> None:
    recipe = topic_recipe(tmp_path, causal, train__contrastive_steps=4)
    with pytest.raises(RecipeError, match=r"has no head for classification. Leave it out, or choose an encoder"):
        train(recipe, out=tmp_path / "run")

    job = make_job(encoder, tmp_path, 128)
    specialist = build_specialist(job)
    same = [row for row in encode_job_rows(job, specialist).train if row.target == 0]
    with pytest.raises(DataError, match=r"all training rows have one label\. Leave it out\."):
        train_contrastive(job, specialist, same)


class Stop:
    """Stops a training in the middle of a stage, and counts reports of the contrastive stage."""

    def __init__(self, stage: str) -> None:
        self.stage, self.seen = stage, 0

    def __call__(self, what: str, share: float | None = None) -> None:
        if what == self.stage and share is not None and share > 0.5:
            raise KeyboardInterrupt

    def count(self, what: str, share: float | None = None) -> None:
        self.seen += what == "contrastive training"


def make_job(encoder: Path, folder: Path, budget: int) -> Job:
    settings = {"train.contrastive_steps": 150, "train.learning_rate": 0.003, "train.token_budget": budget}
    recipe = load_recipe(topic_recipe(folder, encoder), settings)
    arguments = training_arguments(recipe.train, folder / "run", recipe.name)
    compute = Compute(bf16=False, onednn=False, threads=1)
    return Job(recipe, folder / "run", arguments, compute, prepare(recipe), pull_base(recipe.base))


def measure_gap(specialist: Any, rows: Any) -> float:
    """The mean cosine similarity of rows of one label, less that of rows of different labels."""
    features = run_rows(specialist, rows, specialist.features)
    labels = torch.tensor([row.target for row in rows])
    similarity, same = features @ features.T, labels[:, None] == labels
    others = ~torch.eye(len(labels), dtype=torch.bool)
    return float(similarity[same & others].mean() - similarity[~same].mean())


def read_weights(run: Run) -> dict[str, torch.Tensor]:
    files = ("adapter_model", "head", "probe")
    return {f"{file}:{k}": v for file in files for k, v in load_file(run.adapter / f"{file}.safetensors").items()}
