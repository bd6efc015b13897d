"""Read Parquet, with the names of classes that the `datasets` library writes into it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from vertical_sdk.data.rows import CELL, ROW, Budget, FileOptions, Rows, check_columns
from vertical_sdk.errors import DataError
from vertical_sdk.json_text import parse_json

__all__ = ["iterate_parquet"]


def iterate_parquet(path: Path, options: FileOptions, size: int | None) -> Iterator[Rows]:
    """Read the rows of a Parquet file in parts of at most so many; None: in one part."""
    import pyarrow.parquet

    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            schema = file.schema_arrow
        texts = [field.name for field in schema if pyarrow.types.is_string(field.type) or pyarrow.types.is_binary(field.type)]
        with pyarrow.parquet.ParquetFile(path, read_dictionary=texts) as file:
            names = _class_names(file.schema_arrow.metadata)
            columns = tuple(file.schema_arrow.names)
            check_columns(len(columns), options, path)
            budget = Budget(path, options)
            budget.spend(file.metadata.num_rows * (ROW + CELL * len(columns)))
            twice = sorted(name for name, count in Counter(columns).items() if count > 1)
            if twice:
                raise DataError(f"the file has the column {twice[0]!r} twice. Rename one of them.", where=path)
            rows: list[dict[str, Any]] = []
            begun = 1
            most = _choose_batch(file)
            for batch in file.iter_batches(most if size is None else min(size, most)):
                budget.spend(sum(map(_count_bytes, batch.columns)))
                rows += batch.to_pylist()
                if size is not None:
                    yield Rows(path, "Parquet", columns, rows, list(range(begun, begun + len(rows))), unit="row", names=names)
                    begun, rows = begun + len(rows), []
    except DataError:
        raise
    except Exception as error:  # noqa: BLE001  (Arrow's own, and those of Python for a time, a number or a text that cannot be)
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise DataError(f"broken Parquet: {reason}. Download the file again.", where=path) from None
    if rows or begun == 1:
        yield Rows(path, "Parquet", columns, rows, list(range(begun, begun + len(rows))), unit="row", names=names)


def _choose_batch(file: Any) -> int:
    """How many rows are decoded at once: few if one value may be large. Texts are decoded once for each different one."""
    import pyarrow.types

    if not any(pyarrow.types.is_nested(field.type) for field in file.schema_arrow):
        return 10_000
    groups = (file.metadata.row_group(number) for number in range(file.metadata.num_row_groups))
    largest = max((group.total_byte_size for group in groups), default=0)
    return max(16, min(10_000, (1 << 30) // max(1, largest)))


def _count_bytes(column: Any) -> int:
    """Bytes of a column's values as Python has them, besides those of their cells."""
    import pyarrow.compute
    import pyarrow.types

    if pyarrow.types.is_dictionary(column.type):
        lengths = pyarrow.compute.binary_length(column.dictionary)
        return int(pyarrow.compute.sum(lengths.take(column.indices).cast("int64")).as_py() or 0)
    return int(column.nbytes) if pyarrow.types.is_nested(column.type) else 0


def _class_names(metadata: dict[bytes, bytes] | None) -> dict[str, tuple[str, ...]]:
    """Read the class names that the `datasets` library writes into the schema of a file."""
    try:
        features = parse_json((metadata or {})[b"huggingface"])["info"]["features"]
        return {
            column: tuple(str(name) for name in feature["names"])
            for column, feature in features.items()
            if isinstance(feature, dict) and feature.get("_type") == "ClassLabel"
        }
    except (KeyError, TypeError, ValueError, AttributeError):
        return {}
