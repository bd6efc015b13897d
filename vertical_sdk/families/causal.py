"""Causal models: prompts by their chat template; they write answers, or choose among label words by likelihood."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vertical_sdk.bases.base import Base, load_text_tokenizer, load_tokenizer
from vertical_sdk.card import Card
from vertical_sdk.errors import RecipeError
from vertical_sdk.families.batching import Encoded, pad
from vertical_sdk.families.chat import encode_conversation, encode_prompt, encode_text, require_template
from vertical_sdk.families.continuation import Continuation, Decoding, TokenTree
from vertical_sdk.families.head import Head, load_head, save_head
from vertical_sdk.families.label_words import Choices, locate_nodes, plan_choices, tree_inputs
from vertical_sdk.families.logits import LogitChange, find_logit_change
from vertical_sdk.families.lora import with_lora
from vertical_sdk.families.specialist import Batch, load_backbone
from vertical_sdk.families.structured import JsonGrammar
from vertical_sdk.kernels.packing import NO_TAIL, plan_layout, use_layout
from vertical_sdk.recipe import Recipe
from vertical_sdk.registry.checked_files import CheckedFiles
from vertical_sdk.tasks import Task, get_task
from vertical_sdk.types import Example, Family, GeneratedText, LabelSpace, Modality, Progress, SeriesLayout, TaskName, silent

__all__ = ["CausalSpecialist"]

LOGITS = 512
"""Tokens of texts whose logits are in memory at once."""


class CausalSpecialist(nn.Module):
    """A causal backbone for one task.

    Generation learns the answers' tokens, and only those go through the output layer. Classification and ordinal compare the
    likelihood of the labels' words after the prompt, (rows, k). Multilabel and regression read a head on the prompt's last token.
    Language reads texts without a prompt, learns all of their tokens, and answers with bits a character, (rows, 1).
    """

    reads: ClassVar[Modality] = "text"
    bases: ClassVar[tuple[Family, ...]] = ("causal",)
    auto_class: ClassVar[str] = "AutoModelForCausalLM"

    def __init__(
        self,
        backbone: Any,
        base: Base,
        recipe: Recipe,
        labels: LabelSpace | None,
        head: Head | None = None,
        *,
        untrained: bool = False,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.tokenizer = load_tokenizer(base)
        self.text_tokenizer = load_text_tokenizer(base)
        self.task: TaskName = recipe.task
        self.labels = labels
        self.prompt = recipe.prompt
        self.max_length = min(recipe.data.max_length, base.max_length or 10**9)
        self.head: Head | None = None
        self.choices: Choices | None = None
        task = get_task(self.task)
        self.reads_texts = task.unlabelled
        if _has_head(task):
            self.head = head or Head(backbone.get_base_model().config.hidden_size, len(labels) if labels else 1)
        elif labels is not None:
            words = [labels.word(label) for label in labels.labels]
            self.choices = plan_choices(
                words, [self.text_tokenizer.encode(word).ids for word in words], self.tokenizer.eos_token_id
            )
        self.logit_change: LogitChange | None = None
        if self.head is None:
            self.logit_change = find_logit_change(backbone.get_base_model(), base.name, always=untrained)

    @classmethod
    def build_untrained(
        cls, base: Base, recipe: Recipe, labels: LabelSpace | None, layout: SeriesLayout | None = None
    ) -> CausalSpecialist:
        """Build an untrained specialist: LoRA that changes nothing yet."""
        if recipe.data.windows > 1:
            raise RecipeError(
                f"windows = {recipe.data.windows}: {base.name} is a causal base, which reads a text as a whole. Leave it out, or choose an "
                "encoder.",
                where=f"{recipe.name}: data",
            )
        if not get_task(recipe.task).unlabelled:
            require_template(load_tokenizer(base), base.name)
        backbone = with_lora(load_backbone(base, quantize=recipe.quantize), recipe.lora, "CAUSAL_LM", recipe.name)
        return cls(backbone, base, recipe, labels, untrained=True)

    @classmethod
    def load_trained(cls, backbone: Any, base: Base, recipe: Recipe, card: Card, files: CheckedFiles) -> CausalSpecialist:
        """Load the files of `save` onto a backbone that already carries the adapter."""
        return cls(backbone, base, recipe, card.labels, load_head(files) if _has_head(get_task(recipe.task)) else None)

    def save(self, folder: Path) -> None:
        """Write the head if there is one."""
        if self.head is not None:
            save_head(folder, self.head)

    def fit_to_rows(self, rows: Sequence[Encoded]) -> None:
        """Do nothing: the head starts from a linear probe."""

    @property
    def scale(self) -> float:
        """The standard deviation of a regression's training targets; 1 for other tasks."""
        return float(self.head.std) if self.head is not None else 1.0

    def self_test_row(self, text: str) -> Example:
        """The text itself."""
        return Example(id=text, text=text)

    def encode(self, example: Example, *, learn: bool) -> Encoded:
        """Encode a conversation with its answers marked, the prompt with the row's text, or a text whose tokens are all learned."""
        if self.reads_texts:
            return encode_text(self.text_tokenizer, example.text, self.max_length, learn=learn)
        if learn and get_task(self.task).written:
            return encode_conversation(self.text_tokenizer, example.messages, self.max_length)
        row = encode_prompt(self.text_tokenizer, self.prompt, example.text, self.max_length)
        return replace(row, target=get_task(self.task).encode_target(example.target, self.labels)) if learn else row

    def collate(self, rows: Sequence[Encoded]) -> Batch:
        """input_ids, attention_mask (rows, longest); learn (rows, longest) for generation; targets if rows have them.

        avoid (answer tokens, most), padded with -1, where the loss asked for it.
        """
        pad_id = self.tokenizer.pad_token_id if self.tokenizer.pad_token_id is not None else self.tokenizer.eos_token_id
        ids, mask = pad([row.ids for row in rows], pad_id)
        batch = {"input_ids": ids, "attention_mask": mask}
        if rows[0].learn:
            batch["learn"] = pad([row.learn for row in rows], 0)[0].bool()
            if rows[0].avoid:
                batch["avoid"] = pad([ids for row in rows for ids in row.avoid], -1)[0]
        elif rows[0].target is not None:
            batch["targets"] = torch.tensor([row.target for row in rows])
        return batch

    def backbone_inputs(self, batch: Batch) -> Batch:
        """The prompts; with the tree of the labels' words after each if there is one: then also masks and positions of the tokens."""
        ids, mask = batch["input_ids"], batch["attention_mask"]
        if self.choices is None or not self.choices.tokens:
            return {"input_ids": ids, "attention_mask": mask}
        tree, attention, positions = tree_inputs(self.choices, ids, mask)
        return {"input_ids": tree, "attention_mask": attention, "position_ids": positions}

    def run_backbone(self, backbone: Any, inputs: Batch) -> Tensor:
        """Hidden states (rows, tokens, width)."""
        model = backbone.get_base_model()
        mask = inputs["attention_mask"]
        mask = mask.to(next(model.parameters()).dtype) if mask.ndim == 4 else mask
        hidden: Tensor = getattr(model, model.base_model_prefix)(
            use_cache=False, **inputs | {"attention_mask": mask}
        ).last_hidden_state
        return hidden

    def pack(self, rows: Sequence[Encoded]) -> Batch:
        """Batch rows one after another; the tokens that all of them begin with once.

        input_ids (1, tokens), layout; targets as `collate` has them. Of answers, states: the output layer is left to the loss.
        reads (answer tokens,) are the positions before them, and targets the tokens. The tree of label words follows each prompt.
        """
        tree, tail = (self.choices.tokens, self.choices.tail) if self.choices is not None else ((), NO_TAIL)
        layout = plan_layout([row.ids for row in rows], share=self.shares, tail=tail)
        batch: Batch = {"input_ids": torch.tensor([layout.place([row.ids + tree for row in rows])]), "layout": layout}
        if not rows[0].learn:
            return batch if rows[0].target is None else {**batch, "targets": torch.tensor([row.target for row in rows])}
        starts = layout.starts.tolist()
        reads, tokens = [], []
        for row, start in zip(rows, starts, strict=True):
            for at in range(1, len(row.ids)):
                if row.learn[at]:
                    before = at - 1
                    reads.append(before if before < layout.shared else start + before - layout.shared)
                    tokens.append(row.ids[at])
        if rows[0].avoid:
            batch["avoid"] = pad([ids for row in rows for ids in row.avoid], -1)[0]
        return {**batch, "reads": torch.tensor(reads), "targets": torch.tensor(tokens)}

    @property
    def shares(self) -> bool:
        """Whether rows may share the tokens that they begin with: not if each pass drops numbers of its own."""
        return not any(module.p > 0 for module in self.backbone.modules() if isinstance(module, nn.Dropout))

    def read_logits(self, states: Tensor) -> Tensor:
        """The base's logits (..., vocabulary) of states (..., width)."""
        logits: Tensor = self.backbone.get_base_model().get_output_embeddings()(states)
        return logits if self.logit_change is None else self.logit_change(logits)

    @property
    def output_layer(self) -> nn.Linear | None:
        """The layer that makes numbers of states, which `logit_change` turns into logits; None if it is trained or is not linear."""
        model = self.backbone.get_base_model()
        layer = model.get_output_embeddings()
        plain = type(layer) is nn.Linear and not layer.weight.requires_grad
        return layer if plain else None

    def _packed_hidden(self, batch: Batch) -> Tensor:
        """The states of packed rows, (tokens, width)."""
        model = self.backbone.get_base_model()
        layout = batch["layout"]
        with use_layout(layout):
            packed: Tensor = getattr(model, model.base_model_prefix)(
                use_cache=False, input_ids=batch["input_ids"], position_ids=layout.positions
            ).last_hidden_state
        return packed[0]

    def read_hidden(self, hidden: Tensor, batch: Batch) -> Tensor:
        """Outputs (rows, k) of hidden states (rows, tokens, width)."""
        if self.reads_texts:
            return self._measure_texts(hidden, batch)
        rows, mask = torch.arange(len(hidden), device=hidden.device), batch["attention_mask"]
        reads = mask.sum(1)[:, None] - 1 if self.choices is None else locate_nodes(self.choices, mask)
        return self._read_states(hidden[rows[:, None], reads])

    def _measure_texts(self, hidden: Tensor, batch: Batch) -> Tensor:
        """Bits a character of each text, (rows, 1). Its first token has none before it, so it is not predicted."""
        ids, read = batch["input_ids"], batch["attention_mask"][:, 1:].bool()
        states, tokens = hidden[:, :-1][read], ids[:, 1:][read]
        parts = zip(torch.split(states, LOGITS), torch.split(tokens, LOGITS), strict=True)
        nats = [F.cross_entropy(self.read_logits(part).float(), answers, reduction="none") for part, answers in parts]
        total = torch.zeros(len(ids), device=hidden.device).index_add_(0, read.nonzero()[:, 0], torch.cat(nats))
        bits: Tensor = total / math.log(2) / batch["targets"].clamp_min(1)
        return bits[:, None]

    def _read_states(self, states: Tensor) -> Tensor:
        """Outputs (rows, k) of the states of each prompt's last token, and of the tree's nodes: (rows, 1 + nodes, width)."""
        if self.head is not None:
            outputs: Tensor = self.head(states[:, 0])
            return outputs
        if self.choices is None:
            raise ValueError("a generation specialist needs rows encoded to be learned from")
        return self.choices.scores(self.read_logits(states).float())

    def _read_prompts(self, batch: Batch) -> Tensor:
        inputs = {"input_ids": batch["input_ids"], "attention_mask": batch["attention_mask"]}
        return self.run_backbone(self.backbone, inputs)

    def features(self, batch: Batch) -> Tensor:
        """The hidden state of each prompt's last token: (rows, width)."""
        if (layout := batch.get("layout")) is not None:
            return self._packed_hidden(batch)[layout.ends]
        hidden, last = self._read_prompts(batch), batch["attention_mask"].sum(1) - 1
        return hidden[torch.arange(len(last), device=last.device), last]

    def forward(self, batch: Batch) -> tuple[Tensor, Tensor | None]:
        """Outputs and targets: (rows, k) and one target a row, or (answer tokens, vocabulary) and the tokens.

        Of packed answers (answer tokens, width), which `output_layer` turns into outputs.
        """
        if "reads" in batch:
            return self._packed_hidden(batch)[batch["reads"]], batch["targets"]
        if "learn" in batch:
            hidden, wanted = self._read_prompts(batch), batch["learn"][:, 1:]
            return self.read_logits(hidden[:, :-1][wanted]), batch["input_ids"][:, 1:][wanted]
        if (layout := batch.get("layout")) is not None:
            nodes = layout.ends[:, None] + torch.arange(1 + len(layout.tail.parents))
            return self._read_states(self._packed_hidden(batch)[nodes]), batch.get("targets")
        hidden = self.run_backbone(self.backbone, self.backbone_inputs(batch))
        return self.read_hidden(hidden, batch), batch.get("targets")

    def begin_answers(
        self, prompts: Sequence[Sequence[int]], decoding: Decoding, *, streamed: bool = False
    ) -> list[Continuation]:
        """Begin an answer to each prompt, which nothing is written of yet.

        prompts  token ids of each

        Raises what `JsonGrammar` raises.
        """
        if decoding.repetition_penalty is None:
            usual = getattr(self.backbone.get_base_model().generation_config, "repetition_penalty", None)
            decoding = replace(decoding, repetition_penalty=1.0 if usual is None else usual)
        end = -1 if self.tokenizer.eos_token_id is None else self.tokenizer.eos_token_id
        tree = None if decoding.choices is None else TokenTree(decoding.choices, self.text_tokenizer.encode, end)
        grammar = None if decoding.json_schema is None else JsonGrammar(self.tokenizer, end, decoding.json_schema)

        def begin_answer(prompt: Sequence[int]) -> Continuation:
            json = grammar.begin_answer() if grammar else None
            return Continuation(self.tokenizer, end, decoding, prompt=prompt, tree=tree, json=json, streamed=streamed)

        return [begin_answer(prompt) for prompt in prompts]

    def write(
        self,
        prompts: Sequence[tuple[int, ...]],
        decoding: Decoding,
        *,
        batch_size: int = 8,
        progress: Progress = silent,
        stream: Callable[[int, str], None] | None = None,
    ) -> list[GeneratedText]:
        """Write an answer to each prompt by transformers.

        prompts  token ids, (tokens,) each
        stream   gets the number of a prompt and the next piece of its text; the pieces joined are the text
        """
        pad_id = self.tokenizer.pad_token_id if self.tokenizer.pad_token_id is not None else self.tokenizer.eos_token_id
        end = pad_id if self.tokenizer.eos_token_id is None else self.tokenizer.eos_token_id
        device = next(self.backbone.parameters()).device
        answers = self.begin_answers(prompts, decoding, streamed=stream is not None)
        order = sorted(range(len(prompts)), key=lambda number: len(prompts[number]))
        for start in range(0, len(order), batch_size):
            group = order[start : start + batch_size]
            flipped, mask = pad([prompts[number][::-1] for number in group], pad_id)  # generation needs the padding on the left
            with torch.inference_mode():
                # not PeftModel.generate, which exchanges a method of the model while it runs
                self.backbone.get_base_model().generate(
                    input_ids=flipped.flip(1).to(device),
                    attention_mask=mask.flip(1).to(device),
                    max_new_tokens=max(answers[number].most for number in group),
                    do_sample=False,
                    repetition_penalty=1.0,  # the answers know it, without the padding
                    pad_token_id=pad_id,
                    eos_token_id=self.tokenizer.eos_token_id,
                    logits_processor=[_Chooser({number: answers[number] for number in group}, end, stream)],
                )
            progress("writing", (start + len(group)) / len(order))
        return [answer.result for answer in answers]


class _Chooser:
    """A logits processor of transformers: leaves each row the token that its answer chooses.

    answers  the number of each row's prompt → its answer, in the order of the rows
    end      the token of a row whose answer is finished
    """

    def __init__(self, answers: Mapping[int, Continuation], end: int, stream: Callable[[int, str], None] | None) -> None:
        self._answers, self._end, self._stream = answers, end, stream

    def __call__(self, _ids: Tensor, scores: Tensor) -> Tensor:
        """The scores of the next token (rows, vocabulary) → 0 for the chosen one, -∞ for the others."""
        chosen = torch.full_like(scores, -torch.inf)
        for row, (number, answer) in enumerate(self._answers.items()):
            token = self._end
            if not answer.finished:
                token = answer.choose(scores[row])
                answer.add(token)
            chosen[row, token] = 0
            if self._stream is not None and (piece := answer.take_piece()):
                self._stream(number, piece)
        return chosen


def _has_head(task: Task) -> bool:
    """Whether a task is read by a head; else by the likelihood of words."""
    return task.numeric or (task.labelled and not task.single_label)
