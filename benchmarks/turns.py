"""Training that waits for its turn: the child's side, and what the parent reads from it.

The parent starts one process for each system. Each loads its model, then trains `steps` steps whenever a line comes on stdin, and
answers in JSON lines. This file imports only transformers, so that the systems of `peers/` can use it in environments of their own.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import sys
import time
import warnings
from collections.abc import Callable
from typing import Any


def settings_of(dtype: str, steps: int, batch: int) -> dict[str, Any]:
    """Keys of TrainingArguments, the same for all systems."""
    return {
        "max_steps": steps,
        "learning_rate": 2e-4,
        "lr_scheduler_type": "constant",
        "warmup_steps": 0,
        "weight_decay": 0.01,
        "per_device_train_batch_size": batch,
        "train_sampling_strategy": "sequential",
        "bf16": dtype == "bf16",
        "seed": 0,
        "logging_steps": 1,
        "save_strategy": "no",
        "eval_strategy": "no",
    }


def same_start(model: Any) -> None:
    """Give what is trained the same weights in all systems: small random numbers, and zero where LoRA begins with zero."""
    import torch

    rng = torch.Generator().manual_seed(0)
    for name, weight in model.named_parameters():
        if weight.requires_grad and "lora_B" not in name:
            weight.data.copy_(0.02 * torch.randn(weight.shape, generator=rng))


def train_in_turns(make: Callable[[int], tuple[Any, Any, dict[str, Any]]], rounds: int, steps: int) -> None:
    """Train one step, then `rounds` times `steps`, each when a line comes on stdin; tell the parent in JSON lines.

    make  the number of steps → a transformers.Trainer, the context that it trains in, and facts for the result
    """
    import transformers

    answer = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # libraries print to stderr
    seconds: list[float] = []
    losses: list[float] = []

    def tell(**what: Any) -> None:
        answer.write(json.dumps(what) + "\n")
        answer.flush()

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

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer, under, facts = make(1 + rounds * steps)
        trainer.add_callback(Turns())
        with under or contextlib.nullcontext():
            trainer.train()
    tell(seconds=seconds[1:], losses=losses, peak_bytes=peak_bytes(), **facts)


def peak_bytes() -> int:
    """The most memory that this process had at once."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def read_answer(side: Any, system: str) -> dict[str, Any]:
    """Read the next line of a child. Ends the program if the child has ended."""
    line = side.stdout.readline()
    if not line:
        raise SystemExit(f"{system} ended with {side.wait()}")
    told: dict[str, Any] = json.loads(line)
    return told
