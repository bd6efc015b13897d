"""The repetition penalty of answers, compared with `generate` of transformers for each prompt alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import save_causal, topic_recipe, topic_rows, up_weights, write_csv
from transformers import GPT2Config, GPT2LMHeadModel

from vertical_sdk import VerticalModel, train
from vertical_sdk.families.plain_decoder import read_decoder

PROMPTS = ["cough", "red itch on skin", "pulse fast and slow"]


def save_base(folder: Path, kind: str) -> Path:
    """A tiny base with the penalty 1.5 in its generation_config."""
    save_causal(folder)
    torch.manual_seed(0)
    if kind == "gpt2":
        config = GPT2Config(vocab_size=261, n_embd=32, n_layer=2, n_head=4, n_positions=256, eos_token_id=1, bos_token_id=None)
        config.architectures = ["GPT2LMHeadModel"]
        model: Any = GPT2LMHeadModel(config)
        model.generation_config.eos_token_id, model.generation_config.pad_token_id = 1, 0
        model.save_pretrained(folder)
    settings = folder / "generation_config.json"
    settings.write_text(settings.read_text().replace("{", '{"repetition_penalty": 1.5,', 1))
    return folder


@pytest.mark.filterwarnings("ignore:fan_in_fan_out is set to False")  # PEFT finds out by itself what Conv1D needs
@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_answers_with_a_penalty_are_those_of_transformers(tmp_path: Path, kind: str) -> None:
    recipe = topic_recipe(
        tmp_path, save_base(tmp_path / "base", kind), name="writer", task="generation", evaluate={"baselines": ["base"]},
        data={"source": str(write_csv(tmp_path / "rows.csv", topic_rows(60), ("prompt", "completion"))), "decontaminate": None},
        adapter={"r": 4, "lora_alpha": 8}, train__max_steps=3, train__learning_rate=0.01,
    )  # fmt: skip
    model = VerticalModel.from_pretrained(train(recipe, out=tmp_path / "run").path)
    specialist: Any = model.specialist()
    network = specialist.backbone.get_base_model()
    torch.manual_seed(0)
    with torch.no_grad():
        for weight in up_weights(specialist.backbone):
            weight.normal_(std=0.3)
    with torch.inference_mode():
        assert (read_decoder(network) is not None) == (kind == "llama")

    def write_by_transformers(prompt: str, penalty: float) -> tuple[str, int, int]:
        turns = [{"role": "user", "content": prompt}]
        ids = specialist.tokenizer.apply_chat_template(turns, add_generation_prompt=True, return_tensors="pt", return_dict=True)
        with torch.inference_mode():
            out = network.generate(**ids, max_new_tokens=24, do_sample=False, repetition_penalty=penalty)
        new = out[0, ids["input_ids"].shape[1] :]
        return specialist.tokenizer.decode(new, skip_special_tokens=True).strip(), ids["input_ids"].shape[1], len(new)

    written = {}
    for given, penalty in ((None, 1.5), (1.0, 1.0), (1.2, 1.2)):
        answers = model.generate(PROMPTS, max_new_tokens=24, repetition_penalty=given)

        written[penalty] = [(answer.text, answer.prompt_tokens, answer.new_tokens) for answer in answers]
        assert written[penalty] == [write_by_transformers(prompt, penalty) for prompt in PROMPTS]
    assert written[1.5] != written[1.0] != written[1.2]
