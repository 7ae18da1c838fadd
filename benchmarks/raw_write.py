"""The yardstick of R2: the same points posted to `/write`, one request per job."""

from collections.abc import Sequence

from squash_api.influx.points import job_to_points
from squash_api.ingest.document import decode_job
from squash_api.schema.names import Schema


def make_writes(bodies: Sequence[bytes], *, database: str, first_time_ns: int) -> list[bytes]:
    """Return write requests with the points that the service makes of these jobs."""
    schema = Schema()
    requests = []
    for number, body in enumerate(bodies):
        job = decode_job(body)
        points = job_to_points(
            job_id=number + 1,
            squash_url=f"http://127.0.0.1/job/{number + 1}",
            time_ns=first_time_ns + number,
            values={item.metric: float(item.value or 0.0) for item in job.measurements},
            context=schema.context(job.meta),
            code_changes=("", 0),
        )
        lines = "\n".join(point.line for point in points).encode()
        head = (
            f"POST /write?db={database}&precision=ns HTTP/1.1\r\nHost: 127.0.0.1\r\n"
            f"Content-Length: {len(lines)}\r\n\r\n"
        )
        requests.append(head.encode() + lines)
    return requests
