"""Cross-fitting: one adapter a fold, the verdict out of fold, and their exact mean, which ships."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import save_encoder, topic_recipe, topic_rows, write_csv
from safetensors.torch import load_file
from sklearn.metrics import f1_score

from vertical_sdk import VerticalModel, evaluate, train
from vertical_sdk.checking import check_recipe
from vertical_sdk.data.prepare import prepare
from vertical_sdk.errors import CorruptAdapter, DataError, RecipeError
from vertical_sdk.families.head import Head
from vertical_sdk.paths import file_digest
from vertical_sdk.recipe import load_recipe
from vertical_sdk.registry import Registry
from vertical_sdk.training.crossfit import _mean_head, mean_of_weights

FOLDS = 3
WEIGHTS = "adapter/adapter_model.safetensors"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, encoder: Path) -> Path:
    """A run in three folds, with a member."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("crossfit")
    settings = {"evaluate__use": "crossfit", "evaluate__folds": FOLDS, "evaluate__baselines": ["base", "majority", "tfidf"]}
    return train(topic_recipe(folder, encoder, ensemble=["tfidf"], **settings), out=folder / "run").path


def read_update(folder: Path) -> dict[str, torch.Tensor]:
    """The whole change of each layer: alpha / r · B A."""
    config = json.loads((folder / "adapter/adapter_config.json").read_text())
    tensors = load_file(folder / WEIGHTS)
    scale = config["lora_alpha"] / config["r"]
    return {name: scale * tensors[name.replace("lora_A", "lora_B")] @ tensors[name] for name in tensors if "lora_A" in name}


def test_shipped_adapter_is_exactly_the_mean_of_those_of_the_folds(run: Path) -> None:
    mean, folds = read_update(run), [read_update(run / "folds" / str(number)) for number in (1, 2, 3)]

    assert mean.keys() == folds[0].keys()
    assert any((folds[0][name] - folds[1][name]).abs().max() > 1e-3 for name in mean)
    for name, update in mean.items():
        torch.testing.assert_close(update, torch.stack([fold[name] for fold in folds]).mean(dim=0), rtol=1e-5, atol=1e-7)
    heads = [load_file(run / "folds" / str(number) / "adapter/head.safetensors")["linear.weight"] for number in (1, 2, 3)]
    torch.testing.assert_close(load_file(run / "adapter/head.safetensors")["linear.weight"], torch.stack(heads).mean(dim=0))


def test_mean_is_exact_for_the_other_scale_and_for_heads_of_numbers() -> None:
    draw = torch.Generator().manual_seed(0)
    a, b = (torch.randn(4, 2, 5, generator=draw), torch.randn(4, 6, 2, generator=draw))
    weights = [{"x.lora_A.weight": a[k], "x.lora_B.weight": b[k]} for k in range(4)]

    joined = mean_of_weights(weights, stabilized=True)

    update = 8 / np.sqrt(4 * 2) * joined["x.lora_B.weight"] @ joined["x.lora_A.weight"]
    expected = torch.stack([8 / np.sqrt(2) * b[k] @ a[k] for k in range(4)]).mean(dim=0)
    torch.testing.assert_close(update, expected)

    heads = [Head(3, 1, mean, std) for mean, std in ((10.0, 2.0), (-4.0, 7.0))]
    x = torch.randn(9, 3, generator=draw)
    torch.testing.assert_close(_mean_head(heads)(x), (heads[0](x) + heads[1](x)) / 2)


