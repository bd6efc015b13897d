from __future__ import annotations

import json
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
from vertical_sdk.families.specialist import load_backbone
from vertical_sdk.outputs import Outputs
from vertical_sdk.promotion import promote
from vertical_sdk.promotion.shared_rows import in_order, overlap, require_comparable, reread, same_rows
from vertical_sdk.recipe import Recipe
from vertical_sdk.registry import Registry
from vertical_sdk.types import Example, LabelSpace, Message, SeriesLayout

SHORT = {"train.max_steps": 3, "train.learning_rate": 1e-4, "head.init": "random"}
QUICK = {"evaluate.baselines": ["base"]}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("promotion")


@pytest.fixture(scope="module")
def recipe(place: Path, encoder: Path) -> Path:
    return topic_recipe(place, encoder)


@pytest.fixture(scope="module")
def weak(place: Path, recipe: Path) -> Path:
    """Trained for a moment, so that it guesses; its gate failed."""
    return made(recipe, place / "weak", SHORT)


@pytest.fixture(scope="module")
def strong(place: Path, recipe: Path) -> Path:
    """Trained on the same rows as the weak one; its gate passed."""
    return made(recipe, place / "strong", {})


@pytest.fixture(scope="module")
def elsewhere(place: Path, recipe: Path) -> Path:
    """With a member, on another base, and split in another way, so that the others learned from some of its test rows."""
    base = save_encoder(place / "other-base", seed=1)
    return made(recipe, place / "elsewhere", {"train.seed": 1, "base": str(base), "ensemble": [{"use": "tfidf"}]})


@pytest.fixture
def registry(weak: Path, strong: Path) -> Registry:
    """Version 1 is weak, version 2 is strong and the candidate."""
    registry = Registry()
    registry.publish(weak, force=True, reason="to be beaten")
    registry.publish(strong)
    registry.set_alias("topics", "candidate", 2)
    return registry


def made(recipe: Path, out: Path, settings: dict[str, object]) -> Path:
    run = train(load_recipe(recipe, QUICK | settings), out=out).path
    evaluate(run)
    return run


def stands(registry: Registry, alias: str = "production") -> int:
    return registry.resolve(f"topics@{alias}", check=False).number


def test_a_better_challenger_takes_the_alias_with_its_evidence(registry: Registry, weak: Path, strong: Path) -> None:
    registry.set_alias("topics", "production", 1)

    found = promote(registry, "topics", "candidate", "production", why="trained longer")

    assert (found.champion, found.challenger, found.moved, found.forced) == (1, 2, True, False)
    assert stands(registry) == 2
    evaluations = [json.loads((run / "evaluation.json").read_text()) for run in (strong, weak)]
    measured = [evaluation["systems"]["adapter"]["metrics"]["macro_f1"] for evaluation in evaluations]
    assert found.challenger_value is not None
    assert found.champion_value is not None
    assert found.difference is not None
    assert found.challenger_value.value == pytest.approx(measured[0]["value"])
    assert found.champion_value.value == pytest.approx(measured[1]["value"])
    assert found.difference.value == pytest.approx(measured[0]["value"] - measured[1]["value"])
    assert found.difference.low > 0
    assert (found.rows, found.dropped) == (18, 0)
    event = registry.history("topics")[-1]
    assert (event.action, event.alias, event.before, event.after, event.why) == (
        "promote",
        "production",
        1,
        2,
        "trained longer",
    )
    assert json.loads(event.evidence) == json.loads(json.dumps(found.to_dict()))


def test_a_worse_challenger_leaves_the_alias_where_it_is(registry: Registry) -> None:
    registry.set_alias("topics", "production", 2)
    lines = len(registry.history("topics"))

    found = promote(registry, "topics", 1, "production")

    assert not found.verdict.passed
    assert not found.moved
    assert "worse than topics@2" in found.verdict.reasons[0]
    assert "its own gate failed" in found.notes[0]
    assert stands(registry) == 2
    assert len(registry.history("topics")) == lines


