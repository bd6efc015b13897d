"""Would linear layers in bfloat16 or int8 answer faster than float32 on this processor, and how different would the answers be?

    python benchmarks/precision.py [--rounds 3] [--steps 8]

The library reads in float32, or with `dtype` in bfloat16, and writes in float32; this measures the alternatives. In
int8, weights are numbers with a scale for each output, inputs 7-bit
numbers with a scale for each token (AVX2 adds two products in 16 bits, which 8-bit inputs overflow), and sums float32, by PyTorch's
fbgemm. A scale for a whole batch, as `quantized.linear_dynamic` has it, would let rows of a batch change each other's answers.

smollm2-135m decodes the token that float32 chooses; counted is how often int8 would have chosen it too. minilm-l6 reads texts of 33
tokens; shown is the least cosine of a text's mean features in both. In one thread, in turns, by the time of the processor in it.
"""

from __future__ import annotations

import argparse
import copy
import math
import time
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vertical_sdk.bases.base import load_tokenizer, pull_base
from vertical_sdk.families import plain_decoder
from vertical_sdk.families.plain_encoder import find_encoder
from vertical_sdk.families.specialist import load_backbone
from vertical_sdk.kernels.decoder import Linear, Segment

PARTS: dict[str, Callable[[Sequence[Tensor], bool], bool]] = {
    "all layers": lambda _weights, _packed: True,
    "all but those back to the hidden state": lambda _weights, packed: packed,
    "the output layer": lambda weights, _packed: len(weights[0]) > 10_000,
}


class Int8(nn.Module):
    """A linear layer in int8, or several of the same input."""

    def __init__(self, weights: Sequence[Tensor], biases: Sequence[Tensor | None]) -> None:
        super().__init__()
        weight = torch.cat([one.detach() for one in weights])
        scales = (weight.abs().amax(1) / 127).clamp_min(1e-12).double()
        zeros = torch.zeros(len(weight), dtype=torch.long)
        self.packed = torch.ops.quantized.linear_prepack(
            torch.quantize_per_channel(weight, scales, zeros, 0, torch.qint8), None
        )
        self.bias = None if biases[0] is None else torch.cat([one.detach() for one in biases if one is not None])

    def forward(self, x: Tensor) -> Tensor:
        """(..., in) → (..., out)."""
        rows = x.reshape(-1, x.shape[-1])
        most = rows.abs().amax(1, keepdim=True).clamp_min(1e-12)
        multiply = torch.ops.quantized.linear_with_input_q_dq_qweight_dq_output_fp32
        out = (multiply(rows / most, 1 / 63, 64, self.packed) * most).view(*x.shape[:-1], -1)
        return out if self.bias is None else out + self.bias


def least_times(calls: dict[str, Callable[[], Any]], rounds: int) -> dict[str, float]:
    """Milliseconds of the shortest call of each, in turns."""
    least = dict.fromkeys(calls, math.inf)
    for _ in range(rounds):
        for name, call in calls.items():
            began = time.thread_time()
            call()
            least[name] = min(least[name], 1e3 * (time.thread_time() - began))
    return least


def measure_reading(rounds: int) -> None:
    """Features of 1 and of 64 texts."""
    base = pull_base("minilm-l6")
    tokenizer, plain = load_tokenizer(base), load_backbone(base)
    encoder: Any = find_encoder(plain)

    def read_in_bfloat16(part: dict[str, Tensor]) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            read: Tensor = encoder(part["input_ids"], part["attention_mask"]).mean(1)
            return read

    changed = copy.deepcopy(plain)
    for module in list(changed.modules()):
        for name, child in list(module.named_children()):
            if type(child) is nn.Linear:
                setattr(module, name, Int8([child.weight], [child.bias]))
    text = "The customer {} reports that the invoice of day {} names the wrong company and asks for a refund within the next two weeks."
    batch = tokenizer([text.format(n, n % 28) for n in range(64)], padding=True, return_tensors="pt")
    for rows in (1, 64):
        part = {key: value[:rows] for key, value in batch.items()}
        calls: dict[str, Callable[[], Tensor]] = {
            "fp32": lambda p=part: encoder(p["input_ids"], p["attention_mask"]).mean(1),
            "bfloat16": lambda p=part: read_in_bfloat16(p),
            "int8": lambda p=part: changed(**p).last_hidden_state.mean(1),
        }
        least = least_times(calls, rounds)
        for name in ("bfloat16", "int8"):
            cosine = float(F.cosine_similarity(calls["fp32"](), calls[name]()).min())
            print(f"minilm-l6, {rows} texts: {show(least, name)}, least cosine {cosine:.5f}", flush=True)


def measure_writing(rounds: int, steps: int) -> None:
    """One token for 1 row and for 16 rows."""
    base = pull_base("smollm2-135m")
    tokenizer, model = load_tokenizer(base), load_backbone(base)
    turns = [[{"role": "user", "content": f"Write about case {n}."}] for n in range(16)]
    prompts = [tokenizer.apply_chat_template(turn, add_generation_prompt=True, return_dict=False) for turn in turns]
    plain = plain_decoder._build(model)
    for title, chosen in PARTS.items():

        def choose(weights: Any, biases: Any, *, packed: bool = False, chosen: Any = chosen) -> Any:
            return Int8(weights, biases) if chosen(weights, packed) else Linear(weights, biases, packed=packed)

        plain_decoder.Linear = choose  # type: ignore[assignment,misc]
        decoders = {"fp32": plain, "int8": plain_decoder._build(model)}
        plain_decoder.Linear = Linear  # type: ignore[misc]
        for rows in (1, 16):
            least, same = dict.fromkeys(decoders, math.inf), 0
            states = {name: (decoder.create_cache(), decoder.create_stack()) for name, decoder in decoders.items()}
            scores = {}
            for name, (cache, stack) in states.items():
                cache.reserve(rows, 128)
                for _ in range(rows):
                    cache.open()
                scores[name] = decoders[name].read([Segment(n, prompts[n], None) for n in range(rows)], cache, stack)
            for _ in range(rounds * steps):
                tokens = scores["fp32"].argmax(-1)
                for name, (cache, stack) in states.items():
                    began = time.thread_time()
                    scores[name] = decoders[name].step(tokens.tolist(), [None] * rows, cache, stack)
                    least[name] = min(least[name], 1e3 * (time.thread_time() - began))
                same += int((scores["fp32"].argmax(-1) == scores["int8"].argmax(-1)).sum())
            share = same / (rows * rounds * steps)
            print(f"smollm2-135m, {title} in int8, {rows} rows: {show(least, 'int8')}, same next token {share:.0%}", flush=True)


def show(least: dict[str, float], name: str) -> str:
    """The time in float32, the time of another, and their ratio."""
    return f"float32 {least['fp32']:.1f} ms, {name} {least[name]:.1f} ms, {least['fp32'] / least[name]:.2f} times as fast"


def main() -> None:
    """Measure both bases."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--steps", type=int, default=8)
    arguments = options.parse_args()
    warnings.simplefilter("ignore")  # PyTorch will remove these quantized tensors; nothing else has their products today
    torch.set_num_threads(1)
    torch.backends.quantized.engine = "fbgemm"
    with torch.inference_mode():
        measure_reading(arguments.rounds)
        measure_writing(arguments.rounds, arguments.steps)


if __name__ == "__main__":
    main()
