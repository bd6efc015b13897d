"""The pages of a served registry, for people: plain HTML that is whole without scripts, and works under a strict CSP.

    /                          what is published, and the search
    /a/medical/icd-chapter     an adapter: its versions, aliases and the end of its log
    /a/medical/icd-chapter@3   a version: results, lineage, files, how to use it; /report behind it is its report
    /log/medical/icd-chapter   the whole log

A page's address is the reference itself, and no name has an "@": nothing that can be published takes another page's address.
"""

from __future__ import annotations

import functools
import hashlib
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from pydantic import ValidationError

from vertical_sdk.card import CARD, Card
from vertical_sdk.errors import CorruptAdapter, RegistryError, RunError, SourceError, UnknownName, VerticalError
from vertical_sdk.evaluation.headline import headline, metric_title, p_text
from vertical_sdk.evaluation.plots import interval_plot, number
from vertical_sdk.evaluation.result import Evaluation
from vertical_sdk.registry import Registry, Version
from vertical_sdk.registry.query import FACTS, parse_condition
from vertical_sdk.registry.store import Manifest
from vertical_sdk.registry.tree import tree_problems
from vertical_sdk.registry.version import Summary

__all__ = ["error_page", "pages"]

NAMES = 50
"""Lines of the list on one page."""
VERSIONS = 20
EVENTS = 50
LAST = 10
"""Events of the log that an adapter's own page shows."""
MOST_README = 100_000
"""Characters of a README that are shown."""
REPORT, README, CONFIG = "report.html", "README.md", "adapter_config.json"
TEMPLATES = Path(__file__).parent / "templates"
STYLE = "page.css"
GUARDS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; img-src 'self' data:; form-action 'self'; "
    "base-uri 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cache-Control": "private, no-cache",
}
"""A report is a publisher's own HTML: it gets its styles and its pictures, and no script, form, network or cookie."""
REPORT_GUARDS = GUARDS | {
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; img-src data:; form-action 'none'; "
    "base-uri 'none'; frame-ancestors 'none'; sandbox"
}
Answer = Callable[[Registry, Request], Response]


@dataclass(frozen=True)
class _Line:
    """A line of the list: an adapter with its newest version, or a version that was searched for."""

    name: str
    number: int
    domain: str
    task: str
    base: str
    aliases: Sequence[tuple[str, int]]
    results: Sequence[tuple[str, float]]
    created: str
    forced: bool
    revoked: str | None


def pages(registry: Registry) -> APIRouter:
    """The routes of the pages of a registry. They only read, and ask nobody who they are: who may see them is the app's to say."""
    router = APIRouter(include_in_schema=False)
    routes: tuple[tuple[str, str, Answer], ...] = (
        ("/", "page_list", _list),
        ("/a/{name:path}@{version}/report", "page_report", _report),
        ("/a/{name:path}@{version}", "page_version", _one),
        ("/a/{name:path}", "page_adapter", _adapter),
        ("/log/{name:path}", "page_log", _log),
        (f"/{STYLE}", "page_style", _style),
    )
    for path, name, answer in routes:
        router.add_api_route(path, _told(registry, answer), methods=["GET", "HEAD"], name=name)
    return router


def error_page(request: Request, status: int, message: str) -> HTMLResponse:
    """What is wrong, as a page."""
    title = {400: "That cannot be asked", 404: "Not found", 503: "Not to be had now"}.get(status, "Something is wrong")
    return _page(request, "error.html", status, title=title, message=message, q="")


def _told(registry: Registry, answer: Answer) -> Callable[[Request], Response]:
    """A route's function, whose errors are pages."""

    def handle(request: Request) -> Response:
        try:
            return answer(registry, request)
        except RegistryError as error:
            status, message = 404, str(error)
        except (SourceError, RunError) as error:
            status, message = 503, str(error)
        except VerticalError as error:
            status, message = 500, str(error)
        return error_page(request, status, _hidden(registry, message))

    return handle


