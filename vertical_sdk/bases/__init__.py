"""Base models: the catalogue, fetching, fingerprints, weights and image processing."""
