"""Many threads and many clients ask four specialists on one base: every answer must be the one that the same call gets alone.

    python benchmarks/threads.py [--calls N] [--threads N] [--clients N] [--base NAME] [--json]

Four specialists, each with two members (word counts and a linear probe), are trained for a few steps on made-up rows, on one base
(minilm-l6 by default). Then `--calls` calls each come from `--threads` threads, from asyncio.to_thread, and from `--clients` clients of a
FastAPI endpoint in this process. An answer differs if any probability differs in any bit. Ends with 1 if one does. Runs on the CPU.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import sys
import tempfile
import threading
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

SUBJECTS = ["invoice", "parcel", "password", "contract", "engine", "fever", "tax", "road", "printer", "refund"]
VERBS = ["is late", "was lost", "does not work", "must be changed", "is too high", "was sent twice", "cannot be read"]
PLACES = ["at home", "in the office", "since Monday", "for a customer", "after the update", "on the second page"]
TEXTS = [f"The {subject} {verb} {place}." for subject in SUBJECTS for verb in VERBS for place in PLACES]
RULES: dict[str, Callable[[str], str]] = {
    "subject": lambda text: text.split()[1],
    "problem": lambda text: next(verb for verb in VERBS if verb in text),
    "place": lambda text: next(place for place in PLACES if place in text),
    "length": lambda text: "long" if len(text) > 38 else "short",
}
Ask = tuple[str, str]
"""An adapter's name and a text."""


def train_specialists(folder: Path, base: str) -> dict[str, Path]:
    """Train one specialist for each rule: name → run."""
    from vertical_sdk import train
    from vertical_sdk.recipe import Recipe

    runs = {}
    for seed, (name, rule) in enumerate(RULES.items()):
        lines = ["text,label", *(f'"{text}",{rule(text)}' for text in TEXTS)]
        (folder / f"{name}.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
        recipe = {
            "name": name,
            "task": "classification",
            "base": base,
            "data": {"source": str(folder / f"{name}.csv"), "decontaminate": None, "max_length": 32},
            "ensemble": ["tfidf", "probe"],
            "train": {"max_steps": 6, "learning_rate": 1e-3, "bf16": False, "seed": seed},
        }
        runs[name] = train(Recipe.model_validate(recipe), out=folder / name).path
    return runs


def load_all(runs: dict[str, Path]) -> Any:
    """Load all specialists on one base."""
    from vertical_sdk import VerticalModel

    first, *others = runs
    model = VerticalModel.from_pretrained(runs[first], name=first)
    for name in others:
        model.add(runs[name], name=name)
    return model


def from_threads(answer: Callable[[Ask], Any], asks: list[Ask], threads: int) -> list[Any]:
    """Answer calls from many threads, which begin together."""
    start = threading.Barrier(threads)

    def work(share: int) -> list[Any]:
        start.wait()
        return [answer(ask) for ask in asks[share::threads]]

    answers: list[Any] = [None] * len(asks)
    with ThreadPoolExecutor(threads) as pool:
        for share, part in enumerate(pool.map(work, range(threads))):
            answers[share::threads] = part
    return answers


def from_tasks(answer: Callable[[Ask], Any], asks: list[Ask]) -> list[Any]:
    """Answer calls from asyncio tasks, each in a thread of asyncio's pool."""

    async def all_at_once() -> list[Any]:
        return await asyncio.gather(*(asyncio.to_thread(answer, ask) for ask in asks))

    return asyncio.run(all_at_once())


@contextmanager
def serve(answer: Callable[[Ask], Any]) -> Iterator[str]:
    """Serve an ordinary endpoint, a plain function that FastAPI runs in its own threads, and yield its address."""
    import fastapi
    import uvicorn

    app = fastapi.FastAPI()

    @app.get("/{name}")
    def predict(name: str, text: str) -> dict[str, float]:
        return dict(answer((name, text)))

    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="error"))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    try:
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()


def from_clients(answer: Callable[[Ask], Any], asks: list[Ask], clients: int) -> list[Any]:
    """Answer calls over HTTP, with so many clients at once."""
    with serve(answer) as address:

        def get(ask: Ask) -> Any:
            query = urllib.parse.urlencode({"text": ask[1]})
            with urllib.request.urlopen(f"{address}/{ask[0]}?{query}", timeout=600) as reply:
                return json.load(reply)

        return from_threads(get, asks, clients)


def main() -> int:
    """Measure, show a table, and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--calls", type=int, default=10_000)
    parser.add_argument("--threads", type=int, default=8)
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--base", default="minilm-l6")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        model = load_all(train_specialists(Path(folder), options.base))

    def answer(ask: Ask) -> dict[str, float]:
        return dict(model.predict([ask[1]], adapters=ask[0])[0].probabilities)

    every = [(name, text) for name in RULES for text in TEXTS[::6]]
    alone = {ask: answer(ask) for ask in every}
    rng = random.Random(0)
    asks = [rng.choice(every) for _ in range(options.calls)]
    ways: dict[str, Callable[[], list[Any]]] = {
        "one thread": lambda: [answer(ask) for ask in asks[:500]],
        f"{options.threads} threads": lambda: from_threads(answer, asks, options.threads),
        "asyncio.to_thread": lambda: from_tasks(answer, asks),
        f"FastAPI, {options.clients} clients": lambda: from_clients(answer, asks, options.clients),
    }
    results = []
    if not options.json:
        print("| calls from | calls | other than alone | calls a second |\n|---|---|---|---|")
    for way, run in ways.items():
        start = time.monotonic()
        answers = run()
        seconds = time.monotonic() - start
        wrong = sum(given != alone[ask] for given, ask in zip(answers, asks, strict=False))
        results.append(
            {"way": way, "calls": len(answers), "different": wrong, "calls_per_second": round(len(answers) / seconds, 1)}
        )
        if not options.json:
            print(f"| {way} | {len(answers):,} | {wrong} | {len(answers) / seconds:.1f} |", flush=True)
    if options.json:
        print(json.dumps(results))
    return int(any(row["different"] for row in results))


if __name__ == "__main__":
    sys.exit(main())