def test_force_moves_it_against_the_verdict_and_the_log_says_so(registry: Registry) -> None:
    registry.set_alias("topics", "production", 2)

    found = promote(registry, "topics", "1", "production", force=True, why="a trial")

    assert found.moved
    assert found.forced
    assert stands(registry) == 1
    event = registry.history("topics")[-1]
    assert (event.action, event.why) == ("promote by force", "a trial")
    assert json.loads(event.evidence)["verdict"]["passed"] is False


def test_the_margin_decides_how_much_worse_it_may_be(registry: Registry) -> None:
    registry.set_alias("topics", "production", 1)
    lead = promote(registry, "topics", 2, "production", margin=0.999)
    assert lead.difference is not None
    assert not lead.moved

    assert promote(registry, "topics", 2, "production", margin=lead.difference.low - 1e-9).moved
    assert not promote(registry, "topics", 1, "production", margin=-lead.difference.high).moved
    assert promote(registry, "topics", 1, "production", margin=-1.0).moved


def test_two_on_one_base_load_it_once(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = []
    monkeypatch.setattr(torch_engine, "load_backbone", lambda base, device: loaded.append(base.name) or load_backbone(base))
    registry.set_alias("topics", "production", 1)

    promote(registry, "topics", 2, "production")

    assert len(loaded) == 1


def test_without_a_champion_the_challengers_own_gate_decides(registry: Registry) -> None:
    refused = promote(registry, "topics", 1, "production")
    assert (refused.moved, refused.champion, refused.metric) == (False, None, None)
    assert "own gate failed" in refused.verdict.reasons[0]

    found = promote(registry, "topics", 2, "production")

    assert found.moved
    assert stands(registry) == 2
    assert "did not exist" in json.loads(registry.history("topics")[-1].evidence)["notes"][0]
    assert found.verdict.reasons[1:] == registry.resolve("topics@2").card.gate.reasons  # type: ignore[union-attr]


def test_a_revoked_champion_gives_way_to_a_challenger_that_passed_its_own_gate(registry: Registry) -> None:
    registry.set_alias("topics", "production", 1)
    registry.revoke("topics@1", "learned from test rows")

    found = promote(registry, "topics", 2, "production")

    assert found.moved
    assert (found.champion, found.difference) == (1, None)
    assert "revoked (learned from test rows)" in found.notes[0]


def test_a_broken_champion_gives_way_too(registry: Registry) -> None:
    registry.set_alias("topics", "production", 1)
    file = registry.resolve("topics@1").path / "adapter_model.safetensors"
    file.chmod(0o644)
    file.write_bytes(file.read_bytes()[:-1] + b"?")

    found = promote(registry, "topics", 2, "production")

    assert found.moved
    assert "adapter_model.safetensors" in found.notes[0]


def test_nothing_is_promoted_to_where_it_stands(registry: Registry) -> None:
    registry.set_alias("topics", "production", 2)

    with pytest.raises(RegistryError, match="already"):
        promote(registry, "topics", "candidate", "production")


def test_an_alias_that_moved_meanwhile_stays_where_it_was_moved(registry: Registry) -> None:
    registry.set_alias("topics", "production", 1)
    moved = []

    def other(what: str, _share: float | None = None) -> None:
        if what == "comparing" and not moved:
            moved.append(Registry(registry.location).delete_alias("topics", "production"))

    with pytest.raises(RegistryError, match="does not exist, but it was expected to point at version 1"):
        promote(registry, "topics", 2, "production", progress=other)
    assert moved


def test_rows_that_the_champion_learned_from_are_left_out(registry: Registry, elsewhere: Path, strong: Path) -> None:
    registry.publish(elsewhere, force=True)
    registry.set_alias("topics", "production", 2)
    tested = prepare(Recipe.model_validate(read_card(elsewhere / "adapter").recipe)).test
    learned = prepare(Recipe.model_validate(read_card(strong / "adapter").recipe))
    fresh = [row for row in tested if row.text not in {one.text for one in (*learned.train, *learned.validation)}]

    found = promote(registry, "topics", 3, "production", margin=-1)

    assert 0 < len(fresh) < len(tested)
    assert (found.rows, found.dropped) == (len(fresh), len(tested) - len(fresh))
    assert f"topics@2 learned from {found.dropped} of the {len(tested)} rows" in found.notes[0]


def test_versions_on_different_bases_are_asked_as_a_whole(
    registry: Registry, elsewhere: Path, strong: Path, tmp_path: Path
) -> None:
    registry.publish(elsewhere, force=True)
    registry.set_alias("topics", "production", 2)
    rows = topic_rows(30, seed=5)

    found = promote(registry, "topics", 3, "production", data=write_csv(tmp_path / "new.csv", rows), margin=-1)

    truth = [label for _, label in rows]
    values = [
        f1_score(
            truth, [p.label for p in VerticalModel.from_pretrained(run).predict([text for text, _ in rows])], average="macro"
        )
        for run in (elsewhere, strong)
    ]
    assert found.challenger_value is not None
    assert found.champion_value is not None
    assert [found.challenger_value.value, found.champion_value.value] == pytest.approx(values)
    assert (found.rows, found.dropped) == (30, 0)


def test_own_rows_that_either_learned_from_are_left_out(registry: Registry, strong: Path, tmp_path: Path) -> None:
    registry.set_alias("topics", "production", 1)
    known = prepare(Recipe.model_validate(read_card(strong / "adapter").recipe)).train[:5]
    rows = [*topic_rows(12, seed=5), *((f"  {row.text.upper()} ", str(row.target)) for row in known)]

    found = promote(registry, "topics", 2, "production", data=write_csv(tmp_path / "new.csv", rows))

    assert (found.rows, found.dropped) == (12, 5)
    only_known = write_csv(tmp_path / "known.csv", [(row.text, str(row.target)) for row in known])
    registry.set_alias("topics", "production", 1)
    with pytest.raises(DataError, match="learned from each of the 5 rows"):
        promote(registry, "topics", 2, "production", data=only_known)


def test_data_that_is_gone_leaves_no_test_rows_but_rows_of_ones_own(registry: Registry, strong: Path, tmp_path: Path) -> None:
    registry.set_alias("topics", "production", 1)
    data = Path(read_card(strong / "adapter").sources[0].source)
    kept = data.read_bytes()
    data.unlink()
    try:
        with pytest.raises(Exception, match=data.name):
            promote(registry, "topics", 2, "production")
        found = promote(registry, "topics", 2, "production", data=write_csv(tmp_path / "new.csv", topic_rows(30, seed=5)))
    finally:
        data.write_bytes(kept)

    assert found.moved
    assert "Whether topics@2 learned from some of these rows could not be found out" in found.notes[0]


def card(**changes: object) -> Card:
    base = Fingerprint(name="tiny", architecture="BertModel", weights="0", tokenizer="1", vocab_size=10)
    plain = {"name": "x", "task": "classification", "data": {"source": "x.csv"}}
    given = {"name": "x", "task": "classification", "family": "encoder", "base": base, "recipe_digest": "2", "recipe": plain}
    return Card.model_validate(given | changes)


@pytest.mark.parametrize(
    ("own", "other", "told"),
    [
        ({}, {"task": "ordinal"}, "is made for ordinal"),
        ({"labels": LabelSpace(("a", "b"))}, {"labels": LabelSpace(("a", "c"))}, "lacks 'b' and also has 'c'"),
        (
            {"task": "ordinal", "labels": LabelSpace(("a", "b"))},
            {"task": "ordinal", "labels": LabelSpace(("b", "a"))},
            "in another order: b, a",
        ),
        ({}, {"layout": SeriesLayout(channels=("a",), seconds=60, history=4, horizon=2)}, "other series"),
        (
            {"fields": [{"name": "age", "in_text": True, "words": False}]},
            {"fields": [{"name": "sex", "in_text": True, "words": True}]},
            "fields that the challenger's rows do not have: sex",
        ),
    ],
)
def test_versions_that_do_not_do_the_same_are_not_compared(own: dict[str, object], other: dict[str, object], told: str) -> None:
    with pytest.raises(RegistryError, match=told):
        require_comparable(card(**own), card(**other), "x@1")


def test_labels_in_another_order_are_put_in_order() -> None:
    own, other = card(labels=LabelSpace(("a", "b", "c"))), card(labels=LabelSpace(("c", "a", "b")))
    require_comparable(own, other, "x@1")

    found = in_order(Outputs(probabilities=np.array([[0.7, 0.1, 0.2]]), offsets=np.array([3.0, 1.0, 2.0])), other, own)

    assert found.probabilities is not None
    assert found.offsets is not None
    assert found.probabilities.tolist() == [[0.1, 0.2, 0.7]]
    assert found.offsets.tolist() == [1.0, 2.0, 3.0]


def test_each_is_asked_with_its_own_prompt_and_the_same_question_is_the_same_row() -> None:
    asks = {"system": "Be short.", "user": "Q: {text}"}
    own = card(task="generation", recipe={"name": "x", "task": "generation", "data": {"source": "x.csv"}, "prompt": asks})
    other = card(task="generation", recipe={"name": "x", "task": "generation", "data": {"source": "x.csv"}})
    answer = Message("assistant", "yes")
    row = Example("1", messages=(Message("system", "Be short."), Message("user", "Q: is it red"), answer))

    (found,) = reread([row], own, other)

    assert found.messages == (Message("user", "is it red"), answer)
    assert overlap([row], own, [Example("9", messages=(Message("user", "Is it  red"), Message("assistant", "no")))], other) == {
        0
    }
    assert overlap([row], own, [Example("9", messages=(Message("user", "is it blue"), answer))], other) == set()


def test_a_record_is_told_with_the_fields_that_the_champion_reads() -> None:
    age, sex = ({"name": "age", "in_text": True, "words": False}, {"name": "sex", "in_text": True, "words": True})
    row = Example("1", text="age: 40; sex: f", target="a", group="g", record=(("age", 40.0), ("sex", "f")))

    (found,) = reread([row], card(fields=[age, sex]), card(fields=[sex]))

    assert (found.text, found.record, found.target, found.group) == ("sex: f", (("sex", "f"),), "a", "g")


def test_rows_of_series_overlap_where_their_answers_do() -> None:
    reads = card(layout=SeriesLayout(channels=("a",), seconds=60, history=4, horizon=2))
    values = np.zeros((4, 1), dtype=np.float32)
    at = [Example(str(n), time=f"2024-01-01T00:{minute:02}:00", values=values + n) for n, minute in enumerate((8, 9, 11, 12))]
    learned = [Example("9", time="2024-01-01T00:10:00", values=values - 1)]

    # the steps ahead of minute 10 are 11 and 12; those of minute 8 are 9 and 10, of 12 are 13 and 14
    assert overlap(at, reads, learned, reads) == {1, 2}
    other = [Example("9", time="2024-01-01T00:10:00", values=values - 1, record=(("series", "b"),))]
    assert overlap(at, reads, other, reads) == set()


def test_the_same_rows_are_those_of_the_same_bytes_split_in_the_same_way() -> None:
    data = {"source": "x.csv"}
    source = {"source": "x.csv", "sha256": "0"}
    first = card(sources=[source])

    def second(sha256: str = "0", **keys: object) -> Card:
        return card(sources=[{"source": "moved.csv", "sha256": sha256}], recipe={"name": "y", "task": "classification", **keys})

    assert same_rows(first, second(data={"source": "moved.csv", "max_length": 64}, train={"learning_rate": 0.1}))
    assert not same_rows(first, second(data=data, train={"seed": 1}))
    assert not same_rows(first, second(data=data | {"split": {"use": "by_group"}}))
    assert not same_rows(first, second("1", data=data))
