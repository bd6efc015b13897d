"""One label for each row, of labels in an order."""

from vertical_sdk.tasks.classification import Classification

__all__ = ["ORDINAL"]

ORDINAL = Classification(
    name="ordinal",
    default_loss="earth_mover",
    default_metrics=("accuracy", "macro_f1", "quadratic_kappa", "rank_mae", "log_loss", "ece"),
    ordered=True,
)
