"""A registry served over HTTP. Only code that serves loads FastAPI and uvicorn."""
