"""`squash deliver` as a process of its own, beside a service."""

import signal
import subprocess
import sys
from pathlib import Path
from typing import Self

from tests.support.service import Service
from tests.support.site import wait_for


class Deliverer:
    """Delivers the jobs of a service; runs once it is entered."""

    def __init__(self, service: Service, *, name: str) -> None:
        self._service = service
        self._process: subprocess.Popen[bytes] | None = None
        self.log: Path = service.folder / f"{name}.log"

    def __enter__(self) -> Self:
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "squash_api", "deliver"],
                cwd=self._service.folder,
                env=self._service.environment,
                stdout=log,
                stderr=log,
            )
        wait_for(lambda: '"delivering"' in self.log.read_text() or self._has_ended())
        assert not self._has_ended(), self.log.read_text()[-4000:]
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> int:
        """Ask it to end, and return its exit code; 0 also if it has been ended before."""
        return self._end(signal.SIGTERM)

    def kill(self) -> None:
        """End it without any warning."""
        self._end(signal.SIGKILL)

    def _has_ended(self) -> bool:
        return self._process is not None and self._process.poll() is not None

    def _end(self, number: signal.Signals) -> int:
        process, self._process = self._process, None
        if process is None:
            return 0
        process.send_signal(number)
        try:
            return process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            process.kill()
            return process.wait()
