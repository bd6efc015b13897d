"""vertical quickstart: train a specialist, evaluate, publish and use it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import typer

from vertical_sdk.cli.comparison import show_evaluation
from vertical_sdk.cli.options import Json
from vertical_sdk.cli.output import emit, say, show, showing, table
from vertical_sdk.errors import GateFailed

if TYPE_CHECKING:
    from vertical_sdk.registry import Registry
    from vertical_sdk.training import Run
    from vertical_sdk.types import Progress

__all__ = ["quickstart"]

RECIPE = "medical/icd-chapter"
ALIAS = "production"
TEXTS = ("heart attack", "water on the knee", "kidney stones", "shingles", "whooping cough")
"""Words of patients; the classification words each of these diagnoses differently."""


def quickstart(as_json: Json = False) -> None:
    """Train a medical specialist on this machine, show that it is better, publish it and use it. Needs no GPU."""
    started = time.monotonic()
    with _step(1, "Download a general base model with pip, and check its digest") as progress:
        from vertical_sdk.bases.base import pull_base
        from vertical_sdk.recipe import load_recipe

        recipe = load_recipe(RECIPE)
        base = pull_base(recipe.base, progress=progress)
        say(f"   {base.name}: {base.parameters / 1e6:.0f}M weights, in {base.path}")
    with _step(2, "Download the data: ICD-10-CM, with the official terms and those that clinicians use") as progress:
        from vertical_sdk.sources import fetch

        source = fetch(str(recipe.data.source), file=recipe.data.file, sha256=recipe.data.sha256, progress=progress)
        say(f"   {source.source}: {source.license or 'licence not stated'}, sha256 {source.sha256[:16]}…")
    with _step(3, "Clean the data, split it so that no category is on both sides, and train a LoRA adapter") as progress:
        from vertical_sdk.training import train

        run = train(recipe, progress=progress)
    with _step(4, "Compare the specialist with its base and with classical baselines") as progress:
        from vertical_sdk.evaluation import evaluate
        from vertical_sdk.registry import Registry
        from vertical_sdk.registry.policy import Policy

        # written by this process just now, so it has no signature yet
        evaluation = evaluate(run.path, registry=Registry(policy=Policy()), memory=run.memory, progress=progress).to_dict()
    if not as_json:
        show_evaluation(evaluation)
    document: dict[str, Any] = {
        "run": run.path,
        "report": run.path / "report.html",
        "evaluation": evaluation,
        "gate": evaluation["gate"],
    }
    passed = evaluation["gate"] is not None and evaluation["gate"]["passed"]
    if passed:
        store = Registry()
        say("5. Publish it, and point the alias 'production' at this version")
        document |= {"registry": store.location, **_publish(run, store)}
        with _step(6, "Load it from the registry, as a service would, and predict") as progress:
            document["predictions"] = _predict(document["reference"], store, progress)
    document["seconds"] = round(time.monotonic() - started, 1)
    if as_json:
        emit(document)
    else:
        _show_result(document)
    if not passed:
        raise typer.Exit(GateFailed.exit_code)


@contextmanager
def _step(number: int, what: str) -> Iterator[Progress]:
    """Print what a step does, show its progress, and print how long it took."""
    say(f"{number}. {what}")
    start = time.monotonic()
    with showing() as progress:
        yield progress
    say(f"   {time.monotonic() - start:.1f} s")


def _publish(run: Run, store: Registry) -> dict[str, Any]:
    version = store.publish(run.path, reason="vertical quickstart")
    store.set_alias(version.name, ALIAS, version.number, why="passed its gate in vertical quickstart")
    return {"version": str(version), "digest": version.digest, "reference": f"{version.name}@{ALIAS}"}


def _predict(reference: str, store: Registry, progress: Progress) -> list[dict[str, Any]]:
    from vertical_sdk.inference import VerticalModel

    model = VerticalModel.from_registry(reference, store, progress=progress)
    return [
        {"text": text, "label": str(prediction.label), "probability": prediction.probabilities[str(prediction.label)]}
        for text, prediction in zip(TEXTS, model.predict(TEXTS), strict=True)
    ]


def _show_result(document: dict[str, Any]) -> None:
    """Print the predictions and where everything is."""
    if "predictions" in document:
        lines = [[row["text"], row["label"], row["probability"]] for row in document["predictions"]]
        show(table(["text", "label", "probability"], lines))
        show(f"Published: {document['version']}, now {document['reference']}, in {document['registry']}")
    else:
        show("The gate failed: nothing was published, and the alias did not move.")
    show(f"Report:    {document['report']}")
    show(f"This took {document['seconds']:.0f} s. Next: vertical recipe list; vertical recipe new my-task --data rows.csv")
