"""transformers and PEFT: one call of generate, in which each row names its adapter. Started by `decoding.py`."""

from __future__ import annotations

from typing import Any

from result import measure, read_work


def main() -> None:
    """Decode in float32 with all adapters loaded; the rows are padded on the left."""
    work, answer = read_work()
    import peft
    import torch
    import transformers

    base: Any = transformers.AutoModelForCausalLM.from_pretrained(work["base"], dtype=torch.float32, local_files_only=True)
    names = [f"adapter-{n}" for n in range(len(work["adapters"]))]
    model: Any = peft.PeftModel.from_pretrained(base, work["adapters"][0], adapter_name=names[0])
    for name, path in zip(names[1:], work["adapters"][1:], strict=True):
        model.load_adapter(path, adapter_name=name)
    model.eval()
    longest = max(map(len, work["prompts"]))
    ids = torch.tensor([[0] * (longest - len(row)) + row for row in work["prompts"]])
    mask = torch.tensor([[0] * (longest - len(row)) + [1] * len(row) for row in work["prompts"]])

    def run() -> list[list[int]]:
        with torch.inference_mode():
            out = model.generate(
                input_ids=ids,
                attention_mask=mask,
                adapter_names=names,
                max_new_tokens=work["tokens"],
                min_new_tokens=work["tokens"],
                do_sample=False,
                pad_token_id=0,
            )
        return [list(row) for row in out[:, longest:].tolist()]

    measure(run, work, answer, ("peft", "transformers", "torch"))


if __name__ == "__main__":
    main()
