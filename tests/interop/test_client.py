"""Our client engine through its real sockets against Debian's chronyd on loopback, both without the clock."""

from __future__ import annotations

import asyncio
import random
import select
import socket
from collections.abc import Callable, Mapping
from ipaddress import ip_address
from pathlib import Path

import pytest
import uvloop

from ntpd_fast.client import kernelstamps
from ntpd_fast.client.actions import MeasurementRecord
from ntpd_fast.client.logs import format_tests
from ntpd_fast.client.ntpsource import NtpSource
from ntpd_fast.client.packet import Mode
from ntpd_fast.client.poller import Poller, PollerOptions
from ntpd_fast.client.sources import Sources, SourcesHooks, key_authenticators
from ntpd_fast.client.stamps import Stamp, StampSource
from ntpd_fast.clock.drivers.null import NullDriver
from ntpd_fast.clock.local import LocalClock
from ntpd_fast.clock.reference import Reference, ReferenceOptions
from ntpd_fast.config.keyfile import SymmetricKey, read_keyfile
from ntpd_fast.config.loader import parse_lines
from ntpd_fast.system.messages import Severity
from ntpd_fast.system.timers import AsyncioScheduler
from tests.interop.chronyd import chronyd_path, free_port, running

pytestmark = pytest.mark.skipif(chronyd_path() is None, reason="chronyd is not installed")

KEYS = """\
1 MD5 HEX:000102030405060708090A0B0C0D0E0F
2 SHA256 HEX:000102030405060708090A0B0C0D0E0F101112131415161718191A1B1C1D1E1F
3 AES128 HEX:000102030405060708090A0B0C0D0E0F
"""

PRECISION_S = 1e-7
LOOPBACK_OFFSET_S = 1e-3
"""Nothing but scheduling separates the two; a machine that is busy may take its time."""


class Client:
    """The client half of a daemon under uvloop."""

    def __init__(self, loop: asyncio.AbstractEventLoop, lines: list[str], keys: Mapping[int, SymmetricKey]) -> None:
        config = parse_lines(lines)
        rng = random.Random(1)
        self.logged: list[str] = []
        self.records: list[MeasurementRecord] = []
        self.scheduler = AsyncioScheduler(loop, rng)
        self.clock = LocalClock(NullDriver(), self.scheduler, precision_s=PRECISION_S, log=self._log)
        self.reference = Reference(self.clock, ReferenceOptions.from_config(config), log=self._log, random=rng)
        self.poller = Poller(loop, self.clock, PollerOptions.from_config(config), self._log)
        self.sources = Sources(
            self.clock,
            self.reference,
            self.poller,
            config,
            log=self._log,
            random=rng,
            authenticators=key_authenticators(keys, self._log),
            hooks=SourcesHooks(measurements=self.records.append),
        )
        for source in config.sources:
            self.sources.add(source, ip_address(source.name))

    def _log(self, severity: Severity, text: str) -> None:
        self.logged.append(text)

    def close(self) -> None:
        self.sources.close()
        self.poller.close()
        self.scheduler.close()


class ServerSocket:
    """The server's own socket, whose packets reach the peers' associations."""

    def __init__(self, client: Client, address: str, port: int) -> None:
        self.client = client
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        self.sock = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self.sock.bind((address, port))
        client.poller.attach_server_socket(self.sock)
        self.epoll = select.epoll()
        self.epoll.register(self.sock.fileno(), select.EPOLLIN)
        self.loop = asyncio.get_running_loop()
        self.loop.add_reader(self.epoll.fileno(), self.read)

    def read(self) -> None:
        if not any(events & select.EPOLLIN for _, events in self.epoll.poll(0)):
            return
        data, messages, _, sender = self.sock.recvmsg(2048, 512)
        raw_ns = kernelstamps.read_ancillary(messages).kernel_ns
        assert raw_ns is not None
        stamp = Stamp(*self.client.clock.cook(raw_ns), StampSource.KERNEL)
        local = ip_address(self.sock.getsockname()[0])
        self.client.sources.receive(ip_address(sender[0]), sender[1], data, stamp, local)

    def close(self) -> None:
        self.loop.remove_reader(self.epoll.fileno())
        self.epoll.close()
        self.client.poller.detach_server_socket(self.sock)
        self.sock.close()


