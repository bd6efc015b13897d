from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import TOPICS, save_causal, topic_recipe, topic_rows, write_csv
from safetensors.torch import load_file

from vertical_sdk import VerticalModel, train
from vertical_sdk.adapters.folder import open_adapter
from vertical_sdk.bases.base import pull_base
from vertical_sdk.card import read_card
from vertical_sdk.data.prepare import prepare
from vertical_sdk.errors import BaseModelError, DataError, RecipeError, RunError
from vertical_sdk.families.specialist import create_specialist
from vertical_sdk.recipe import load_recipe
from vertical_sdk.training.encode import encode_rows
from vertical_sdk.training.run import Run
from vertical_sdk.training.trainer import VerticalTrainer, last_checkpoint
from vertical_sdk.training_arguments import training_arguments
from vertical_sdk.types import Example, LabelSpace, silent

WEIGHTS = ("adapter_model.safetensors", "head.safetensors")
CHILD = """
import sys, torch
torch.set_num_threads(1)
from pathlib import Path
from vertical_sdk import train
train(sys.argv[1], out=Path(sys.argv[2]), resume="--resume" in sys.argv)
"""


def weights(run: Path) -> dict[str, torch.Tensor]:
    return {
        f"{file}:{k}": v
        for file in WEIGHTS
        if (run / "adapter" / file).is_file()
        for k, v in load_file(run / "adapter" / file).items()
    }


def equal_weights(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[k], other[k]) for k in one)


def test_run_writes_complete_adapter_and_events(encoder: Path, tmp_path: Path) -> None:
    run = train(topic_recipe(tmp_path, encoder), out=tmp_path / "run")

    files = {p.name for p in run.adapter.iterdir()}
    assert files >= {*WEIGHTS, "adapter_config.json", "vertical.json", "README.md", "tokenizer.json"}
    assert list((tmp_path / "run" / "events").iterdir())
    assert str(tmp_path / "home") not in (run.adapter / "adapter_config.json").read_text()
    assert run.card.labels is not None
    assert run.card.labels.labels == tuple(sorted(TOPICS))
    assert run.card.training["cut_rows"] == 0
    assert sum(run.card.labels.counts.values()) == run.card.training["rows"]


def test_same_seed_gives_same_weights_and_other_seed_does_not(encoder: Path, tmp_path: Path) -> None:
    recipe = topic_recipe(tmp_path, encoder, train__num_train_epochs=1)

    one, two = (weights(train(recipe, out=tmp_path / name).path) for name in ("one", "two"))
    three = weights(train(recipe, out=tmp_path / "three", settings={"train.seed": 1}).path)

    assert equal_weights(one, two)
    assert not equal_weights(one, three)


