"""The API of a served registry, below /api/v1: one file for each resource.

Each file has a function `routes(service)`, which returns the routes of its resource; `ROUTES` in `server/app.py` lists them.
"""
