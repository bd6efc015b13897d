"""How a training computes on this machine: measured, unless its recipe decides."""

from __future__ import annotations

import torch
from pydantic import BaseModel, ConfigDict

from vertical_sdk.bases.base import Base, layer_width
from vertical_sdk.kernels.rates import measure_rates
from vertical_sdk.kernels.threads import count_free_threads
from vertical_sdk.training_arguments import Arguments

__all__ = ["Compute", "choose_compute"]


class Compute(BaseModel):
    """How a training computes. A resumed run does it as the run began.

    bf16     under autocast to bfloat16, with the frozen weights in it
    onednn   float32 products of the frozen weights through oneDNN
    threads  of PyTorch on the CPU
    """

    model_config = ConfigDict(frozen=True)
    bf16: bool
    onednn: bool
    threads: int


def choose_compute(arguments: Arguments, chosen: set[str], base: Base) -> Compute:
    """Choose what is fastest here.

    chosen  the keys of `train:` that the recipe sets: `bf16` or `fp16` among them decides the precision
    """
    decided = bool({"bf16", "fp16"} & chosen)
    if torch.cuda.is_available():
        return Compute(
            bf16=arguments.bf16 if decided else torch.cuda.is_bf16_supported(), onednn=False, threads=torch.get_num_threads()
        )
    rates = measure_rates(layer_width(base))
    bf16 = arguments.bf16 if decided else rates.prefers_bf16
    return Compute(bf16=bf16, onednn=rates.prefers_onednn and not bf16, threads=count_free_threads())
