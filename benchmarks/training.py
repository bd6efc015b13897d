"""The SDK's training beside plain transformers.Trainer + PEFT, on the same rows, base, precision and threads.

    python benchmarks/training.py [--tasks classification,answers] [--dtypes fp32,bf16] [--rounds N] [--steps N] [--json]

classification  minilm-l6 on the rows of medical/icd-chapter: pooled features and a linear head
answers         smollm2-135m on 100 of these rows as conversations, of which only the answers are learned

Both systems begin at the same weights and take the same rows in the same order, so their losses must agree. Each runs in a
process of its own, which is what makes peak memory comparable; both are loaded, then they train in turns, round by round, while
the other waits. A step is everything from one optimizer step to the next. Runs on the CPU.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

RECIPE = "medical/icd-chapter"
BASES = {"classification": "minilm-l6", "answers": "smollm2-135m"}
BATCH = {"classification": 64, "answers": 4}
ANSWERS = 100
SYSTEMS = ("plain", "sdk")


def recipe_of(task: str) -> Any:
    """The recipe of a task, without dropout: random zeros could not be compared."""
    from vertical_sdk.recipe import load_recipe

    settings: dict[str, Any] = {"head.dropout": 0.0, "adapter": {"r": 16, "lora_alpha": 32}}
    if task == "answers":
        settings |= {"task": "generation", "base": BASES[task], "loss": None, "data.max_length": 128}
    return load_recipe(RECIPE, settings)


def write_rows(path: Path, tasks: list[str]) -> None:
    """The rows of the tasks as tokens, which both systems read."""
    from vertical_sdk.bases.base import load_text_tokenizer, load_tokenizer, pull_base
    from vertical_sdk.data.prepare import prepare
    from vertical_sdk.data.texts import format_prompt, shuffle_key
    from vertical_sdk.families.chat import encode_conversation
    from vertical_sdk.types import Message

    prepared = prepare(recipe_of("classification"))
    train = sorted(prepared.train, key=lambda row: shuffle_key(0, row))
    labels = prepared.labels.labels
    found: dict[str, Any] = {"labels": labels}
    if "classification" in tasks:
        tokenizer = load_tokenizer(pull_base(BASES["classification"]))
        ids = tokenizer([row.text for row in train], truncation=True, max_length=recipe_of("classification").data.max_length)[
            "input_ids"
        ]
        found["classification"] = [[i, [], labels.index(row.target)] for i, row in zip(ids, train, strict=True)]
    if "answers" in tasks:
        texts = load_text_tokenizer(pull_base(BASES["answers"]))
        recipe = recipe_of("answers")
        found["answers"] = []
        for row in train[:ANSWERS]:
            turns = (*format_prompt(recipe.prompt, row.text), Message("assistant", str(row.target)))
            encoded = encode_conversation(texts, turns, recipe.data.max_length)
            found["answers"].append([encoded.ids, encoded.learn, None])
    path.write_text(json.dumps(found), encoding="utf-8")


def settings_of(task: str, dtype: str, steps: int) -> dict[str, Any]:
    """Keys of TrainingArguments, the same for both."""
    return {
        "max_steps": steps,
        "learning_rate": 2e-4,
        "lr_scheduler_type": "constant",
        "warmup_steps": 0,
        "weight_decay": 0.01,
        "per_device_train_batch_size": BATCH[task],
        "train_sampling_strategy": "sequential",
        "bf16": dtype == "bf16",
        "seed": 0,
        "logging_steps": 1,
        "save_strategy": "no",
        "eval_strategy": "no",
    }


def same_start(model: Any) -> None:
    """Give what is trained the same weights in both systems: small random numbers, and zero where LoRA begins with zero."""
    import torch

    rng = torch.Generator().manual_seed(0)
    for name, weight in model.named_parameters():
        if weight.requires_grad and "lora_B" not in name:
            weight.data.copy_(0.02 * torch.randn(weight.shape, generator=rng))


def sdk_trainer(task: str, dtype: str, steps: int, rows: dict[str, Any], folder: Path) -> tuple[Any, Any]:
    """The SDK's trainer, and what training runs under in `vertical_sdk.train`."""
    from vertical_sdk.bases.base import pull_base
    from vertical_sdk.families.batching import Encoded
    from vertical_sdk.families.specialist import create_specialist
    from vertical_sdk.kernels.fused_lora import fast_training
    from vertical_sdk.losses import bind_loss
    from vertical_sdk.training.trainer import VerticalTrainer
    from vertical_sdk.training_arguments import training_arguments
    from vertical_sdk.types import LabelSpace, silent

    recipe = recipe_of(task)
    labels = LabelSpace(tuple(rows["labels"])) if task == "classification" else None
    specialist: Any = create_specialist(pull_base(recipe.base), recipe, labels)
    same_start(specialist)
    encoded = [Encoded(tuple(ids), tuple(learn), target) for ids, learn, target in rows[task]]
    arguments = training_arguments(settings_of(task, dtype, steps), folder, recipe.name)
    trainer = VerticalTrainer(specialist, arguments, encoded, [], bind_loss(recipe, labels, default="cross_entropy"), silent)
    return trainer, fast_training(specialist.backbone, bf16=dtype == "bf16")


