from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import save_encoder, topic_recipe, topic_rows, write_csv
from sklearn.metrics import f1_score

from vertical_sdk import VerticalModel, evaluate, load_recipe, train
from vertical_sdk.card import Card, Fingerprint, read_card
from vertical_sdk.data.prepare import prepare
from vertical_sdk.engines import torch as torch_engine
from vertical_sdk.errors import DataError, RegistryError
from vertical_sdk.evaluation.learned_rows import Party, find_overlap
from vertical_sdk.families.specialist import load_backbone
from vertical_sdk.outputs import Outputs
from vertical_sdk.promotion import promote
from vertical_sdk.promotion.shared_rows import (
    have_same_rows,
    reorder_labels,
    require_comparable,
    rewrite_rows,
)
from vertical_sdk.recipe import Recipe
from vertical_sdk.registry import Registry
from vertical_sdk.types import Example, LabelSpace, Message, SeriesLayout

SHORT = {"train.max_steps": 3, "train.learning_rate": 1e-4, "head.init": "random"}
QUICK = {"evaluate.baselines": ["base"]}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("promotion")


@pytest.fixture(scope="module")
def recipe(folder: Path, encoder: Path) -> Path:
    return topic_recipe(folder, encoder)


@pytest.fixture(scope="module")
def weak(folder: Path, recipe: Path) -> Path:
    """A run of a few steps that guesses; its gate failed."""
    return train_and_evaluate(recipe, folder / "weak", SHORT)


@pytest.fixture(scope="module")
def strong(folder: Path, recipe: Path) -> Path:
    """A run on the same rows as the weak one; its gate passed."""
    return train_and_evaluate(recipe, folder / "strong", {})


@pytest.fixture(scope="module")
def elsewhere(folder: Path, recipe: Path) -> Path:
    """A run with a member, another base and another split: the other runs were trained on some of its test rows."""
    base = save_encoder(folder / "other-base", seed=1)
    return train_and_evaluate(
        recipe, folder / "elsewhere", {"train.seed": 1, "base": str(base), "ensemble": [{"use": "tfidf"}]}
    )


@pytest.fixture
def registry(weak: Path, strong: Path) -> Registry:
    """A registry: version 1 is weak; version 2 is strong and the candidate."""
    registry = Registry()
    registry.publish(weak, force=True, reason="to be beaten")
    registry.publish(strong)
    registry.set_alias("topics", "candidate", 2)
    return registry


def train_and_evaluate(recipe: Path, out: Path, settings: dict[str, object]) -> Path:
    run = train(load_recipe(recipe, QUICK | settings), out=out).path
    evaluate(run)
    return run


def current_version(registry: Registry, alias: str = "production") -> int:
    return registry.resolve(f"topics@{alias}", check=False).number


def test_better_challenger_gets_the_alias_and_the_log_its_evidence(registry: Registry, weak: Path, strong: Path) -> None:
    registry.set_alias("topics", "production", 1, force=True, why="a test")

    result = promote(registry, "topics@candidate", "production", why="trained longer")

    assert (result.champion, result.challenger, result.moved, result.forced) == (1, 2, True, False)
    assert current_version(registry) == 2
    evaluations = [json.loads((run / "evaluation.json").read_text()) for run in (strong, weak)]
    measured = [evaluation["systems"]["adapter"]["metrics"]["macro_f1"] for evaluation in evaluations]
    assert result.challenger_value is not None
    assert result.champion_value is not None
    assert result.difference is not None
    assert result.challenger_value.value == pytest.approx(measured[0]["value"])
    assert result.champion_value.value == pytest.approx(measured[1]["value"])
    assert result.difference.value == pytest.approx(measured[0]["value"] - measured[1]["value"])
    assert result.difference.low > 0
    assert (result.rows, result.dropped) == (18, 0)
    event = registry.history("topics")[-1]
    assert (event.action, event.alias, event.before, event.after, event.why) == (
        "promote",
        "production",
        1,
        2,
        "trained longer",
    )
    assert json.loads(event.evidence) == json.loads(json.dumps(result.to_dict()))


def test_worse_challenger_does_not_move_the_alias(registry: Registry) -> None:
    registry.set_alias("topics", "production", 2)
    lines = len(registry.history("topics"))

    result = promote(registry, "topics@1", "production")

    assert not result.verdict.passed
    assert not result.moved
    assert "worse than topics@2" in result.verdict.reasons[0]
    assert result.verdict.reasons[-1] == "Fails: the challenger's own gate failed."
    assert "its own gate failed" in result.notes[0]
    assert current_version(registry) == 2
    assert len(registry.history("topics")) == lines


