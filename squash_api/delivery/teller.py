"""A teller: tells one receiver outside, such as Slack, how things are, whenever that changes.

It has a row in the record like a webhook: with its cursor, and with who tells at the moment, so
that of any number of processes one does. It keeps no queue: a receiver that was away is told what
is true when it is back.
"""

import asyncio
import time
from abc import abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import structlog

from squash_api.delivery.reader import BackOff, Loop, Wait, pause_s
from squash_api.delivery.sending import Answer
from squash_api.errors import with_runbook
from squash_api.index.reader import Reader, View
from squash_api.record.record import Record
from squash_api.record.webhooks import (
    Receiver,
    claim,
    ensure_receiver,
    get_receiver,
    is_free,
    move_cursor,
    release,
)

POLL = Wait(0.25, 1.0)
_CLAIM_NS = 60 * 10**9
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 10.0, 900.0

_log = structlog.get_logger(__name__)


class PauseError(Exception):
    """The receiver takes nothing now, for this reason; `runbook` is the entry on that.

    `pause_s` is for how long it asks to be left alone, None if it does not say.
    """

    def __init__(self, reason: str, *, runbook: str, pause_s: float | None = None) -> None:
        super().__init__(reason)
        self.runbook = runbook
        self.pause_s = pause_s


class Teller(Loop):
    """Tells one receiver, in rounds; `clock` is in ns."""

    waits_for_jobs = False
    kind: ClassVar[str]

    def __init__(
        self, record: Record, reader: Reader, *, clock: Callable[[], int] = time.time_ns
    ) -> None:
        super().__init__(
            self.kind,
            BackOff(1.0, 30.0, least_s=1.0),
            failure="telling failed; it will be tried again",
            receiver=self.kind,
        )
        self._record = record
        self._reader = reader
        self._clock = clock

    @abstractmethod
    def first_cursor(self, view: View) -> Mapping[str, Any]:
        """Return the cursor of a receiver that is told what happens from now on."""

    @abstractmethod
    def has_news(self, receiver: Receiver) -> bool:
        """Tell whether there may be something to tell, without telling it."""

    @abstractmethod
    async def tell(self, receiver: Receiver) -> None:
        """Tell what is new, and move the cursor with `move` as that is done.

        It ends within half a minute, even if there is more to tell.

        Raises
        ------
        PauseError
            If nothing can be told at the moment.
        """

    def step(self) -> Wait:
        """Tell what is new, unless another process does."""
        receiver, now_ns = self._receiver(), self._clock()
        if not is_free(receiver, now_ns=now_ns) or not self.has_news(receiver):
            return POLL
        until_ns = now_ns + _CLAIM_NS
        if not self._record.write(
            lambda connection: claim(connection, receiver, now_ns=now_ns, until_ns=until_ns)
        ):
            return POLL
        trouble, again_ns = None, 0
        try:
            asyncio.run(self.tell(receiver))
        except PauseError as error:
            trouble = with_runbook(str(error), error.runbook)
            again_ns = self._clock() + int(self._pause_s(receiver, error) * 10**9)
            self._note(receiver, error)
        self._record.write(
            lambda connection: release(
                connection,
                receiver.receiver_id,
                claimed_ns=until_ns,
                again_ns=again_ns,
                trouble=trouble,
                now_ns=self._clock(),
            )
        )
        return POLL

    def move(self, receiver: Receiver, cursor: Mapping[str, Any] | str) -> Receiver:
        """Note how far a receiver has been told; return it as it is then.

        Raises
        ------
        PauseError
            If another process has told it something meanwhile.
        """
        is_moved = self._record.write(lambda connection: move_cursor(connection, receiver, cursor))
        if not is_moved:
            raise PauseError("another process tells it", runbook="receiver-failing", pause_s=1.0)
        return self._receiver()

    def _receiver(self) -> Receiver:
        with self._record.read() as connection:
            found = get_receiver(connection, self.kind)
        if found is not None:
            return found
        with self._reader.view() as view:
            cursor = self.first_cursor(view)
        return self._record.write(
            lambda connection: ensure_receiver(
                connection, self.kind, cursor=cursor, now_ns=self._clock()
            )
        )

    def _pause_s(self, receiver: Receiver, error: PauseError) -> float:
        if error.pause_s is not None:
            return min(error.pause_s, 3600.0)
        return pause_s(receiver.failures, _FIRST_PAUSE_S, _LONGEST_PAUSE_S, jitter=0.2)

    def _note(self, receiver: Receiver, error: PauseError) -> None:
        log = _log.warning if receiver.failures == 0 else _log.info
        log(
            "nothing can be told; it will be tried again",
            receiver=self.kind,
            reason=str(error),
            runbook=error.runbook,
        )


def refusal(answer: Answer, *, runbook: str) -> PauseError:
    """Return the error for a reply that is about the receiver as a whole."""
    return PauseError(answer.words, runbook=runbook, pause_s=answer.retry_after_s())
