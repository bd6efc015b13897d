from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from vertical_sdk.data.deidentify import ENTITIES, make_deidentifier
from vertical_sdk.data.entities import Entity, match_after_label
from vertical_sdk.errors import RecipeError
from vertical_sdk.types import Example, Message

pytest.importorskip("presidio_analyzer")

LOT = Entity("LOT", ((r"\bL\d{4}\b", 0.1),), context=("lot",), valid=lambda value: value.endswith("7"))
SHIP = Entity("SHIP", ((r"(?<=\bMS )[A-Z]\w+(?: [A-Z]\w+)*", 0.9),), hint="MS ", names=frozenset({"queen"}))


def masked(text: str, *own: Entity, usual: Sequence[str] = ENTITIES, **options: Any) -> str:
    return make_deidentifier("own", own, "", usual)([Example("1", text)], 0, on_hit="mask", **options)[0][0].text


def test_a_context_word_makes_it_surer_and_a_failed_check_makes_it_none() -> None:
    assert masked("lot L1237 and mail a@mayo.org", LOT) == "lot [LOT] and mail [EMAIL_ADDRESS]"
    assert masked("part L1237", LOT) == "part L1237"
    assert masked("lot L1238", LOT) == "lot L1238"


def test_patterns_heed_case_and_a_kind_is_looked_for_only_where_its_hint_is() -> None:
    assert masked("lot l1237", LOT) == "lot l1237"
    assert masked("lot L1237", Entity("LOT", LOT.patterns, LOT.context, hint="none of this")) == "lot L1237"


def test_an_own_kind_wins_over_a_general_one_of_equal_confidence() -> None:
    own = Entity("WARD_PHONE", ((r"\(617\) 867-5309", 0.4),))

    assert masked("(617) 867-5309", own) == "[WARD_PHONE]"
    assert masked("(617) 867-5309") == "[PHONE_NUMBER]"


def test_a_name_is_found_again_and_replaced_word_by_word() -> None:
    turns = (Message("user", "MS Queen Victoria sank"), Message("assistant", "The Queen? No, Victoria."))

    hidden, _ = make_deidentifier("own", [SHIP], "")([Example("1", messages=turns)], 0, on_hit="mask")
    kept, account = make_deidentifier("own", [SHIP], "")([Example("1", messages=turns)], 0)

    assert [turn.content for turn in hidden[0].messages] == ["MS [SHIP] sank", "The Queen? No, [SHIP]."]
    made = kept[0].messages[0].content.split()[2]
    assert made != "Victoria"
    assert [turn.content for turn in kept[0].messages] == [f"MS Queen {made} sank", f"The Queen? No, {made}."]
    assert account.notes == {"SHIP": 2}
    assert account.changed == {"SHIP invented": 1}


def test_a_value_that_cannot_be_made_up_is_masked() -> None:
    stuck = Entity("LOT", ((r"\bL\d{4}\b", 0.9),), surrogate=lambda value, rng: value)

    assert make_deidentifier("own", [stuck], "")([Example("1", "lot L1237")], 0)[0][0].text == "lot [LOT]"


def test_general_kinds_can_be_left_out_by_default_and_still_be_named() -> None:
    usual = [entity for entity in ENTITIES if entity != "DATE_TIME"]

    assert masked("on 3/4/2021", usual=usual) == "on 3/4/2021"
    assert masked("on 3/4/2021", usual=usual, entities=("DATE_TIME",)) == "on [DATE_TIME]"


def test_messages_name_the_part_and_list_its_own_kinds() -> None:
    with pytest.raises(RecipeError, match=r"ships\.ids: no entity is called 'LOTT'\. Did you mean 'LOT'\? Known: LOT, EMAIL"):
        make_deidentifier("ships.ids", [LOT], "")([], 0, entities=("LOTT",))
    with pytest.raises(RecipeError, match=r"ships\.ids: PERSON cannot be found by patterns"):
        make_deidentifier("ships.ids", [LOT], "")([], 0, entities=("PERSON",))


@pytest.mark.parametrize("text", ["lot 123", "Lot: 123", "lot no. 123", "lot number is 123", "lot #123"])
def test_a_labelled_value_is_found_behind_its_label_and_the_label_stays(text: str) -> None:
    own = Entity("LOT", ((match_after_label(r"(?i:lot)(?:\s*(?i:no|number))?", r"\d+"), 0.9),))

    assert masked(text, own) == text.replace("123", "[LOT]")
    assert masked(f"bal{text}", own) == f"bal{text}"
