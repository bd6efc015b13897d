"""llama.cpp by xllamacpp with one LoRA adapter a request, on a base in Q8_0. Started by `decoding.py --llama-python`.

The server runs in this process. It decodes requests of different adapters in different batches.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

from result import measure, read_work


def main() -> None:
    """Decode with all adapters loaded, one request for each prompt at the same time."""
    work, answer = read_work()
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = work["gguf"]
    params.n_parallel = len(work["prompts"])
    params.n_ctx = 1024 * len(work["prompts"])
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = work["threads"]
    params.lora_adapters = [xllamacpp.CommonAdapterLoraInfo(path, 0.0) for path in work["gguf_adapters"]]
    server = xllamacpp.Server(params)

    def complete(number: int) -> str:
        request: dict[str, Any] = {
            "prompt": work["prompts"][number],
            "n_predict": work["tokens"],
            "temperature": 0.0,
            "ignore_eos": True,
            "cache_prompt": False,
            "lora": [{"id": number, "scale": 1.0}],
        }
        reply = server.handle_completions(request)
        if reply["usage"]["completion_tokens"] != work["tokens"]:
            raise RuntimeError(f"wrote {reply['usage']['completion_tokens']} tokens, not {work['tokens']}")
        return str(reply["choices"][0]["text"])

    def run() -> list[str]:
        with ThreadPoolExecutor(len(work["prompts"])) as pool:
            return list(pool.map(complete, range(len(work["prompts"]))))

    measure(run, work, answer, ("xllamacpp",))


if __name__ == "__main__":
    main()
