"""The real service as a process of its own, which can be killed like one, and its commands."""

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.support.builders import SECRET
from tests.support.records import record_url
from tests.support.server import Server, is_up, local_url

READING = {"SQUASH_READERS": "1"}
"""The setting of a service with a process that reads, as services have by default."""

_SQUASH = [sys.executable, "-m", "squash_api"]


class Service(Server):
    """`squash serve`, with its record in the folder.

    `environment` adds to and overrides the variables of the process. Without `READING` it reads by
    itself: the process that reads would cost a second start.
    """

    def __init__(self, folder: Path, **environment: str) -> None:
        super().__init__(folder, name="service")
        self.environment = {
            **{k: v for k, v in os.environ.items() if not k.startswith("SQUASH_")},
            "SQUASH_SECRET": SECRET,
            "SQUASH_DATABASE_URL": record_url(folder),
            "SQUASH_REGISTRATION": "open",
            "SQUASH_READERS": "0",
            **environment,
        }

    @property
    def url(self) -> str:
        """Address, without a trailing slash."""
        return local_url(self.port)

    def command(self) -> Sequence[str]:
        """Return the command that serves."""
        return [*_SQUASH, "serve"]

    def variables(self) -> Mapping[str, str]:
        """Return its environment."""
        return {"SQUASH_URL": self.url, "SQUASH_PORT": str(self.port), **self.environment}

    def is_ready(self) -> bool:
        """Return whether it answers."""
        return is_up(f"{self.url}/healthz")

    def run(self, *arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
        """Run a command of `squash` with this service's settings."""
        return subprocess.run(
            [*_SQUASH, *arguments],
            cwd=self.folder,
            env=self.variables(),
            timeout=120,
            check=False,
            **{"capture_output": True, "text": True, **options},
        )


class Deliverer(Server):
    """`squash deliver` beside a service, with its settings; it listens on no port."""

    def __init__(self, service: Service, *, name: str) -> None:
        super().__init__(service.folder, name=name)
        self._service = service

    def command(self) -> Sequence[str]:
        """Return the command that delivers."""
        return [*_SQUASH, "deliver"]

    def variables(self) -> Mapping[str, str]:
        """Return its environment, that of the service."""
        return self._service.variables()

    def is_ready(self) -> bool:
        """Return whether it delivers, or stands by."""
        return '"delivering"' in self.fresh_log()
