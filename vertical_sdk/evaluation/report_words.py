"""The words of a report in its language: one table for each language, `report.LANGUAGE.yaml`, all with the same keys."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from vertical_sdk.evaluation.headline import metric_meaning, metric_title
from vertical_sdk.yaml_file import read_yaml

__all__ = ["Words", "load_words"]


@dataclass(frozen=True)
class Words:
    """The words of one language.

    language  "en" or "zh"
    texts     key → text, with names to fill in
    phrases   text that other parts of the SDK write in English → the same in this language
    """

    language: str
    texts: Mapping[str, str]
    phrases: Mapping[str, str]

    def __call__(self, key: str, **values: object) -> str:
        """The text of a key, filled in."""
        return self.texts[key].format(**values)

    def phrase(self, text: str) -> str:
        """A text of another part of the SDK, also with members: "specialist (adapter + boosted trees)"; an unknown one unchanged."""
        if text in self.phrases or not text.endswith(")"):
            return self.phrases.get(text, text)
        head, _, members = text[:-1].partition(" (")
        if self.language == "en" or head not in self.phrases:
            return text
        for joined in (title for title in self.phrases if " + " in title):  # the title of one member: "TF-IDF + linear"
            members = members.replace(joined, joined.replace(" + ", "+"))
        known = {title.replace(" + ", "+"): translated for title, translated in self.phrases.items()}
        return f"{self.phrases[head]}（{' + '.join(known.get(member, member) for member in members.split(' + '))}）"

    def metric(self, name: str) -> str:
        """The plain name of a metric; its registered title if the table does not have it."""
        return self.texts.get(f"metrics.{name}") or metric_title(name)

    def meaning(self, name: str) -> str:
        """What a metric says, with its name in statistics."""
        return self.texts.get(f"metrics.{name}.help") or metric_meaning(name)

    def join(self, names: Iterable[str]) -> str:
        """List names: "a, b and c"."""
        items = list(names)
        if len(items) < 2:
            return "".join(items)
        return f"{self('join').join(items[:-1])}{self('and')}{items[-1]}"

    def date(self, moment: str) -> str:
        """A date for readers, from ISO 8601; "" for anything else."""
        year, month, day = moment[:4], moment[5:7], moment[8:10]
        if not (year.isdigit() and month.isdigit() and day.isdigit() and 1 <= int(month) <= 12):
            return ""
        return self("date", year=year, month=self("months").split()[int(month) - 1], day=int(day))


@functools.cache
def load_words(language: str) -> Words:
    """Load the words of a language."""
    english = _read_table("en")
    texts = english if language == "en" else _read_table(language)
    phrases = {text: texts[key] for key, text in english.items() if key.startswith("phrase.")}
    return Words(language, texts, phrases)


def _read_table(language: str) -> dict[str, str]:
    return read_yaml(Path(__file__).parent / f"report.{language}.yaml")
