"""Fast operations in plain torch. They know no recipe and no card."""
