"""`python -m vertical_sdk` runs the command `vertical`."""

from __future__ import annotations

import sys

from vertical_sdk.cli.app import main

if __name__ == "__main__":
    sys.exit(main())
