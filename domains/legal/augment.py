"""Augmentations for legal texts: other parties, no citations, no holders, and the marks that scanning leaves."""

from __future__ import annotations

import random
import re
from collections.abc import Callable

from vertical_sdk.catalog import Share, augmentations
from vertical_sdk.data.augment import NEGATIONS, change_text
from vertical_sdk.data.texts import list_texts
from vertical_sdk.types import Example

__all__ = ["CITATION", "PLACE", "mask_citations", "mask_holders", "ocr_noise", "rename_parties"]

PLACE = "[CITATION]"
FORMS = r"Inc|LLC|L\.L\.C|Ltd|Limited|Corp|Corporation|Co|Company|GmbH|AG|S\.A|SA|N\.V|B\.V|plc|PLC|L\.P|LP|LLP|Pty|S\.p\.A|Incorporated"
GENERIC = r"The|This|That|Such|Each|Every|An?|Any|No|Other|Insurance|Operating|Parent|Holding|Trust|Public|Limited|Liability|Target|Surviving"
ORGANISATION = re.compile(
    rf"\b(?!(?:{GENERIC})\b)(?P<name>[A-Z][\w&'’-]*(?: (?:& |of |and )?[A-Z][\w&'’-]*){{0,4}}),? (?:{FORMS})\b(?!\w)"
)
"""A name that ends in a legal form: Acme Widgets, Inc."""
INTRODUCED = re.compile(
    rf"(?:{FORMS})\.?[^()\"“”]{{0,80}}\((?:the |hereinafter |\"|“|collectively |each,? |an? )*[\"“](?P<name>[^\"“”]{{2,40}})[\"”]"
)
"""How a contract gives a party its short name: Acme Widgets, Inc. ("Acme")."""
MIXED = re.compile(r"\b[A-Z][a-z]+(?:[A-Z][a-z]*)+\b")
"""A capital inside a word, as only names have it: HealthGate, PcoMed."""
CAPITALS = re.compile(
    r"\b[A-Z]{3,8}\b(?=(?:['’]s)?,? (?:shall|will|may|agrees|grants|hereby|has|is|or its|and its|must|acknowledges)\b)"
)
"""A name in capitals that acts in a sentence of small letters: IBM shall."""
NEUTRAL = ("Company", "Corporation", "Firm")
"""Words for a party that say nothing of its part in the contract."""
ROLES = re.compile(
    r"affiliate|agent|assignee|assignor|author|bank|borrower|buyer|client|consultant|contractor|consumer|creditor|"
    r"customer|debtor|developer|distributor|employee|employer|endorser|executive|franchisee|franchisor|guarantor|holder|"
    r"indemnitee|indemnitor|investor|landlord|lender|lessee|lessor|licensee|licensor|manufacturer|member|operator|owner|"
    r"member|party|partie|provider|publisher|purchaser|recipient|reseller|seller|servicer|shareholder|sponsor|"
    r"subcontractor|subscriber|supplier|tenant|transferee|transferor|trustee|user|vendor|agreement|section|article|"
    r"exhibit|schedule|term|territory|product|products|services|software"
)
"""Words for a party's part in the contract, and for what is agreed on: they carry the meaning and are never renamed."""
KEPT = re.compile(
    r"FDA|EMA|SEC|IRS|FTC|EPA|GAAP|IFRS|NDA|CDA|SLA|EULA|GDPR|CCPA|HIPAA|USA|USD|EUR|GBP|VAT|GST|LIBOR|SOFR|NASDAQ|NYSE|"
    r"AAA|ICC|JAMS|UCC|ISO|API|SDK|URL|PDF|HTML|XML|CPI|ERISA|OSHA|COGS|EBITDA|NOT|NOR|ANY|ALL|EACH|THE|AND|THIS|SUCH|"
    r"THAT|IT|YOU|WE|NEITHER|EITHER|BOTH|NONE|ROI|RFP|SOW"
)
"""Capitals that are not a party: authorities, standards, currencies, and words."""
FIRST = (
    "Alder",
    "Birch",
    "Cedar",
    "Dover",
    "Elm",
    "Fern",
    "Granite",
    "Harbor",
    "Juniper",
    "Kestrel",
    "Linden",
    "Maple",
    "Oak",
    "Plover",
)
SECOND = ("brook", "crest", "dale", "field", "gate", "haven", "mere", "ridge", "stone", "vale", "water", "wick")


