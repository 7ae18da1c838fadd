"""Stand in for an InfluxDB or a Kapacitor, and write what it is sent to a file."""

import sys
from pathlib import Path
from typing import Any

import uvicorn
from fastapi import FastAPI, Request, Response

app = FastAPI()


@app.get("/ping")
async def ping() -> Response:
    return Response(status_code=204, headers={"X-Influxdb-Version": "1.8.0"})


# What the service asks a Kapacitor.
@app.get("/kapacitor/v1/debug/vars")
async def variables() -> dict[str, dict[str, Any]]:
    return {"kapacitor": {"1": {"tags": {"task": "task_master:main", "parent": "write_points"}}}}


@app.get("/kapacitor/v1/tasks")
async def tasks() -> dict[str, list[Any]]:
    return {"tasks": []}


@app.get("/kapacitor/v1/alerts/topics")
async def topics() -> dict[str, list[Any]]:
    return {"topics": []}


@app.get("/kapacitor/v1/ping")
async def kapacitor_ping() -> Response:
    return Response(status_code=204, headers={"X-Kapacitor-Version": "1.5.7"})


@app.post("/query")
async def query() -> dict[str, list[dict[str, int]]]:
    return {"results": [{"statement_id": 0}]}


@app.post("/write")
@app.post("/kapacitor/v1/write")
async def write(request: Request) -> Response:
    app.state.file.write(await request.body() + b"\n")
    return Response(status_code=204)


if __name__ == "__main__":
    with Path(sys.argv[2]).open("ab", buffering=0) as app.state.file:
        uvicorn.run(
            app, host="127.0.0.1", port=int(sys.argv[1]), access_log=False, log_level="error"
        )