def run_client(
    lines: list[str],
    done: Callable[[Client], bool],
    *,
    keys: Mapping[int, SymmetricKey] | None = None,
    server_socket: tuple[str, int] | None = None,
    loop_factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop,
    timeout_s: float = 20.0,
) -> Client:
    """Run a client until it is done; fails when that takes too long."""

    async def main() -> Client:
        client = Client(asyncio.get_running_loop(), lines, keys or {})
        own = ServerSocket(client, *server_socket) if server_socket is not None else None
        try:
            client.sources.start()
            async with asyncio.timeout(timeout_s):
                while not done(client):
                    await asyncio.sleep(0.02)
        except TimeoutError:
            pytest.fail(f"{client.logged} {[format_tests(record.tests) for record in client.records]}")
        finally:
            if own is not None:
                own.close()
            client.close()
        return client

    with asyncio.Runner(loop_factory=loop_factory) as runner:
        return runner.run(main())


def good(client: Client, count: int) -> bool:
    return sum(format_tests(record.tests) == "111 111 1111" for record in client.records) >= count


def only_source(client: Client) -> NtpSource:
    (source,) = client.sources.ntp_sources
    return source


@pytest.mark.parametrize(
    ("address", "loop_factory"), [("127.0.0.1", uvloop.new_event_loop), ("::1", asyncio.new_event_loop)]
)
def test_basic_mode(tmp_path: Path, address: str, loop_factory: Callable[[], asyncio.AbstractEventLoop]) -> None:
    with running(tmp_path, "local stratum 3", "allow") as server:
        client = run_client(
            [f"server {address} port {server.port} minpoll -3 maxpoll -3"],
            lambda c: good(c, 6),
            loop_factory=loop_factory,
        )
    source = only_source(client)
    report = source.association.report()
    assert report.last is not None
    assert format_tests(report.last.tests) == "111 111 1111"
    assert report.last.header.stratum == 3
    assert report.last.tx_source is StampSource.KERNEL
    assert report.last.rx_source is StampSource.KERNEL
    assert str(report.local_address) == address
    assert report.counts.tx == len(client.records)
    assert client.sources.selector.selected is source.selectable
    assert "Selected source " + address in client.logged
    sample = report.last.sample
    assert sample is not None
    assert abs(sample.offset_s) < LOOPBACK_OFFSET_S
    assert client.reference.synchronised


def test_interleaved_mode(tmp_path: Path) -> None:
    with running(tmp_path, "local stratum 3", "allow") as server:
        client = run_client(
            [f"server 127.0.0.1 port {server.port} minpoll -3 maxpoll -3 xleave"],
            lambda c: sum(record.interleaved for record in c.records) >= 8 and good(c, 8),
        )
    assert [record.interleaved for record in client.records[:2]] == [False, False]
    last = client.records[-1]
    assert last.interleaved
    assert format_tests(last.tests) == "111 111 1111"
    assert last.sample is not None
    assert abs(last.sample.offset_s) < LOOPBACK_OFFSET_S


@pytest.mark.parametrize("key", [1, 2])
def test_symmetric_keys(tmp_path: Path, key: int) -> None:
    keyfile = tmp_path / "keys"
    keyfile.write_text(KEYS)
    keyfile.chmod(0o600)
    with running(tmp_path, "local stratum 3", "allow", f"keyfile {keyfile}") as server:
        client = run_client(
            [f"server 127.0.0.1 port {server.port} minpoll -2 maxpoll -2 key {key}"],
            lambda c: good(c, 2),
            keys=read_keyfile(str(keyfile)).keys,
        )
    report = only_source(client).association.report()
    assert report.last is not None
    assert report.last.authenticated


