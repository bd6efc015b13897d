"""Augmentations for clinical texts."""

from __future__ import annotations

import random
import re

from vertical_sdk.catalog import augmentations
from vertical_sdk.data.augment import on_text
from vertical_sdk.types import Example

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
"""Abbreviations that stand for other things too, or are words: written by us, never spelled out."""

FULL = {full.casefold(): short for full, short in ABBREVIATIONS.items()}
SHORT = {short: full for full, short in ABBREVIATIONS.items() if short not in ONE_WAY}


def _pattern() -> re.Pattern[str]:
    """Any of them as a whole word, the longest first; short forms in capitals as they are, full ones in any case."""
    full = "|".join(re.escape(f) for f in sorted(FULL, key=len, reverse=True))
    short = "|".join(re.escape(s) for s in sorted(SHORT, key=len, reverse=True))
    return re.compile(rf"(?<![\w/-])(?:(?P<full>(?i:{full}))|(?P<short>{short}))(?![\w/-])")


PATTERN = _pattern()


@augmentations.register("medical.abbreviations")
def abbreviations(example: Example, rng: random.Random, *, p: float = 0.3) -> Example:
    """Write each term that has a usual abbreviation short, and each abbreviation in full, with probability p.

    Whole words only. Negations ("no", "without", "w/o", "denies") are never touched, and the label never changes.
    """

    def swap(match: re.Match[str]) -> str:
        if rng.random() >= p:
            return match.group()
        if match["short"]:
            return SHORT[match["short"]]
        return FULL[match["full"].casefold()]

    return on_text(example, lambda text: PATTERN.sub(swap, text))