def test_token_budget_does_not_change_gradient(encoder: Path, tmp_path: Path) -> None:
    recipe = load_recipe(topic_recipe(tmp_path, encoder))

    gradients = []
    for budget in (16, 100_000):
        trainer = _trainer(recipe.replace({"train.token_budget": budget, "head.dropout": 0.0}), tmp_path)
        gradients.append(_gradient(trainer))

    assert gradients[0].abs().max() > 0
    torch.testing.assert_close(gradients[0], gradients[1], atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize("family", ["encoder", "causal"])
def test_killed_and_resumed_run_ends_with_same_weights(family: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    base = request.getfixturevalue(family)
    recipe = topic_recipe(tmp_path, base, train__save_steps=2, train__num_train_epochs=2)
    whole = weights(train(recipe, out=tmp_path / "whole").path)

    child = subprocess.Popen([sys.executable, "-c", CHILD, str(recipe), str(tmp_path / "killed")])
    checkpoints = tmp_path / "killed" / "checkpoints"
    deadline = time.monotonic() + 120
    while last_checkpoint(checkpoints) is None and child.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    os.kill(child.pid, signal.SIGKILL)
    child.wait()
    newest = sorted(checkpoints.glob("checkpoint-*"), key=lambda p: int(p.name.rpartition("-")[2]))[-1]
    assert not (tmp_path / "killed" / "adapter").exists()
    with (newest / "trained.safetensors").open("ab") as file:
        file.write(b"torn")  # as after a kill in the middle of this save
    resumed = train(recipe, out=tmp_path / "killed", resume=True)

    assert equal_weights(whole, weights(resumed.path))


def test_run_resumes_to_same_weights_after_ctrl_c(encoder: Path, tmp_path: Path) -> None:
    recipe = topic_recipe(tmp_path, encoder, train__save_steps=3)
    whole = weights(train(recipe, out=tmp_path / "whole").path)

    def interrupt(what: str, share: float | None = None) -> None:
        if what == "training" and share is not None and share > 0.5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(recipe, out=tmp_path / "run", progress=interrupt)
    resumed = train(recipe, out=tmp_path / "run", resume=True)

    assert resumed.resumed_from is not None
    assert equal_weights(whole, weights(resumed.path))


def test_resume_without_folder_finds_newest_unfinished_run(encoder: Path, tmp_path: Path) -> None:
    recipe = topic_recipe(tmp_path, encoder)

    def interrupt(what: str, share: float | None = None) -> None:
        if what == "training" and share is not None and share > 0.5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(recipe, progress=interrupt)
    run = train(recipe, resume=True)

    assert [run.path.resolve()] == [p.resolve() for p in Path("runs").iterdir()]


def test_second_training_in_same_folder_is_refused(encoder: Path, tmp_path: Path) -> None:
    recipe = topic_recipe(tmp_path, encoder)
    second: list[BaseException] = []

    def start_another(what: str, share: float | None = None) -> None:
        if what == "training" and not second:
            child = subprocess.run(
                [sys.executable, "-c", CHILD, str(recipe), str(tmp_path / "run"), "--resume"],
                capture_output=True,
                text=True,
                check=False,
            )
            second.append(RunError(child.stderr))

    train(recipe, out=tmp_path / "run", progress=start_another)

    assert "Another training is writing to this folder" in str(second[0])


def test_folder_that_is_not_empty_is_refused(encoder: Path, tmp_path: Path) -> None:
    recipe = topic_recipe(tmp_path, encoder)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "thesis.txt").write_text("text")

    with pytest.raises(RunError, match=r"not empty \(thesis.txt\)"):
        train(recipe, out=tmp_path / "run")
    with pytest.raises(RunError, match="the folder is not a run"):
        train(recipe, out=tmp_path / "run", resume=True)
    assert (tmp_path / "run" / "thesis.txt").read_text() == "text"


def test_run_with_other_settings_is_not_resumed(encoder: Path, tmp_path: Path) -> None:
    recipe = topic_recipe(tmp_path, encoder)
    train(recipe, out=tmp_path / "run")

    with pytest.raises(RunError, match="another recipe or with other settings"):
        train(recipe, out=tmp_path / "run", resume=True, settings={"train.learning_rate": 0.5})


def test_the_validation_loss_is_that_of_the_stored_adapter(encoder: Path, tmp_path: Path) -> None:
    run = train(topic_recipe(tmp_path, encoder, train__num_train_epochs=1), out=tmp_path / "run")

    recipe = load_recipe(topic_recipe(tmp_path, encoder, train__num_train_epochs=1))
    rows = prepare(recipe).validation
    specialist = VerticalModel.from_adapter(open_adapter(run.path)).specialist()
    with torch.inference_mode():
        losses = [
            -specialist(specialist.collate([specialist.encode(row, learn=True)]))[0].log_softmax(-1)[0, position(row, run)]
            for row in rows
        ]
    assert run.card.training["eval_loss"] == pytest.approx(float(torch.stack(losses).mean()), abs=1e-4)
    assert not find_scalars(run.path, "eval/loss")


def test_the_validation_loss_is_measured_during_a_training_that_asks_for_it(encoder: Path, tmp_path: Path) -> None:
    recipe = topic_recipe(tmp_path, encoder, train__num_train_epochs=1)

    run = train(recipe, out=tmp_path / "run", settings={"train.eval_steps": 0.5})

    assert len(find_scalars(run.path, "eval/loss")) == 2


def position(row: Example, run: Run) -> int:
    assert run.card.labels is not None
    return run.card.labels.labels.index(str(row.target))


def find_scalars(run: Path, name: str) -> list[float]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(run / "events")).Reload()
    return [event.value for event in events.Scalars(name)] if name in events.Tags()["scalars"] else []


