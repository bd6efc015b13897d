"""The API of served specialists, in the shapes of OpenAI and vLLM: one file for each endpoint.

Each file has the schema of its requests and answers, and a function `routes(service)`; `ROUTES` in `server/model_app.py` lists them.
"""
