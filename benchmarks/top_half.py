"""The first and the second epoch of LoRA on the upper half of a base: in the second, the lower half is read from the first."""

from __future__ import annotations

import statistics
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

LINEAR = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
"""The linear layers of smollm2: PEFT does not choose layers by number among all-linear."""
ROWS = 80
"""Rows of an epoch: ten steps of eight."""


def upper_layers(base: str) -> list[int]:
    """The numbers of the layers in the upper half of a base."""
    from vertical_sdk.bases.base import load_config, pull_base

    config: Any = load_config(pull_base(base))
    return list(range(config.num_hidden_layers // 2, config.num_hidden_layers))


def measure_epochs(make: Callable[[int, Path], tuple[Any, Any]], steps: int) -> dict[str, Any]:
    """Train two epochs, and take the time of each step.

    make   the number of steps and a folder → a trainer, and the context that it trains in
    steps  of an epoch
    """
    import transformers

    seconds: list[float] = []

    class Clock(transformers.TrainerCallback):
        """Takes the time of each step."""

        at = 0.0

        def on_step_begin(self, *_args: Any, **_also: Any) -> None:
            self.at = time.perf_counter()

        def on_step_end(self, *_args: Any, **_also: Any) -> None:
            seconds.append(time.perf_counter() - self.at)

    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer, under = make(2 * steps, Path(folder))
        trainer.add_callback(Clock())
        with under:
            trainer.train()
    ratios = [first / second for first, second in zip(seconds[:steps], seconds[steps:], strict=True)]
    return {
        "first_epoch_seconds": sum(seconds[:steps]),
        "second_epoch_seconds": sum(seconds[steps:]),
        "speedup": statistics.median(ratios),
        "losses": [log["loss"] for log in trainer.state.log_history if "loss" in log],
    }


def report_epochs(measured: dict[str, Any]) -> str:
    """The result in one line."""
    return (
        f"top-half: {measured['first_epoch_seconds']:.1f} s for the first epoch, {measured['second_epoch_seconds']:.1f} s for the "
        f"second: {measured['speedup']:.2f} times as fast (median of the steps)"
    )
