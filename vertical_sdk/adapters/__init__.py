"""An adapter's folder: find, read, load, check and import it."""
