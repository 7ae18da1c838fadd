"""Fixtures that several parts of the tests share."""

import os
import signal
import ssl
import uuid
from collections.abc import Iterator, Mapping
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, cast

import httpx
import hypothesis.core
import pytest
import structlog
from _pytest.fixtures import SubRequest
from hypothesis import settings
from hypothesis.vendor.pretty import RepresentationPrinter
from playwright.sync_api import Browser
from sqlalchemy import Connection
from xdist.scheduler import LoadFileScheduling

from squash_api.accounts.passwords import Argon2Hasher
from squash_api.record.record import Record
from squash_api.settings import InfluxTarget
from tests.support.builders import add_test_user, open_record
from tests.support.chromium import running
from tests.support.chronograf import Chronograf, without_dashboards
from tests.support.fake_chronograf import FakeChronograf
from tests.support.fake_kapacitor import FakeKapacitor
from tests.support.http_server import HttpServer
from tests.support.influxd import Influxd
from tests.support.kapacitord import Kapacitord, empty
from tests.support.postgresql import PostgreSQL
from tests.support.programs import find_program
from tests.support.records import POSTGRESQL, SQLITE, Databases, choose, take_back
from tests.support.reliability import ENGINES, note
from tests.support.server import local_url
from tests.support.who_touches import everything, is_later, touching

# When pytest loads schemathesis, that puts a printer that prints nothing in the place of this one:
# no failing example of any test would be shown.
hypothesis.core.RepresentationPrinter = RepresentationPrinter  # type: ignore[attr-defined]

# How long a machine takes is no fact about the code.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")

# A shell lets what it runs in the background ignore this; what tests start there would do so too.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@lru_cache
def _make_context(_places: tuple[str | None, ...], given: frozenset[Any]) -> ssl.SSLContext:
    return httpx.create_ssl_context(**dict(given))


def _shared_context(**given: Any) -> ssl.SSLContext:
    """Return the context that clients with the same certificates share."""
    places = tuple(map(os.environ.get, ("SSL_CERT_FILE", "SSL_CERT_DIR")))
    return _make_context(places, frozenset(given.items()))


# To read the certificates of all authorities took a fifth of the time of all tests.
vars(httpx._transports.default)["create_ssl_context"] = _shared_context


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run what touches a record on every engine, unless it is marked as being about one."""
    path = metafunc.definition.path
    touches = metafunc.function.__name__ in touching(path) or everything(path)
    if touches and metafunc.definition.get_closest_marker(SQLITE) is None:
        engines = [
            pytest.param(None, id=SQLITE),
            pytest.param(POSTGRESQL, id=POSTGRESQL, marks=[pytest.mark.later] * is_later(path)),
        ]
        if metafunc.definition.get_closest_marker(POSTGRESQL) is not None:
            del engines[0]
        elif is_later(path) and ENGINES not in os.environ:
            del engines[1]
        metafunc.parametrize("record_engine", engines, indirect=True, scope="session")


class _ByFileAndEngine(LoadFileScheduling):  # type: ignore[misc]  # it has no types
    """Gives the tests of a file with one engine to one worker."""

    def _split_scope(self, nodeid: str) -> str:
        file, _, name = nodeid.partition("::")
        return f"{file} {POSTGRESQL}" if POSTGRESQL in name.partition("[")[2] else file


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadFileScheduling:
    """Let pytest-xdist distribute tests so, whatever it was asked for."""
    return _ByFileAndEngine(config, log)


def pytest_fixture_setup(fixturedef: pytest.FixtureDef[Any], request: SubRequest) -> None:
    """Let every fixture of a module be made for each engine.

    A fixture of the whole session that makes a record asks for `record_engine`, and for `keeping`.
    """
    if fixturedef.scope in {"module", "class", "package"}:
        request.getfixturevalue("record_engine")
        # pytest ends only what names it as an argument.
        engine = request._get_active_fixturedef("record_engine")
        engine.addfinalizer(partial(fixturedef.finish, request=request))


@pytest.fixture(scope="session")
def postgresql() -> Iterator[PostgreSQL]:
    """A running PostgreSQL for all tests."""
    with PostgreSQL() as server:
        yield server


@pytest.fixture(scope="session")
def databases(postgresql: PostgreSQL) -> Databases:
    """The databases for records of all tests, which go on after tests of the other engine."""
    return Databases(postgresql)


@pytest.fixture(scope="session", autouse=True)
def record_engine(request: pytest.FixtureRequest) -> Iterator[str]:
    """The engine of the records that a test makes."""
    # The same for tests that have no such parameter, so that nothing is made anew for them.
    name: str = getattr(request, "param", None) or SQLITE
    if name == SQLITE:
        yield name
        return
    choose(request.getfixturevalue("databases"))
    yield name
    choose(None)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Note for `make soak` how many tests have passed on every engine."""
    if ENGINES in os.environ:
        note("engines", tests=len(terminalreporter.stats.get("passed", [])))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item: pytest.Function, nextitem: pytest.Item | None) -> Iterator[None]:
    """Take back the databases of a test's records, once nothing of it runs any more."""
    yield
    if nextitem is None or nextitem.path != item.path:
        take_back()
    elif "tmp_path" in item.funcargs:
        take_back(cast("Path", item.funcargs["tmp_path"]))


