"""`squash serve`: running the service until it is stopped."""

import asyncio
import errno
import socket
import sys
from functools import partial
from typing import Annotated, Any

import structlog
import typer
import uvicorn

from squash_api.app import create_app
from squash_api.delivery.interpreter import spare_cycle_search, take_short_turns
from squash_api.errors import SettingsError
from squash_api.logs import configure_logs, follow_settings
from squash_api.serving.beside import beside
from squash_api.serving.connections import Connection, Connections
from squash_api.serving.readers import Readers
from squash_api.settings import Settings, load_settings
from squash_api.site import Site
from squash_api.standings.figures import Figures

# An upload that never ends must not keep the service from stopping.
_STOP_S = 10
_HINTS = {
    errno.EADDRINUSE: "another program does; choose another port with --port or SQUASH_PORT",
    errno.EACCES: "this user may not; choose a port above 1023 with --port or SQUASH_PORT",
    errno.EADDRNOTAVAIL: "this machine does not have the address; set --host or SQUASH_HOST",
}

_log = structlog.get_logger(__name__)


def serve(
    *,
    host: Annotated[str | None, typer.Option(help="Instead of SQUASH_HOST.")] = None,
    port: Annotated[int | None, typer.Option(help="Instead of SQUASH_PORT.")] = None,
    yes: Annotated[
        bool,
        typer.Option("--yes", help="Withdraw what SQUASH_SPECS no longer has, even all of it."),
    ] = False,
) -> None:
    """Run the service until it is stopped.

    If there is no record yet, an empty one is made.
    """
    options = {"host": host, "port": port}
    given = {key: value for key, value in options.items() if value is not None}
    configure_logs("serve")
    settings = load_settings(**given)
    if settings.port == 0:
        from squash_api.demo.processes import free_port  # noqa: PLC0415  it imports a client

        # Links need to know it before the service listens.
        settings = load_settings(**given | {"port": free_port()})
    run(settings, may_withdraw=yes)


def run(settings: Settings, *, may_withdraw: bool = False) -> None:
    """Run the service until it has ended; exit with 3 if it cannot start, or not all of it.

    `may_withdraw` allows that all definitions from YAML, or those of a whole package, go away.
    """
    follow_settings(instance=settings.instance, logs_jobs=settings.log_jobs == "on")
    _require_address(settings)
    take_short_turns()
    # What is imported from now on stays, too.
    spare_cycle_search()
    problem = settings.url_problem()
    if problem is not None:
        _log.warning(problem, runbook=SettingsError.code)
    readers = Readers(settings)
    # Before there are threads, and before anything is opened.
    readers.fork()
    try:
        server = _make_server(settings, readers, may_withdraw=may_withdraw)
        while True:
            try:
                server.run()
            except KeyboardInterrupt:
                # It has shut down; uvicorn raises the signal again after that.
                return
            if not server.started or server.has_failed:
                sys.exit(3)
            if not server.is_promoted:
                return
            server = _make_promoted(settings, may_withdraw=may_withdraw)
    finally:
        readers.let_go()


def _make_promoted(settings: Settings, *, may_withdraw: bool) -> "_Server":
    """Make a service that writes of one that only read; if that fails, it goes on reading."""
    try:
        readers = Readers(settings)
        return _make_server(settings, readers, may_withdraw=may_withdraw, was_replica=True)
    except SettingsError as error:
        _log.error(
            "the service goes on reading, although its record could be written: correct this, and "
            "start it again",
            reason=error.message,
            runbook=error.runbook,
        )
        reading = settings.model_copy(update={"read_only": "on"})
        return _make_server(reading, Readers(reading), may_withdraw=False)


def _make_server(
    settings: Settings, readers: Readers, *, may_withdraw: bool, was_replica: bool = False
) -> "_Server":
    """Open the site and make what serves it."""
    app = create_app(
        settings,
        may_withdraw=may_withdraw,
        was_replica=was_replica,
        # Whoever wants no process beside the service wants none at all.
        beside=beside if settings.readers else None,
    )
    site: Site = app.state.site
    figures = site.figures
    connections = Connections(
        most=settings.max_connections,
        patience_s=settings.patience_s,
        count=figures.count_refusal,
        url=settings.url,
    )
    protocol: Any = partial(Connection, connections=connections)
    config = uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        http=protocol,
        ws="none",
        access_log=False,
        log_config=None,
        server_header=False,
        # Links come only from SQUASH_URL, never from a proxy; addresses only from those that
        # SQUASH_TRUSTED_PROXIES names, which the app sees to.
        proxy_headers=False,
        timeout_graceful_shutdown=_STOP_S,
    )
    readers.attach(site)
    if settings.readers:
        app.state.places.elsewhere = readers
    _observe(figures, connections, readers if settings.readers else None)
    return _Server(config, site, connections, readers)


def _observe(figures: Figures, connections: Connections, readers: Readers | None) -> None:
    """Let the figures have what only a service has."""
    figures.observe("squash_connections", "Open connections.", connections.__len__)
    figures.observe(
        "squash_most_connections", "Most connections at a time.", lambda: connections.most
    )
    figures.observe(
        "squash_loop_lag_seconds",
        "How late the event loop was at most, in the last minute.",
        lambda: connections.longest_lag_s,
    )
    if readers is not None:
        figures.observe("squash_readers", "Processes that read.", lambda: readers.running)
        figures.observe(
            "squash_readers_missing_seconds",
            "For how long a process that reads has been missing.",
            lambda: readers.missing_s,
        )


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
    """uvicorn, with limits for connections.

    When it stops, it closes event streams before it waits for running requests, and soon those
    whose clients do nothing.
    """

    def __init__(
        self, config: uvicorn.Config, site: Site, connections: Connections, readers: Readers
    ) -> None:
        super().__init__(config)
        self._site = site
        self._connections = connections
        self._readers = readers
        self._watch: asyncio.Task[None] | None = None

    @property
    def is_promoted(self) -> bool:
        """Whether its record was a replica, and is not any more: it must start again to write."""
        return self._site.promoted.is_set()

    @property
    def has_failed(self) -> bool:
        """Whether something that runs beside it could not be started."""
        return self._site.has_failed.is_set()

    async def on_tick(self, counter: int) -> bool:
        """Tell whether to stop; several times a second."""
        return await super().on_tick(counter) or self.is_promoted or self.has_failed

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen."""
        await super().startup(sockets)
        self._connections.fit()
        self._watch = asyncio.create_task(self._connections.watch())
        self._readers.start()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Shut down."""
        self._site.events.let_go()
        self._connections.hurry()
        await super().shutdown(sockets)
        await self._readers.stop()
        if self._watch is not None:
            self._watch.cancel()