@augmentations.register("legal.rename_parties")
def rename_parties(example: Example, rng: random.Random, *, p: Share = 0.5) -> Example:
    """Give each party another name with probability p, the same one everywhere in the text.

    Parties are names with a legal form (Acme, Inc.) and their short names, words such as HealthGate or IBM that act as a party,
    and "Company". Words for a part in the contract (Licensor, Licensee, Buyer, Tenant) and defined terms ("Renewal Term") carry
    the meaning and stay; so does the label.
    """
    text = "\n".join(t for t in list_texts(example))
    new: dict[str, str] = {}
    taken = text.casefold()
    for name in _find_parties(text):
        if rng.random() < p:
            invented = _draw_name(rng, taken)
            taken += invented.casefold()
            new[name] = invented.upper() if name.isupper() else invented
    if not new:
        return example
    longest = "|".join(re.escape(name) for name in sorted(new, key=len, reverse=True))
    whole = re.compile(rf"(?P<the>\b[Tt]he )?(?<![\w-])(?P<name>{longest})(?![\w-])")

    def rename(match: re.Match[str]) -> str:
        name = match["name"]
        if name.title() in NEUTRAL and _is_compound(match):
            return match.group()
        the = match["the"] or "" if name.title() not in NEUTRAL else ""
        return the + new[name]

    return change_text(example, lambda one: whole.sub(rename, one))


def _find_parties(text: str) -> list[str]:
    """Find the parties' names in the order of the text, each once."""
    names = [(m.start("name"), m["name"]) for m in ORGANISATION.finditer(text)]
    names += [(m.start("name"), m["name"]) for m in INTRODUCED.finditer(text)]
    names += [(m.start(), m.group()) for m in MIXED.finditer(text)]
    names += [(m.start(), m.group()) for m in CAPITALS.finditer(text) if not KEPT.fullmatch(m.group())]
    names += [(m.start(), m.group()) for word in NEUTRAL for m in re.finditer(rf"\b(?:{word}|{word.upper()})\b", text)]
    return [name for name in dict.fromkeys(name for _, name in sorted(names)) if not _is_party(name)]


def _is_party(name: str) -> bool:
    """Whether a name is made of words that mean something in a contract."""
    if name.title() in NEUTRAL:
        return False
    words = re.findall(r"[^\W\d_]+", name.casefold())
    return not words or any(ROLES.fullmatch(word.removesuffix("s")) or word in NEGATIONS for word in words)


def _is_compound(match: re.Match[str]) -> bool:
    """Whether "Company" is the end of a longer name, as in Insurance Company, and not a party by itself."""
    before = match.string[max(0, match.start() - 200) : match.start()]
    return (
        bool(re.search(r"(?:[A-Z][\w&'’-]{0,99}|[a-z]-),? $", before))
        and not re.search(r"[.:;(]\s*\w* $", before)
        and not match["the"]
    )


def _draw_name(rng: random.Random, taken: str) -> str:
    """An invented name that the text does not have."""
    names = [first + second for first in FIRST for second in SECOND if (first + second).casefold() not in taken]
    return rng.choice(names)


REPORTERS = (
    r"U\.\s?S\.|S\.\s?Ct\.|L\.\s?Ed\.(?:\s?2d)?|F\.(?:\s?(?:2d|3d|4th))?(?:\s?App['’]x)?|F\.\s?Supp\.(?:\s?[23]d)?|B\.R\.|"
    r"A\.(?:[23]d)?|P\.(?:[23]d)?|[NS]\.?[EW]\.(?:\s?[23]d)?|So\.(?:\s?[23]d)?|N\.Y\.S?\.?(?:\s?[23]d)?|"
    r"Cal\.(?:\s?App\.)?(?:\s?(?:2d|3d|4th|5th))?(?:\s?Rptr\.(?:\s?[23]d)?)?|WL|Fed\.\s?Reg\."
)
PART = r"\d+[A-Za-z]?(?:[.\-–]\d+[A-Za-z]?)*(?:\([A-Za-z\d]{1,4}\))*"
CITATION = re.compile(
    rf"\b\d{{1,4}}\s(?:{REPORTERS})\s\d{{1,7}}(?:,\s\d{{1,5}}(?!\d|,\d))?(?:\s\([^()\n]{{0,40}}\d{{4}}\))?"
    rf"|\b\d{{1,2}}\sU\.?\s?S\.?\s?C\.?(?:\s?A\.)?\s(?:§+\s?)?{PART}"
    rf"|\b\d{{1,2}}\sC\.?\s?F\.?\s?R\.?\s(?:§+\s?|[Pp]art\s)?{PART}"
    rf"|(?<!§)§+\s?{PART}(?:(?:,|\sand|\sor|,\sand)\s{PART})*"
    rf"|\b(?:Sections?|SECTIONS?|Articles?|ARTICLES?|Clauses?|Paragraphs?|Secs?\.)\s(?:{PART}|[IVXLC]+\b(?:\([A-Za-z\d]{{1,4}}\))*)"
    rf"(?:(?:,|\sand|\sor|,\sand|,\sor|\sthrough)\s(?!\d+\s[UC]\.?\s?[SF])(?!\d+\s[A-Z]\.){PART})*"
    rf"|\b(?:Council\s)?(?:Directive|Regulation)\s(?:\((?:EU|EC|EEC)\)\s)?(?:No\.?\s)?\d{{2,4}}/\d{{1,4}}(?:/(?:EU|EC|EEC))?"
)
"""A case ("123 F.3d 456 (9th Cir. 1999)"), a statute ("15 U.S.C. § 78j(b)"), a section of the contract ("Section 12.3(a)")."""


