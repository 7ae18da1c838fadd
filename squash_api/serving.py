"""Running the service, until it is told to stop."""

import socket
import sys

import uvicorn

from squash_api.app import create_app
from squash_api.routes.dependencies import Parts
from squash_api.settings import Settings
from squash_api.site import take_short_turns

# An upload that never ends must not keep the service from stopping.
_STOP_S = 10


class _Server(uvicorn.Server):
    """uvicorn, but those who listen to events go before it waits for the requests under way."""

    def __init__(self, config: uvicorn.Config, parts: Parts) -> None:
        super().__init__(config)
        self._parts = parts

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End in good order."""
        self._parts.events.let_go()
        await super().shutdown(sockets)


def serve(settings: Settings) -> None:
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
    server = _Server(config, app.state.parts)
    try:
        server.run()
    except KeyboardInterrupt:
        # It has ended in good order; the signal is raised again behind that.
        return
    if not server.started:
        sys.exit(3)
