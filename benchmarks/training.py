"""The SDK's training beside plain transformers.Trainer + PEFT, on the same rows, base, precision and threads.

    python benchmarks/training.py [--tasks classification,answers] [--dtypes fp32,bf16] [--rounds N] [--steps N] [--json]
        [--data FOLDER] [--batch N] [--trl-python PYTHON] [--systems plain,sdk,trl,...]

classification  minilm-l6 on the rows of medical/icd-chapter: pooled features and a linear head
answers         smollm2-135m on 100 of these rows as conversations, of which only the answers are learned
instructions    smollm2-135m on 200 instruction rows of mixed length (`instructions.py`, which reads --data), LoRA of rank 8
equal, no-prefix, all-labelled      the same task without what makes these rows kind: see `instructions.KINDS`
top-half        80 of the instruction rows with LoRA on the upper half of the layers: the first and the second epoch of the SDK (`top_half.py`)

All systems begin at the same weights and take the same rows in the same order, so their losses must agree. Each runs in a
process of its own, which is what makes peak memory comparable; all are loaded, then they train in turns, round by round, while
the others wait. A step is everything from one optimizer step to the next. Runs on the CPU.

--trl-python is the python of an environment with trl, peft and the same torch; the systems trl, trl-no-checkpointing,
trl-padding-free and trl-packing (`peers/trl_training.py`) need it, and are skipped without it.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from instructions import KINDS, describe_rows, instruction_rows, useful_flop
from top_half import LINEAR, ROWS, measure_epochs, report_epochs, upper_layers
from turns import read_answer, same_start, settings_of, train_in_turns

RECIPE = "medical/icd-chapter"
TOP_HALF = "top-half"
BASES = {"classification": "minilm-l6", "answers": "smollm2-135m", **dict.fromkeys([*KINDS, TOP_HALF], "smollm2-135m")}
BATCH = {"classification": 64, "answers": 4, **dict.fromkeys([*KINDS, TOP_HALF], 8)}
RANK = {"classification": 16, "answers": 16, **dict.fromkeys([*KINDS, TOP_HALF], 8)}
ANSWERS = 100
SYSTEMS = ("plain", "sdk")
TRL = ("trl", "trl-no-checkpointing", "trl-padding-free", "trl-packing")
OTHER_BATCHES = ("trl-packing",)
"""Systems that put other rows into a step: their losses are not compared, and their time is counted for the rows of a step."""


def recipe_of(task: str) -> Any:
    """The recipe of a task, without dropout: random zeros could not be compared."""
    from vertical_sdk.recipe import load_recipe

    settings: dict[str, Any] = {"head.dropout": 0.0, "adapter": {"r": RANK[task], "lora_alpha": 2 * RANK[task]}}
    if task != "classification":
        settings |= {
            "task": "generation",
            "base": BASES[task],
            "loss": None,
            "data.max_length": 128 if task == "answers" else 1024,
        }
    if task == TOP_HALF:
        settings["adapter"] |= {"target_modules": LINEAR, "layers_to_transform": upper_layers(BASES[task])}
    return load_recipe(RECIPE, settings)


def write_rows(path: Path, tasks: list[str], data: Path | None) -> dict[str, Any]:
    """Write the rows of the tasks as tokens, which all systems read, and return them.

    data  the folder that the rows of `instructions.KINDS` are read from
    """
    found: dict[str, Any] = {}
    for task in set(tasks) & set(KINDS):
        found |= instruction_task(task, data)
    if TOP_HALF in tasks:
        found |= {TOP_HALF: instruction_task("instructions", data)["instructions"][:ROWS]}
    if {"classification", "answers"} & set(tasks):
        found |= coded_tasks(tasks)
    path.write_text(json.dumps(found), encoding="utf-8")
    return found


def instruction_task(task: str, data: Path | None) -> dict[str, Any]:
    """The rows of a kind of instructions, and where its base is."""
    from vertical_sdk.bases.base import load_config, pull_base

    if data is None:
        raise SystemExit(f"the task {task} reads its rows from a folder: --data FOLDER")
    base = pull_base(BASES[task])
    config = load_config(base)
    head = config.vocab_size * config.hidden_size  # the output layer is the embeddings
    return {
        task: [[ids, learn, None] for ids, learn in instruction_rows(data, task, base)],
        "base": str(base.path),
        "head": head,
        "layers": base.parameters - head,
    }


def coded_tasks(tasks: list[str]) -> dict[str, Any]:
    """The rows of medical/icd-chapter for `classification` and `answers`."""
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
    return found


def sdk_trainer(task: str, dtype: str, steps: int, folder: Path, rows: dict[str, Any]) -> tuple[Any, Any]:
    """The SDK's trainer, and what training runs under in `vertical_sdk.train`."""
    from vertical_sdk.bases.base import pull_base
    from vertical_sdk.families.batching import Encoded
    from vertical_sdk.families.specialist import create_specialist
    from vertical_sdk.kernels.fused_lora import fast_training
    from vertical_sdk.losses import bind_loss
    from vertical_sdk.training.compute import choose_compute
    from vertical_sdk.training.trainer import VerticalTrainer
    from vertical_sdk.training_arguments import training_arguments
    from vertical_sdk.types import LabelSpace, silent

    recipe = recipe_of(task)
    labels = LabelSpace(tuple(rows["labels"])) if task == "classification" else None
    base = pull_base(recipe.base)
    specialist: Any = create_specialist(base, recipe, labels)
    same_start(specialist)
    encoded = [Encoded(tuple(ids), tuple(learn), target) for ids, learn, target in rows[task]]
    arguments = training_arguments(settings_of(dtype, steps, BATCH[task]), folder, recipe.name)
    trainer = VerticalTrainer(specialist, arguments, encoded, [], bind_loss(recipe, labels, default="cross_entropy"), silent)
    compute = choose_compute(arguments, {"bf16"}, base)
    return trainer, fast_training(specialist.backbone, bf16=compute.bf16, onednn=compute.onednn)


