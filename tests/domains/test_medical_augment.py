import random
import re

import pytest

from vertical_sdk.catalog import augmentations
from vertical_sdk.data.augment import NEGATIONS
from vertical_sdk.types import Example, Message


def augment_text(name: str, text: str, seed: int = 0, **options: object) -> str:
    example = Example("1", text, "label", group="g")
    changed: Example = augmentations.get(f"medical.{name}")(example, random.Random(seed), **options)
    assert (changed.id, changed.target, changed.group) == ("1", "label", "g")
    return changed.text


def negations(text: str) -> list[str]:
    return [word for word in re.findall(r"[a-z]+", text.lower()) if word in NEGATIONS]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("Heart attack in 2019", {"Myocardial infarction in 2019"}),
        ("Old myocardial infarction", {"Old heart attack"}),
        ("no EPISTAXIS", {"no NOSEBLEED"}),
        ("had a heart attack", {"had a myocardial infarction"}),
        ("an enlarged heart", {"a cardiomegaly"}),
        ("Pulmonary hypertension", {"Pulmonary hypertension"}),
        ("hypertension", {"high blood pressure"}),
        ("heart attacks, non-hypertension", {"heart attacks, non-hypertension"}),
        ("denies chest pain", {"denies pain in the chest"}),
        ("German measles", {"Rubella"}),
    ],
)
def test_synonyms_go_both_ways_by_whole_words(before: str, after: set[str]) -> None:
    assert {augment_text("synonyms", before, seed, p=1.0) for seed in range(8)} == after


def test_synonyms_are_many_unique_and_not_negations() -> None:
    augmentations.get("medical.synonyms")
    from vertical_sdk.domains.medical.terms import SYNONYMS

    terms = [term.casefold() for group in SYNONYMS for term in group]
    assert len(SYNONYMS) >= 150
    assert len(terms) == len(set(terms))
    assert not [term for term in terms if negations(term)]


def test_synonyms_without_probability_change_nothing() -> None:
    assert augment_text("synonyms", "stroke and flu", p=0.0) == "stroke and flu"


ABSTRACT = (
    "Aspirin after stroke. Results of a large randomized trial of aspirin were not clear. No patient died during treatment with it, "
    "vs. two without.\nConclusion. Aspirin may be given safely after an ischemic stroke."
)


def test_sentences_left_out_are_whole_ones_and_the_title_stays() -> None:
    whole = re.split(r"(?<=clear\.) |(?<=stroke\.) (?=Results)|\n|(?<=Conclusion\.) ", ABSTRACT)
    seen = {augment_text("drop_sentences", ABSTRACT, seed, p=0.5) for seed in range(40)}

    assert len(seen) > 5
    for text in seen:
        assert text.startswith("Aspirin after stroke.")
        rest = text
        for sentence in whole:
            rest = rest.replace(sentence, "")
        assert not rest.strip()


def test_a_text_never_loses_all_its_sentences() -> None:
    for seed in range(40):
        left = augment_text("drop_sentences", ABSTRACT, seed, p=1.0, first=False)
        assert len(re.findall(r"\w{4,}", left)) >= 4
    assert augment_text("drop_sentences", "Short.", p=1.0, first=False) == "Short."


def test_the_question_before_an_empty_line_stays() -> None:
    question = "Is it safe? A review of what is known."
    text = f"{question}\n\nMany patients were treated with it. Some patients became worse after treatment."

    seen = {augment_text("drop_sentences", text, seed, p=0.6) for seed in range(30)}

    assert len(seen) == 3
    assert all(found.startswith(f"{question}\n\n") and len(found) > len(question) + 10 for found in seen)


DIALOGUE = """Doctor: Any fever?
Patient: No.
Doctor: Any pain? It may be
in the chest.
Patient: Yes, since Monday.
Guest_family: He was pale.
Doctor: Thank you."""


def test_a_question_and_its_answers_are_left_out_together() -> None:
    exchanges = [
        "Doctor: Any fever?\nPatient: No.",
        "Doctor: Any pain? It may be\nin the chest.\nPatient: Yes, since Monday.\nGuest_family: He was pale.",
        "Doctor: Thank you.",
    ]
    possible = {"\n".join(e for bit, e in enumerate(exchanges) if mask >> bit & 1) for mask in range(1, 8)}

    assert {augment_text("drop_turns", DIALOGUE, seed, p=0.5) for seed in range(200)} == possible


def test_turns_are_never_all_left_out() -> None:
    assert all(augment_text("drop_turns", DIALOGUE, seed, p=1.0) for seed in range(20))


def test_a_conversation_whose_note_is_learned_keeps_its_turns() -> None:
    example = Example("1", messages=(Message("user", DIALOGUE), Message("assistant", "No fever.")))

    assert augmentations.get("medical.drop_turns")(example, random.Random(0), p=1.0) is example


def clauses(question: str) -> set[str]:
    seen = {augment_text("paraphrase_question", f"{question}\n\nContext stays.", seed, p=1.0) for seed in range(200)}
    assert all(text.endswith("\n\nContext stays.") for text in seen)
    return {text.partition("\n\n")[0] for text in seen}


@pytest.mark.parametrize(
    ("question", "clause"),
    [
        ("Does aspirin prevent stroke?", "aspirin prevents stroke"),
        ("Do statins reduce mortality in women?", "statins reduce mortality in women"),
        ("Did the new drug improve survival?", "the new drug did improve survival"),
        ("Can tailored letters promote mammography?", "tailored letters can promote mammography"),
        ("Does smoking modify the effect?", "smoking modifies the effect"),
    ],
)
def test_a_question_becomes_a_clause_of_the_same_direction(question: str, clause: str) -> None:
    seen = clauses(question)

    assert f"We asked whether {clause}." in seen
    assert len(seen) == 16
    assert all(clause in text or text.endswith(question) for text in seen)


@pytest.mark.parametrize(
    "question",
    [
        "Is aspirin safe?",
        "Does the increase matter?",
        "Does early detect mean late?",
        "Does A improve B and shorten C?",
        "Does it not improve survival?",
        "Enteroscopy: does it improve survival?",
        "Does a reduced dose that may prevent harm improve survival?",
    ],
)
def test_a_question_whose_verb_is_not_plain_is_only_put_behind_words(question: str) -> None:
    seen = clauses(question)

    assert len(seen) == 8
    assert all(text.endswith(question) and len(text) > len(question) for text in seen)


def test_a_text_that_is_not_one_question_stays() -> None:
    for text in ("A statement.", "Is it? Or is it not?", "Why? Because."):
        assert clauses(text) == {text}


@pytest.mark.parametrize("name", ["synonyms", "abbreviations", "paraphrase_question"])
def test_negations_stay_where_words_are_exchanged(name: str) -> None:
    text = "Does no fever without dyspnea, never with heart attack, prevent stroke?\n\nPatients with no hypertension denied chest pain."
    for seed in range(50):
        assert negations(augment_text(name, text, seed, p=0.7)) == negations(text)