def test_early_stopping_keeps_the_best_weights(encoder: Path, tmp_path: Path) -> None:
    recipe = topic_recipe(
        tmp_path, encoder, train__num_train_epochs=8, train__early_stopping_patience=1, train__learning_rate=0.5,
        train__eval_steps=4, train__save_steps=4, train__logging_steps=1,
    )  # fmt: skip

    run = train(recipe, out=tmp_path / "run")

    assert run.card.training["steps"] < 8 * 12


def test_more_cut_rows_than_allowed_stop_run(encoder: Path, tmp_path: Path) -> None:
    recipe = topic_recipe(tmp_path, encoder, data__max_length=8)

    with pytest.raises(DataError, match=r"90 of 90 training rows are longer than 8 tokens .* Set data.max_length: 16;"):
        train(recipe, out=tmp_path / "run")
    run = train(recipe, out=tmp_path / "allowed", settings={"data.limits.truncated": 1.0})
    assert run.card.training["cut_rows"] == 90


def test_row_whose_answer_is_cut_off_is_refused(causal: Path, tmp_path: Path) -> None:
    recipe = load_recipe(topic_recipe(tmp_path, causal, task="generation", data__max_length=16, evaluate={"resamples": 100}))
    specialist = create_specialist(pull_base(str(causal)), recipe, None)
    from vertical_sdk.types import Message

    row = Example("7", messages=(Message("user", "a question of some length"), Message("assistant", "x")))
    with pytest.raises(DataError, match=r"1 of 1 rows have no token to learn from \(row 7\)"):
        encode_rows(specialist, [row], learn=True)


def test_loss_that_is_not_finite_stops_run(encoder: Path, tmp_path: Path) -> None:
    recipe = topic_recipe(tmp_path, encoder, train__learning_rate=1e38, train__max_grad_norm=0.0, train__logging_steps=1)

    with pytest.raises(DataError, match="the loss became"):
        train(recipe, out=tmp_path / "run")


def test_encoder_is_refused_for_generation(encoder: Path, tmp_path: Path) -> None:
    rows = [(f"question {i}", f"answer {i}") for i in range(40)]
    data = write_csv(tmp_path / "qa.csv", rows, ("prompt", "completion"))
    recipe = topic_recipe(tmp_path, encoder, task="generation", data={"source": str(data), "decontaminate": None}, evaluate={})

    with pytest.raises(RecipeError, match="is an encoder and cannot write"):
        train(recipe, out=tmp_path / "run")


def test_causal_base_without_chat_template_is_refused(tmp_path: Path) -> None:
    base = save_causal(tmp_path / "base", template=None)

    with pytest.raises(BaseModelError, match="no chat template"):
        train(topic_recipe(tmp_path, base), out=tmp_path / "run")


def test_key_that_the_sdk_sets_is_refused(encoder: Path, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="output_dir is set by the SDK"):
        train(topic_recipe(tmp_path, encoder, train__output_dir="elsewhere"), out=tmp_path / "run")