def test_verdict_is_about_answers_of_adapters_that_had_not_learned_the_row(run: Path) -> None:
    prepared = prepare(load_recipe(json.loads((run / "recipe.json").read_text())))
    predicted, truth = [], []
    for number, fold in enumerate(prepared.folds, 1):
        assert not {row.text for row in fold.train} & {row.text for row in fold.test}
        model = VerticalModel.from_pretrained(run / "folds" / str(number))
        predicted += [answer.label for answer in model.predict([row.text for row in fold.test])]
        truth += [row.target for row in fold.test]

    evaluation = evaluate(run)

    assert sorted(row.id for fold in prepared.folds for row in fold.test) == sorted(row.id for row in prepared.train)
    assert (evaluation.rows, evaluation.folds, evaluation.repeated) == (120, FOLDS, 0)
    assert evaluation.systems["alone"].metrics["macro_f1"].value == pytest.approx(f1_score(truth, predicted, average="macro"))
    assert set(evaluation.systems) == {"adapter", "alone", "members", "base", "majority", "tfidf"}
    assert not any(system.error for system in evaluation.systems.values())
    assert evaluation.validation == {}
    assert "Each row was answered by the one of 3 adapters that has not learned its fold" in (run / "report.html").read_text()


def test_card_says_what_ships_and_how_far_it_agrees(run: Path) -> None:
    facts = json.loads((run / "adapter/vertical.json").read_text())["training"]["crossfit"]
    mean = VerticalModel.from_pretrained(run)
    folds = [VerticalModel.from_pretrained(run / "folds" / str(number)) for number in (1, 2, 3)]
    rows = prepare(load_recipe(json.loads((run / "recipe.json").read_text()))).judged

    alone = mean.answer(rows).alone.probabilities
    answers = np.mean([fold.answer(rows).alone.probabilities for fold in folds], axis=0)

    assert facts["adapters"] == [file_digest(run / "folds" / str(number) / WEIGHTS) for number in (1, 2, 3)]
    assert alone is not None
    assert facts["agreement"]["rows"] == 120
    assert facts["agreement"]["equal_labels"] == pytest.approx((alone.argmax(1) == answers.argmax(1)).mean(), abs=1e-4)
    assert facts["agreement"]["largest_difference"] == pytest.approx(np.abs(alone - answers).max(), abs=1e-3)
    assert (
        "It is the mean of 3 adapters, each of which was trained without one fold of the rows."
        in (run / "adapter/README.md").read_text()
    )


def test_published_adapter_is_judged_on_new_rows_only(run: Path, tmp_path: Path) -> None:
    evaluate(run)
    registry = Registry(tmp_path / "registry")
    version = registry.publish(run)
    assert version.card.metrics["folds"] == FOLDS
    assert "by the adapters of its folds, none of which was trained on the rows" in (version.path / "README.md").read_text()

    with pytest.raises(DataError, match="judged by the adapters of its folds, and that of fold 1 is not here"):
        evaluate(str(version), registry=registry, allow_sources=[str(run.parent / "topics.csv")])

    new = [*topic_rows(20), *((f"{text} once more", label) for text, label in topic_rows(40))]
    evaluation = evaluate(run, data=write_csv(tmp_path / "new.csv", new))
    assert (evaluation.rows, evaluation.left_out, evaluation.folds) == (40, 20, 0)


