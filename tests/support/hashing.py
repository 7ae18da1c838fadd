"""A hasher that costs nothing and a clock that stands still, for tests of passwords."""

import threading


class PlainHasher:
    """Hashes nothing and keeps every check; they wait while `go` is clear."""

    dummy_hash = "dummy"

    def __init__(self) -> None:
        self.started = threading.Event()
        self.checked: list[str] = []
        self.prefix = "v1:"
        self.go = threading.Event()
        self.go.set()

    def hash(self, password: str) -> str:
        return self.prefix + password

    def verify(self, password: str, stored_hash: str) -> tuple[bool, str | None]:
        self.checked.append(stored_hash)
        self.started.set()
        assert self.go.wait(30)
        is_right = stored_hash.partition(":")[2] == password
        is_outdated = not stored_hash.startswith(self.prefix)
        return is_right, self.hash(password) if is_right and is_outdated else None


class Clock:
    """Seconds that a test moves."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now
