"""vertical registry: one file for each group of verbs; `app.py` puts them together."""