def test_killed_run_continues_in_its_fold(tmp_path: Path) -> None:
    def start(name: str, stop: Callable[[str, float | None], bool], *, resume: bool = False) -> Path:
        def progress(what: str, share: float | None = None) -> None:
            if stop(what, share):
                raise KeyboardInterrupt

        return train(tmp_path / "topics.yaml", out=tmp_path / name, resume=resume, progress=progress).path

    settings = {"evaluate__use": "crossfit", "evaluate__folds": 2, "train__save_steps": 2, "train__max_steps": 6}
    topic_recipe(tmp_path, save_encoder(tmp_path / "base"), **settings)
    whole = start("whole", lambda _what, _share: False)

    with pytest.raises(KeyboardInterrupt):
        start("stopped", lambda what, share: what == "fold 2 of 2: training" and (share or 0) > 0.7)
    first = (tmp_path / "stopped/folds/1" / WEIGHTS).stat().st_mtime_ns
    assert not (tmp_path / "stopped/adapter").exists()
    resumed = start("stopped", lambda _what, _share: False, resume=True)

    assert (resumed / "folds/1" / WEIGHTS).stat().st_mtime_ns == first
    assert json.loads((resumed / "folds/2/adapter/vertical.json").read_text())["training"]["resumed_from"] == 4
    for name in ("folds/2/" + WEIGHTS, WEIGHTS, "adapter/head.safetensors"):
        assert file_digest(resumed / name) == file_digest(whole / name)

    shutil.copytree(resumed / "folds/1/adapter", tmp_path / "kept")
    shutil.rmtree(resumed / "folds/2/adapter")
    shutil.copytree(tmp_path / "kept", resumed / "folds/2/adapter")
    with pytest.raises(CorruptAdapter, match="the run's folds are not those of which its adapter is the mean"):
        evaluate(resumed)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"data.split": {"use": "time"}}, "folds deal the rows at random, and data.split is time"),
        ({"train.early_stopping_patience": 2}, "early_stopping_patience chooses weights on validation rows"),
        ({"adapter.use_dora": True}, "adapter.use_dora: the mean of such adapters is not an adapter of the same kind"),
        ({"task": "generation", "evaluate.gate": False, "evaluate.baselines": ["base"]}, "not made for generation tasks"),
        ({"evaluate.use": "split"}, "folds = 3: only crossfit has folds"),
        ({"evaluate.folds": 1}, "greater than or equal to 2"),
    ],
)
def test_recipes_that_cannot_be_cross_fitted_are_refused_before_anything_loads(
    settings: dict[str, object], words: str, tmp_path: Path
) -> None:
    path = topic_recipe(tmp_path, tmp_path / "no-base", evaluate__use="crossfit", evaluate__folds=3)

    with pytest.raises(RecipeError, match=words):
        check_recipe(load_recipe(path, settings))


def test_other_bases_and_too_high_ranks_are_refused_before_training(tmp_path: Path, encoder: Path, causal: Path) -> None:
    for name, base, settings, words in (
        ("causal", causal, {}, "cross-fitting is made for encoders"),
        ("rank", encoder, {"adapter.r": 40}, "r = 120, but the weights of this base have at most the rank"),
        ("start", encoder, {}, "an adapter that has learned some of the rows would judge them too well"),
    ):
        recipe = topic_recipe(tmp_path, base, evaluate__use="crossfit", evaluate__folds=3)
        with pytest.raises(RecipeError, match=words):
            train(recipe, settings=settings, out=tmp_path / name, start="medical/x" if name == "start" else None)
        assert not (tmp_path / name / "folds").exists()


@pytest.mark.parametrize("task", ["regression", pytest.param("multilabel", marks=pytest.mark.slow)])
def test_numbers_and_several_labels_are_cross_fitted(task: str, tmp_path: Path, encoder: Path) -> None:
    rows = [(text, str(len(text) % 7) if task == "regression" else f"{label};x" if n % 3 else label)
            for n, (text, label) in enumerate(topic_rows(90))]  # fmt: skip
    write_csv(tmp_path / "train.csv", rows[:60])
    write_csv(tmp_path / "test.csv", rows[60:])
    settings = {
        "task": task,
        "data.source": {"train": str(tmp_path / "train.csv"), "test": str(tmp_path / "test.csv")},
        "data.split": "given",
        "evaluate.gate": None,
        "evaluate.baselines": ["majority"],
        "evaluate.folds": 2,
        "ensemble": ["tfidf"],
        "train.num_train_epochs": 1,
    }

    run = train(topic_recipe(tmp_path, encoder, evaluate__use="crossfit"), settings=settings, out=tmp_path / "run")
    evaluation = evaluate(run.path, memory=run.memory)

    assert evaluation.rows == 60, "the source's own test rows are in no fold"
    assert not any(system.error for system in evaluation.systems.values())
    agreement = run.card.training["crossfit"]["agreement"]
    assert (agreement["rows"], agreement["held_out"]) == (30, True)
    assert evaluate(run.path, data=tmp_path / "test.csv").rows == 30
    if task == "regression":
        assert run.card.calibration.widths
        assert "equal_labels" not in agreement