def test_wrong_key_is_not_believed(tmp_path: Path) -> None:
    keyfile = tmp_path / "keys"
    keyfile.write_text(KEYS)
    keyfile.chmod(0o600)
    ours = {1: SymmetricKey(1, read_keyfile(str(keyfile)).keys[1].type, b"another secret")}
    with running(tmp_path, "local stratum 3", "allow", f"keyfile {keyfile}") as server:
        client = run_client(
            [f"server 127.0.0.1 port {server.port} minpoll 0 maxpoll 0 iburst key 1"],
            lambda c: only_source(c).association.report().counts.tx >= 3,
            keys=ours,
        )
    assert only_source(client).association.report().last is None
    assert not only_source(client).selectable.reachable


def test_acquisition_port_is_shared(tmp_path: Path) -> None:
    with running(tmp_path, "local stratum 3", "allow") as server:
        client = run_client(
            [
                "acquisitionport 0",
                f"server 127.0.0.1 port {server.port} minpoll -3 maxpoll -3",
                f"server ::1 port {server.port} minpoll -3 maxpoll -3",
            ],
            lambda c: all(s.association.report().counts.good >= 4 for s in c.sources.ntp_sources),
        )
    assert client.poller.counters.opened == 2
    for source in client.sources.ntp_sources:
        report = source.association.report()
        assert report.local_address == source.address
        assert report.last is not None
        assert report.last.tx_source is StampSource.KERNEL


def test_server_that_denies_makes_the_source_unreachable(tmp_path: Path) -> None:
    with running(tmp_path, "local stratum 3") as server:
        client = run_client(
            [f"server 127.0.0.1 port {server.port} minpoll 0 maxpoll 0 iburst"],
            lambda c: only_source(c).association.report().counts.tx >= 3,
        )
    assert only_source(client).selectable.reach == 0
    assert only_source(client).selectable.reach_size >= 2


def test_closed_port_is_counted_and_does_not_spin() -> None:
    client = run_client(
        [f"server 127.0.0.1 port {free_port()} minpoll 0 maxpoll 0"],
        lambda c: only_source(c).association.report().counts.tx >= 3,
    )
    counters = client.poller.counters
    assert 2 <= counters.receive_errors <= 4
    assert only_source(client).selectable.reach == 0


@pytest.mark.parametrize(("options", "interleaved"), [("", False), ("xleave key 3", True)])
def test_peers(tmp_path: Path, options: str, interleaved: bool) -> None:
    """chronyd and we are each other's peer; its local reference makes the time."""
    keyfile = tmp_path / "keys"
    keyfile.write_text(KEYS)
    keyfile.chmod(0o600)
    port = free_port()
    with running(
        tmp_path,
        "bindaddress 127.0.1.1",
        f"peer 127.0.1.2 port {port} minpoll -1 maxpoll -1 {options}",
        f"keyfile {keyfile}",
        "local stratum 3",
        port=port,
    ) as server:
        client = run_client(
            [f"peer 127.0.1.1 port {port} minpoll -1 maxpoll -1 {options}"],
            lambda c: sum(r.interleaved is interleaved for r in c.records) >= 4 and good(c, 5),
            keys=read_keyfile(str(keyfile)).keys,
            server_socket=("127.0.1.2", port),
            timeout_s=40.0,
        )
        theirs = server.command("ntpdata", "127.0.1.2").split(",")
    # test D fails there, as it must: we are synchronised by them
    assert theirs[23:26] == ["111", "111", "1110"]
    assert theirs[26:28] == ["Yes" if interleaved else "No", "Yes" if "key" in options else "No"]
    assert abs(float(theirs[18])) < LOOPBACK_OFFSET_S
    report = only_source(client).association.report()
    assert report.last is not None
    assert report.last.header.mode in (Mode.SYMMETRIC_ACTIVE, Mode.SYMMETRIC_PASSIVE)
    assert report.last.authenticated is ("key" in options)
    assert str(report.local_address) == "127.0.1.2"
    assert client.reference.synchronised
    measured = [r for r in client.records if r.sample is not None and r.interleaved is interleaved]
    assert measured[-1].tx_source is StampSource.KERNEL
    assert measured[-1].sample is not None
    assert abs(measured[-1].sample.offset_s) < LOOPBACK_OFFSET_S