@pytest.mark.parametrize(
    ("task", "rows", "loss"),
    [
        ("ordinal", [(text, label) for text, label in topic_rows(60)], "earth_mover"),
        (
            "multilabel",
            [(text, f"{label};{'odd' if i % 2 else 'even'}") for i, (text, label) in enumerate(topic_rows(60))],
            "asymmetric",
        ),
        (
            "regression",
            [(text, str(10 * list(TOPICS).index(label) + i % 3)) for i, (text, label) in enumerate(topic_rows(60))],
            "huber",
        ),
    ],
)
@pytest.mark.parametrize("family", ["encoder", "causal"])
def test_other_tasks_train_on_each_family(
    task: str, rows: list[Any], loss: str, family: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    base = request.getfixturevalue(family)
    data = write_csv(tmp_path / "data.csv", rows)
    recipe = topic_recipe(
        tmp_path, base, task=task, loss={"use": loss}, train__num_train_epochs=1,
        data={"source": str(data), "columns": {"text": "text", "label": "label"}, "decontaminate": None},
        labels=["skin", "lung", "heart"] if task == "ordinal" else None, evaluate={"baselines": ["probe"], "resamples": 100},
    )  # fmt: skip

    run = train(recipe, out=tmp_path / "run")

    from vertical_sdk import VerticalModel

    prediction = VerticalModel.from_pretrained(run.path).predict(["red itch rash"])[0]
    expected = {"ordinal": str, "multilabel": tuple, "regression": float}[task]
    assert isinstance(prediction.label, expected)


@pytest.mark.slow
@pytest.mark.parametrize("methods", [{}, {"adversarial_epsilon": 0.5, "ema_decay": 0.5, "loraplus_lr_ratio": 4.0}])
def test_two_processes_learn_same_as_one(methods: dict[str, float], encoder: Path, tmp_path: Path) -> None:
    # 96 training rows in steps of 16: one process takes 16 at once, two take 8 each
    data = write_csv(tmp_path / "data.csv", topic_rows(126))
    settings: dict[str, Any] = {
        "data": {"source": str(data), "columns": {"text": "text", "label": "label"}, "decontaminate": None, "clean": []},
        "head": {"dropout": 0.0},
        "train__num_train_epochs": 1,
        "train__logging_steps": 1,
        **{f"train__{key}": value for key, value in methods.items()},
    }
    one = topic_recipe(tmp_path, encoder, train__per_device_train_batch_size=16, **settings)
    alone = train(one, out=tmp_path / "one")
    two = topic_recipe(tmp_path, encoder, **settings)

    script = tmp_path / "child.py"
    script.write_text(CHILD)
    # with --cpu, accelerate silently starts one process; these options start two on a CPU
    launch = [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2", "--num_machines", "1"]
    launch += ["--mixed_precision", "no", "--dynamo_backend", "no", "--main_process_port", "0"]
    env = {**os.environ, "ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"}
    command = [*launch, str(script), str(two), str(tmp_path / "two")]
    result = subprocess.run(command, capture_output=True, text=True, check=False, env=env)

    assert result.returncode == 0, result.stderr
    assert read_card(tmp_path / "two" / "adapter").training["processes"] == 2
    losses = []
    for run in ("one", "two"):
        state = sorted((tmp_path / run / "checkpoints").glob("checkpoint-*"), key=lambda p: int(p.name.rpartition("-")[2]))[-1]
        history = json.loads((state / "trainer_state.json").read_text())["log_history"]
        losses.append([log["loss"] for log in history if "loss" in log])
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)
    for key, value in weights(alone.path).items():
        torch.testing.assert_close(value, weights(tmp_path / "two")[key], atol=1e-4, rtol=1e-3)


def _trainer(recipe: Any, folder: Path) -> VerticalTrainer:
    from vertical_sdk.losses import bind_loss

    labels = LabelSpace(tuple(sorted(TOPICS)))
    torch.manual_seed(0)
    specialist = create_specialist(pull_base(recipe.base), recipe, labels)
    rows = encode_rows(specialist, [Example(str(i), t, y) for i, (t, y) in enumerate(topic_rows(24))], learn=True)
    arguments = training_arguments(recipe.train, folder, "test")
    return VerticalTrainer(specialist, arguments, rows, [], bind_loss(recipe, labels, default="cross_entropy"), silent)


def _gradient(trainer: VerticalTrainer) -> torch.Tensor:
    model: Any = trainer.model
    batch = list(trainer.train_dataset)  # type: ignore[arg-type]
    trainer.training_step(model, batch, trainer._get_num_items_in_batch([batch], torch.device("cpu")))
    return torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])