def _hidden(registry: Registry, message: str) -> str:
    """A message without the place where the registry is kept, which is for its keeper to know."""
    message = message.replace(f" in {registry.location}", " in this registry")
    place = registry.location if "://" in registry.location else str(Path(registry.location).absolute())
    return message.replace(place, "this registry")


def _list(registry: Registry, request: Request) -> Response:
    text, after = request.query_params.get("q", "").strip(), request.query_params.get("after", "")
    problem, lines, more = None, [], None
    words = _words(text)
    searched = any(re.search("[<>=]", word) for word in words)
    try:
        if searched:
            behind = registry.resolve(after, check=False) if after else None
            versions = registry.search(*words, after=behind, limit=NAMES + 1)
            asked = [condition.key for condition in map(parse_condition, words) if condition.metric]
            lines = [_of_version(version, asked) for version in versions]
            more = f"{lines[NAMES - 1].name}@{lines[NAMES - 1].number}" if len(lines) > NAMES else None
        elif "@" in text:
            found = registry.resolve(text, check=False)
            return RedirectResponse(_link(request, "page_version", name=found.name, version=found.number), 303, GUARDS)
        else:
            lines = [_of_summary(summary) for summary in registry.list_adapters(text.lower(), after=after, limit=NAMES + 1)]
            more = lines[NAMES - 1].name if len(lines) > NAMES else None
            if text and not lines and not after:
                registry.versions(text.lower(), limit=1)  # says what may have been meant
    except RegistryError as error:
        problem = _hidden(registry, str(error))
    status = 200 if problem is None else 400 if searched else 404 if "@" in text else 200
    shown = lines[:NAMES]
    return _page(
        request,
        "list.html",
        status,
        q=text,
        lines=shown,
        more=more,
        after=after,
        searched=searched,
        problem=problem,
        facts=FACTS,
    )


def _adapter(registry: Registry, request: Request) -> Response:
    name, before = request.path_params["name"], _whole(request, "before")
    found = list(registry.versions(name, before=before, limit=VERSIONS + 1))[::-1]
    ((summary, *_), newest) = registry.list_adapters(name, limit=1), found[0].number if found and before is None else None
    events = registry.history(name, limit=LAST + 1, newest_first=True)
    return _page(
        request,
        "adapter.html",
        name=name,
        summary=summary,
        versions=[(version, _results(registry, version)) for version in found[:VERSIONS]],
        older=found[VERSIONS - 1].number if len(found) > VERSIONS else None,
        newest=newest,
        before=before,
        events=events[:LAST],
        more_events=len(events) > LAST,
    )


def _log(registry: Registry, request: Request) -> Response:
    name, skip = request.path_params["name"], _whole(request, "skip") or 0
    events = registry.history(name, skip=skip, limit=EVENTS + 1, newest_first=True)
    older = skip + EVENTS if len(events) > EVENTS else None
    return _page(request, "log.html", name=name, events=events[:EVENTS], older=older, skip=skip)


def _one(registry: Registry, request: Request) -> Response:
    version = _version(registry, request)
    if request.path_params["version"] != str(version.number):  # an alias or a digest: a version has one address
        return RedirectResponse(_link(request, "page_version", name=version.name, version=version.number), 307, GUARDS)
    wrong: list[str] = []
    manifest: Manifest = {}
    card = None
    texts = {}
    try:
        manifest = registry.store.manifest(version.digest)
        wrong = tree_problems(version.path, manifest)
        card = _card(version.path, _digest(manifest, CARD))
        for path in (README, CONFIG):
            if path in manifest:
                texts[path] = _file(version.path, path, _digest(manifest, path)).decode(errors="replace")
    except VerticalError as error:
        wrong = wrong or [_hidden(registry, str(error))]
    evaluation = _measured(card)
    return _page(
        request,
        "version.html",
        version=version,
        card=card,
        evaluation=evaluation,
        plot=_plot(evaluation, version.metric),
        manifest=manifest,
        wrong=wrong,
        recipe=yaml.safe_dump(card.recipe, sort_keys=False, allow_unicode=True, width=100) if card else "",
        readme=texts.get(README, ""),
        base=_base(texts.get(CONFIG)) or (card.base.name if card else ""),
        here=str(request.base_url).rstrip("/"),
    )


