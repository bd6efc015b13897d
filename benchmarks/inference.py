"""The SDK's inference beside plain transformers + PEFT, on the same base, adapters, rows, precision and threads.

    python benchmarks/inference.py [--parts attach,classify,on-demand] [--rounds N] [--threads N] [--registered N]

attach     minilm-l6: from an adapter's folder to an adapter that answers, with few and with many loaded; PEFT's load_adapter beside it
classify   a batch of 64 texts for 4, 16 and 64 adapters: in one pass, the base alone in the same engine, PEFT's set_adapter in a loop
on-demand  `--registered` adapters, of which 64 fit into the memory, asked for by Zipf's law: throughput as a share of that with all in
           memory

The systems take turns in one process, do equal work, and their results are compared. Runs on the CPU in float32; prints JSON.
`decoding.py` measures written answers.
"""

from __future__ import annotations

import argparse
import json
import sys
import warnings
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))


def main() -> int:
    """Measure the parts and print the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", default="attach,classify,on-demand")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--registered", type=int, default=1000)
    parser.add_argument("--threads", type=int, default=0, help="0: as many as PyTorch chooses")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    import torch
    from many_adapters import measure_parts

    from vertical_sdk.kernels.rates import processor_name

    if options.threads:
        torch.set_num_threads(options.threads)
    found: dict[str, Any] = {"processor": processor_name(), "torch": torch.__version__, "threads": torch.get_num_threads()}
    found |= measure_parts(options.parts.split(","), options.rounds, options.registered)
    print(json.dumps(found, indent=1))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
