"""The real service as a process of its own, which can be killed like one, and its commands."""

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from squash_api.demo.processes import Child
from tests.support.builders import SECRET
from tests.support.forked import Forked, begins_alike, run_squash
from tests.support.records import record_url
from tests.support.server import Server, is_up, local_url

READING = {"SQUASH_READERS": "1"}
"""The setting of a service with a process that reads, as services have by default."""

_SQUASH = [sys.executable, "-m", "squash_api"]
_COMMAND_TIMEOUT_S = 120.0


class Service(Server):
    """`squash serve`, with its record in the folder.

    `environment` adds to and overrides the variables of the process. Without `READING` it reads by
    itself: the process that reads would cost a second start. It and its commands are forked from a
    process that has imported `squash`, unless `is_forked` is unset.
    """

    is_forked = True

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

    def launch(self) -> Child:
        """Start its process."""
        return _launch(self) if self.is_forked else super().launch()

    def is_ready(self) -> bool:
        """Return whether it answers."""
        return is_up(f"{self.url}/healthz")

    def run(self, *arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
        """Run a command of `squash` with this service's settings.

        The options are those of `subprocess.run`; with others than `input` it is not forked.
        """
        variables = self.variables()
        if self.is_forked and begins_alike(variables) and not options.keys() - {"input"}:
            return run_squash(
                arguments,
                environment=variables,
                folder=self.folder,
                given=options.get("input", ""),
                timeout_s=_COMMAND_TIMEOUT_S,
            )
        return subprocess.run(
            [*_SQUASH, *arguments],
            cwd=self.folder,
            env=variables,
            timeout=_COMMAND_TIMEOUT_S,
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

    def launch(self) -> Child:
        """Start its process."""
        return _launch(self)

    def is_ready(self) -> bool:
        """Return whether it delivers, or stands by."""
        return '"delivering"' in self.fresh_log()


class _ForkedChild(Child):
    """A process that is forked, with the log that `Child` gives to one that is not."""

    def __init__(self, server: Server) -> None:
        self.name = server.name
        self.log = server.folder / f"{server.name}.log"
        forked: Any = Forked(
            server.command()[len(_SQUASH) :],
            environment=server.variables(),
            folder=server.folder,
            output=self.log,
        )
        self._process = forked


def _launch(server: Server) -> Child:
    """Start a process of `squash`: forked, unless it would not begin as the others do."""
    is_plain = list(server.command()[: len(_SQUASH)]) == _SQUASH
    if is_plain and begins_alike(server.variables()):
        return _ForkedChild(server)
    return Server.launch(server)
