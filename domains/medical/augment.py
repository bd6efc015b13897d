"""Augmentations for clinical texts; those of molecules, heart beats and pictures have files of their own."""

from __future__ import annotations

import random
import re
from collections.abc import Sequence

from vertical_sdk.catalog import Share, augmentations
from vertical_sdk.data.augment import change_text
from vertical_sdk.types import Example

from .beats import scale_amplitude, time_warp
from .images import intensity_window, rotate, shift, zoom
from .molecules import random_smiles
from .questions import rephrase_question
from .terms import FIXED, SYNONYMS

__all__ = [
    "abbreviations",
    "drop_sentences",
    "drop_turns",
    "intensity_window",
    "paraphrase_question",
    "random_smiles",
    "rotate",
    "scale_amplitude",
    "shift",
    "synonyms",
    "time_warp",
    "zoom",
]

ABBREVIATIONS = {
    "abdominal": "abd",
    "acute kidney injury": "AKI",
    "acute respiratory distress syndrome": "ARDS",
    "atrial fibrillation": "AF",
    "bilateral": "bilat",
    "body mass index": "BMI",
    "cerebrovascular accident": "CVA",
    "chronic": "chr",
    "chronic kidney disease": "CKD",
    "chronic obstructive pulmonary disease": "COPD",
    "complete blood count": "CBC",
    "computed tomography": "CT",
    "congestive heart failure": "CHF",
    "coronary artery disease": "CAD",
    "deep vein thrombosis": "DVT",
    "diabetes mellitus": "DM",
    "diagnosis": "dx",
    "disease": "dz",
    "dyspnea on exertion": "DOE",
    "electrocardiogram": "ECG",
    "emergency department": "ED",
    "end stage renal disease": "ESRD",
    "fracture": "fx",
    "gastroesophageal reflux disease": "GERD",
    "gastrointestinal": "GI",
    "genitourinary": "GU",
    "history": "hx",
    "history of": "h/o",
    "human immunodeficiency virus": "HIV",
    "hypertension": "HTN",
    "inflammatory bowel disease": "IBD",
    "intensive care unit": "ICU",
    "intrauterine growth restriction": "IUGR",
    "intravenous": "IV",
    "irritable bowel syndrome": "IBS",
    "laceration": "lac",
    "left lower quadrant": "LLQ",
    "left upper quadrant": "LUQ",
    "lower extremity": "LE",
    "magnetic resonance imaging": "MRI",
    "metastasis": "mets",
    "motor vehicle accident": "MVA",
    "myocardial infarction": "MI",
    "not otherwise specified": "NOS",
    "obstructive sleep apnea": "OSA",
    "operation": "op",
    "osteoarthritis": "OA",
    "patient": "pt",
    "peripheral vascular disease": "PVD",
    "pregnancy": "preg",
    "pulmonary embolism": "PE",
    "respiratory syncytial virus": "RSV",
    "rheumatoid arthritis": "RA",
    "right lower quadrant": "RLQ",
    "right upper quadrant": "RUQ",
    "secondary to": "2/2",
    "shortness of breath": "SOB",
    "subarachnoid hemorrhage": "SAH",
    "systemic lupus erythematosus": "SLE",
    "transient ischemic attack": "TIA",
    "tuberculosis": "TB",
    "unspecified": "unsp",
    "upper extremity": "UE",
    "upper respiratory infection": "URI",
    "urinary tract infection": "UTI",
    "with": "w/",
}
"""In full → short, as notes have them. None is a negation: "w/o" and "neg" are left as they are."""
ONE_WAY = frozenset({"op", "CT", "PE", "RA", "LE", "UE", "2/2", "lac", "ED", "DM", "AF", "MI", "IV", "GI", "OA"})
"""Abbreviations with other meanings, or that are words too: we write them, but never spell them out."""

FULL = {full.casefold(): short for full, short in ABBREVIATIONS.items()}
SHORT = {short: full for full, short in ABBREVIATIONS.items() if short not in ONE_WAY}


def _pattern() -> re.Pattern[str]:
    """Any of them as a whole word, the longest first; short forms in capitals as they are, full ones in any case."""
    full = "|".join(re.escape(f) for f in sorted(FULL, key=len, reverse=True))
    short = "|".join(re.escape(s) for s in sorted(SHORT, key=len, reverse=True))
    return re.compile(rf"(?<![\w/-])(?:(?P<full>(?i:{full}))|(?P<short>{short}))(?![\w/-])")


PATTERN = _pattern()


@augmentations.register("medical.abbreviations")
def abbreviations(example: Example, rng: random.Random, *, p: Share = 0.3) -> Example:
    """Write each term that has a usual abbreviation short, and each abbreviation in full, with probability p.

    Whole words only. Negations ("no", "without", "w/o", "denies") are never touched, and the label never changes.
    """

    def swap(match: re.Match[str]) -> str:
        if rng.random() >= p:
            return match.group()
        if match["short"]:
            return SHORT[match["short"]]
        return FULL[match["full"].casefold()]

    return change_text(example, lambda text: PATTERN.sub(swap, text))


EQUALS: dict[str, tuple[str, ...]] = {
    term.casefold(): tuple(other for other in group if other != term) for group in SYNONYMS for term in group
}
"""A term in small letters → what may be written in its place."""


def _synonym_pattern() -> re.Pattern[str]:
    """A fixed name, left as it is; or a term with its article, as whole words, the longest first."""
    fixed = "|".join(re.escape(name) for name in sorted(FIXED, key=len, reverse=True))
    terms = "|".join(re.escape(term) for term in sorted(EQUALS, key=len, reverse=True))
    whole = rf"(?<![\w/-])(?:(?P<fixed>{fixed})|(?:(?P<article>an?) )?(?P<term>{terms}))(?![\w/-])"
    return re.compile(whole, re.IGNORECASE)


