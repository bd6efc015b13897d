"""What a JSON schema and a repetition penalty cost for each token of written answers.

    python benchmarks/structured.py [--rows 1,16] [--tokens 10] [--rounds 2]

SmolLM2-135M-Instruct without an adapter, in one thread. The same prompts are answered plainly, by a schema and with a penalty, in turns.
Counted is the time of the processor in this thread, so what else runs on the machine changes little; the least of the rounds is shown.
"""

from __future__ import annotations

import argparse
import math
import time
from typing import Any

import torch

from vertical_sdk.bases.base import load_tokenizer, pull_base
from vertical_sdk.engines.scheduler import Request, Scheduler
from vertical_sdk.families.continuation import Continuation, Decoding
from vertical_sdk.families.plain_decoder import read_decoder
from vertical_sdk.families.specialist import load_backbone
from vertical_sdk.families.structured import JsonGrammar, read_schema

TEXT = {"type": "string", "maxLength": 40}
SCHEMA = {
    "type": "object",
    "properties": {"name": TEXT, "symptoms": {"type": "array", "items": TEXT, "minItems": 4, "maxItems": 6}},
    "required": ["name", "symptoms"],
    "additionalProperties": False,
}
VARIANTS: dict[str, dict[str, Any]] = {"plain": {}, "schema": {}, "penalty": {"repetition_penalty": 1.2}}


def main() -> None:
    """Print the time of a token, and its ratio to that of a plain answer."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--rows", default="1,16")
    options.add_argument("--tokens", type=int, default=10)
    options.add_argument("--rounds", type=int, default=2)
    arguments = options.parse_args()
    torch.set_num_threads(1)
    base = pull_base("smollm2-135m")
    tokenizer, end = load_tokenizer(base), load_tokenizer(base).eos_token_id
    with torch.inference_mode():
        decoder = read_decoder(load_backbone(base))
    schema = read_schema(SCHEMA)
    for what in ("a schema, with the tokenizer", "the next schema"):
        began = time.thread_time()
        grammar = JsonGrammar(tokenizer, end, schema)
        print(f"{what}: {1e3 * (time.thread_time() - began):.1f} ms")

    def measure(rows: int, name: str, temperature: float) -> float:
        """Seconds for each step after the prompts were read."""
        scheduler, requests = Scheduler(decoder), []
        for number in range(rows):
            turns = [{"role": "user", "content": f"Write the patient {number} as JSON."}]
            prompt = tuple(tokenizer.apply_chat_template(turns, add_generation_prompt=True, return_dict=False))
            decoding = Decoding(max_new_tokens=arguments.tokens, temperature=temperature, seed=1, **VARIANTS[name])
            json = grammar.begin_answer() if name == "schema" else None
            answer = Continuation(tokenizer, -1 if json is None else end, decoding, prompt=prompt, json=json)
            requests.append(scheduler.submit(Request(prompt, None, answer)))
        scheduler.step()
        began, steps = time.thread_time(), 0
        while not all(request.done for request in requests):
            scheduler.step()
            steps += 1
        return (time.thread_time() - began) / steps

    for rows in map(int, arguments.rows.split(",")):
        for temperature in (0.0, 1.0):
            least = dict.fromkeys(VARIANTS, math.inf)
            for _ in range(arguments.rounds):
                for name in VARIANTS:
                    least[name] = min(least[name], measure(rows, name, temperature))
            shown = ", ".join(f"{name} {1e3 * s:.1f} ms ({s / least['plain']:.2f})" for name, s in least.items())
            print(f"{rows} rows, temperature {temperature}: {shown}", flush=True)


if __name__ == "__main__":
    main()
