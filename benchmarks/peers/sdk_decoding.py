"""This library: the adapters of all rows in one pass. Started by `decoding.py`, once with adapters and once for the base alone."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from result import measure, read_work


def main() -> None:
    """Decode in float32 by the scheduler that `generate` uses. No token ends an answer."""
    work, answer = read_work()
    import torch

    from vertical_sdk.bases.base import load_tokenizer, pull_base
    from vertical_sdk.engines.scheduler import Request, Scheduler
    from vertical_sdk.families.continuation import Continuation, Decoding
    from vertical_sdk.families.lora import attach
    from vertical_sdk.families.plain_decoder import read_decoder, read_low_rank
    from vertical_sdk.families.specialist import load_backbone

    base = pull_base(work["base"])
    tokenizer, backbone = load_tokenizer(base), load_backbone(base)
    with torch.inference_mode():
        decoder = read_decoder(backbone)
    assert decoder is not None
    adapters: list[Any] = [None] * len(work["prompts"])
    if "--base" not in sys.argv:
        adapters = [read_low_rank(attach(backbone, Path(path)).get_base_model()) for path in work["adapters"]]
    scheduler = Scheduler(decoder)

    def run() -> list[list[int]]:
        requests = [
            scheduler.submit(
                Request(tuple(prompt), adapter, Continuation(tokenizer, -1, Decoding(max_new_tokens=work["tokens"])))
            )
            for prompt, adapter in zip(work["prompts"], adapters, strict=True)
        ]
        while not all(request.done for request in requests):
            scheduler.step()
        return [list(request.answer.tokens) for request in requests]

    measure(run, work, answer, ("vertical_sdk", "torch"))


if __name__ == "__main__":
    main()
