"""Records through a text backbone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import save_causal, save_encoder

from vertical_sdk import VerticalModel, train
from vertical_sdk.bases.base import pull_base
from vertical_sdk.errors import AdapterError, CorruptAdapter, DataError, RecipeError
from vertical_sdk.families.records import RECORDS, RecordsSpecialist
from vertical_sdk.families.specialist import create_specialist, run_rows, switched_off
from vertical_sdk.recipe import Recipe
from vertical_sdk.registry.checked_files import CheckedFiles
from vertical_sdk.types import Example, LabelSpace

LABELS = LabelSpace(("low", "high"))


def recipe(base: Path, task: str = "classification", **records: object) -> Recipe:
    data = {"source": "x", "modality": "records"}
    return Recipe.model_validate(
        {"name": "t", "task": task, "base": str(base), "data": data, "records": {"steps": 120} | records}
    )


def amounts(count: int, seed: int = 0) -> list[Example]:
    """Rows that are high if the amount is between 20 and 60 or the colour is red, but not both: no linear rule finds them."""
    rng = np.random.default_rng(seed)
    rows = []
    for number in range(count):
        amount, colour = float(rng.uniform(0, 100)), ("red", "blue")[rng.integers(2)]
        high = (20 < amount < 60) != (colour == "red")
        rows.append(Example(str(number), target="high" if high else "low", record=(("heart beat", amount), ("skin", colour))))
    return rows


def build(
    base: Path, rows: list[Example], task: str = "classification", labels: LabelSpace | None = LABELS, **records: object
) -> Any:
    torch.manual_seed(0)
    specialist = create_specialist(pull_base(str(base)), recipe(base, task, **records), labels)
    assert isinstance(specialist, RecordsSpecialist)
    specialist.fit_to_rows([specialist.encode(row, learn=True) for row in rows])
    return specialist.eval()


def features(specialist: Any, rows: list[Example]) -> torch.Tensor:
    return run_rows(specialist, [specialist.encode(row, learn=False) for row in rows], specialist.features)


@pytest.mark.parametrize("save", [save_encoder, save_causal])
def test_the_small_network_learns_what_no_linear_rule_finds(save: Any, tmp_path: Path) -> None:
    from sklearn.linear_model import LogisticRegression

    rows = amounts(1200)
    specialist = build(save(tmp_path / "base"), rows[:1000])

    own = features(specialist, rows)[:, specialist.width :].numpy()
    plain = np.array([[dict(row.record)["heart beat"], dict(row.record)["skin"] == "red"] for row in rows], dtype=float)
    truth = np.array([row.target == "high" for row in rows])

    right = [
        LogisticRegression(C=10, max_iter=2000).fit(x[:1000], truth[:1000]).score(x[1000:], truth[1000:]) for x in (own, plain)
    ]
    assert right[0] > 0.93
    assert right[1] < 0.75


def test_tokens_are_names_and_values_and_their_order_changes_nothing(tmp_path: Path) -> None:
    base = save_encoder(tmp_path / "base")
    specialist = build(base, amounts(200), steps=4)
    row = amounts(1, seed=5)[0]
    turned = Example("turned", record=row.record[::-1])

    words = specialist.backbone.get_base_model().get_input_embeddings().weight
    vocabulary = pull_base(str(base))
    from vertical_sdk.bases.base import load_text_tokenizer

    heart, beat = load_text_tokenizer(vocabulary).encode("heart beat").ids
    torch.testing.assert_close(specialist.names[0], (words[heart] + words[beat]) / 2)
    torch.testing.assert_close(features(specialist, [row]), features(specialist, [turned]))
    # the backbone has no order either: two fields that exchange name and value at once are the same set of tokens
    whole = specialist.collate([specialist.encode(row, learn=False)])["encoded"]
    from vertical_sdk.families.text_backbone import find_model, run_tokens

    tokens = specialist.names + specialist.network.token(specialist.network.values(whole))
    model = find_model(specialist.backbone)
    hidden, swapped = (run_tokens(model, some, ordered=False) for some in (tokens, tokens.flip(1)))
    torch.testing.assert_close(hidden, swapped.flip(1))
    assert not torch.allclose(hidden, run_tokens(model, tokens.flip(1), ordered=True).flip(1), atol=1e-4)


def test_the_backbone_reads_values_and_its_adapter_gets_gradients(tmp_path: Path) -> None:
    rows = amounts(64)
    specialist = build(save_encoder(tmp_path / "base"), rows, layers=1, steps=4)

    specialist.train()
    outputs, targets = specialist(specialist.collate([specialist.encode(row, learn=True) for row in rows]))
    torch.nn.functional.cross_entropy(outputs, targets).backward()

    trained = [
        name for name, weight in specialist.named_parameters() if weight.grad is not None and weight.grad.abs().sum() > 0
    ]
    assert any("lora_B" in name and "layer.0" in name for name in trained)
    assert not any("layer.1" in name for name, _ in specialist.named_parameters())
    assert {"network.table", "network.token.weight", "head.linear.weight"} <= set(trained)
    low, high = (Example("x", record=(("heart beat", amount), ("skin", "red"))) for amount in (5.0, 95.0))
    specialist.eval()
    pooled = features(specialist, [low, high])[:, : specialist.width]
    torch.testing.assert_close(pooled.norm(dim=1), torch.ones(2))
    assert float((pooled[0] - pooled[1]).abs().max()) > 1e-4
    with switched_off(specialist):
        assert features(specialist, [low]).shape == (1, specialist.width + 256)


def test_rows_without_a_record_and_layers_that_the_base_lacks_are_refused(tmp_path: Path) -> None:
    base = save_encoder(tmp_path / "base")
    specialist = build(base, amounts(32), steps=4)

    with pytest.raises(DataError, match=r"row a: is not a record of fields. Set data\.reader"):
        specialist.encode(Example("a", text="a text"), learn=False)
    with pytest.raises(RecipeError, match=r"records\.layers = 9, and .* has 2"):
        build(base, amounts(32), layers=9)


def test_a_stored_network_reads_the_same_and_a_changed_one_is_refused(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    base, rows = save_encoder(tmp_path / "base"), amounts(64)
    specialist, other = build(base, rows, steps=4), build(base, amounts(64, seed=3), steps=8)
    specialist.save(tmp_path)
    other.load_network(CheckedFiles(tmp_path))
    torch.testing.assert_close(features(other, rows), features(specialist, rows))

    state = load_file(tmp_path / RECORDS)
    changes = {
        "size mismatch for table": {"table": torch.zeros(2, 3, 16)},
        "edges must rise": {"edges": state["edges"].flip(1)},
        "Unexpected key": {"more": torch.zeros(1)},
        "'scale' contains a number that is not more than 0": {"scale": torch.tensor(0.0)},
        "'token.weight' contains a number that is not finite": {"token.weight": state["token.weight"] * torch.inf},
    }
    for problem, change in changes.items():
        save_file(state | change, tmp_path / RECORDS)
        with pytest.raises(CorruptAdapter, match=problem):
            other.load_network(CheckedFiles(tmp_path))


def table_recipe(folder: Path, base: Path, **data: object) -> dict[str, Any]:
    lines = ["beat,skin,kind"]
    for row in amounts(400):
        amount, colour = (value for _, value in row.record)
        lines.append(f"{'' if float(amount) > 95 else f'{amount:.3f}'},{colour},{row.target}")
    (folder / "rows.csv").write_text("\n".join(lines) + "\n")
    reader = {"use": "table", "record": "all"}
    return {
        "name": "records",
        "task": "classification",
        "base": str(base),
        "data": {
            "source": str(folder / "rows.csv"),
            "modality": "records",
            "reader": reader,
            "columns": {"label": "kind"},
            "decontaminate": None,
            "clean": [],
            **data,
        },
        "records": {"steps": 120, "bins": 16},
        "ensemble": ["boosted_trees"],
        "adapter": {"r": 4, "lora_alpha": 8},
        "evaluate": {"baselines": ["probe"], "resamples": 100},
        "train": {"max_steps": 12, "learning_rate": 5e-3, "bf16": False},
    }


def test_a_table_is_trained_on_answered_and_continued(tmp_path: Path, encoder: Path) -> None:
    from safetensors.torch import load_file

    keys = table_recipe(tmp_path, encoder)
    run = train(Recipe.model_validate(keys), out=tmp_path / "run")
    model = VerticalModel.from_pretrained(run.path)

    card = run.card
    assert (card.family, card.pipeline_tag, [field.name for field in card.fields]) == (
        "records",
        "tabular-classification",
        ["beat", "skin"],
    )
    given = [{"beat": 40, "skin": "blue"}, {"beat": "40", "skin": "red"}, {"beat": None, "skin": "green"}, {"skin": "red"}]
    answers = model.predict(given)
    assert [answer.label for answer in answers[:2]] == ["high", "low"]
    assert [answer.unknown for answer in answers] == [0, 0, 1, 0]
    with pytest.raises(DataError, match=r"unknown field 'bat'\. Did you mean 'beat'"):
        model.predict([{"bat": 3}])
    with pytest.raises(DataError, match="beat = 'much' is wrong: it should be a number"):
        model.predict([{"beat": "much", "skin": "red"}])

    again = train(Recipe.model_validate(keys), out=tmp_path / "again", start=run.path)
    before, after = (load_file(path / "adapter" / RECORDS) for path in (run.path, again.path))
    torch.testing.assert_close(before["edges"], after["edges"])
    assert again.card.parent is not None
    other = table_recipe(tmp_path, encoder, reader={"use": "table", "record": {"beat": "beat"}})
    with pytest.raises(AdapterError, match="records of other fields: skin"):
        train(Recipe.model_validate(other), out=tmp_path / "other", start=run.path)


def test_texts_are_refused_before_a_base_is_loaded(tmp_path: Path, encoder: Path) -> None:
    (tmp_path / "texts.csv").write_text("text,label\n" + "".join(f"words {n},{'ab'[n % 2]}\n" for n in range(40)))
    keys = table_recipe(tmp_path, encoder)
    keys["data"] |= {"source": str(tmp_path / "texts.csv"), "columns": {}, "reader": None}

    with pytest.raises(DataError, match=r"data\.modality is records, and the rows are texts or numbers"):
        train(Recipe.model_validate(keys), out=tmp_path / "run")