def test_force_moves_the_alias_and_is_logged(registry: Registry) -> None:
    registry.set_alias("topics", "production", 2)

    result = promote(registry, "topics@1", "production", force=True, why="a trial")

    assert result.moved
    assert result.forced
    assert current_version(registry) == 1
    event = registry.history("topics")[-1]
    assert (event.action, event.why) == ("promote by force", "a trial")
    assert json.loads(event.evidence)["verdict"]["passed"] is False


def test_margin_sets_the_allowed_loss(registry: Registry) -> None:
    registry.set_alias("topics", "production", 1, force=True, why="a test")
    lead = promote(registry, "topics@2", "production", margin=0.999)
    assert lead.difference is not None
    assert not lead.moved

    assert promote(registry, "topics@2", "production", margin=lead.difference.low - 1e-9).moved
    assert not promote(registry, "topics@1", "production", margin=-lead.difference.high).moved
    refused = promote(registry, "topics@1", "production", margin=-1.0)
    assert not refused.moved
    assert any(reason.startswith("Passes: ") for reason in refused.verdict.reasons)
    assert refused.verdict.reasons[-1] == "Fails: the challenger's own gate failed."


def test_rows_of_one_label_promote_nothing(registry: Registry, tmp_path: Path) -> None:
    registry.set_alias("topics", "production", 1, force=True, why="a test")
    rows = [row for row in topic_rows(60, seed=5) if row[1] == "skin"]

    result = promote(registry, "topics@2", "production", data=write_csv(tmp_path / "skin.csv", rows), margin=-1)

    assert not result.moved
    assert result.verdict.reasons[1].startswith("Fails: all 20 test rows have the same answer, 'skin'")
    assert "macro_f1 of the specialist or of topics@1 is undefined on these rows" in result.verdict.reasons[0]
    assert result.to_dict()["p_value"] is None


def test_force_without_a_reason_is_refused_before_anything_is_compared(registry: Registry) -> None:
    with pytest.raises(RegistryError, match="moving an alias by force needs a reason"):
        promote(registry, "topics@2", "production", force=True)


