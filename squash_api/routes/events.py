"""New jobs, as server-sent events."""

from collections.abc import AsyncIterator
from typing import Annotated

import orjson
from fastapi import APIRouter, Header, Query
from fastapi.responses import StreamingResponse

from squash_api.record.jobs import JobEvent
from squash_api.routes.dependencies import SiteDep, is_count
from squash_api.routes.replies import errors_of

router = APIRouter(tags=["events"])

_HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
_TEXT = {"content": {"text/event-stream": {"schema": {"type": "string"}}}}


@router.get(
    "/events", response_class=StreamingResponse, responses={200: _TEXT, **errors_of(422, 429)}
)
async def get_events(
    site: SiteDep,
    after: Annotated[
        int | None, Query(ge=0, lt=2**63, description="The last job that is known already.")
    ] = None,
    last_event_id: Annotated[
        str | None, Header(description="The same, as browsers say it when they come back.")
    ] = None,
) -> StreamingResponse:
    """Tell of each new job within a second, for as long as the connection lives.

    Each event is named `job`, its id is that of the job, and its data
    `{"job": <id>, "metrics": <how many it measures>}`. Who comes back is told of the jobs since,
    of the newest 1000 at most. A comment comes every 15 seconds.
    """
    site.events.check_room()
    if last_event_id is not None and is_count(last_event_id):
        after = int(last_event_id)
    return StreamingResponse(
        _lines(site.events.listen(after=after)), media_type="text/event-stream", headers=_HEADERS
    )


async def _lines(found: AsyncIterator[JobEvent | None]) -> AsyncIterator[bytes]:
    async for item in found:
        if item is None:
            yield b": no news\n\n"
        else:
            data = orjson.dumps({"job": item.job_id, "metrics": item.metrics})
            yield b"id: %d\nevent: job\ndata: %b\n\n" % (item.job_id, data)