def plain_trainer(task: str, dtype: str, steps: int, folder: Path, rows: dict[str, Any]) -> tuple[Any, Any]:
    """What a script with transformers.Trainer and PEFT does: each batch padded to its longest row, every position computed."""
    import peft
    import torch
    import transformers

    from vertical_sdk.bases.base import pull_base

    causal = task != "classification"
    loader = transformers.AutoModelForCausalLM if causal else transformers.AutoModel
    off: dict[str, Any] = {} if causal else {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    backbone = loader.from_pretrained(pull_base(BASES[task]).path, dtype=torch.float32, local_files_only=True, **off)
    unread = {} if causal else {"exclude_modules": r".*pooler.*"}
    config = peft.LoraConfig(
        r=RANK[task],
        lora_alpha=2 * RANK[task],
        target_modules="all-linear",
        task_type="CAUSAL_LM" if causal else None,
        **unread,
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
        **settings_of(dtype, steps, BATCH[task]),
    )
    trainer = transformers.Trainer(model=model, args=arguments, train_dataset=rows[task], data_collator=collate)
    trainer.remove_callback(transformers.PrinterCallback)
    return trainer, contextlib.nullcontext()


def train_child(system: str, task: str, dtype: str, rounds: int, steps: int, path: Path) -> None:
    """One of SYSTEMS in this process, in turns."""
    make = {"sdk": sdk_trainer, "plain": plain_trainer}[system]
    rows = json.loads(path.read_text(encoding="utf-8"))
    with tempfile.TemporaryDirectory() as folder:
        train_in_turns(lambda most: (*make(task, dtype, most, Path(folder), rows), {}), rounds, steps)


def start_child(system: str, task: str, dtype: str, chosen: argparse.Namespace, rows: Path) -> subprocess.Popen[str]:
    """Start a system, which loads its model and trains one step."""
    words = [
        "--child",
        system,
        "--tasks",
        task,
        "--dtypes",
        dtype,
        "--rounds",
        str(chosen.rounds),
        "--steps",
        str(chosen.steps),
    ]
    words += ["--batch", str(BATCH[task])]
    command = [sys.executable, __file__]
    if system in TRL:
        words += ["--rank", str(RANK[task])]
        command = [chosen.trl_python, str(Path(__file__).parent / "peers" / "trl_training.py")]
    return subprocess.Popen(
        [*command, *words, "--rows", str(rows)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"CUDA_VISIBLE_DEVICES": "", "TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1"},
    )


def compare(task: str, dtype: str, systems: list[str], chosen: argparse.Namespace, rows: Path) -> dict[str, Any]:
    """Load all systems one after the other, then train them in turns."""
    sides: dict[str, Any] = {}
    found: dict[str, Any] = {}
    rates = []
    try:
        for system in systems:
            sides[system] = start_child(system, task, dtype, chosen, rows)
            read_answer(sides[system], system)
        for number in range(chosen.rounds):
            rates.append(product_rate(dtype))
            for system in systems if number % 2 else reversed(systems):
                sides[system].stdin.write("go\n")
                sides[system].stdin.flush()
                found[system] = read_answer(sides[system], system)
    finally:
        for side in sides.values():
            side.kill()
            side.wait()
    return {"task": task, "base": BASES[task], "dtype": dtype, "batch": BATCH[task], "gflop_rate": max(rates), **found}


def product_rate(dtype: str) -> float:
    """Measured GFLOP/s of the products of this training's widest layer, in all threads: the faster of PyTorch's and oneDNN's."""
    import torch
    import torch.nn.functional as F

    from vertical_sdk.kernels.rates import multiply_by_onednn

    tokens, width, inner = 2048, 576, 1536
    kind = torch.bfloat16 if dtype == "bf16" else torch.float32
    x, weight = torch.randn(tokens, width, dtype=kind), torch.randn(inner, width, dtype=kind)
    products = [lambda: F.linear(x, weight)]
    if dtype == "fp32":
        products.append(lambda: multiply_by_onednn(x, weight, None))
    shortest = float("inf")
    with torch.inference_mode():
        for product in products * 3:
            product()
            for _ in range(10):
                began = time.perf_counter()
                product()
                shortest = min(shortest, time.perf_counter() - began)
    return 2 * tokens * width * inner / shortest / 1e9


def summarize(result: dict[str, Any], systems: list[str], rounds: int, rows: dict[str, Any]) -> dict[str, Any]:
    """Add to a result the ratios of the times, the differences of the losses and the useful operations."""
    task, steps = result["task"], len(result["plain"]["seconds"]) // rounds
    for system in systems:
        own = result[system]
        own["seconds_per_round"] = [
            own.get("scale", 1.0) * sum(own["seconds"][n * steps : (n + 1) * steps]) / steps for n in range(rounds)
        ]
        own["median_seconds"] = statistics.median(own["seconds_per_round"])
        ratios = [
            plain / each for plain, each in zip(result["plain"]["seconds_per_round"], own["seconds_per_round"], strict=True)
        ]
        own["speedup"] = {"median": statistics.median(ratios), "least": min(ratios), "most": max(ratios)}
        if system not in OTHER_BATCHES:
            differences = [abs(a - b) for a, b in zip(result["plain"]["losses"], own["losses"], strict=True)]
            own["loss_difference"] = {"largest": max(differences), "per_step": differences}
        if task in KINDS:
            flop = useful_flop(
                [(ids, learn) for ids, learn, _ in rows[task]],
                BATCH[task],
                range(1, 1 + rounds * steps),
                rows["layers"],
                rows["head"],
            )
            rate = flop / (rounds * steps) / own["median_seconds"] / 1e9
            own["useful_gflop_rate"], own["useful_share"] = rate, rate / result["gflop_rate"]
    if task in KINDS:
        result["rows"] = describe_rows([(ids, learn) for ids, learn, _ in rows[task]])
    return result


def main() -> None:
    """Compare, and print a table or one JSON document."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--tasks", default="classification,answers", help=", ".join(BASES))
    options.add_argument("--dtypes", default="fp32,bf16")
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--steps", type=int, default=3, help="optimizer steps of each system in a round")
    options.add_argument("--batch", type=int, help="rows in a step, in place of those of the task")
    options.add_argument("--data", type=Path, help="folder with medical/dialogue_train.csv, for the instruction tasks")
    options.add_argument("--trl-python", help="python of an environment with trl")
    options.add_argument("--systems", help="default: plain,sdk, and trl for causal tasks if --trl-python is given")
    options.add_argument("--json", action="store_true")
    options.add_argument("--child", choices=SYSTEMS, help=argparse.SUPPRESS)
    options.add_argument("--rows", type=Path, help=argparse.SUPPRESS)
    chosen = options.parse_args()
    tasks, dtypes = chosen.tasks.split(","), chosen.dtypes.split(",")
    if chosen.batch:
        BATCH.update(dict.fromkeys(BATCH, chosen.batch))
    if chosen.child:
        train_child(chosen.child, tasks[0], dtypes[0], chosen.rounds, chosen.steps, chosen.rows)
        return
    found = []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows.json"
        rows = write_rows(path, tasks, chosen.data)
        for task in tasks:
            systems = choose_systems(chosen, task) if task != TOP_HALF else []
            for dtype in dtypes:
                if task == TOP_HALF:
                    make = functools.partial(sdk_trainer, task, dtype, rows=rows)
                    found.append({"task": task, "dtype": dtype, **measure_epochs(make, len(rows[task]) // BATCH[task])})
                    continue
                result = compare(task, dtype, systems, chosen, path)
                found.append(summarize(result, systems, chosen.rounds, rows))
                print(f"measured: {task}, {dtype}", file=sys.stderr, flush=True)
    report({**machine(), "rounds": chosen.rounds, "steps": chosen.steps, "results": found}, as_json=chosen.json)


def choose_systems(chosen: argparse.Namespace, task: str) -> list[str]:
    """The systems that can do a task here; those that cannot are named on stderr."""
    wanted = chosen.systems.split(",") if chosen.systems else [*SYSTEMS, "trl"]
    if "plain" not in wanted:
        raise SystemExit("--systems must name plain, which the others are compared with")
    systems = []
    for system in wanted:
        if system in TRL and (chosen.trl_python is None or task not in KINDS):
            why = "--trl-python is not given" if chosen.trl_python is None else f"it does not do {task} here"
            print(f"skipped: {system}, because {why}", file=sys.stderr)
        else:
            systems.append(system)
    return systems


def machine() -> dict[str, Any]:
    """Versions, threads and processor."""
    import peft
    import torch
    import transformers

    from vertical_sdk.kernels.rates import processor_name

    versions = {"torch": torch.__version__, "transformers": transformers.__version__, "peft": peft.__version__}
    return {"processor": processor_name(), "threads": torch.get_num_threads(), "python": platform.python_version(), **versions}


def report(measured: dict[str, Any], *, as_json: bool) -> None:
    """Print the table or the JSON document."""
    if as_json:
        print(json.dumps(measured, indent=1))
        return
    print(", ".join(f"{key} {measured[key]}" for key in ("processor", "threads", "python", "torch", "transformers", "peft")))
    print(f"median of {measured['rounds']} rounds of {measured['steps']} steps, in turns\n")
    print(
        "| task | dtype | system | s/step | times as fast as plain (range) | largest loss difference | peak | useful operations |"
    )
    print("|---|---|---|---:|---:|---:|---:|---:|")
    for result in measured["results"]:
        if result["task"] == TOP_HALF:
            print(report_epochs(result))
        for system, own in result.items():
            if not isinstance(own, dict) or "seconds" not in own:
                continue
            speed = own["speedup"]
            difference = f"{own['loss_difference']['largest']:.1e}" if "loss_difference" in own else "other batches"
            share = f"{own['useful_share']:.0%} of {result['gflop_rate']:.0f} GFLOP/s" if "useful_share" in own else "-"
            print(
                f"| {result['task']} | {result['dtype']} | {system} | {own['median_seconds']:.3f} "
                f"| {speed['median']:.2f}× ({speed['least']:.2f}-{speed['most']:.2f}) | {difference} "
                f"| {own['peak_bytes'] / 1e6:.0f} MB | {share} |"
            )


if __name__ == "__main__":
    main()
