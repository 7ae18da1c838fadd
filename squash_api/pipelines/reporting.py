"""After a run: its job, and those of what it wrote, go to the spool, and then to the service.

Nothing here may fail or hold up the command: what goes wrong is a note, and what takes too long is
left in the spool.
"""

import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from squash_api.pipelines.outputs import (
    Stamp,
    claim,
    date_of,
    is_closed,
    is_named_as_output,
    jobs_in,
    name_of,
    problem_of,
    stamps,
    written,
)
from squash_api.pipelines.run_job import (
    adopted,
    is_made_up,
    joined,
    named,
    run_document,
)
from squash_api.pipelines.running import Ended
from squash_api.pipelines.spool import Damaged, Entry, Sender, Sent
from squash_api.wires.data_id import DataId

# What a command wrote is read for so long, before it is left where it is.
_LONGEST_READING_S = 10.0
# A disk that hangs may delay the end so much longer.
_PATIENCE_S = 20.0
# Jobs of earlier runs may delay the end of this one so long.
_OLDER_S = 1.0
_POLL_S = 0.05
_NOT_TRIED = "not tried yet"


@dataclass(frozen=True, slots=True)
class Run:
    """A command, and where what it writes is looked for.

    `env` is the environment of its jobs, `variables` that of the process. `before` are the files
    that were there when it began. `claims` is the folder by which several runs agree on who found a
    file.
    """

    words: Sequence[str]
    env: Mapping[str, Any]
    variables: Mapping[str, str]
    data_id: DataId
    folder: str
    before: Mapping[str, Stamp] | None
    claims: str | None = None


@dataclass(slots=True)
class Report:
    """What became of the jobs of a run; `notes` say what went wrong."""

    sent: list[Sent] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    waiting: list[Path] = field(default_factory=list)


def report(
    run: Run, ended: Ended, sender: Sender, *, within_s: float, hurry: threading.Event
) -> Report:
    """Spool the jobs of a run and send them; after `within_s` s, or in a hurry, let them wait."""
    outcome = Report()
    are_spooled, are_done = threading.Event(), threading.Event()

    def work() -> None:
        try:
            _spool(run, ended, sender, outcome)
            are_spooled.set()
            _send(sender, outcome)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is not the command's fault
            outcome.notes.append(f"{type(error).__name__}: {error}")
        finally:
            are_spooled.set()
            are_done.set()

    threading.Thread(target=work, daemon=True).start()
    if not _wait(are_spooled, _LONGEST_READING_S + _PATIENCE_S, hurry):
        outcome.notes.append("the disk does not answer: what the run took and wrote is not sent")
    elif not _wait(are_done, within_s, hurry):
        why = sender.trouble or f"no answer from {sender.url} within {within_s:g} s"
        _leave(sender, outcome, why)
    elif outcome.waiting:
        _leave(sender, outcome, sender.trouble or _NOT_TRIED)
    return outcome


def _wait(event: threading.Event, longest_s: float, hurry: threading.Event) -> bool:
    until_s = time.monotonic() + longest_s
    while not event.wait(_POLL_S):
        if hurry.is_set() or time.monotonic() > until_s:
            return event.is_set()
    return True


def _spool(run: Run, ended: Ended, sender: Sender, outcome: Report) -> None:
    """Put the run's job, and those of all files that it wrote, into the spool."""
    found = list(_documents(run, ended, sender, outcome))
    env = run.env
    if found and is_made_up(env, run.variables) and "run" not in run.data_id.values:
        env = adopted(env, [document for _, _, document in found])
    own = run_document(run.words, ended, env, metadata=run.data_id.values, variables=run.variables)
    _put(sender, outcome, own, source=str(own["meta"]["command"])[:200], name=None)
    for (path, stamp), index, document in found:
        whole = joined(document, env, date=date_of(stamp))
        _put(sender, outcome, whole, source=path, name=name_of(path, stamp, index))
        other, _ = named(whole)
        if other != named(own)[0]:
            outcome.notes.append(f"{path}: it names a run of its own, {other}")