def _report(registry: Registry, request: Request) -> Response:
    version = _version(registry, request)
    manifest = registry.store.manifest(version.digest)
    if REPORT not in manifest:
        raise RegistryError(f"{version} was published without a report.")
    return HTMLResponse(_file(version.path, REPORT, _digest(manifest, REPORT)), headers=REPORT_GUARDS)


def _style(_registry: Registry, _request: Request) -> Response:
    kept = GUARDS | {"Cache-Control": "public, max-age=86400"}  # its address has its digest, which is another for another one
    return Response((TEMPLATES / STYLE).read_bytes(), media_type="text/css", headers=kept)


def _version(registry: Registry, request: Request) -> Version:
    """The version that an address names, to be looked at: revoked or not."""
    return registry.resolve(f"{request.path_params['name']}@{request.path_params['version']}", check=False)


def _words(text: str) -> list[str]:
    """The conditions of a search: between spaces, which may stand around a sign, or between quotes."""
    tight = re.sub(r"\s*([<>=!]+)\s*", r"\1", text)
    return [word.replace('"', "") for word in re.findall(r'(?:[^\s"]|"[^"]*"?)+', tight)]


def _of_summary(found: Summary) -> _Line:
    results = [(found.metric, found.value)] if found.metric is not None and found.value is not None else []
    return _Line(
        name=found.name,
        number=found.newest,
        domain=found.name.rpartition("/")[0],
        task=found.task,
        base=found.base,
        aliases=list(found.aliases.items()),
        results=results,
        created=found.created,
        forced=found.forced,
        revoked=found.revoked,
    )


def _of_version(found: Version, asked: Sequence[str]) -> _Line:
    shown = dict.fromkeys([*asked, *([found.metric] if found.metric else [])])
    return _Line(
        name=found.name,
        number=found.number,
        domain=next(iter(found.facts.get("domain", ())), found.name.rpartition("/")[0]),
        task=", ".join(found.facts.get("task", ())),
        base=", ".join(found.facts.get("base", ())),
        aliases=[(alias, found.number) for alias in found.aliases],
        results=[(key, found.metrics[key]) for key in shown if key in found.metrics],
        created=found.created,
        forced=found.forced,
        revoked=found.revoked,
    )


def _results(registry: Registry, version: Version) -> dict[str, Any]:
    """The headline metric of a version: its own value, and what its baselines have; from its card, where that can be read."""
    evaluation = None
    try:
        manifest = registry.store.manifest(version.digest)
        evaluation = _evaluation(version.path, _digest(manifest, CARD))
    except VerticalError:  # its own page says what is wrong
        pass
    metric = version.metric or next(iter(version.metrics), None)
    systems = evaluation.systems if evaluation else {}
    values = {key: one.metrics[metric] for key, one in systems.items() if metric in one.metrics}
    own = values.pop("adapter", None)
    first = ("base", "probe", evaluation.baseline if evaluation else None)
    baselines = [(systems[key].title, values[key].value) for key in sorted(values, key=lambda key: key not in first)][:4]
    return {"metric": metric, "value": version.metrics.get(metric or ""), "own": own, "baselines": baselines}


def _card(folder: Path, sha256: str) -> Card:
    try:
        return Card.model_validate_json(_file(folder, CARD, sha256))
    except ValidationError:
        raise CorruptAdapter(f"{CARD} is of a later version of vertical_sdk, or no card.") from None


def _file(folder: Path, path: str, sha256: str) -> bytes:
    """A file of a version. Raises CorruptAdapter where it is not what was published."""
    try:
        content = (folder / path).read_bytes()
    except OSError as error:
        raise CorruptAdapter(f"{path} cannot be read ({error.strerror}).") from None
    if hashlib.sha256(content).hexdigest() != sha256:
        raise CorruptAdapter(f"{path} has changed since it was published.")
    return content


def _digest(manifest: Manifest, path: str) -> str:
    if path not in manifest:
        raise CorruptAdapter(f"{path} is missing.")
    return manifest[path].sha256