SYNONYM = _synonym_pattern()


@augmentations.register("medical.synonyms")
def synonyms(example: Example, rng: random.Random, *, p: Share = 0.3) -> Example:
    """Write another name of the same thing for each clinical term of our own table, with probability p; both ways.

    Whole words only, and not inside fixed names (pulmonary hypertension). The article before it is made to fit. Negations are never
    touched: "no fever" may become "no pyrexia". Nothing comes from other rows, so no row that is evaluated on can be seen through it.
    The label never changes.
    """

    def swap(match: re.Match[str]) -> str:
        if match["fixed"] or rng.random() >= p:
            return match.group()
        synonym = rng.choice(EQUALS[match["term"].casefold()])
        synonym = _match_case(synonym, match["term"])
        if not match["article"]:
            return synonym
        article = match["article"][0] + ("n" if synonym[0].lower() in "aeiou" else "")
        return f"{article} {synonym}"

    return change_text(example, lambda text: SYNONYM.sub(swap, text))


def _match_case(made: str, model: str) -> str:
    """Copy the case of the original term: a first capital, or all capitals."""
    if model.isupper() and len(model) > 1:
        return made.upper()
    return made[0].upper() + made[1:] if model[0].isupper() else made


SENTENCE = re.compile(
    r"(?<=[.!?])(?<!\bDr\.)(?<!\bMr\.)(?<!\bMrs\.)(?<!\bvs\.)(?<!\be\.g\.)(?<!\bi\.e\.)\s+(?=[A-Z0-9\"'(])|\n+"
)
"""The gap between two sentences: white space after a full stop and before a capital or a number; or a line's end."""
WORD = re.compile(r"[^\W\d_]{4,}")
LEAST = 4
"""Words of four letters and more from which a sentence is content, and not only a heading."""


@augmentations.register("medical.drop_sentences")
def drop_sentences(example: Example, rng: random.Random, *, p: Share = 0.15, first: bool = True) -> Example:
    """Drop each sentence with probability p, but never all of them, nor the only ones with content (more than a heading).

    first  always keep the beginning: the text before the first empty line (a question before its context) or, without an
           empty line, the first sentence (a title)

    Whole sentences are dropped, so that no negation is separated from what it negates. The label never changes.
    """

    def change(text: str) -> str:
        head, between, body = text.partition("\n\n") if first else ("", "", text)
        if not between:
            head, body = "", text
        keep_title = first and not between
        return head + between + _drop_some(body, SENTENCE, keep_title, rng, p)

    return change_text(example, change)


TURN = re.compile(r"(?<!\n)\n+(?!\n)(?=\s{0,99}[^\W\d][\w ]{1,20}:)")
"""The end of a line before one that says who speaks."""
ASKS = re.compile(r"\s*(?:doctor|dr|physician|clinician|nurse|guest_clinici?an)\w*\s*[:.]", re.IGNORECASE)


@augmentations.register("medical.drop_turns")
def drop_turns(example: Example, rng: random.Random, *, p: Share = 0.15) -> Example:
    """Leave out each exchange of a dialogue ("Doctor: ...", and what is answered) with probability p; never all of them.

    Question and answer go together: a "No." without its question would deny the question before. A conversation of a generation
    task is left as it is, because its answer tells all that was said. The label never changes.
    """
    if example.messages:
        return example

    def change(text: str) -> str:
        exchanges: list[str] = []
        for turn in TURN.split(text):
            if exchanges and (not ASKS.match(turn) or ASKS.match(exchanges[-1].rpartition("\n")[2])):
                exchanges[-1] += "\n" + turn
            else:
                exchanges.append(turn)
        return "\n".join(_must_stay(exchanges, rng, p))

    return change_text(example, change)


@augmentations.register("medical.paraphrase_question")
def paraphrase_question(example: Example, rng: random.Random, *, p: Share = 0.5) -> Example:
    """Ask the question at the beginning of a text in other words, with probability p: "Does X ...?" → "We asked whether X ...".

    The question is the text before the first empty line, if it ends with a question mark and has only one. Its words stay, and
    their order but for the auxiliary, so that neither its meaning nor its direction changes; nor does the label, or anything
    after the empty line.
    """
    if rng.random() >= p:
        return example

    def change(text: str) -> str:
        question, between, rest = text.partition("\n\n")
        return rephrase_question(question, rng) + between + rest

    return change_text(example, change)


def _drop_some(text: str, between: re.Pattern[str], keep_first: bool, rng: random.Random, p: float) -> str:
    """Remove some sentences, and the white space after each."""
    pieces: list[str] = []
    gaps: list[str] = []
    start = 0
    for gap in between.finditer(text):
        pieces.append(text[start : gap.start()])
        gaps.append(gap.group())
        start = gap.end()
    pieces.append(text[start:])
    gaps.append("")
    gone = {n for n in range(int(keep_first), len(pieces)) if rng.random() < p}
    content = [n for n, piece in enumerate(pieces) if len(WORD.findall(piece)) >= LEAST] or list(range(len(pieces)))
    if not set(content) - gone:
        gone.discard(rng.choice(content))
    return "".join(piece + gap for n, (piece, gap) in enumerate(zip(pieces, gaps, strict=True)) if n not in gone).rstrip()


def _must_stay(pieces: Sequence[str], rng: random.Random, p: float) -> list[str]:
    """The pieces but those left out, each with probability p; at least one."""
    gone = [rng.random() < p for _ in pieces]
    if all(gone):
        gone[rng.randrange(len(gone))] = False
    return [piece for piece, out in zip(pieces, gone, strict=True) if not out]
