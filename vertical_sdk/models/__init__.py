"""Base models and the specialists that are made from them, one file a family."""
