"""Stand in for an InfluxDB, and write the lines that it is sent to a file."""

import sys
from pathlib import Path

import uvicorn
from fastapi import FastAPI, Request, Response

app = FastAPI()


@app.get("/ping")
async def ping() -> Response:
    return Response(status_code=204, headers={"X-Influxdb-Version": "1.8.0"})


@app.post("/query")
async def query() -> dict[str, list[dict[str, int]]]:
    return {"results": [{"statement_id": 0}]}


@app.post("/write")
async def write(request: Request) -> Response:
    app.state.file.write(await request.body() + b"\n")
    return Response(status_code=204)


if __name__ == "__main__":
    with Path(sys.argv[2]).open("ab", buffering=0) as app.state.file:
        uvicorn.run(
            app, host="127.0.0.1", port=int(sys.argv[1]), access_log=False, log_level="error"
        )
