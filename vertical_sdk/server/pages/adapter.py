"""The page of an adapter with its versions, and the page of its log."""

from __future__ import annotations

from typing import Any

from fastapi import Request
from fastapi.responses import Response

from vertical_sdk.errors import VerticalError
from vertical_sdk.registry import Registry, Version
from vertical_sdk.server.pages.published import load_evaluation
from vertical_sdk.server.pages.rendering import read_count, render

__all__ = ["adapter_page", "log_page"]

VERSIONS = 20
"""Versions on one page."""
EVENTS = 50
"""Events of the log on one page."""
LAST_EVENTS = 10
"""Events of the log that an adapter's own page shows."""
MOST_BASELINES = 4


def adapter_page(registry: Registry, request: Request) -> Response:
    """Show the versions of an adapter, newest first, its aliases and the end of its log."""
    name, before = request.path_params["name"], read_count(request, "before")
    versions = list(registry.versions(name, before=before, limit=VERSIONS + 1))[::-1]
    (summary, *_) = registry.list_adapters(name, limit=1)
    events = registry.history(name, limit=LAST_EVENTS + 1, newest_first=True)
    return render(
        request,
        "adapter.html",
        name=name,
        summary=summary,
        versions=[(version, _read_result(registry, version)) for version in versions[:VERSIONS]],
        older=versions[VERSIONS - 1].number if len(versions) > VERSIONS else None,
        before=before,
        events=events[:LAST_EVENTS],
        more_events=len(events) > LAST_EVENTS,
    )


def log_page(registry: Registry, request: Request) -> Response:
    """Show the log of an adapter, newest first."""
    name, skip = request.path_params["name"], read_count(request, "skip") or 0
    events = registry.history(name, skip=skip, limit=EVENTS + 1, newest_first=True)
    older = skip + EVENTS if len(events) > EVENTS else None
    return render(request, "log.html", name=name, events=events[:EVENTS], older=older, skip=skip)


def _read_result(registry: Registry, version: Version) -> dict[str, Any]:
    """The headline metric of a version and of its baselines, from its card if the card can be read."""
    evaluation = None
    try:
        manifest = registry.store.manifest(version.digest)
        evaluation = load_evaluation(version.path, manifest)
    except VerticalError:  # the version's own page says what is wrong
        pass
    metric = version.metric or next(iter(version.metrics), None)
    systems = evaluation.systems if evaluation else {}
    values = {key: system.metrics[metric] for key, system in systems.items() if metric in system.metrics}
    own = values.pop("adapter", None)
    first = ("base", "probe", evaluation.baseline if evaluation else None)
    order = sorted(values, key=lambda key: key not in first)[:MOST_BASELINES]
    baselines = [(systems[key].title, values[key].value) for key in order]
    return {"metric": metric, "value": version.metrics.get(metric or ""), "own": own, "baselines": baselines}
