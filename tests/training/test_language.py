from __future__ import annotations

import math
import random
import shutil
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from conftest import TOPICS, WORDS, save_causal, save_encoder, topic_recipe, write_csv
from safetensors.torch import load_file

from vertical_sdk import Registry, VerticalModel, evaluate, train
from vertical_sdk.errors import AdapterError, RecipeError, RegistryError
from vertical_sdk.families.lora import ADAPTER_WEIGHTS

LORA = {"r": 4, "lora_alpha": 8}
STILL = {"train.learning_rate": 1e-12, "train.num_train_epochs": 1}


def write_texts(path: Path, count: int = 80) -> Path:
    """Texts of two sentences, both about the same three words."""
    rng = random.Random(1)
    words = [word for topic in TOPICS.values() for word in topic]
    rows = []
    for number in range(count):
        own = rng.sample(words, 3)
        sentences = [" ".join([*own, *rng.sample(WORDS, 3)]) for _ in range(2)]
        rows.append((f"{sentences[0]}. {sentences[1].capitalize()} {number}.", "unread"))
    return write_csv(path, rows)


def language_recipe(folder: Path, base: Path, task: str) -> dict[str, object]:
    return {
        "name": "medical/words",
        "task": task,
        "base": str(base),
        "data": {
            "source": str(write_texts(folder / "texts.csv")),
            "columns": {"text": "text"},
            "clean": ["normalize", *([{"use": "halves", "min_words": 4}] if task == "contrastive" else [])],
            "decontaminate": None,
            "max_length": 60,
            "limits": {"truncated": 1.0},
            "split": {"use": "stratified", "test": 0.3, "validation": 0.2},
        },
        "adapter": LORA,
        "train": {
            "num_train_epochs": 6,
            "per_device_train_batch_size": 16,
            "learning_rate": 0.01,
            "bf16": False,
            "token_budget": 96,
        },
        "evaluate": {"baselines": ["base"], "resamples": 100},
    }


