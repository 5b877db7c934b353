"""The NTS server of a daemon that is given another configuration."""

import asyncio
import logging
import random
import resource
import socket

import pytest
import uvloop

from ntpd_fast.config.loader import parse_lines
from ntpd_fast.control.nts import NtsServerKeys, NtsSetup, exchange_follows, exchange_here, open_nts
from ntpd_fast.control.plan import NtsPlan
from ntpd_fast.server.shared import Shared, SharedPlan
from ntpd_fast.server.sockets import BindAddress
from ntpd_fast.system.timers import AsyncioScheduler
from tests.pki import Authority

NAME = "ntp.example.test"


@pytest.fixture
def loop():
    loop = uvloop.new_event_loop()
    asyncio.set_event_loop(loop)
    yield loop
    asyncio.set_event_loop(None)
    loop.close()


def configuration(pair, directory, *lines):
    certificate, key = pair
    return parse_lines([f"ntsservercert {certificate}", f"ntsserverkey {key}", f"ntsdumpdir {directory}", *lines])


def opened(config, processes=0) -> NtsSetup:
    setup = open_nts(config, NtsPlan((BindAddress(socket.AF_INET, "127.0.0.1", 0),), processes))
    assert setup is not None
    return setup


def test_key_exchange_and_keys_follow(loop, tmp_path, caplog):
    caplog.set_level(logging.INFO)
    authority = Authority()
    first, second = (authority.issue(NAME).write(tmp_path, name) for name in ("first", "second"))
    old = configuration(first, tmp_path / "old", "maxntsconnections 10")
    new = configuration(second, tmp_path, "maxntsconnections 20", "ntsaeads 15", "ntsntpserver a.example.test")
    (tmp_path / "old").mkdir()
    nts = opened(old)
    shared = Shared.create(SharedPlan(0, nts=True))
    keys = NtsServerKeys(old, shared, AsyncioScheduler(loop, random.Random(1)), lambda: 1e9)
    ntske = exchange_here(loop, old, nts, shared)
    keys.exchange_follow = lambda config: exchange_follows(ntske, nts, config)
    before = ntske.service.credentials
    keys.follow(new)
    assert ntske.service.credentials is not before
    assert (ntske.service.algorithms, ntske.service.ntp_server) == ((15,), "a.example.test")
    assert (tmp_path / "ntskeys").read_bytes().split(b"\n")[2:] == (
        (tmp_path / "old" / "ntskeys").read_bytes().split(b"\n")[2:]
    )
    assert "Loaded other NTS server certificates" in caplog.text
    ntske.stop()
    keys.close()
    nts.close()
    shared.close_descriptors()


def test_what_later_processes_get(tmp_path, caplog):
    """The supervisor follows before it forks them."""
    authority = Authority()
    first, second = (authority.issue(NAME).write(tmp_path, name) for name in ("first", "second"))
    nts = opened(configuration(first, tmp_path), processes=2)
    before = nts.certificates.credentials
    nts.follow(configuration((tmp_path / "none.crt", tmp_path / "none.key"), tmp_path))
    assert nts.certificates.credentials is before
    assert f"{tmp_path}/none.crt : No such file or directory" in caplog.text
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (512, limit[1]))
    try:
        nts.follow(configuration(second, tmp_path, "maxntsconnections 1000"))
        assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] > 1000
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limit)
    assert nts.certificates.credentials is not before
    nts.close()