def _documents(
    run: Run, ended: Ended, sender: Sender, outcome: Report
) -> list[tuple[tuple[str, Stamp], int, dict[str, Any]]]:
    """Read what the command wrote: file, place in it and document."""
    until_s = time.monotonic() + _LONGEST_READING_S
    after = look(run.folder, sender, until_s=until_s)
    found = []
    for path, stamp in written(run.before, after or {}, since_ns=ended.began_ns):
        if time.monotonic() > until_s:
            after = None
            break
        if is_closed(path) is False:
            outcome.notes.append(
                f"{path}: is still being written: send it with squash dispatch when it is complete"
            )
        elif claim(run.claims, path, stamp):
            for index, job in enumerate(jobs_in(path, run.folder, run.data_id)):
                if job.document is None:
                    outcome.notes.append(problem_of(job))
                else:
                    found.append(((path, stamp), index, job.document))
    if after is None:
        outcome.notes.append(
            f"{run.folder}: there is too much to look through in {_LONGEST_READING_S:g} s: "
            "name the folder of the outputs with --outputs, or send them with squash dispatch"
        )
    return found


def look(folder: str, sender: Sender, *, until_s: float) -> dict[str, Stamp] | None:
    """Look which files a folder has that may be outputs; None if it takes until then."""
    return stamps(
        folder, until_s=until_s, without=str(sender.spool.folder), is_wanted=is_named_as_output
    )


def _put(
    sender: Sender, outcome: Report, document: dict[str, Any], *, source: str, name: str | None
) -> None:
    try:
        entry = sender.spool.put(document, source=source, url=sender.url, why=_NOT_TRIED, name=name)
    except OSError as error:
        # It may be sent all the same.
        fate, why, _ = sender.post(document)
        if fate not in ("sent", "repeat"):
            outcome.notes.append(
                f"{source}: lost: {sender.spool.folder} cannot be written "
                f"({error.strerror or error}), and {why}"
            )
        return
    except (TypeError, ValueError) as error:
        outcome.notes.append(f"{source}: {error}")
        return
    outcome.waiting.append(entry.path)


def _send(sender: Sender, outcome: Report) -> None:
    """Send what this run left in the spool, and then for a little while what others did."""
    own = list(outcome.waiting)
    while own:
        for sent in sender.send(own):
            own.remove(sent.entry.path)
            outcome.sent.append(sent)
            if sent.fate == "refused":
                _refused(outcome, sent.entry, sent.why)
            elif sent.fate != "waits":
                outcome.waiting.remove(sent.entry.path)
        if sender.trouble is not None:
            break
        # What is left is sent by another process, if that comes to it.
        left = [entry for entry in sender.spool.entries_of(own) if isinstance(entry, Entry)]
        for entry in left:
            if entry.is_refused:
                _refused(outcome, entry, entry.why)
        own = [entry.path for entry in left if not entry.is_refused]
        time.sleep(_POLL_S if own else 0.0)
    outcome.waiting[:] = [path for path in outcome.waiting if path.exists()]
    if sender.trouble is None and not outcome.waiting:
        until_s = time.monotonic() + _OLDER_S
        for _ in sender.send(sender.spool.paths(), is_over=lambda: time.monotonic() > until_s):
            pass


def _refused(outcome: Report, entry: Entry, why: str) -> None:
    outcome.waiting.remove(entry.path)
    outcome.notes.append(f"{entry.source}: the service refuses it: {why}; it is in {entry.path}")


def _leave(sender: Sender, outcome: Report, why: str) -> None:
    """Say what waits, and note the reason in the spool."""
    waiting = set(outcome.waiting)
    until_s = time.monotonic() + _OLDER_S
    for entry in sender.spool.entries_of(sorted(waiting)):
        if isinstance(entry, Damaged) or time.monotonic() > until_s:
            continue
        with suppress(OSError):
            sender.spool.write(replace(entry, why=why))
    if waiting:
        jobs = f"{len(waiting)} job waits" if len(waiting) == 1 else f"{len(waiting)} jobs wait"
        outcome.notes.append(
            f"{jobs} in {sender.spool.folder} ({why}): squash spool send sends them"
        )
