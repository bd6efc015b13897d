"""The page of a version, and its report."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import yaml
from fastapi import Request
from fastapi.responses import FileResponse, Response
from markupsafe import Markup

from vertical_sdk.card import hide_paths
from vertical_sdk.errors import RegistryError, VerticalError
from vertical_sdk.evaluation.plots import interval_plot
from vertical_sdk.evaluation.result import Evaluation
from vertical_sdk.json_text import parse_json
from vertical_sdk.registry import Registry, Version
from vertical_sdk.registry.signature_check import CheckedSignature, check_signatures
from vertical_sdk.registry.store import Manifest
from vertical_sdk.registry.tree import tree_problems
from vertical_sdk.server.errors import public_message
from vertical_sdk.server.pages.published import check_file, load_card, read_evaluation, read_start
from vertical_sdk.server.pages.rendering import LONGEST_README, REPORT, REPORT_GUARDS, redirect, render

__all__ = ["report_page", "version_page"]

README, CONFIG = "README.md", "adapter_config.json"
SHOWN = {README: 4 * LONGEST_README, CONFIG: 100_000}
"""The files that a page shows, and how many bytes of them it reads."""
LONGEST_RECIPE = 50_000
"""Characters of a recipe that are written as YAML."""


def version_page(registry: Registry, request: Request) -> Response:
    """Show a version: results, lineage, files, and how to use it. It is shown even if its files are damaged."""
    version = _resolve(registry, request)
    if request.path_params["version"] != str(version.number):  # an alias or a digest: redirect to the only address of a version
        return redirect(request, 307, "page_version", name=version.name, version=version.number)
    problems: list[str] = []
    unshown = ""
    manifest: Manifest = {}
    card = None
    texts = {}
    signatures = [CheckedSignature(made_by, "unchecked", "the list of files cannot be read") for made_by in version.signatures]
    try:
        manifest = registry.store.manifest(version.digest)
        signatures = check_signatures(version, manifest, registry.policy)
        problems = tree_problems(version.path, manifest)
        for path, size in SHOWN.items():
            if path in manifest:
                texts[path] = read_start(version.path, path, manifest, size)
        card = hide_paths(load_card(version.path, manifest))
    except VerticalError as error:
        unshown = "" if problems or version.purged is not None else public_message(error)
    evaluation = read_evaluation(card)
    return render(
        request,
        "version.html",
        version=version,
        signatures=signatures,
        card=card,
        evaluation=evaluation,
        plot=_draw_plot(evaluation, version.metric),
        manifest=manifest,
        problems=problems,
        unshown=unshown,
        recipe=_write_recipe(card.recipe) if card else "",
        readme=texts.get(README, ""),
        base=_base_of(texts.get(CONFIG)) or (card.base.name if card else ""),
        here=str(request.base_url).rstrip("/"),
    )


def report_page(registry: Registry, request: Request) -> Response:
    """Show the report that was published with a version, in a sandbox."""
    version = _resolve(registry, request)
    manifest = registry.store.manifest(version.digest)
    if REPORT not in manifest:
        raise RegistryError(f"{version} was published without a report.")
    return FileResponse(check_file(version.path, REPORT, manifest), media_type="text/html", headers=REPORT_GUARDS)


def _write_recipe(recipe: dict[str, Any]) -> str:
    """A recipe as YAML; a very long one as the start of its JSON, which takes far less time."""
    text = json.dumps(recipe, ensure_ascii=False)
    if len(text) > LONGEST_RECIPE:
        return f"{text[:LONGEST_RECIPE]} …"
    return yaml.safe_dump(recipe, sort_keys=False, allow_unicode=True, width=100)


def _resolve(registry: Registry, request: Request) -> Version:
    """The version that an address names, also if it was revoked."""
    return registry.resolve(f"{request.path_params['name']}@{request.path_params['version']}", check=False)


def _draw_plot(evaluation: Evaluation | None, metric: str | None) -> Markup:
    """The headline metric of every system as bars, without the inline style of a report's plot, which the CSP forbids."""
    if evaluation is None or metric is None:
        return Markup("")
    systems = evaluation.systems.items()
    plot = interval_plot(
        [(system.title, system.metrics[metric], key == "adapter") for key, system in systems if metric in system.metrics]
    )
    return Markup(re.sub(r' style="[^"]*"', "", plot, count=1))  # noqa: S704  (all texts in it were escaped when it was drawn)


def _base_of(config: str | None) -> str | None:
    """The base that PEFT would load the adapter onto, from its configuration; None if it is a local path or missing."""
    try:
        base = parse_json(config or "null")["base_model_name_or_path"]
    except (ValueError, TypeError, KeyError):
        return None
    return base if isinstance(base, str) and not Path(base).is_absolute() else None
