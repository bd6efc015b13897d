"""Rows: read, clean, de-identify, split and augment them. Every step accounts for every row.

Steps are functions from examples to (examples, account). Parts that a recipe names are in catalogs: readers in `read`,
`series`, `laws` and `training_rows`, cleaners in `clean`, de-identifiers in `deidentify`, splitters in `split`, augmentations in
`augment`; `prepare` puts them in order.
"""

from __future__ import annotations

from vertical_sdk.data.account import Account, StepAccount, Tally
from vertical_sdk.data.check import check_file
from vertical_sdk.data.laws import articles
from vertical_sdk.data.prepare import Prepared, prepare, read_rows
from vertical_sdk.data.read import Table
from vertical_sdk.data.series import build_series
from vertical_sdk.data.training_rows import training_rows

__all__ = [
    "Account",
    "Prepared",
    "StepAccount",
    "Table",
    "Tally",
    "articles",
    "build_series",
    "check_file",
    "prepare",
    "read_rows",
    "training_rows",
]
