"""The list of adapters, and the search."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from fastapi import Request
from fastapi.responses import Response
from starlette.exceptions import HTTPException

from vertical_sdk.errors import RegistryError
from vertical_sdk.registry import Registry, Version
from vertical_sdk.registry.query import FACTS, parse_condition
from vertical_sdk.registry.version import Summary
from vertical_sdk.server.errors import public_message
from vertical_sdk.server.pages.rendering import redirect, render

__all__ = ["list_page"]

LONGEST_QUERY = 2000
"""Characters of a search."""
ROWS = 50
"""Rows of the list on one page."""


@dataclass(frozen=True)
class _Row:
    """A row of the list: an adapter with its newest version, or a version that the search found."""

    name: str
    number: int
    domain: str
    task: str
    base: str
    aliases: Sequence[tuple[str, int]]
    results: Sequence[tuple[str, float]]
    created: str
    gate: str
    forced: bool
    revoked: str | None


def list_page(registry: Registry, request: Request) -> Response:
    """List adapters, or the versions that meet the conditions of a search; a reference redirects to its version."""
    text, after = (request.query_params.get(key, "").strip() for key in ("q", "after"))
    if max(len(text), len(after)) > LONGEST_QUERY:
        raise HTTPException(400, f"The search is too long: at most {LONGEST_QUERY} characters.")
    words = _split_conditions(text)
    searched = any(re.search("[<>=]", word) for word in words)
    problem: str | None = None
    rows: list[_Row] = []
    more: str | None = None
    try:
        if searched:
            rows, more = _search(registry, words, after)
        elif "@" in text:
            version = registry.resolve(text, check=False)
            return redirect(request, 303, "page_version", name=version.name, version=version.number)
        else:
            rows, more = _list(registry, text.lower(), after)
    except RegistryError as error:
        problem = public_message(error)
    status = 200 if problem is None else 400 if searched else 404 if "@" in text else 200
    return render(
        request,
        "list.html",
        status,
        q=text,
        rows=rows,
        more=more,
        after=after,
        searched=searched,
        problem=problem,
        facts=FACTS,
    )


def _search(registry: Registry, conditions: Sequence[str], after: str) -> tuple[list[_Row], str | None]:
    """The rows of one page, and the version after which the next page starts."""
    last = registry.resolve(after, check=False) if after else None
    versions = registry.search(*conditions, after=last, limit=ROWS + 1)
    metrics = [condition.key for condition in map(parse_condition, conditions) if condition.metric]
    rows = [_version_row(version, metrics) for version in versions]
    return rows[:ROWS], f"{rows[ROWS - 1].name}@{rows[ROWS - 1].number}" if len(rows) > ROWS else None


def _list(registry: Registry, prefix: str, after: str) -> tuple[list[_Row], str | None]:
    """The rows of one page, and the name after which the next page starts."""
    rows = [_summary_row(summary) for summary in registry.list_adapters(prefix, after=after, limit=ROWS + 1)]
    if prefix and not rows and not after:
        registry.versions(prefix, limit=1)  # raises an error that suggests names
    return rows[:ROWS], rows[ROWS - 1].name if len(rows) > ROWS else None


def _split_conditions(text: str) -> list[str]:
    """The conditions of a search, separated by spaces; there may be spaces around a sign and inside quotes."""
    tight = "".join(part.strip() for part in re.split("([<>=!]+)", text))
    return [word.replace('"', "") for word in re.findall(r'(?:[^\s"]|"[^"]*"?)+', tight)]


def _summary_row(summary: Summary) -> _Row:
    measured = summary.metric is not None and summary.value is not None
    return _Row(
        name=summary.name,
        number=summary.newest,
        domain=summary.name.rpartition("/")[0],
        task=summary.task,
        base=summary.base,
        aliases=list(summary.aliases.items()),
        results=[(str(summary.metric), float(summary.value or 0))] if measured else [],
        created=summary.created,
        gate=summary.gate,
        forced=summary.forced,
        revoked=summary.revoked,
    )


def _version_row(version: Version, metrics: Sequence[str]) -> _Row:
    shown = dict.fromkeys([*metrics, *([version.metric] if version.metric else [])])
    return _Row(
        name=version.name,
        number=version.number,
        domain=next(iter(version.facts.get("domain", ())), version.name.rpartition("/")[0]),
        task=", ".join(version.facts.get("task", ())),
        base=", ".join(version.facts.get("base", ())),
        aliases=[(alias, version.number) for alias in version.aliases],
        results=[(key, version.metrics[key]) for key in shown if key in version.metrics],
        created=version.created,
        gate=version.gate,
        forced=version.forced,
        revoked=version.revoked,
    )