@functools.lru_cache(maxsize=512)
def _evaluation(folder: Path, sha256: str) -> Evaluation | None:
    """The evaluation in the card with this digest, which never changes: it is read once."""
    return _measured(_card(folder, sha256))


def _measured(card: Card | None) -> Evaluation | None:
    """The evaluation that a card keeps; None where it has none that can be read, such as a card made elsewhere."""
    if card is None or not card.metrics.get("systems"):
        return None
    try:
        systems = {
            key: {"title": "specialist" if key == "adapter" else key} | one for key, one in card.metrics["systems"].items()
        }
        plain = {"rows": 0, **card.metrics, "name": card.name, "task": card.task, "systems": systems, "gate": card.gate}
        found = Evaluation.from_dict(plain)
        found.lower_is_better.extend(name for name in _metrics(found) if _lower(name))
    except (TypeError, KeyError, ValueError, AttributeError):
        return None
    return found


@functools.lru_cache(maxsize=512)
def _lower(metric: str) -> bool:
    """Whether less of a metric is better; more is, of one that is not known here."""
    from vertical_sdk.metrics.measure import higher_is_better

    try:
        return not higher_is_better(metric)
    except UnknownName:
        return False


def _metrics(evaluation: Evaluation) -> list[str]:
    return list(dict.fromkeys(name for system in evaluation.systems.values() for name in system.metrics))


def _plot(evaluation: Evaluation | None, metric: str | None) -> Markup:
    """The headline metric of every system as bars, without the style that a report's plot has of its own, which no CSP lets in."""
    if evaluation is None or metric is None:
        return Markup("")
    systems = evaluation.systems.items()
    plot = interval_plot([(one.title, one.metrics[metric], key == "adapter") for key, one in systems if metric in one.metrics])
    return Markup(re.sub(r' style="[^"]*"', "", plot, count=1))  # noqa: S704  (every text in it was escaped when it was drawn)


def _base(config: str | None) -> str | None:
    """What PEFT would load an adapter onto, as its configuration says."""
    try:
        named = json.loads(config or "null")["base_model_name_or_path"]
    except (ValueError, TypeError, KeyError):
        return None
    return named if isinstance(named, str) and not Path(named).is_absolute() else None


def _whole(request: Request, key: str) -> int | None:
    """A number from 1 in the address, where to go on from; what is none is as good as not there."""
    text = request.query_params.get(key, "")
    return int(text) if re.fullmatch(r"[1-9][0-9]{0,17}", text) else None


def _page(request: Request, template: str, status: int = 200, **facts: Any) -> HTMLResponse:
    link = functools.partial(_link, request)
    html = _environment().get_template(template).render(link=link, style=_style_digest(), **facts)
    return HTMLResponse(html.encode(errors="replace"), status, GUARDS)


def _link(request: Request, page: str, **where: Any) -> str:
    """The path of a page, wherever the routes are mounted."""
    return request.url_for(page, **where).path


@functools.cache
def _style_digest() -> str:
    return hashlib.sha256((TEMPLATES / STYLE).read_bytes()).hexdigest()[:12]


@functools.cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters.update(
        number=number,
        p=p_text,
        metric=metric_title,
        headline=headline,
        metrics=_metrics,
        plain=_plain,
        when=_when,
        pretty=_pretty,
    )
    environment.globals.update(most_readme=MOST_README, report=REPORT)
    return environment


def _when(at: str) -> str:
    """A time for reading, to the minute."""
    return at[:16].replace("T", " ")


def _plain(value: Any) -> str:
    """A fact for reading: numbers with separators, parts behind their names."""
    if isinstance(value, str):
        return value
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_plain(one)}" for name, one in value.items()) or "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}" if value >= 10_000 else str(value)
    return number(value) if value is None or isinstance(value, float) else json.dumps(value, ensure_ascii=False, default=str)


def _pretty(text: str) -> str:
    """JSON on lines; what is none, as it is."""
    try:
        return json.dumps(json.loads(text), indent=1, ensure_ascii=False)
    except ValueError:
        return text
