import math
import random
import re
from dataclasses import replace

import pytest

from vertical_sdk.catalog import augmentations
from vertical_sdk.data.records import format_record
from vertical_sdk.types import Example, Message

SEEDS = range(40)
NEWS = "$AAPL - Apple cut to $40 from $50.25, EPS falls 5.5%, revenue 1,250M vs 1.3B; $AAPL down in Q4 2019"
PARTS = ("finance.swap_tickers", "finance.swap_amounts", "finance.mask_ticker", "finance.jitter")


def augment_text(part: str, text: str, seed: int, **options: object) -> str:
    example: Example = augmentations.get(part)(Example("1", text, "bearish"), random.Random(seed), **options)
    return example.text


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("seed", SEEDS)
def test_label_and_words_about_direction_stay(part: str, seed: int) -> None:
    row = Example("1", NEWS, "bearish", record=(("ticker", "AAPL"),))

    changed = augmentations.get(part)(row, random.Random(seed))

    assert (changed.id, changed.target) == ("1", "bearish")
    assert [word for word in ("cut to", "from", "falls", "down", "vs") if word not in changed.text] == []


@pytest.mark.parametrize("part", PARTS)
def test_nothing_happens_with_a_probability_of_none(part: str) -> None:
    row = Example("1", NEWS, "bearish", record=(("ticker", "AAPL"), ("x", 1.5)))

    assert augmentations.get(part)(row, random.Random(0), p=0.0) == row


@pytest.mark.parametrize("seed", SEEDS)
def test_a_ticker_becomes_another_one_everywhere_and_names_stay(seed: int) -> None:
    text = augment_text("finance.swap_tickers", NEWS, seed, p=1.0)

    tickers = re.findall(r"\$([A-Z]+)", text)
    assert len(tickers) == 2
    assert tickers[0] == tickers[1] != "AAPL"
    assert "Apple cut to $40 from $50.25" in text


def test_two_tickers_stay_two_and_bets_on_a_fall_stay() -> None:
    found = [augment_text("finance.swap_tickers", "$aapl beats $MSFT, $SQQQ up", seed, p=1.0) for seed in SEEDS]

    pairs = [re.fullmatch(r"\$(\w+) beats \$(\w+), \$SQQQ up", text) for text in found]
    assert all(m and m[1].islower() and m[1].upper() != m[2] and m[2].isupper() for m in pairs)


@pytest.mark.parametrize("seed", SEEDS)
def test_amounts_keep_their_order_signs_and_units(seed: int) -> None:
    text = augment_text("finance.swap_amounts", NEWS, seed, p=1.0)

    found = re.fullmatch(
        r"\$AAPL - Apple cut to \$([\d.]+) from \$([\d.]+), EPS falls ([\d.]+)%, revenue ([\d,]+(?:\.\d+)?)M vs ([\d.]+)B; "
        r"\$AAPL down in Q4 2019",
        text,
    )
    assert found
    assert 0 < float(found[1]) < float(found[2])
    assert 0 < float(found[3]) < 100


def test_amounts_of_one_kind_change_by_one_factor() -> None:
    text = augment_text("finance.swap_amounts", "from $1000 to $2000, up 10% to 20%", 3, p=1.0)

    found = re.findall(r"[\d.]+", text)
    low, high, small, large = map(float, found)
    assert high / low == pytest.approx(2, rel=0.01)
    assert large / small == pytest.approx(2, rel=0.1)
    assert text != "from $1000 to $2000, up 10% to 20%"


@pytest.mark.parametrize("text", ["S&P 500 at 3,000 in 2019", "Q4 beat, 10-K filed on 12/05/2019", "$BRK.B and 3M rise", "0%"])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_years_quarters_names_and_bare_numbers_stay(text: str, seed: int) -> None:
    assert augment_text("finance.swap_amounts", text, seed, p=1.0) == text


def test_a_share_never_grows_over_a_hundred() -> None:
    shares = [float(augment_text("finance.swap_amounts", "falls 90%", seed, p=1.0)[6:-1]) for seed in SEEDS]

    assert max(shares) < 100


def test_the_rows_own_ticker_is_masked_and_others_stay() -> None:
    row = Example("1", "CAT: a cat, $ cat and $CAT beat $DE. CATERPILLAR", 0.1, record=(("ticker", "CAT"), ("return", 0.1)))

    changed = augmentations.get("finance.mask_ticker")(row, random.Random(0), p=1.0)

    assert changed.text == "[TICKER]: a cat, [TICKER] and [TICKER] beat $DE. CATERPILLAR"
    assert (changed.record, changed.target) == (row.record, 0.1)
    assert augment_text("finance.mask_ticker", "$A and $B", 0, p=1.0) == "[TICKER] and [TICKER]"


def test_only_what_the_user_says_is_changed() -> None:
    turns = (Message("system", "$AAPL"), Message("user", "$AAPL"), Message("assistant", "$AAPL"))

    changed = augmentations.get("finance.swap_tickers")(Example("1", messages=turns), random.Random(0), p=1.0)

    assert [turn.content == "$AAPL" for turn in changed.messages] == [True, False, True]


RATIOS = (("X1 profit", 0.1234), ("X2 debt", -56.78), ("X3 none", 0.0), ("X4 unknown", None), ("X5 quiet", 1234567.0))


@pytest.mark.parametrize("seed", SEEDS)
def test_a_jitter_stays_within_half_a_unit_of_the_third_digit(seed: int) -> None:
    told = format_record(RATIOS[:4])
    row = replace(Example("1", told, "sound"), record=RATIOS)

    changed = augmentations.get("finance.jitter")(row, random.Random(seed))

    moved = dict(changed.record)
    assert abs(moved["X1 profit"] - 0.1234) <= 0.0005
    assert abs(moved["X2 debt"] + 56.78) <= 0.05
    assert abs(moved["X5 quiet"] - 1234567) <= 5000
    assert (moved["X3 none"], moved["X4 unknown"]) == (0.0, None)
    assert changed.text == format_record(changed.record[:4])
    assert not math.isclose(moved["X5 quiet"], 1234567.0, rel_tol=1e-12)
