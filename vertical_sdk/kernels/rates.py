"""How fast this processor multiplies matrices in each precision. Measured, because the instructions that it has do not tell.

On one processor with bfloat16 instructions its products are four times as fast as PyTorch's in float32, on another they are slower.
oneDNN's products in float32 are twice as fast as PyTorch's on some processors and equal on others.
"""

from __future__ import annotations

import contextlib
import functools
import math
import platform
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from vertical_sdk.kernels.threads import use_threads
from vertical_sdk.measurements import measure_once

__all__ = ["Rates", "measure_rates", "multiply_by_onednn", "processor_name"]

TOKENS = 512
"""Rows of the measured product: a small batch."""
ROUNDS = 5
SECONDS = 0.02
"""Time for each precision in a round: five rounds of three are .3 s."""
WORTH = 1.2
"""Another precision or library is chosen if it is so many times as fast: below, its conversions take what it gains."""


@dataclass(frozen=True)
class Rates:
    """Measured GFLOP/s (10⁹ multiplications and additions a second) of a product at the width of a base, in one thread.

    fp32    in float32, as PyTorch computes it
    onednn  in float32 through oneDNN; 0 if this PyTorch does not have it
    bf16    in bfloat16; 0 if the processor has no instructions for it
    """

    fp32: float
    onednn: float
    bf16: float

    @property
    def prefers_onednn(self) -> bool:
        """Whether float32 is faster through oneDNN."""
        return self.onednn >= WORTH * self.fp32

    @property
    def prefers_bf16(self) -> bool:
        """Whether bfloat16 is faster than the faster float32."""
        return self.bf16 >= WORTH * max(self.fp32, self.onednn)


def measure_rates(width: int, *, keep: bool = True) -> Rates:
    """Measure products of a batch and a square matrix of this width: .3 s.

    keep  write the result into the cache folder for the next time. It belongs to the processor, the version of PyTorch and the width
    """
    return _measure_once(f"{processor_name()}, torch {torch.__version__}, width {width}", width, keep)


@functools.cache
def _measure_once(key: str, width: int, keep: bool) -> Rates:
    return measure_once("rates.json", key, lambda: asdict(_measure(width)), _parse) if keep else _measure(width)


def _parse(kept: dict[str, float]) -> Rates:
    return Rates(**{name: float(rate) for name, rate in kept.items()})


def _measure(width: int) -> Rates:
    x, weight = torch.randn(TOKENS, width), torch.randn(width, width)
    half_x, half_weight = x.to(torch.bfloat16), weight.to(torch.bfloat16)
    products: dict[str, Callable[[], Tensor]] = {"fp32": lambda: F.linear(x, weight)}
    if _has_onednn():
        products["onednn"] = lambda: multiply_by_onednn(x, weight, None)
    if _has_bf16_instructions():
        products["bf16"] = lambda: F.linear(half_x, half_weight)
    shortest = dict.fromkeys(products, math.inf)
    with torch.inference_mode(), use_threads(1):  # with more, what runs on another core decides
        for _ in range(ROUNDS):  # in turns, so that another process slows all of them
            for name, product in products.items():
                shortest[name] = min(shortest[name], _shortest_call(product))
    rates = {name: round(2 * TOKENS * width * width / 1e9 / seconds, 1) for name, seconds in shortest.items()}
    return Rates(**{"onednn": 0.0, "bf16": 0.0, **rates})


def _shortest_call(product: Callable[[], Tensor]) -> float:
    """Seconds of the shortest of several calls: the one that no other process interrupted."""
    product()
    shortest, until = math.inf, time.perf_counter() + SECONDS
    while (began := time.perf_counter()) < until:
        product()
        shortest = min(shortest, time.perf_counter() - began)
    return shortest


def multiply_by_onednn(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """x (rows, in) · weight (out, in)' + bias (out,) in float32 by oneDNN, without gradients → (rows, out).

    weight  as it is, or in the order of `torch.ops.mkldnn._reorder_linear_weight`
    """
    product: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
    return product


def _has_onednn() -> bool:
    try:
        multiply_by_onednn(torch.ones(1, 2), torch.ones(2, 2), None)
    except (AttributeError, RuntimeError, NotImplementedError):
        return False
    return True


def _has_bf16_instructions() -> bool:
    """Whether the processor has AVX-512 bf16 or AMX; others emulate bfloat16, hundreds of times slower."""
    check = getattr(torch.cpu, "_is_avx512_bf16_supported", None)
    return bool(check and check())


@functools.cache
def processor_name() -> str:
    """The name of this machine's processor."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
