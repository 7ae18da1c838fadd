"""The HTTP API, a file per noun. With `app.py` the only code that knows FastAPI."""
