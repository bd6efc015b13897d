import random
import string

import ftfy
import pytest

from vertical_sdk.catalog import cleaners
from vertical_sdk.data.clean import drop_duplicates, find_contradictions, normalize, normalize_texts
from vertical_sdk.recipe import Data, Part, Recipe
from vertical_sdk.types import Example, Message


def rows(*pairs: tuple[str, str]) -> list[Example]:
    return [Example(str(number), text, label) for number, (text, label) in enumerate(pairs)]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("a  b\t c ", "a b c"),
        ("a\r\nb \n\n\n\n c", "a\nb\n\nc"),
        ("cafÃ© â€“ naÃ¯ve", "café – naïve"),
        ("be\u200bnign\ufeff\x00 \u202etumour", "benign tumour"),
        ("می‌خواهم", "می‌خواهم"),
        ("5 µg", "5 µg"),
    ],
)
def test_normalize_mends_the_text_and_keeps_its_lines(before: str, after: str) -> None:
    (row,), _ = normalize([Example("1", before)])
    assert row.text == after


def test_texts_that_are_not_given_to_ftfy_are_those_that_it_leaves_alone() -> None:
    rng = random.Random(0)
    printable = string.ascii_letters + string.digits + string.punctuation + " "
    texts = ["".join(rng.choices(printable, k=rng.randint(1, 60))) for _ in range(2000)]
    texts += ["&amp; &lt;b&gt;", "a &copy; b", "<b>&amp;</b>", "\x1b[31mred", "\\u00e9 %C3%A9", "a\x7fb"]

    for text in texts:
        kept, _ = normalize([Example("1", f"x{text}x")])

        repaired = ftfy.fix_text(f"x{text}x").replace("\x7f", "")
        assert kept[0].text == " ".join(repaired.split())


def test_normalize_counts_why_a_row_changed_and_drops_the_empty() -> None:
    kept, account = normalize(rows(("a  b", "x"), ("\u200b ", "x"), ("cafÃ©", "y"), ("fine", "y")))

    assert [e.text for e in kept] == ["a b", "café", "fine"]
    assert account.dropped == {"empty": 1}
    assert account.changed == {"white space": 1, "characters repaired": 1}
    assert account.adds_up


def test_length_limits_drop_with_their_reason() -> None:
    kept, account = normalize(rows(("ab", "x"), ("abcd", "x"), ("abcdefgh", "x")), min_characters=3, max_characters=6)

    assert [e.text for e in kept] == ["abcd"]
    assert account.dropped == {"shorter than 3 characters": 1, "longer than 6 characters": 1}


def test_normalize_reaches_every_turn_and_wants_an_answer() -> None:
    full = Example("1", messages=(Message("user", "a  b"), Message("assistant", " c ")))
    silent = Example("2", messages=(Message("user", "a"), Message("assistant", "\u200b")))

    kept, account = normalize([full, silent])

    assert kept[0].messages == (Message("user", "a b"), Message("assistant", "c"))
    assert account.dropped == {"no answer": 1}


def test_normalizing_twice_changes_nothing_more() -> None:
    once, _ = normalize(rows(("a  b\n\n\nc", "x"), ("cafÃ©", "y")))

    twice, account = normalize(once)

    assert twice == once
    assert account.changed == {}


def test_the_first_of_equal_rows_stays() -> None:
    kept, account = drop_duplicates(rows(("A  cat", "x"), ("a cat", "x"), ("a dog", "x")))

    assert [e.id for e in kept] == ["0", "2"]
    assert account.rows["duplicate"] == ("1",)


def test_rows_that_contradict_each_other_all_go() -> None:
    examples = rows(("a cat", "x"), ("A cat", "y"), ("a cat", "x"), ("a dog", "y"))

    kept, account = drop_duplicates(examples)

    assert [e.id for e in kept] == ["3"]
    assert account.dropped == {"contradicting label": 3}
    assert [e.id for e in find_contradictions(examples)] == ["0", "1", "2"]


def test_contradictions_can_be_settled_by_majority_or_kept() -> None:
    examples = rows(("a cat", "x"), ("a cat", "y"), ("a cat", "x"), ("tie", "x"), ("tie", "y"))

    majority, account = drop_duplicates(examples, contradictions="majority")
    everything, _ = drop_duplicates(examples, contradictions="keep")

    assert [e.id for e in majority] == ["0"]
    assert account.dropped == {"contradicting label": 3, "duplicate": 1}
    assert [e.id for e in everything] == ["0", "1", "3", "4"]


def test_numbers_and_answers_do_not_contradict() -> None:
    numbers = [Example("1", "a", 1.0), Example("2", "a", 2.0)]
    answers = [Example(n, messages=(Message("user", "q"), Message("assistant", n))) for n in ("1", "2", "2x")]

    assert drop_duplicates(numbers)[0] == numbers
    assert drop_duplicates(answers)[0] == answers


def test_the_order_of_several_labels_does_not_matter() -> None:
    kept, account = drop_duplicates([Example("1", "a", ("x", "y")), Example("2", "a", ("y", "x"))])

    assert len(kept) == 1
    assert account.dropped == {"duplicate": 1}


def test_rows_for_training_only_are_no_duplicates_of_rows_for_evaluation_only() -> None:
    both = [Example("1", "a", "x", only="train"), Example("2", "a", "x", only="evaluate")]

    assert drop_duplicates(both)[0] == both


def test_near_duplicates_go_where_the_label_is_the_same() -> None:
    long = "The patient was admitted with acute shortness of breath and a productive cough for three days"
    examples = rows((long, "x"), (long + ".", "x"), (long + "!", "y"), ("something else entirely", "x"))

    kept, account = drop_duplicates(examples, near=0.9)

    assert [e.id for e in kept] == ["0", "2", "3"]
    assert account.dropped == {"near-duplicate": 1}


def test_a_recipe_may_set_what_the_cleaners_take() -> None:
    assert cleaners.check("drop_duplicates", {"near": 0.9}) == {"near": 0.9}
    assert set(cleaners.options("normalize")) == {"min_characters", "max_characters"}


def test_inputs_are_normalized_as_in_training_and_no_row_is_lost() -> None:
    cleaning = (Part(use="normalize", min_characters=5), Part(use="drop_duplicates"), Part(use="finance.urls"))
    recipe = Recipe(name="own", task="classification", data=Data(source="x.csv", clean=cleaning))
    asked = [
        Example("a", "Up  again https://t.co/xyz"),
        Example("b", "no"),
        Example("a2", "Up again"),
        Example("a3", "Up again"),
    ]

    found, account = normalize_texts(asked, recipe)

    assert [row.text for row in found] == ["Up again", "no", "Up again", "Up again"]
    assert [row.id for row in found] == ["a", "b", "a2", "a3"]
    assert account.changed["white space"] == 1
