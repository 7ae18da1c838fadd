"""`squash serve`: running the service, until it is told to stop."""

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


def serve(
    host: Annotated[str | None, typer.Option(help="Instead of SQUASH_HOST.")] = None,
    port: Annotated[int | None, typer.Option(help="Instead of SQUASH_PORT.")] = None,
) -> None:
    """Run the service until it is told to stop."""
    given = {"host": host, "port": port}
    configure_logs()
    run(load_settings(**{key: value for key, value in given.items() if value is not None}))


def run(settings: Settings) -> None:
    """Run the service; return once it has ended, or exit with 3 if it cannot start.

    Raises
    ------
    SettingsError
        If a setting is missing or wrong, or the record does not fit the settings.
    """
    take_short_turns()
    app = create_app(settings)
    config = uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        access_log=False,
        log_config=None,
        server_header=False,
        # Links come from SQUASH_URL alone, never from what a proxy says.
        proxy_headers=False,
        timeout_graceful_shutdown=_STOP_S,
    )
    server = _Server(config, app.state.site)
    try:
        server.run()
    except KeyboardInterrupt:
        # It has ended in good order; the signal is raised again behind that.
        return
    if not server.started:
        sys.exit(3)


class _Server(uvicorn.Server):
    """uvicorn, but those who listen to events go before it waits for the requests under way."""

    def __init__(self, config: uvicorn.Config, site: Site) -> None:
        super().__init__(config)
        self._site = site

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End in good order."""
        self._site.events.let_go()
        await super().shutdown(sockets)
