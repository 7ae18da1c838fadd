"""`squash serve`: running the service until it is stopped."""

import errno
import socket
import sys
from typing import Annotated

import typer
import uvicorn

from squash_api.app import create_app
from squash_api.logs import configure_logs
from squash_api.settings import Settings, load_settings
from squash_api.site import Site, take_short_turns

# An upload that never ends must not keep the service from stopping.
_STOP_S = 10
_HINTS = {
    errno.EADDRINUSE: "another program does; choose another port with --port or SQUASH_PORT",
    errno.EACCES: "this user may not; choose a port above 1023 with --port or SQUASH_PORT",
    errno.EADDRNOTAVAIL: "this machine does not have the address; set --host or SQUASH_HOST",
}


def serve(
    host: Annotated[str | None, typer.Option(help="Instead of SQUASH_HOST.")] = None,
    port: Annotated[int | None, typer.Option(help="Instead of SQUASH_PORT.")] = None,
) -> None:
    """Run the service until it is stopped."""
    given = {"host": host, "port": port}
    configure_logs()
    run(load_settings(**{key: value for key, value in given.items() if value is not None}))


def run(settings: Settings) -> None:
    """Run the service until it has ended; exit with 3 if it cannot start."""
    _require_address(settings)
    take_short_turns()
    app = create_app(settings)
    config = uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        access_log=False,
        log_config=None,
        server_header=False,
        # Links come only from SQUASH_URL, never from a proxy.
        proxy_headers=False,
        timeout_graceful_shutdown=_STOP_S,
    )
    server = _Server(config, app.state.site)
    try:
        server.run()
    except KeyboardInterrupt:
        # It has shut down; uvicorn raises the signal again after that.
        return
    if not server.started:
        sys.exit(3)


def _require_address(settings: Settings) -> None:
    """Exit with 3 if the service cannot listen at its address, before anything is opened."""
    place = f"{settings.host}:{settings.port}"
    try:
        found = socket.getaddrinfo(
            settings.host, settings.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
        for family, kind, protocol, _, address in found:
            with socket.socket(family, kind, protocol) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind(address)
    except OSError as error:
        hint = _HINTS.get(error.errno or 0, f"{error.strerror}; check --host and --port")
        sys.stderr.write(f"error: the service cannot listen at {place}: {hint}\n")
        sys.exit(3)


class _Server(uvicorn.Server):
    """uvicorn, which here closes event streams before it waits for running requests."""

    def __init__(self, config: uvicorn.Config, site: Site) -> None:
        super().__init__(config)
        self._site = site

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Shut down."""
        self._site.events.let_go()
        await super().shutdown(sockets)
