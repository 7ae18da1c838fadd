"""Writing many lines, of which some may be bad: all others are stored, and the bad ones named."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from squash_api.influx.client import (
    BatchRejectedError,
    BatchTooLargeError,
    DatabaseMissingError,
    InfluxClient,
    InfluxError,
    InfluxMisconfiguredError,
)


@dataclass(frozen=True, slots=True)
class Rejected:
    """A line that InfluxDB permanently refuses: its index in the batch, and InfluxDB's words."""

    index: int
    reason: str


def deliver(
    client: InfluxClient,
    lines: Sequence[str],
    *,
    before_creating: Callable[[], object] = lambda: None,
) -> list[Rejected]:
    """Write all lines, and find those that InfluxDB permanently refuses.

    When it returns, every other line has been acknowledged with 204. A batch with bad lines is cut
    until each is alone, so that InfluxDB's words are about that line; sending a good line again
    changes nothing. k bad lines among n cost at most about 2 k log2(n) further requests, and never
    more than 2 n; lines beyond the retention policy, however many, cost about three, and so do
    those that InfluxDB 3 refuses, which says exactly which they are. A missing database is
    created, once, after `before_creating`, where the server can.

    Raises
    ------
    InfluxError
        Any but `BatchRejectedError` and `BatchTooLargeError`: nothing is known about the lines, so
        send them all again.
    """
    rejected: list[Rejected] = []
    waiting = [list(range(len(lines)))] if lines else []
    created = False
    while waiting:
        group = waiting.pop()
        try:
            client.write([lines[index] for index in group])
        except DatabaseMissingError:
            advice = client.server and client.server.how_to_make(client.target.database)
            if advice:
                raise InfluxMisconfiguredError(f"there is no such database: {advice}") from None
            if created:
                raise
            before_creating()
            client.create_database()
            created = True
            waiting.append(group)
        except (BatchRejectedError, BatchTooLargeError) as error:
            if found := _exactly(group, error):
                rejected += found
                bad = {item.index for item in found}
                rest = [index for index in group if index not in bad]
                waiting += [rest] if rest else []
            elif len(group) == 1 or _count_beyond_retention(error) == len(group):
                rejected += [Rejected(index, error.reason) for index in group]
            else:
                waiting += reversed(_cut(group, lines, error))
    return sorted(rejected, key=lambda line: line.index)


def _exactly(group: list[int], error: InfluxError) -> list[Rejected]:
    """Return the lines of a group that are refused, if the server has said which; else none."""
    by_line = error.by_line if isinstance(error, BatchRejectedError) else {}
    return [Rejected(group[place], by_line[place]) for place in by_line if 0 <= place < len(group)]


def _cut(group: list[int], lines: Sequence[str], error: InfluxError) -> list[list[int]]:
    """Cut a refused group of at least two lines into smaller ones, with the suspects separate.

    InfluxDB's reply only raises suspicion: each group is written again.
    """
    if old := _count_beyond_retention(error):
        suspects = set(sorted(group, key=lambda index: _time_ns(lines[index]))[:old])
        return [
            [index for index in group if index in suspects],
            [index for index in group if index not in suspects],
        ]
    if isinstance(error, BatchRejectedError) and (unparsed := error.unparsed_lines()):
        alone = [[index] for index in group if lines[index] in unparsed]
        rest = [index for index in group if lines[index] not in unparsed]
        if alone:
            return [rest, *alone] if rest else alone
    middle = len(group) // 2
    return [group[:middle], group[middle:]]


def _count_beyond_retention(error: InfluxError) -> int:
    return error.beyond_retention if isinstance(error, BatchRejectedError) else 0


def _time_ns(line: str) -> int:
    digits = line.rpartition(" ")[2]
    return int(digits) if digits.isascii() and digits.isdigit() else 0