@pytest.fixture
def empty_record(tmp_path: Path) -> Iterator[Record]:
    """An open record without users."""
    record = open_record(tmp_path)
    yield record
    record.close()


@pytest.fixture
def record(empty_record: Record) -> Record:
    """An open record with two users, ada (1) and bob (2)."""
    add_test_user(empty_record, "ada")
    add_test_user(empty_record, "bob")
    return empty_record


@pytest.fixture
def connection(record: Record) -> Iterator[Connection]:
    """A transaction that sees its own changes and is undone at the end."""
    with record._writing.connect() as connection:
        yield connection


@pytest.fixture(scope="session")
def influxd_binary() -> str:
    """The binary; without it the test is skipped, or fails where CI demands it."""
    return find_program("influxd")


@pytest.fixture(scope="session")
def influxd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Influxd]:
    """A running influxd for all tests; who stops it starts it again."""
    with Influxd(tmp_path_factory.mktemp("influxd")) as server:
        yield server


@pytest.fixture(scope="session")
def chromium_binary() -> str:
    """The binary; without it the test is skipped, or fails where CI demands it."""
    return find_program("chromium")


@pytest.fixture(scope="module")
def chromium(chromium_binary: str) -> Iterator[Browser]:
    """A running Chromium; `watched_page` opens pages in it."""
    with running(chromium_binary) as browser:
        yield browser


@pytest.fixture
def influx_target(influxd: Influxd) -> InfluxTarget:
    """A database of this test's own, which does not exist yet, in the shared influxd."""
    return InfluxTarget(url=influxd.url, database=f"test_{uuid.uuid4().hex}")


@pytest.fixture(scope="session")
def live_kapacitord(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a real Kapacitor for all tests; who uses it empties it first."""
    folder = tmp_path_factory.mktemp("kapacitord")
    (folder / "load").mkdir()
    with Kapacitord(folder / "server", folder / "load") as server:
        yield local_url(server.port)


@pytest.fixture(scope="session")
def live_resources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that the real Chronograf reads files from."""
    return tmp_path_factory.mktemp("resources")


@pytest.fixture(scope="session")
def live_chronograf(
    tmp_path_factory: pytest.TempPathFactory, live_resources: Path
) -> Iterator[str]:
    """The address of a real Chronograf for all tests; who uses it empties it first."""
    with Chronograf(tmp_path_factory.mktemp("chronograf"), live_resources) as server:
        yield local_url(server.port)


@pytest.fixture(params=["stand-in", "real"])
def is_real(request: pytest.FixtureRequest) -> bool:
    """Whether the servers to compare with are real ones."""
    return bool(request.param == "real")


@pytest.fixture
def kapacitor_url(request: pytest.FixtureRequest, *, is_real: bool) -> Iterator[str]:
    """The address of an empty Kapacitor: a stand-in, which is always there, and a real one."""
    if is_real:
        url: str = request.getfixturevalue("live_kapacitord")
        empty(url)
        yield url
    else:
        with HttpServer(FakeKapacitor()) as server:
            yield server.url


@pytest.fixture
def chronograf_url(
    request: pytest.FixtureRequest, live_resources: Path, *, is_real: bool
) -> Iterator[str]:
    """The address of an empty Chronograf: a stand-in, which is always there, and a real one."""
    if is_real:
        url: str = request.getfixturevalue("live_chronograf")
        without_dashboards(url, live_resources)
        yield url
    else:
        for place in live_resources.iterdir():
            place.unlink()
        with HttpServer(FakeChronograf(live_resources)) as server:
            yield server.url


@pytest.fixture(scope="session", autouse=True)
def cost_of_passwords() -> Mapping[str, int]:
    """The cost of a hash by default; from now on it is the least there is, but for `real_cost`."""
    by_default = cast("dict[str, int]", Argon2Hasher.__init__.__kwdefaults__)
    before = {**by_default}
    by_default |= {"memory_kib": 8, "passes": 1}
    return before


@pytest.fixture
def real_cost(cost_of_passwords: Mapping[str, int], monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a hash cost what it costs by default."""
    for name, cost in cost_of_passwords.items():
        monkeypatch.setitem(Argon2Hasher.__init__.__kwdefaults__ or {}, name, cost)


@pytest.fixture(scope="session", autouse=True)
def plain_logs() -> None:
    """Log without colours; structlog's own rendering of a traceback takes seconds."""
    renderer = structlog.dev.ConsoleRenderer(
        colors=False, exception_formatter=structlog.dev.plain_traceback
    )
    structlog.configure(processors=[structlog.processors.add_log_level, renderer])