def plain_trainer(task: str, dtype: str, steps: int, rows: dict[str, Any], folder: Path) -> tuple[Any, Any]:
    """What a script with transformers.Trainer and PEFT does: each batch padded to its longest row, every position computed."""
    import peft
    import torch
    import transformers

    from vertical_sdk.bases.base import pull_base

    causal = task == "answers"
    loader = transformers.AutoModelForCausalLM if causal else transformers.AutoModel
    off: dict[str, Any] = {} if causal else {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    backbone = loader.from_pretrained(pull_base(BASES[task]).path, dtype=torch.float32, local_files_only=True, **off)
    unread = {} if causal else {"exclude_modules": r".*pooler.*"}
    config = peft.LoraConfig(
        r=16, lora_alpha=32, target_modules="all-linear", task_type="CAUSAL_LM" if causal else None, **unread
    )
    smoothing = recipe_of("classification").loss.arguments.get("smoothing", 0.0)

    class Classifier(torch.nn.Module):
        """Mean-pooled features of length 1 under a linear layer, as the SDK's encoders have them."""

        def __init__(self) -> None:
            super().__init__()
            self.backbone: Any = peft.get_peft_model(backbone, config)
            self.linear = torch.nn.Linear(backbone.config.hidden_size, len(rows["labels"]))

        def forward(self, input_ids: Any, attention_mask: Any, labels: Any) -> dict[str, Any]:
            hidden = self.backbone(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state.float()
            mask = attention_mask.unsqueeze(-1)
            pooled = torch.nn.functional.normalize((hidden * mask).sum(1) / mask.sum(1), dim=-1)
            logits = self.linear(pooled)
            return {
                "loss": torch.nn.functional.cross_entropy(logits.float(), labels, label_smoothing=smoothing),
                "logits": logits,
            }

    def collate(batch: list[Any]) -> dict[str, Any]:
        longest = max(len(ids) for ids, _, _ in batch)
        padded = {"input_ids": [], "attention_mask": [], "labels": []}
        for ids, learn, target in batch:
            empty = longest - len(ids)
            padded["input_ids"].append([*ids, *[0] * empty])
            padded["attention_mask"].append([1] * len(ids) + [0] * empty)
            answers = (
                [i if chosen else -100 for i, chosen in zip(ids, learn, strict=True)] + [-100] * empty if causal else target
            )
            padded["labels"].append(answers)
        return {key: torch.tensor(values) for key, values in padded.items()}

    model = peft.get_peft_model(backbone, config) if causal else Classifier()
    same_start(model)
    arguments = transformers.TrainingArguments(
        output_dir=str(folder),
        use_cpu=True,
        dataloader_pin_memory=False,
        remove_unused_columns=False,
        disable_tqdm=True,
        report_to=[],
        **settings_of(task, dtype, steps),
    )
    trainer = transformers.Trainer(model=model, args=arguments, train_dataset=rows[task], data_collator=collate)
    trainer.remove_callback(transformers.PrinterCallback)
    return trainer, contextlib.nullcontext()


def child(system: str, task: str, dtype: str, rounds: int, steps: int, path: Path) -> None:
    """Train one step, then `rounds` times `steps`, each when a line comes on stdin; tell the parent in JSON lines."""
    import transformers

    answer = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # libraries print to stderr

    def tell(**what: Any) -> None:
        answer.write(json.dumps(what) + "\n")
        answer.flush()

    seconds: list[float] = []
    losses: list[float] = []

    class Turns(transformers.TrainerCallback):
        """Waits for the turn, and takes the time of each step."""

        at = 0.0

        def wait(self) -> None:
            tell(ready=True)
            sys.stdin.readline()
            self.at = time.perf_counter()

        def on_step_end(self, _args: Any, state: Any, _control: Any, **_also: Any) -> None:
            seconds.append(time.perf_counter() - self.at)
            if (state.global_step - 1) % steps == 0 and state.global_step < state.max_steps:
                self.wait()
            self.at = time.perf_counter()

        def on_log(self, _args: Any, _state: Any, _control: Any, logs: Any = None, **_also: Any) -> None:
            if "loss" in logs:
                losses.append(logs["loss"])

    make: Callable[..., Any] = {"sdk": sdk_trainer, "plain": plain_trainer}[system]
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        rows = json.loads(path.read_text(encoding="utf-8"))
        trainer, under = make(task, dtype, 1 + rounds * steps, rows, Path(folder))
        trainer.add_callback(Turns())
        with under:
            trainer.train()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    tell(seconds=seconds[1:], losses=losses, peak_bytes=peak)


def compare(task: str, dtype: str, rounds: int, steps: int, path: Path) -> dict[str, Any]:
    """Both systems, loaded one after the other, then trained in turns."""
    sides = {}
    try:
        for system in SYSTEMS:
            words = [
                "--child",
                system,
                "--tasks",
                task,
                "--dtypes",
                dtype,
                "--rounds",
                str(rounds),
                "--steps",
                str(steps),
                "--rows",
                str(path),
            ]
            sides[system] = subprocess.Popen(
                [sys.executable, __file__, *words],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                env=os.environ | {"CUDA_VISIBLE_DEVICES": "", "TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1"},
            )
            heard(sides[system], system)
        found: dict[str, Any] = {}
        for number in range(rounds):
            for system in SYSTEMS if number % 2 else reversed(SYSTEMS):
                sides[system].stdin.write("go\n")
                sides[system].stdin.flush()
                found[system] = heard(sides[system], system)
    finally:
        for side in sides.values():
            side.kill()
            side.wait()
    for one in found.values():
        one["median_seconds"] = statistics.median(one["seconds"])
    differences = [abs(a - b) for a, b in zip(found["plain"]["losses"], found["sdk"]["losses"], strict=True)]
    return {
        "task": task,
        "base": BASES[task],
        "dtype": dtype,
        "batch": BATCH[task],
        **found,
        "speedup": found["plain"]["median_seconds"] / found["sdk"]["median_seconds"],
        "loss_difference": {"largest": max(differences), "per_step": differences},
    }


def heard(side: Any, system: str) -> dict[str, Any]:
    """The next line of a child."""
    line = side.stdout.readline()
    if not line:
        raise SystemExit(f"{system} ended with {side.wait()}")
    told: dict[str, Any] = json.loads(line)
    return told


def main() -> None:
    """Compare, and print a table or one JSON document."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--tasks", default=",".join(BASES))
    options.add_argument("--dtypes", default="fp32,bf16")
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--steps", type=int, default=3, help="optimizer steps of each system in a round")
    options.add_argument("--json", action="store_true")
    options.add_argument("--child", choices=SYSTEMS, help=argparse.SUPPRESS)
    options.add_argument("--rows", type=Path, help=argparse.SUPPRESS)
    chosen = options.parse_args()
    tasks, dtypes = chosen.tasks.split(","), chosen.dtypes.split(",")
    if chosen.child:
        child(chosen.child, tasks[0], dtypes[0], chosen.rounds, chosen.steps, chosen.rows)
        return
    with tempfile.TemporaryDirectory() as folder:
        rows = Path(folder) / "rows.json"
        write_rows(rows, tasks)
        found = []
        for task in tasks:
            for dtype in dtypes:
                found.append(compare(task, dtype, chosen.rounds, chosen.steps, rows))
                print(f"measured: {task}, {dtype}", file=sys.stderr, flush=True)
    import torch

    machine = {"python": platform.python_version(), "torch": torch.__version__, "threads": torch.get_num_threads()}
    if chosen.json:
        print(json.dumps({**machine, "results": found}, indent=1))
        return
    print(f"Python {machine['python']}, torch {machine['torch']}, {machine['threads']} threads; ", end="")
    print(f"median of {chosen.rounds} × {chosen.steps} steps, in turns\n")
    print(
        "| task | base | batch | dtype | plain s/step | SDK s/step | faster | largest loss difference | plain peak | SDK peak |"
    )
    print("|---|---|---:|---|---:|---:|---:|---:|---:|---:|")
    for one in found:
        plain, sdk = one["plain"], one["sdk"]
        times = f"{plain['median_seconds']:.3f} | {sdk['median_seconds']:.3f} | {one['speedup']:.2f}×"
        memory = f"{plain['peak_bytes'] / 1e6:.0f} MB | {sdk['peak_bytes'] / 1e6:.0f} MB"
        print(
            f"| {one['task']} | {one['base']} | {one['batch']} | {one['dtype']} | {times} "
            f"| {one['loss_difference']['largest']:.1e} | {memory} |"
        )


if __name__ == "__main__":
    main()
