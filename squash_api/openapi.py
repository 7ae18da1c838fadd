"""The OpenAPI document of the API, as committed: `python -m squash_api.openapi [--check] FILE`."""

import argparse
import json
import secrets
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from pydantic import SecretStr

from squash_api.app import create_app
from squash_api.record.database import make_database
from squash_api.settings import Settings


def openapi_text() -> str:
    """Make the document as JSON text. It depends only on the code, not on the environment."""
    with TemporaryDirectory() as directory:
        url = f"sqlite:///{Path(directory) / 'openapi.db'}"
        make_database(url)
        settings = Settings.model_construct(
            secret=SecretStr(secrets.token_hex(32)), database_url=url
        )
        app = create_app(settings)
        document = app.openapi()
        app.state.site.close()
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def main() -> None:
    """Write the document to a file, or compare with `--check`; exit code 1 if it differs."""
    parser = argparse.ArgumentParser(prog="squash_api.openapi", description=main.__doc__)
    parser.add_argument("--check", action="store_true", help="only compare")
    parser.add_argument("file", type=Path)
    given = parser.parse_args()
    text = openapi_text()
    if not given.check:
        given.file.write_text(text, encoding="utf-8")
    elif not given.file.exists() or given.file.read_text(encoding="utf-8") != text:
        sys.exit(f"{given.file} does not match the code: run make openapi")


if __name__ == "__main__":
    main()
