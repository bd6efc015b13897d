"""Personal data of court files, besides the general kinds: parties, case numbers and lawyers."""

from __future__ import annotations

from vertical_sdk.catalog import deidentifiers
from vertical_sdk.data.chinese import match_after_word
from vertical_sdk.data.deidentify import make_deidentifier
from vertical_sdk.data.entities import Entity, match_after_label
from vertical_sdk.data.surrogates import replace_digits

NUMBER = r"(?:\s*(?i:numbers?|nos?|nr|ids?|#))"
CASE = rf"(?i:(?:case|docket|cause|claim|civil\s+action|criminal|index|file|appeal|application|petition|matter)){NUMBER}|(?i:docket)"
BAR = rf"(?i:(?:state\s+)?bar(?:\s+id(?:entification)?|\s+card|\s+roll|\s+registration)?|attorney(?:\s+reg(?:istration)?)?|roll){NUMBER}|SBN"

INTRODUCES = (
    "In|See|The|But|Cf|Under|Compare|As|And|Or|Per|From|Since|After|Before|Also|While|Although|Accord|When|Where|Following|Applying"
    "|Citing|Quoting|Overruling|Unlike|Like|For|By|With|On|At|To|That|This|Both|Neither|Court|Courts|Held|Case|Re|Matter|Both|Our|Their"
)
"""Words in capitals before a party that are not part of its name."""
OF_A_NAME = (
    "of the and for de la le du des von van der den del di da ex rel estate in re on behalf "
    "inc incorporated corp corporation co company ltd limited llc llp lp plc gmbh ag sa nv bv bros brothers sons group holdings members "
    "association assn foundation trust union society institute university college school schools church hospital club "
    "united states america state states commonwealth people republic kingdom crown queen king regina rex government nation "
    "city town county village district province parish island board council commission commissioner department dept ministry minister "
    "secretary attorney general director agency authority office bureau administration service services education health housing labor "
    "labour revenue transport justice police federal national international american european north south east west new san los saint "
    "first bank savings insurance railroad railway airlines motors industries systems technologies products international "
    "jr sr mr mrs ms dr sir hon doe roe et al plaintiff plaintiffs defendant defendants petitioner respondent appellant appellee"
)
WORD = r"(?:[A-Z]\.(?:\s?[A-Z]\.){0,7}+|(?:Bros|Dept|Ass'n|Comm'n|Int'l|Nat'l|Dr|Mr|Mrs|Ms|St|Hon)\.|[A-Z][\w'’-]*+)"
LINK = r"(?:(?:of|and|for)(?:\sthe)?|de|la|le|du|des|von|van|der|den|del|di|da|ex|rel\.|on|&)"
FIRM = r"(?:,?\s(?:Inc|Corp|Co|Ltd|Jr|Sr)\.|,?\s(?:Inc|LLC|L\.L\.C\.|LLP|L\.P\.|LP|Ltd|Limited|PLC|plc|N\.A\.|S\.A\.|GmbH|AG)(?!\w))"
NAME = rf"(?!(?:{INTRODUCES})\b){WORD}(?:(?:(?:\s{LINK}){{0,2}}|{FIRM}(?:\s{LINK}){{1,2}})\s{WORD}){{0,9}}{FIRM}?"
AGAINST = r"(?:v\.?|vs\.?|versus)"

OWN = (
    Entity(
        "CASE_NUMBER",
        (
            (
                r"(?<![\w:-])(?:\d{1,2}:)?\d{2,4}-(?i:cv|cr|md|mc|mj|ap|bk|po|ec|sc|ca|civ|crim)-\d{1,7}(?:-[A-Z]{1,4})*(?![\w-])",
                0.9,
            ),
            (r"(?<![\w-])[CTF][-‑–]\d{1,4}/\d{2}(?:\sP(?:PU)?)?(?![\w/])", 0.6),
            (r"(?<=\bNos?\.\s{0,2})\d{2}-\d{1,5}(?![\w-])", 0.7),
            (match_after_label(CASE, r"(?=[\w:/.-]*\d)[A-Z0-9][\w:/-]*(?:\.\d+)*\w|\d"), 0.85),
        ),
        surrogate=replace_digits,
    ),
    Entity(
        "CASE_NUMBER",
        (
            (
                r"[(〔]\d{4}[)〕]\s?[\u4e00-\u9fff]{1,4}\d{0,4}[\u4e00-\u9fff]{1,6}第?\d{1,6}号(?:之[一二三四五六七八九十\d]+)?",
                0.85,
            ),
        ),
        hint=r"[(〔]\d{4}[)〕]",
        surrogate=replace_digits,
    ),
    Entity(
        "BAR_NUMBER", ((match_after_word("执业证|律师证|執業證", r"\d{17}"), 0.85),), hint="[证證]", surrogate=replace_digits
    ),
    Entity("BAR_NUMBER", ((match_after_label(BAR, r"[A-Z]{0,3}-?\d{4,9}"), 0.85),), hint=r"\d{4}", surrogate=replace_digits),
    Entity(
        "PARTY",
        (
            (rf"(?<![\w.'’&-]){NAME}(?=(?:,?\set\sal\.)?,?\s{AGAINST}\s+[A-Z])", 0.7),
            (rf"(?=[A-Z])(?<=(?:(?<![\w.'’&-])[A-Z][\w.'’&-]*|\bal\.|\bothers),?\s{AGAINST}\s+){NAME}", 0.7),
        ),
        hint=rf"\s{AGAINST}\s+[A-Z]",
        names=frozenset(OF_A_NAME.split()),
    ),
)


ABOUT = """Case and docket numbers (English and Chinese), the parties of "X v. Y", bar numbers, and all general kinds; see `presidio`.

entities  which kinds, the general ones among them; all where None
names     find people and places too, with a spaCy model that is fetched once

Of a list of parties ("Smith, Jones and Brown v. Green") only the one beside the "v." is found. A party is found again by the words of
its name all over the document; words such as "United States" or "Inc." stay in what is made
up. Reporters ("410 U.S. 113") and neutral citations stay, and tell those who look them up which case it is. Raises what `presidio`
raises.
"""

identifiers = deidentifiers.register("legal.identifiers", extra="deidentify")(
    make_deidentifier("legal.identifiers", OWN, ABOUT)
)
