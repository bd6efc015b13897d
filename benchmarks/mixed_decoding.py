"""The part `decode` of `inference.py`: tokens a second of a batch in which each prompt has another adapter."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

__all__ = ["measure_decoding"]

BASE = "smollm2-135m"
INSTRUCTION = "You help the staff of a hospital. Answer in short sentences, and never invent facts."
QUESTIONS = (
    "What is fever?",
    "Name three signs of a cold, and what to do about each of them.",
    "Hello",
    "When is a rash dangerous?",
)
STD = 0.02
"""Of the adapters' B: their texts differ from the base's, and are still texts."""
Ids = list[int]


def build_adapters(backbone: Any, count: int) -> tuple[Any, list[str]]:
    """The base with so many adapters by PEFT, and their names."""
    import peft
    import torch

    torch.manual_seed(0)
    config = peft.LoraConfig(task_type="CAUSAL_LM", r=8, lora_alpha=16, target_modules="all-linear")
    names = [f"adapter-{number}" for number in range(count)]
    model: Any = peft.get_peft_model(backbone, config, adapter_name=names[0])
    for name in names[1:]:
        model.add_adapter(name, config)
    for name, weight in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=STD)
    return model.eval().requires_grad_(False), names


def encode_prompts(tokenizer: Any, count: int) -> list[Ids]:
    """Prompts of several lengths that begin alike."""
    texts = [
        [{"role": "system", "content": INSTRUCTION}, {"role": "user", "content": f"Case {n}. {QUESTIONS[n % len(QUESTIONS)]}"}]
        for n in range(count)
    ]
    return [list(tokenizer.apply_chat_template(text, add_generation_prompt=True, return_dict=False)) for text in texts]


def write_by_peft(model: Any, names: Sequence[str], prompts: Sequence[Ids], pad: int, tokens: int) -> list[Ids]:
    """Write tokens by PEFT, one adapter for each prompt."""
    import torch

    longest = max(map(len, prompts))
    ids = torch.tensor([[pad] * (longest - len(prompt)) + prompt for prompt in prompts])
    mask = torch.tensor([[0] * (longest - len(prompt)) + [1] * len(prompt) for prompt in prompts])
    with torch.inference_mode():
        out = model.generate(
            input_ids=ids,
            attention_mask=mask,
            adapter_names=list(names),
            max_new_tokens=tokens,
            do_sample=False,
            eos_token_id=None,
            pad_token_id=pad,
        )
    return [row[longest:].tolist() for row in out]


def write_by_sdk(scheduler: Any, adapters: Sequence[Any], prompts: Sequence[Ids], tokenizer: Any, tokens: int) -> list[Ids]:
    """Write tokens by the SDK's scheduler. No token ends an answer, as above."""
    from vertical_sdk.engines.scheduler import Request
    from vertical_sdk.families.continuation import Continuation, Decoding

    decoding = Decoding(max_new_tokens=tokens)
    requests = [
        scheduler.submit(Request(tuple(prompt), adapter, Continuation(tokenizer, -1, decoding)))
        for prompt, adapter in zip(prompts, adapters, strict=True)
    ]
    while not all(request.done for request in requests):
        scheduler.step()
    return [list(request.answer.tokens) for request in requests]


def measure_decoding(batch: int, tokens: int, rounds: int) -> dict[str, Any]:
    """Seconds of each system for one batch, and whether their tokens are the same."""
    import torch

    from vertical_sdk.bases.base import load_tokenizer, pull_base
    from vertical_sdk.engines.scheduler import Scheduler
    from vertical_sdk.families.plain_decoder import read_decoder, read_low_rank
    from vertical_sdk.families.specialist import load_backbone

    tokenizer = load_tokenizer(pull_base(BASE))
    backbone, memory = load_backbone(pull_base(BASE)), _resident()
    with torch.inference_mode():
        decoder = read_decoder(backbone)
    assert decoder is not None
    memory = _resident() - memory
    model, names = build_adapters(backbone, batch)
    prompts = encode_prompts(tokenizer, batch)
    adapters = []
    for name in names:
        model.set_adapter(name)
        adapters.append(read_low_rank(model.get_base_model()))
    before = _resident()
    scheduler = Scheduler(decoder)
    systems: dict[str, Callable[[int], list[Ids]]] = {
        "sdk": lambda count: write_by_sdk(scheduler, adapters, prompts, tokenizer, count),
        "sdk base": lambda count: write_by_sdk(scheduler, [None] * batch, prompts, tokenizer, count),
        "peft": lambda count: write_by_peft(model, names, prompts, tokenizer.pad_token_id, count),
    }
    seconds: dict[str, float] = {}
    written: dict[str, list[Ids]] = {}
    for system in ("sdk", "sdk base"):  # memory is new, and the common beginning of the prompts is not known yet
        systems[system](2)
    memory += _resident() - before
    for _ in range(rounds):
        for system, write in systems.items():
            began = time.perf_counter()
            written[system] = write(tokens)
            seconds[system] = min(seconds.get(system, float("inf")), time.perf_counter() - began)
            print(f"{system}: {seconds[system]:.2f} s", file=sys.stderr, flush=True)
    assert all(len(row) == tokens for rows in written.values() for row in rows)
    pairs = list(zip(written["sdk"], written["peft"], strict=True))
    return {
        "batch": batch,
        "adapters": batch,
        "tokens": tokens,
        "prompt_tokens": sum(map(len, prompts)),
        "seconds": {system: round(value, 2) for system, value in seconds.items()},
        "tokens_per_second": {system: round(batch * tokens / value, 1) for system, value in seconds.items()},
        "times_peft": round(seconds["peft"] / seconds["sdk"], 2),
        "share_of_base": round(seconds["sdk base"] / seconds["sdk"], 2),
        "same_answers": sum(a == b for a, b in pairs),
        "other_than_base": sum(a != b for a, b in zip(written["sdk"], written["sdk base"], strict=True)),
        "more_memory_mb": round(memory / 1e6),
    }


def _resident() -> int:
    """Bytes of this process in memory."""
    import psutil

    return int(psutil.Process(os.getpid()).memory_info().rss)
