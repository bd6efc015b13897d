"""Tables of a Python program as a source: each is kept as a Parquet file, so that it can be read again to evaluate a run."""

from __future__ import annotations

import hashlib
import io
import sys
from collections.abc import Mapping
from typing import Any

from vertical_sdk.errors import DataError
from vertical_sdk.paths import rows_home, write_whole

__all__ = ["is_table", "keep_tables"]

WHERE = "data.source"


def is_table(value: object) -> bool:
    """Whether a value is a table: a pandas DataFrame, or anything else that Arrow can read as a table, such as polars' frames."""
    pandas = sys.modules.get("pandas")
    return hasattr(value, "__arrow_c_stream__") and not (pandas is not None and isinstance(value, pandas.Series | pandas.Index))


def keep_tables(source: Any) -> Any:
    """Replace each table in a recipe's `data.source` by the path of a file with its rows; other sources stay.

    The file is in the folder of `rows_home`, readable by its owner only, and has the SHA-256 of its content as its name: the same
    rows are kept once. Raises DataError for a table that cannot be written as Parquet, RunError if the folder is read-only.
    """
    if isinstance(source, Mapping):
        return {split: keep_tables(part) for split, part in source.items()}
    return _keep_table(source) if is_table(source) else source


def _keep_table(table: Any) -> str:
    import pyarrow
    import pyarrow.parquet

    try:
        rows = _to_arrow(table)
        content = io.BytesIO()
        pyarrow.parquet.write_table(rows.replace_schema_metadata(None), content)
    except (pyarrow.ArrowException, TypeError, ValueError) as error:
        reason = "; ".join(str(part) for part in error.args[:2]).splitlines()[0]
        raise DataError(f"the table cannot be kept: {reason}. Give each column values of one kind.", where=WHERE) from None
    if not rows.num_rows:
        raise DataError("the table has no rows.", where=WHERE)
    path = rows_home() / f"{hashlib.sha256(content.getvalue()).hexdigest()}.parquet"
    if not path.is_file():
        write_whole(path, content.getvalue(), mode=0o600)
    return str(path)


def _to_arrow(table: Any) -> Any:
    """The table in Arrow's form; the index of a DataFrame is left out. Raises DataError for a column that is there twice."""
    import pyarrow

    pandas = sys.modules.get("pandas")
    frame = pandas is not None and isinstance(table, pandas.DataFrame)
    arrow: Any = None if frame else pyarrow.table(table)
    names = [str(name) for name in (table.columns if frame else arrow.column_names)]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise DataError(f"the table has the column {twice!r} twice. Rename one of them.", where=WHERE)
    return pyarrow.Table.from_pandas(table.set_axis(names, axis=1), preserve_index=False) if frame else arrow
