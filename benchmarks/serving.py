"""`vertical serve` asked by one and by many clients: time, throughput, and whether each answer is the right specialist's.

    python benchmarks/serving.py [--adapters 16] [--clients 64] [--seconds 10]

It writes adapters with random weights on minilm-l6, publishes them, starts `vertical serve` as its own process, and asks /classify for
one short text a request, over connections that stay open:

    one client     a request after the other: median and 99th percentile in milliseconds
    one adapter    many clients, all of them one specialist: rows a second
    mixed          the same clients, each request for a specialist by chance: rows a second, and the ratio to one adapter
    moving         the same, while an alias of each specialist moves between two versions every 0.2 seconds

Each answer is compared with that of the version that it names, asked alone in this process: label, and probabilities to 1e-5. It prints
one JSON object, and exits with 1 if an answer was wrong or lost.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from many_adapters import write_adapters, write_rows

HOST = "127.0.0.1"
CLOSE = 1e-5
TEXTS = 32
MOVES = 0.2
"""Seconds between two moves of an alias."""


@dataclass
class Tally:
    """What clients got: seconds of each request; answers that differ from those alone; requests without an answer."""

    seconds: list[float] = field(default_factory=list)
    wrong: int = 0
    lost: int = 0

    def describe(self, passed: float) -> dict[str, Any]:
        """Rows a second, percentiles in milliseconds, and errors."""
        ordered = sorted(self.seconds)
        return {
            "rows_a_second": round(len(ordered) / passed, 1),
            "median_ms": round(1e3 * ordered[len(ordered) // 2], 1),
            "p99_ms": round(1e3 * ordered[min(len(ordered) - 1, len(ordered) * 99 // 100)], 1),
            "answers": len(ordered),
            "wrong": self.wrong,
            "lost": self.lost,
        }


def main() -> int:
    """Run the benchmark and print its results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--adapters", type=int, default=16)
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=10.0, help="of each part")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        from vertical_sdk.registry import Registry

        registry = Registry(Path(folder) / "registry")
        texts = [row.text for row in write_rows(TEXTS, 0)]
        names = publish(registry, write_adapters(Path(folder) / "adapters", 2 * options.adapters))
        expected = answer_alone(registry, names, texts)
        with serving(registry, names) as port:
            result = asyncio.run(measure(port, registry, names, texts, expected, options))
    parts = [result["one_client"], result["one_adapter"], result["mixed"], result["moving"]]
    result["mixed_to_one_adapter"] = round(result["mixed"]["rows_a_second"] / result["one_adapter"]["rows_a_second"], 2)
    result["passed"] = all(part["wrong"] == part["lost"] == 0 for part in parts)
    print(json.dumps(result, indent=1))
    return 0 if result["passed"] else 1


def publish(registry: Any, folders: Sequence[Path]) -> list[str]:
    """Publish the adapters, two as versions 1 and 2 of each name, with an alias at the first."""
    names = [f"bench/adapter-{number}" for number in range(len(folders) // 2)]
    for number, folder in enumerate(folders):
        registry.publish(folder, names[number // 2], force=True, reason="a benchmark")
    for name in names:
        registry.set_alias(name, "production", 1, force=True, why="a benchmark")
    return names


def answer_alone(registry: Any, names: Sequence[str], texts: Sequence[str]) -> dict[tuple[str, int], list[Any]]:
    """What each version answers to each text, alone and one text at a time."""
    from vertical_sdk.inference import load

    answers = {}
    model: Any = None
    for name in names:
        for version in (1, 2):
            reference = f"{name}@{version}"
            if model is None:
                model = load(reference, registry)
            else:
                model.add(reference, registry, name=reference)
            answers[name, version] = [model.predict([text], adapters=reference)[0] for text in texts]
    return answers


@contextlib.contextmanager
def serving(registry: Any, names: Sequence[str]) -> Iterator[int]:
    """Serve the aliases in a process of their own, and yield its port."""
    config = Path(registry.location).parent / "serve.yaml"
    settings = {
        "adapters": [f"{name}@production" for name in names],
        "registry": registry.location,
        "port": 0,
        "anonymous": True,
        "log": str(config.with_suffix(".jsonl")),
        "rate": 1e6,
        "limits": {"poll": MOVES / 2},
    }
    config.write_text(json.dumps(settings))
    command = [sys.executable, "-m", "vertical_sdk", "serve", "--config", str(config)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield int(process.stdout.readline().rpartition(":")[2])
        finally:
            process.terminate()


async def measure(
    port: int,
    registry: Any,
    names: Sequence[str],
    texts: Sequence[str],
    expected: dict[tuple[str, int], list[Any]],
    options: argparse.Namespace,
) -> dict[str, Any]:
    """Run the parts one after the other."""

    async def run(clients: int, choose: Callable[[random.Random], str]) -> dict[str, Any]:
        tally, start = Tally(), time.perf_counter()
        end = start + options.seconds
        await asyncio.gather(*(ask(port, random.Random(n), choose, texts, expected, tally, end) for n in range(clients)))
        return tally.describe(time.perf_counter() - start)

    first, some = (lambda _: names[0]), (lambda rng: rng.choice(names))
    await run(1, first)  # does not count
    result = {
        "adapters": len(names),
        "clients": options.clients,
        "one_client": await run(1, first),
        "one_adapter": await run(options.clients, first),
        "mixed": await run(options.clients, some),
    }
    moving = asyncio.create_task(move_aliases(registry, names))
    result["moving"] = await run(options.clients, some)
    moving.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await moving
    return result


async def ask(
    port: int,
    rng: random.Random,
    choose: Callable[[random.Random], str],
    texts: Sequence[str],
    expected: dict[tuple[str, int], list[Any]],
    tally: Tally,
    end: float,
) -> None:
    """One client: a request after the other on one connection, each answer compared."""
    reader, writer = await asyncio.open_connection(HOST, port)
    while time.perf_counter() < end:
        name, number = choose(rng), rng.randrange(len(texts))
        body = json.dumps({"model": f"{name}@production", "input": texts[number]}).encode()
        start = time.perf_counter()
        writer.write(
            b"POST /classify HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            b"Content-Length: %d\r\n\r\n" % len(body) + body
        )
        head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        content = await reader.readexactly(int(head.partition("content-length: ")[2].partition("\r\n")[0]))
        tally.seconds.append(time.perf_counter() - start)
        answer = json.loads(content)
        if "data" not in answer:
            tally.lost += 1
        elif not is_right(answer, name, expected[name, answer["vertical"]["version"]][number]):
            tally.wrong += 1
    writer.close()


def is_right(answer: dict[str, Any], name: str, alone: Any) -> bool:
    """Whether an answer is that of the version that it names."""
    row, labels = answer["data"][0], answer["vertical"]["labels"]
    near = all(abs(p - alone.probabilities[label]) <= CLOSE for label, p in zip(labels, row["probs"], strict=True))
    return answer["vertical"]["adapter"] == name and row["label"] == alone.label and near


async def move_aliases(registry: Any, names: Sequence[str]) -> None:
    """Move the alias of one specialist after the other, for ever."""
    rng, now = random.Random(0), dict.fromkeys(names, 1)
    while True:
        name = rng.choice(list(names))
        now[name] = 3 - now[name]
        await asyncio.to_thread(registry.set_alias, name, "production", now[name], force=True, why="a benchmark")
        await asyncio.sleep(MOVES)


if __name__ == "__main__":
    sys.exit(main())