def test_two_versions_on_one_base_load_it_once(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = []
    monkeypatch.setattr(torch_engine, "load_backbone", lambda base, **_: loaded.append(base.name) or load_backbone(base))
    registry.set_alias("topics", "production", 1, force=True, why="a test")

    promote(registry, "topics@2", "production")

    assert len(loaded) == 1


def test_own_gate_of_the_challenger_decides_without_champion(registry: Registry) -> None:
    refused = promote(registry, "topics@1", "production")
    assert (refused.moved, refused.champion, refused.metric) == (False, None, None)
    assert "own gate failed" in refused.verdict.reasons[0]

    result = promote(registry, "topics@2", "production")

    assert result.moved
    assert current_version(registry) == 2
    assert "did not exist" in json.loads(registry.history("topics")[-1].evidence)["notes"][0]
    assert result.verdict.reasons[1:] == registry.resolve("topics@2").card.gate.reasons  # type: ignore[union-attr]


def test_revoked_champion_is_replaced_if_the_own_gate_passed(registry: Registry) -> None:
    registry.set_alias("topics", "production", 1, force=True, why="a test")
    registry.revoke("topics@1", "learned from test rows")

    result = promote(registry, "topics@2", "production")

    assert result.moved
    assert (result.champion, result.difference) == (1, None)
    assert "revoked (learned from test rows)" in result.notes[0]


def test_broken_champion_is_replaced_if_the_own_gate_passed(registry: Registry) -> None:
    registry.set_alias("topics", "production", 1, force=True, why="a test")
    file = registry.resolve("topics@1").path / "adapter_model.safetensors"
    file.chmod(0o644)
    file.write_bytes(file.read_bytes()[:-1] + b"?")

    result = promote(registry, "topics@2", "production")

    assert result.moved
    assert "adapter_model.safetensors" in result.notes[0]


def test_promotion_to_the_current_version_is_refused(registry: Registry) -> None:
    registry.set_alias("topics", "production", 2)

    with pytest.raises(RegistryError, match="already"):
        promote(registry, "topics@candidate", "production")


def test_alias_that_was_moved_meanwhile_is_not_moved_again(registry: Registry) -> None:
    registry.set_alias("topics", "production", 1, force=True, why="a test")
    moved = []

    def other(what: str, _share: float | None = None) -> None:
        if what == "comparing" and not moved:
            moved.append(Registry(registry.location).delete_alias("topics", "production"))

    with pytest.raises(RegistryError, match="does not exist, but it was expected to point at version 1"):
        promote(registry, "topics@2", "production", progress=other)
    assert moved


def test_training_rows_of_the_champion_are_left_out(registry: Registry, elsewhere: Path, strong: Path) -> None:
    registry.publish(elsewhere, force=True, reason="a test")
    registry.set_alias("topics", "production", 2)
    tested = prepare(Recipe.model_validate(read_card(elsewhere / "adapter").recipe)).test
    learned = prepare(Recipe.model_validate(read_card(strong / "adapter").recipe))
    fresh = [row for row in tested if row.text not in {row.text for row in (*learned.train, *learned.validation)}]

    result = promote(registry, "topics@3", "production", margin=-1)

    assert 0 < len(fresh) < len(tested)
    assert (result.rows, result.dropped) == (len(fresh), len(tested) - len(fresh))
    assert f"topics@2 was trained on {result.dropped} of the {len(tested)} rows" in result.notes[0]


def test_versions_on_different_bases_answer_with_their_members(
    registry: Registry, elsewhere: Path, strong: Path, tmp_path: Path
) -> None:
    registry.publish(elsewhere, force=True, reason="a test")
    registry.set_alias("topics", "production", 2)
    rows = topic_rows(30, seed=5)

    result = promote(registry, "topics@3", "production", data=write_csv(tmp_path / "new.csv", rows), margin=-1)

    truth = [label for _, label in rows]
    values = [
        f1_score(
            truth, [p.label for p in VerticalModel.from_pretrained(run).predict([text for text, _ in rows])], average="macro"
        )
        for run in (elsewhere, strong)
    ]
    assert result.challenger_value is not None
    assert result.champion_value is not None
    assert [result.challenger_value.value, result.champion_value.value] == pytest.approx(values)
    assert (result.rows, result.dropped) == (30, 0)


def test_rows_of_a_file_that_either_was_trained_on_are_left_out(registry: Registry, strong: Path, tmp_path: Path) -> None:
    registry.set_alias("topics", "production", 1, force=True, why="a test")
    known = prepare(Recipe.model_validate(read_card(strong / "adapter").recipe)).train[:5]
    rows = [*topic_rows(12, seed=5), *((f"  {row.text.upper()} ", str(row.target)) for row in known)]

    result = promote(registry, "topics@2", "production", data=write_csv(tmp_path / "new.csv", rows))

    assert (result.rows, result.dropped) == (12, 5)
    only_known = write_csv(tmp_path / "known.csv", [(row.text, str(row.target)) for row in known])
    registry.set_alias("topics", "production", 1, force=True, why="a test")
    with pytest.raises(DataError, match="was trained on each of the 5 rows"):
        promote(registry, "topics@2", "production", data=only_known)


def test_missing_training_data_requires_a_file_of_rows(registry: Registry, strong: Path, tmp_path: Path) -> None:
    registry.set_alias("topics", "production", 1, force=True, why="a test")
    data = Path(read_card(strong / "adapter").sources[0].source)
    content = data.read_bytes()
    data.unlink()
    try:
        with pytest.raises(Exception, match=data.name):
            promote(registry, "topics@2", "production")
        result = promote(registry, "topics@2", "production", data=write_csv(tmp_path / "new.csv", topic_rows(30, seed=5)))
    finally:
        data.write_bytes(content)

    assert result.moved
    assert "It is unknown whether topics@2 was trained on some of these rows" in result.notes[0]


HOURS = SeriesLayout(channels=("a",), seconds=3600, history=4, horizon=2, zone="none")


def test_a_champion_of_an_older_version_is_compared_on_times_without_a_zone() -> None:
    require_comparable(party(layout=HOURS), party(layout=replace(HOURS, zone=None, largest=(3.0,))))


def party(**changes: object) -> Party:
    return Party("x@1", card(**changes))


def card(**changes: object) -> Card:
    base = Fingerprint(name="tiny", architecture="BertModel", weights="0", tokenizer="1", vocab_size=10)
    plain = {"name": "x", "task": "classification", "data": {"source": "x.csv"}}
    given = {"name": "x", "task": "classification", "family": "encoder", "base": base, "recipe_digest": "2", "recipe": plain}
    return Card.model_validate(given | changes)


@pytest.mark.parametrize(
    ("own", "other", "message"),
    [
        ({}, {"task": "ordinal"}, "was trained for ordinal"),
        ({"labels": LabelSpace(("a", "b"))}, {"labels": LabelSpace(("a", "c"))}, "lacks 'b' and also has 'c'"),
        (
            {"task": "ordinal", "labels": LabelSpace(("a", "b"))},
            {"task": "ordinal", "labels": LabelSpace(("b", "a"))},
            "in another order: b, a",
        ),
        ({}, {"layout": SeriesLayout(channels=("a",), seconds=60, history=4, horizon=2)}, "other series"),
        (
            {"layout": HOURS},
            {"layout": replace(HOURS, zone="UTC")},
            "times in the zone UTC, and the challenger in the zone none",
        ),
        ({"layout": replace(HOURS, zone="+08:00")}, {"layout": replace(HOURS, zone=None)}, "times in an unknown zone"),
        (
            {"fields": [{"name": "age", "in_text": True, "words": False}]},
            {"fields": [{"name": "sex", "in_text": True, "words": True}]},
            "fields that the challenger's rows do not have: sex",
        ),
    ],
)
def test_versions_that_differ_in_task_or_rows_are_not_compared(
    own: dict[str, object], other: dict[str, object], message: str
) -> None:
    with pytest.raises(RegistryError, match=message):
        require_comparable(party(**own), party(**other))


def test_labels_of_the_champion_are_reordered() -> None:
    own, other = card(labels=LabelSpace(("a", "b", "c"))), card(labels=LabelSpace(("c", "a", "b")))
    require_comparable(Party("x@2", own), Party("x@1", other))

    result = reorder_labels(Outputs(probabilities=np.array([[0.7, 0.1, 0.2]]), offsets=np.array([3.0, 1.0, 2.0])), other, own)

    assert result.probabilities is not None
    assert result.offsets is not None
    assert result.probabilities.tolist() == [[0.1, 0.2, 0.7]]
    assert result.offsets.tolist() == [1.0, 2.0, 3.0]


def test_rows_are_rewritten_and_compared_without_the_prompt() -> None:
    prompt = {"system": "Be short.", "user": "Q: {text}"}
    own = party(task="generation", recipe={"name": "x", "task": "generation", "data": {"source": "x.csv"}, "prompt": prompt})
    other = party(task="generation", recipe={"name": "x", "task": "generation", "data": {"source": "x.csv"}})
    answer = Message("assistant", "yes")
    row = Example("1", messages=(Message("system", "Be short."), Message("user", "Q: is it red"), answer))

    (result,) = rewrite_rows([row], own, other)

    assert result.messages == (Message("user", "is it red"), answer)
    learned = Example("9", messages=(Message("user", "Is it  red"), Message("assistant", "no")))
    assert find_overlap([result], [learned], other) == {0}
    assert find_overlap([row], [learned], own) == {0}
    assert find_overlap([result], [Example("9", messages=(Message("user", "is it blue"), answer))], other) == set()


def test_records_are_rewritten_with_the_fields_of_the_champion() -> None:
    age, sex = ({"name": "age", "in_text": True, "words": False}, {"name": "sex", "in_text": True, "words": True})
    row = Example("1", text="age: 40; sex: f", target="a", group="g", record=(("age", 40.0), ("sex", "f")))

    (result,) = rewrite_rows([row], party(fields=[age, sex]), party(fields=[sex]))

    assert (result.text, result.record, result.target, result.group) == ("sex: f", (("sex", "f"),), "a", "g")


def test_rows_of_series_overlap_if_their_targets_do() -> None:
    reads = party(layout=SeriesLayout(channels=("a",), seconds=60, history=4, horizon=2))
    values = np.zeros((4, 1), dtype=np.float32)
    at = [Example(str(n), time=f"2024-01-01T00:{minute:02}:00", values=values + n) for n, minute in enumerate((8, 9, 11, 12))]
    learned = [Example("9", time="2024-01-01T00:10:00", values=values - 1)]

    # the steps ahead of minute 10 are 11 and 12; those of minute 8 are 9 and 10, of 12 are 13 and 14
    assert find_overlap(at, learned, reads) == {1, 2}
    other = [Example("9", time="2024-01-01T00:10:00", values=values - 1, record=(("series", "b"),))]
    assert find_overlap(at, other, reads) == set()


def test_same_rows_need_the_same_bytes_and_the_same_split() -> None:
    data = {"source": "x.csv"}
    source = {"source": "x.csv", "sha256": "0"}
    first = party(sources=[source])

    def second(sha256: str = "0", **keys: object) -> Party:
        return party(
            sources=[{"source": "moved.csv", "sha256": sha256}], recipe={"name": "y", "task": "classification", **keys}
        )

    assert have_same_rows(first, second(data={"source": "moved.csv", "max_length": 64}, train={"learning_rate": 0.1}))
    assert not have_same_rows(first, second(data=data, train={"seed": 1}))
    assert not have_same_rows(first, second(data=data | {"split": {"use": "by_group"}}))
    assert not have_same_rows(first, second("1", data=data))