def lora(run: Path) -> dict[str, torch.Tensor]:
    return load_file(run / "adapter" / ADAPTER_WEIGHTS)


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """An encoder, and the run of an adapter that learned which halves belong together."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("pairs")
    base = save_encoder(folder / "base")
    return base, train(language_recipe(folder, base, "contrastive"), out=folder / "run").path


def test_encoder_learns_which_halves_belong_together(pairs: tuple[Path, Path]) -> None:
    evaluation = evaluate(pairs[1])

    specialist, base = (evaluation.systems[name].metrics["recall_at_1"].value for name in ("adapter", "base"))
    model = VerticalModel.from_pretrained(pairs[1])
    rows = model.specialist()
    from vertical_sdk.data import prepare

    test = prepare(model.adapter.recipe).test
    with torch.inference_mode():
        features = F.normalize(rows.features(rows.collate([rows.encode(row, learn=False) for row in test])), dim=-1)
    nearest = (features @ features.T).fill_diagonal_(-2).argmax(1).tolist()
    assert specialist == pytest.approx(
        sum(test[n].target == test[m].target for n, m in enumerate(nearest)) / len(test), abs=1e-9
    )
    assert specialist > base + 0.1
    assert evaluation.gate is not None
    assert evaluation.gate.passed
    assert 'train("your-recipe.yaml", start="medical/words")' in (pairs[1] / "adapter" / "README.md").read_text(
        encoding="utf-8"
    )
    with pytest.raises(AdapterError, match="answers nothing"):
        model.predict(["red rash"])


def test_resumed_contrastive_training_ends_with_same_weights(pairs: tuple[Path, Path], tmp_path: Path) -> None:
    recipe = language_recipe(tmp_path, pairs[0], "contrastive")

    def interrupt(what: str, share: float | None = None) -> None:
        if what == "training" and share is not None and share > 0.5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(recipe, out=tmp_path / "run", progress=interrupt)
    resumed = train(recipe, out=tmp_path / "run", resume=True)

    assert resumed.resumed_from
    before, after = lora(pairs[1]), lora(resumed.path)
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_specialist_starts_from_lora_of_language_adapter(pairs: tuple[Path, Path], tmp_path: Path) -> None:
    base, parent = pairs
    recipe = topic_recipe(tmp_path, base, start=str(parent))

    run = train(recipe, out=tmp_path / "run", settings=STILL)

    before, after = lora(parent), lora(run.path)
    assert all(torch.allclose(before[name], after[name], atol=1e-6) for name in before)
    assert run.card.parent is not None
    assert run.card.parent.reference == "medical/words"
    head, probe = (load_file(run.adapter / name)["linear.weight"] for name in ("head.safetensors", "probe.safetensors"))
    assert not torch.allclose(head, probe)  # fitted to what the adapter reads, not to what the base reads
    assert "trained on other rows" in evaluate(run.path).unknown
    other = train(recipe, out=tmp_path / "fresh", settings={**STILL, "start": None})
    assert other.card.parent is None
    assert not any(tensor.any() for name, tensor in lora(other.path).items() if "lora_B" in name and tensor.abs().max() > 1e-6)


def test_start_in_recipe_is_a_reference_and_missing_one_says_how_to_train_it(pairs: tuple[Path, Path], tmp_path: Path) -> None:
    base, parent = pairs
    recipe = topic_recipe(tmp_path, base, start="medical/abstracts")
    with pytest.raises(RegistryError, match=r"topics starts from it. Train it \(vertical train medical/abstracts\)"):
        train(recipe, out=tmp_path / "run")
    shutil.copytree(parent, tmp_path / "parent")
    Registry().publish(tmp_path / "parent", "medical/abstracts", force=True, reason="a test")

    run = train(recipe, out=tmp_path / "run", settings=STILL)

    assert run.card.parent is not None
    assert run.card.parent.reference == "medical/abstracts@1"
    with pytest.raises(AdapterError, match=r"adapter.r = 4, and topics has 8"):
        train(recipe, out=tmp_path / "wider", settings={"adapter.r": 8})


def test_language_adapter_reads_training_rows_of_a_recipe_alone(pairs: tuple[Path, Path], tmp_path: Path) -> None:
    from vertical_sdk.data import prepare

    task = topic_recipe(tmp_path, pairs[0])
    plain = language_recipe(tmp_path, pairs[0], "contrastive")
    plain["data"] = {
        "source": str(tmp_path / "topics.csv"),
        "reader": {"use": "training_rows", "recipe": str(task)},
        "clean": [{"use": "halves", "min_words": 2}],
        "decontaminate": None,
        "max_length": 60,
    }
    parent = train(plain, out=tmp_path / "parent", settings=STILL | {"train.learning_rate": 0.01}).path

    own = prepare(VerticalModel.from_pretrained(parent).adapter.recipe)
    texts = {row.group: set() for row in (*own.train, *own.validation, *own.test)}
    for row in (*own.train, *own.validation, *own.test):
        texts[row.group] |= set(row.text.split())
    from vertical_sdk.recipe import load_recipe

    prepared = prepare(load_recipe(task))
    assert {frozenset(words) for words in texts.values()} == {frozenset(row.text.split()) for row in prepared.train}
    run = train(task, out=tmp_path / "run", start=parent, settings=STILL)
    assert evaluate(run.path).unknown == ""
    with pytest.raises(AdapterError, match=r"split otherwise than now.*data.reader.seed=1"):
        train(task, out=tmp_path / "other", start=parent, settings={"train.seed": 1})


def test_causal_base_learns_the_language_of_texts(tmp_path: Path) -> None:
    base = save_causal(tmp_path / "base", template=None)
    recipe = language_recipe(tmp_path, base, "language")

    run = train(recipe, out=tmp_path / "run")

    evaluation = evaluate(run.path)
    measured, untrained = (evaluation.systems[name].metrics["bits_per_character"].value for name in ("adapter", "base"))
    model = VerticalModel.from_pretrained(run.path)
    specialist = model.specialist()
    from vertical_sdk.data import prepare

    bits, characters = 0.0, 0
    for row in prepare(model.adapter.recipe).test:  # the tokenizer has a token for each byte
        ids = torch.tensor([specialist.text_tokenizer.encode(row.text).ids[:60]])
        with torch.inference_mode():
            logits = specialist.backbone(input_ids=ids).logits[0, :-1]
        bits += float(F.cross_entropy(logits, ids[0, 1:])) / math.log(2) * len(row.text)
        characters += len(row.text)
    assert measured == pytest.approx(bits / characters, rel=1e-4)
    assert measured < untrained - 0.1
    assert evaluation.gate is not None
    assert evaluation.gate.passed


def test_task_without_labels_needs_a_base_of_its_family(encoder: Path, causal: Path, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"language needs a base of the family causal.*set task: contrastive"):
        train(language_recipe(tmp_path, encoder, "language"), out=tmp_path / "run")
    with pytest.raises(RecipeError, match=r"contrastive needs a base of the family encoder.*set task: language"):
        train(language_recipe(tmp_path, causal, "contrastive"), out=tmp_path / "run")
