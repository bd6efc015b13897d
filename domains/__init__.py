"""The verticals, a folder each; installed as `vertical_sdk.domains`, and imported only by `load_domain` and the catalogs."""
