"""Augmentations for news, posts and ratios. None of them touches a word that says which way a price goes."""

from __future__ import annotations

import math
import random
import re

from vertical_sdk.catalog import Share, augmentations
from vertical_sdk.data.augment import change_text, replace_record
from vertical_sdk.types import Cell, Example

__all__ = ["jitter", "mask_ticker", "swap_amounts", "swap_tickers"]

TICKER = re.compile(r"\$([A-Za-z]{1,5}(?:[.-][A-Za-z])?)(?![\w'’])")
TICKERS = (  # noqa: SIM905  (easier to read than quoted words)
    "AAPL ABBV ABT ACN ADBE ADI ADP AMAT AMD AMGN AMT AMZN APD AXP BAC BDX BK BLK BMY BSX CAT CB CI CL CMCSA CME COP "
    "COST CRM CSCO CVS CVX DE DHR DIS DUK EBAY ECL EL EMR ETN EXC FDX GD GE GILD GM GOOGL GS HD HON HPQ IBM INTC INTU "
    "ISRG JNJ JPM KHC KMB KO LLY LMT LRCX MCD MDLZ MDT MET MMM MRK MS MSFT MU NEE NFLX NKE NOC NVDA ORCL PEP PFE PG "
    "PGR PM PNC PYPL QCOM REGN RTX SBUX SCHW SLB SNPS SPG SYK TGT TJX TMO TSLA TXN UNH UNP UPS USB VRTX VZ WBA WFC "
    "WMT XOM ZTS"
).split()
"""Large companies; no ticker that is a word about direction."""
TELLING = frozenset("DXD DOG FAZ LABD SDOW SDS SH SOXS SPXS SPXU SQQQ SRTY TBT TVIX TZA UVXY VIX VXX".split())  # noqa: SIM905
"""Funds that rise when something falls: their name turns the meaning round, so they stay."""

NUMBER = r"(?P<number>\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d+(?:\.\d+)?|\.\d+)"
NAMED = "3M|4K|8K|10K|401k"
"""A company, screens, forms and a pension plan: numbers with a letter that count nothing."""
AMOUNT = re.compile(
    rf"(?P<money>(?<![\w.,])(?:[$€£¥]\s?){NUMBER})(?![\d,]*\d)"
    rf"|(?<![\w.,$]){NUMBER.replace('number', 'share')}(?=\s?(?:%|percent\b|pct\b|bps?\b))"
    rf"|(?<![\w.,$])(?!(?i:{NAMED})\b){NUMBER.replace('number', 'sum')}"
    r"(?=\s?(?:[MBKmbk]|[Mm]illion|[Bb]illion|[Tt]rillion|[Mm]ln|[Bb]ln|[Bb]n)\b)"
)
"""Money with its sign, a share, or a count with its unit. Years, dates, quarters, names and bare numbers do not match."""


@augmentations.register("finance.swap_tickers")
def swap_tickers(example: Example, rng: random.Random, *, p: Share = 0.5) -> Example:
    """With probability p write another company's ticker for each $TICKER, the same one wherever it stood.

    Names of companies stay, as do funds that bet on a fall. The label never changes: the sentiment does not depend on which company it is.
    """
    if rng.random() >= p:
        return example
    others: dict[str, str] = {}

    def swap(match: re.Match[str]) -> str:
        own = match[1].upper()
        if own in TELLING:
            return match.group()
        if own not in others:
            others[own] = rng.choice([t for t in TICKERS if t != own and t not in others.values()] or TICKERS)
        return "$" + (others[own] if match[1].isupper() else others[own].lower())

    return change_text(example, lambda text: TICKER.sub(swap, text))


@augmentations.register("finance.swap_amounts")
def swap_amounts(example: Example, rng: random.Random, *, p: Share = 0.5) -> Example:
    """With probability p write other amounts: sums all times one factor, shares all times another one.

    Signs, units, currencies and % stay, and so does which amount is the larger one ("raised to $50 from $40"); where rounding
    would make two of them change places or equal, all stay as they are. The label never changes.
    """
    if rng.random() >= p:
        return example
    sums, shares = math.exp(rng.uniform(-0.7, 0.7)), math.exp(rng.uniform(-0.5, 0.5))

    def change(text: str) -> str:
        amounts = list(AMOUNT.finditer(text))
        largest = max((_replace_value(m["share"]) for m in amounts if m["share"]), default=0.0)
        of_shares = min(shares, 99 / largest) if 0 < largest < 100 else shares
        new = [_format_number(_parse_number(m), of_shares if m["share"] else sums) for m in amounts]
        for kind in (True, False):
            pairs = [
                (_replace_value(_parse_number(m)), _replace_value(w))
                for m, w in zip(amounts, new, strict=True)
                if bool(m["share"]) == kind
            ]
            if any((a[0] > b[0]) != (a[1] > b[1]) for a in pairs for b in pairs):
                return text
        pieces, end = [], 0
        for match, word in zip(amounts, new, strict=True):
            start, stop = match.span("number" if match["money"] else "share" if match["share"] else "sum")
            pieces += [text[end:start], word]
            end = stop
        return "".join([*pieces, text[end:]])

    return change_text(example, change)


@augmentations.register("finance.mask_ticker")
def mask_ticker(example: Example, rng: random.Random, *, p: Share = 0.5) -> Example:
    """With probability p write [TICKER] for the row's own ticker, with $ or as a word in capitals.

    The own ticker is the record's field "ticker"; a row without one has every $TICKER masked. Target and record never change.
    """
    if rng.random() >= p:
        return example
    own = next((str(value) for name, value in example.record if name == "ticker" and value), None)
    if own is None:
        return change_text(example, lambda text: TICKER.sub("[TICKER]", text))
    word = re.escape(own)
    pattern = re.compile(rf"\$\s?(?i:{word})(?![\w'’])|(?<![\w$]){word}(?!\w)")
    return change_text(example, lambda text: pattern.sub("[TICKER]", text))


@augmentations.register("finance.jitter")
def jitter(example: Example, rng: random.Random, *, p: Share = 1.0) -> Example:
    """Move each number of the record, with probability p, by at most half a unit of its third significant digit.

    That is within what the text tells, so a model learns not to lean on last digits. Zeros, words and unknown fields stay, as do
    signs; the label never changes.
    """

    def moved(value: Cell) -> Cell:
        if not isinstance(value, float) or value == 0 or not math.isfinite(value) or rng.random() >= p:
            return value
        unit = 10.0 ** (math.floor(math.log10(abs(value))) - 2)
        return value + rng.uniform(-0.5, 0.5) * unit

    return replace_record(example, [(name, moved(value)) for name, value in example.record]) if example.record else example


def _parse_number(match: re.Match[str]) -> str:
    return str(match["number"] or match["share"] or match["sum"])


def _replace_value(number: str) -> float:
    return float(number.replace(",", ""))


def _format_number(number: str, factor: float) -> str:
    """The number times the factor, with as many decimals as it had, or one more where it would lose its meaning."""
    value = _replace_value(number)
    decimals = len(number.partition(".")[2])
    new = value * factor
    if value and abs(round(new, decimals) - new) > 0.05 * new:
        decimals += 1
    return f"{new:,.{decimals}f}" if "," in number else f"{new:.{decimals}f}"
