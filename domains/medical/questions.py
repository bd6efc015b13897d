"""Yes-or-no questions in other words, by templates; meaning and direction never change."""

from __future__ import annotations

import random
import re

from .terms import words

ASKED = (
    "We asked: {}",
    "Research question: {}",
    "The question of this study: {}",
    "The authors asked: {}",
    "What was to be answered: {}",
    "This study asked the following question: {}",
    "To be decided: {}",
    "Question: {}",
)
"""Templates for an unchanged question."""
WHETHER = (
    "We asked whether {}.",
    "The question is whether {}.",
    "It was asked whether {}.",
    "The authors asked whether {}.",
    "This study examined whether {}.",
    "The aim was to find out whether {}.",
    "We investigated whether {}.",
    "It was to be determined whether {}.",
)
"""Around a question that has become a clause."""
AUXILIARY = re.compile(r"(Does|Do|Did|Can|Could|Should|Will|Would|May|Might|Must)\s+(\S.*)\?$", re.DOTALL)
# fmt: off
VERBS = frozenset(words("""
    accelerate achieve affect aggravate allow alleviate alter attenuate contribute correlate detect determine
    differ diminish eliminate enhance exacerbate exist explain facilitate fail impair improve indicate induce
    inhibit mediate modify modulate minimize occur persist predict predispose prevent
    produce promote protect prove provide reduce reflect remain represent require respond stimulate suffer suggest
    worsen
"""))
BEFORE_A_NOUN = frozenset(words("""
    a an the this that these those its their his her our your my no any some each every of in on at by for from to with without and or
    as than between among after before during under over high low further more less greater smaller large small new early late
    not never negative positive flat blunted
"""))
# fmt: on


def rephrase_question(question: str, rng: random.Random) -> str:
    """Put the question into a template, or after "whether" as a clause if its verb can be identified; else return it unchanged.

    A text that is not a single question, with one question mark at its end, is returned unchanged.
    """
    bare = question.strip()
    if not bare.endswith("?") or bare.count("?") != 1:
        return question
    clause = write_as_clause(bare)
    if clause and rng.random() < 0.5:
        return rng.choice(WHETHER).format(clause)
    return rng.choice(ASKED).format(bare)


def write_as_clause(question: str) -> str | None:
    """ "Does X improve Y?" → "X improves Y"; None if the verb cannot be identified.

    The verb is identified if exactly one word of the question is among VERBS, it is not the first word, and the word before it
    is not one that a noun would follow.
    """
    match = AUXILIARY.fullmatch(question)
    if not match or re.search(r"[.:;]\s", match[2]):
        return None
    spoken = match[2].split()
    places = [n for n, word in enumerate(spoken) if word.strip(",").lower() in VERBS]
    if len(places) != 1 or not places[0]:
        return None
    at = places[0]
    if spoken[at - 1].lower() in BEFORE_A_NOUN or spoken[at - 1].endswith((",", "'s")) or not spoken[at].islower():
        return None
    auxiliary = match[1].lower()
    verb = spoken[at]
    if auxiliary == "does" and {"and", "or", "but"} & {word.lower() for word in spoken[at:]}:
        return None  # a second verb would have to change too
    if auxiliary == "does":
        verb = _inflect_third_person(verb)
    elif auxiliary != "do":
        verb = f"{auxiliary} {verb}"
    return " ".join([*spoken[:at], verb, *spoken[at + 1 :]])


def _inflect_third_person(verb: str) -> str:
    if verb.endswith("y") and verb[-2] not in "aeiou":
        return verb[:-1] + "ies"
    return verb + ("es" if verb.endswith(("s", "sh", "ch", "x", "z", "o")) else "s")