@augmentations.register("legal.mask_citations")
def mask_citations(example: Example, rng: random.Random, *, p: Share = 0.5) -> Example:
    """Write [CITATION] for each reference to a case, a statute or a section, with probability p. The label never changes."""
    return change_text(example, lambda text: CITATION.sub(lambda m: PLACE if rng.random() < p else m.group(), text))


CONFUSED = (
    ("rn", "m"),
    ("m", "rn"),
    ("l", "1"),
    ("O", "0"),
    ("I", "l"),
    ("cl", "d"),
    ("o", "0"),
    ("vv", "w"),
    ("w", "vv"),
    ("fi", "h"),
)
"""What is printed → what a scanner reads: letters of like shape, split and joined ones (of the kinds that Kukich, 1992, names)."""
TOKEN = re.compile(r"\[[A-Z]+\]|[^\W_]+(?:['’-][^\W_]+)*")


@augmentations.register("legal.ocr_noise")
def ocr_noise(example: Example, rng: random.Random, *, p: Share = 0.02) -> Example:
    """Read a word wrongly with probability p, as a scanner would: l for 1, O for 0, rn for m, or a hyphen left from a line's end.

    Negations, words with a digit and placeholders such as [CITATION] are never touched; the label never changes.
    """

    def slip(match: re.Match[str]) -> str:
        word = match.group()
        if rng.random() >= p or _is_kept(word):
            return word
        ways = [(a, b) for a, b in CONFUSED if a in word]
        if len(word) >= 7 and word.isalpha() and rng.random() < 0.3:
            at = rng.randrange(3, len(word) - 2)
            return f"{word[:at]}- {word[at:]}"
        if not ways:
            return word
        a, b = rng.choice(ways)
        at = rng.choice([place.start() for place in re.finditer(re.escape(a), word)])
        return word[:at] + b + word[at + len(a) :]

    return change_text(example, lambda text: TOKEN.sub(slip, text))


def _is_kept(word: str) -> bool:
    """Whether a scanner's slip could turn the meaning: a negation, also as part of a word; a number; a placeholder."""
    bare = word.casefold().replace("’", "'")
    parts = bare.split("-")
    return (
        word.startswith("[")
        or bare.endswith("n't")
        or any(c.isdigit() for c in bare)
        or any(part in NEGATIONS for part in parts)
    )


EMAIL = re.compile(r"<?\b[\w.+-]{1,64}(?:@|\s?(?:\(at\)|\[at\]|\sat\s)\s?)[\w-]+(?:\.[\w-]+)+>?")
ADDRESS = re.compile(r"<?\b(?:https?://|ftp://|www\.)[^\s<>()\"]*[^\s<>()\".,;:]>?")
YEAR = r"(?:19|20)\d\d(?:\s?[-–,]\s?(?:\d{2}|(?:19|20)\d\d))*"
HOLDERS = re.compile(
    rf"(?P<sign>(?:\bcopyright\b\s*)?(?:\(c\)|©|&copy;)(?:\s*copyright\b)?|\bcopyright\b(?=\s+(?:by\s+)?{YEAR}))"
    rf"(?:\s*(?:,\s*)?(?P<year>{YEAR}))?,?(?:\s+by\b)?"
    r"(?P<holder>\s+(?=\S)(?!all\s+rights|and\b|or\b|notice|permission)[^\n.;]{2,60}?(?:\s(?:Inc|Ltd|Corp|Co)\.)?)?"
    r"(?<!\s)(?=\s*(?:[.;]|$|,\s+all\s+rights)|[^\S\n]*\n|\s+(?:all\s+rights|permission|licensed|this\s|under\s|distributed))",
    re.IGNORECASE,
)


@augmentations.register("legal.mask_holders")
def mask_holders(example: Example, rng: random.Random, *, p: Share = 0.8) -> Example:
    """Write placeholders for who holds a copyright, since when, and where to find them, each with probability p.

    "Copyright (c) 2004 Jane Doe" → "Copyright (c) [YEAR] [HOLDER]"; addresses → [URL], [EMAIL]. What is permitted, and so the
    label, never changes.
    """

    def often(place: str) -> Callable[[re.Match[str]], str]:
        return lambda match: place if rng.random() < p else match.group()

    def holder(match: re.Match[str]) -> str:
        lone = match["sign"].casefold() == "(c)" and not match["year"]  # a letter of an enumeration
        if lone or not (match["year"] or match["holder"]) or rng.random() >= p:
            return match.group()
        return match["sign"] + " [YEAR]" * bool(match["year"]) + " [HOLDER]" * bool(match["holder"])

    def change(text: str) -> str:
        return HOLDERS.sub(holder, ADDRESS.sub(often("[URL]"), EMAIL.sub(often("[EMAIL]"), text)))

    return change_text(example, change)
