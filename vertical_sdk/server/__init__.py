"""What is served over HTTP; FastAPI and uvicorn are loaded only by what serves."""
