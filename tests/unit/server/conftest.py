"""Key exchange on loopback: certificates, event loops, a running server."""

import asyncio
import contextlib
import socket

import pytest
import uvloop

from ntpd_fast.server.ntske_loop import new_event_loop
from ntpd_fast.server.ntske_server import NtsKeServer
from ntpd_fast.server.ntske_session import KeService
from tests.pki import Authority
from tests.tls_peers import server_credentials
from tests.unit.server.ntske import SIV, Lines, filled_ring


@pytest.fixture(scope="module")
def authority():
    return Authority()


@pytest.fixture(scope="module")
def pair(authority):
    return authority.issue("ntp.example.test")


@pytest.fixture(params=["asyncio", "uvloop", "its own"])
def loop_and_selector(request):
    if request.param == "its own":
        loop, selector = new_event_loop()
    else:
        loop, selector = asyncio.new_event_loop() if request.param == "asyncio" else uvloop.new_event_loop(), None
    yield loop, selector
    loop.close()


@pytest.fixture
def loop(loop_and_selector):
    return loop_and_selector[0]


@pytest.fixture
def log():
    return Lines()


@pytest.fixture
def start(loop_and_selector, pair, log):
    """Start a server; (server, port)."""
    loop, selector = loop_and_selector
    with contextlib.ExitStack() as stack:

        def starter(ring=None, **options):
            listener = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=1024))
            service = KeService(server_credentials(pair), ring or filled_ring(), (SIV,))
            server = NtsKeServer(
                loop, [listener], service, log, **{"connections_max": 10, "selector": selector} | options
            )
            server.start()
            stack.callback(server.stop)
            return server, listener.getsockname()[1]

        yield starter
