"""TRL's SFTTrainer with PEFT on the rows of `training.py`, in an environment with trl. Started by `training.py --trl-python`.

trl                     the defaults of SFTConfig, but float32 unless bf16 is measured
trl-no-checkpointing    without gradient checkpointing, which is on by default and computes the forward pass twice
trl-padding-free        padding_free=True and no checkpointing: a batch is one long row
trl-packing             packing=True and no checkpointing: rows are put together to 2048 tokens, one such row a step

The start of the weights, the order of the rows and all other settings are those of `training.py`.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

from turns import same_start, settings_of, train_in_turns

PACKED = 2048
"""Tokens of a packed row."""
VARIANTS: dict[str, dict[str, Any]] = {
    "trl": {},
    "trl-no-checkpointing": {"gradient_checkpointing": False},
    "trl-padding-free": {"gradient_checkpointing": False, "padding_free": True},
    "trl-packing": {"gradient_checkpointing": False, "packing": True},
}


def make_trainer(
    system: str, task: str, dtype: str, steps: int, chosen: argparse.Namespace, folder: str
) -> tuple[Any, Any, Any]:
    """Build an SFTTrainer on the rows of a task."""
    import datasets
    import peft
    import torch
    import transformers
    import trl

    stored = json.loads(chosen.rows.read_text(encoding="utf-8"))
    rows = [
        {"input_ids": ids, "labels": [i if chosen else -100 for i, chosen in zip(ids, learn, strict=True)]}
        for ids, learn, _ in stored[task]
    ]
    packing = bool(VARIANTS[system].get("packing"))
    arguments = trl.SFTConfig(
        output_dir=folder,
        use_cpu=True,
        dataloader_pin_memory=False,
        disable_tqdm=True,
        report_to=[],
        max_length=PACKED if packing else None,
        **settings_of(dtype, steps, 1 if packing else chosen.batch),
        **VARIANTS[system],
    )
    model = transformers.AutoModelForCausalLM.from_pretrained(stored["base"], dtype=torch.float32, local_files_only=True)
    lora = peft.LoraConfig(r=chosen.rank, lora_alpha=2 * chosen.rank, target_modules="all-linear", task_type="CAUSAL_LM")
    trainer = trl.SFTTrainer(
        model=model,
        args=arguments,
        train_dataset=datasets.Dataset.from_list(rows),
        processing_class=transformers.AutoTokenizer.from_pretrained(stored["base"], local_files_only=True),
        peft_config=lora,
    )
    trainer.remove_callback(transformers.PrinterCallback)
    same_start(trainer.model)
    versions = {
        "trl": trl.__version__,
        "peft": peft.__version__,
        "transformers": transformers.__version__,
        "torch": torch.__version__,
    }
    facts: dict[str, Any] = {"versions": versions, "threads": torch.get_num_threads()}
    if packing:
        facts["scale"] = chosen.batch * len(trainer.train_dataset) / len(rows)  # its steps have more rows or fewer
    return trainer, None, facts


def main() -> None:
    """Train in turns, as the parent says."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--child", choices=tuple(VARIANTS), required=True)
    options.add_argument("--tasks", required=True)
    options.add_argument("--dtypes", required=True)
    options.add_argument("--rounds", type=int, required=True)
    options.add_argument("--steps", type=int, required=True)
    options.add_argument("--batch", type=int, required=True)
    options.add_argument("--rank", type=int, required=True)
    options.add_argument("--rows", type=Path, required=True)
    chosen = options.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        train_in_turns(
            lambda steps: make_trainer(chosen.child, chosen.tasks, chosen.dtypes, steps, chosen, folder),
            chosen.rounds,
            chosen.steps,
        )


if __name__ == "__main__":
    main()
