"""The sockets of the associations, on loopback."""

from __future__ import annotations

import asyncio
import random
import socket
from collections.abc import Awaitable, Callable
from ipaddress import IPv4Address, ip_address

import pytest
import uvloop

from ntpd_fast.client import kernelstamps
from ntpd_fast.client.packet import IPAddress
from ntpd_fast.client.poller import Poller, PollerOptions
from ntpd_fast.client.stamps import Stamp, StampSource
from ntpd_fast.client.transport import Channel
from ntpd_fast.clock.drivers.null import NullDriver
from ntpd_fast.clock.local import LocalClock
from ntpd_fast.config.loader import parse_lines
from ntpd_fast.system.messages import Severity
from ntpd_fast.system.timers import AsyncioScheduler

REQUEST = bytes(range(48))
ADDRESS = IPv4Address("127.0.0.1")


class Receiver:
    """Keeps what a channel delivers."""

    def __init__(self) -> None:
        self.received: list[tuple[bytes, Stamp, IPAddress | None]] = []
        self.left: list[tuple[bytes, Stamp]] = []

    def receive(self, data: bytes, rx: Stamp, local_address: IPAddress | None) -> None:
        self.received.append((data, rx, local_address))

    def improve_tx_stamp(self, data: bytes, stamp: Stamp) -> None:
        self.left.append((data, stamp))


class Shifted(AsyncioScheduler):
    """A system clock that the kernel's timestamps don't agree with."""

    shift_ns = 0

    def raw_ns(self) -> int:
        return super().raw_ns() + self.shift_ns


class Bench:
    def __init__(self, options: PollerOptions, shift_ns: int) -> None:
        loop = asyncio.get_running_loop()
        self.logged: list[str] = []
        self.scheduler = Shifted(loop, random.Random(1))
        self.scheduler.shift_ns = shift_ns
        self.clock = LocalClock(NullDriver(), self.scheduler, precision_s=1e-7, log=self.log)
        self.poller = Poller(loop, self.clock, options, self.log)
        self.receiver = Receiver()
        self.server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.server.bind(("127.0.0.1", 0))
        self.port: int = self.server.getsockname()[1]

    def log(self, severity: Severity, text: str) -> None:
        self.logged.append(text)

    async def until(self, done: Callable[[], bool]) -> None:
        async with asyncio.timeout(5.0):
            while not done():
                await asyncio.sleep(0.005)

    async def ask_until(self, done: Callable[[], bool]) -> None:
        """Ask again and again: the kernel begins to stamp received packets a little after it was told to."""
        for _ in range(20):
            self.receiver.received.clear()
            channel = self.poller.open(ADDRESS, self.port, self.receiver, symmetric=False)
            assert channel is not None
            channel.send(lambda _: REQUEST)
            await self.answered()
            channel.close()
            if done():
                return
        pytest.fail("no kernel timestamp of 20 packets")

    async def answered(self) -> None:
        """The server has got a request and its answer has come."""
        data, client = self.server.recvfrom(100)
        self.server.sendto(data[::-1], client)
        await self.until(lambda: bool(self.receiver.received))


def run(scenario: Callable[[Bench], Awaitable[None]], options: PollerOptions | None = None, shift_ns: int = 0) -> Bench:
    async def main() -> Bench:
        bench = Bench(options or PollerOptions(), shift_ns)
        try:
            await scenario(bench)
        finally:
            bench.poller.close()
            bench.scheduler.close()
            bench.server.close()
        return bench

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(main())


def test_request_and_answer_have_kernel_timestamps() -> None:
    async def scenario(bench: Bench) -> None:
        channel = bench.poller.open(ADDRESS, bench.port, bench.receiver, symmetric=False)
        assert channel is not None
        times: list[int] = []
        stamp = channel.send(lambda cooked_ns: times.append(cooked_ns) or REQUEST)
        assert stamp is not None
        assert stamp.source is StampSource.DAEMON
        assert 0 <= stamp.cooked_ns - times[0] < 1_000_000_000
        await bench.answered()
        (left,) = bench.receiver.left
        assert left[0] == REQUEST
        assert left[1].source is StampSource.KERNEL
        assert 0 <= left[1].cooked_ns - stamp.cooked_ns < 1_000_000_000
        ((data, rx, local),) = bench.receiver.received
        assert data == REQUEST[::-1]
        assert local == ADDRESS
        assert rx.cooked_ns >= left[1].cooked_ns
        channel.close()
        channel.close()

    run(scenario)


def test_each_request_has_a_port_of_its_own_and_a_bound() -> None:
    async def scenario(bench: Bench) -> None:
        channels = [bench.poller.open(ADDRESS, bench.port + i, bench.receiver, symmetric=False) for i in range(3)]
        assert channels[2] is None
        assert bench.poller.counters.table_full == 1
        assert channels[0] is not None
        channels[0].close()
        assert bench.poller.open(ADDRESS, bench.port, bench.receiver, symmetric=False) is not None
        assert bench.poller.counters.opened == 3

    run(scenario, PollerOptions(max_sockets=2))


def test_nothing_comes_after_closing() -> None:
    async def scenario(bench: Bench) -> None:
        channel = bench.poller.open(ADDRESS, bench.port, bench.receiver, symmetric=False)
        assert channel is not None
        channel.send(lambda _: REQUEST)
        channel.close()
        data, client = bench.server.recvfrom(100)
        bench.server.sendto(data, client)
        await asyncio.sleep(0.05)
        assert bench.receiver.received == []

    run(scenario)


def test_packets_that_cannot_be_made_are_not_sent() -> None:
    async def scenario(bench: Bench) -> None:
        channel = bench.poller.open(ADDRESS, bench.port, bench.receiver, symmetric=False)
        assert channel is not None
        assert channel.send(lambda _: None) is None
        bench.server.setblocking(False)
        with pytest.raises(BlockingIOError):
            bench.server.recvfrom(100)

    run(scenario)


def test_short_datagrams_are_counted_and_dropped() -> None:
    async def scenario(bench: Bench) -> None:
        channel = bench.poller.open(ADDRESS, bench.port, bench.receiver, symmetric=False)
        assert channel is not None
        channel.send(lambda _: REQUEST)
        _, client = bench.server.recvfrom(100)
        bench.server.sendto(b"", client)
        bench.server.sendto(REQUEST[:47], client)
        await bench.until(lambda: bench.poller.counters.unmatched == 2)
        assert bench.receiver.received == []

    run(scenario)


def test_timestamps_far_from_our_clock_are_not_believed() -> None:
    async def scenario(bench: Bench) -> None:
        await bench.ask_until(lambda: bench.poller.counters.foreign_stamps > 0)
        assert bench.receiver.received[0][1].source is StampSource.DAEMON

    run(scenario, shift_ns=5_000_000_000)


def test_kernel_without_transmit_timestamps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernelstamps, "enable", lambda sock: False)

    async def scenario(bench: Bench) -> None:
        await bench.ask_until(lambda: bench.receiver.received[0][1].source is StampSource.KERNEL)
        assert bench.receiver.left == []
        assert bench.logged == ["Kernel transmit timestamps are not available"]

    run(scenario)


def test_kernel_without_any_timestamps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernelstamps, "enable", lambda sock: False)
    monkeypatch.setattr(kernelstamps, "enable_rx", lambda sock: False)

    async def scenario(bench: Bench) -> None:
        channel = bench.poller.open(ADDRESS, bench.port, bench.receiver, symmetric=False)
        assert channel is not None
        channel.send(lambda _: REQUEST)
        await bench.answered()
        assert bench.receiver.received[0][1].source is StampSource.DAEMON
        assert len(bench.logged) == 2

    run(scenario)


def test_shared_socket_tells_servers_apart() -> None:
    async def scenario(bench: Bench) -> None:
        other = Receiver()
        one = bench.poller.open(ADDRESS, bench.port, bench.receiver, symmetric=False)
        two = bench.poller.open(ADDRESS, bench.port + 1, other, symmetric=False)
        assert one is not None
        assert two is not None
        assert bench.poller.counters.opened == 1
        one.send(lambda _: REQUEST)
        await bench.answered()
        assert other.received == []
        assert bench.receiver.received[0][2] == ADDRESS
        assert bench.receiver.left[0][1].source is StampSource.KERNEL
        # a stranger who knows the port
        one.send(lambda _: REQUEST)
        _, client = bench.server.recvfrom(100)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
            stranger.sendto(REQUEST, client)
            await bench.until(lambda: bench.poller.counters.unmatched == 1)
        one.close()
        assert bench.poller.open(ADDRESS, bench.port, bench.receiver, symmetric=False) is not None
        assert bench.poller.counters.opened == 1

    run(scenario, PollerOptions(acquisition_port=0))


def test_acquisition_port_of_a_server_without_a_socket_is_shared() -> None:
    async def scenario(bench: Bench) -> None:
        assert bench.poller.open(ADDRESS, bench.port, bench.receiver, symmetric=False) is not None
        assert bench.poller.counters.opened == 1

    run(scenario, PollerOptions(acquisition_port=0, server_port=0))


def test_acquisition_port_that_is_taken_is_told() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("0.0.0.0", 0))
        port = taken.getsockname()[1]

        async def scenario(bench: Bench) -> None:
            assert bench.poller.open(ADDRESS, bench.port, bench.receiver, symmetric=False) is None
            assert bench.poller.counters.open_errors == 1
            assert bench.logged == [f"Could not open NTP socket on port {port} : Address already in use"]

        run(scenario, PollerOptions(acquisition_port=port))


def test_peers_use_the_servers_socket() -> None:
    async def scenario(bench: Bench) -> None:
        for _ in range(2):
            assert bench.poller.open(ADDRESS, bench.port, bench.receiver, symmetric=True) is None
        assert bench.logged == ["Could not send to peer 127.0.0.1 : no server socket to send from"]
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as own:
            own.bind(("127.0.0.1", 0))
            bench.poller.attach_server_socket(own)
            channel = bench.poller.open(ADDRESS, bench.port, bench.receiver, symmetric=True)
            assert channel is not None
            assert channel.send(lambda _: REQUEST) is not None
            _, sender = bench.server.recvfrom(100)
            assert sender == own.getsockname()
            await bench.until(lambda: bool(bench.receiver.left))
            channel.close()
            assert own.fileno() >= 0
            bench.poller.detach_server_socket(own)

    run(scenario)


def test_a_peer_goes_on_with_another_socket_when_its_own_goes() -> None:
    """127.0.0.1 is the address that this machine sends from to itself, so the socket bound to it is the right one."""

    async def scenario(bench: Bench) -> None:
        def sender(channel: Channel) -> tuple[str, int]:
            channel.send(lambda _: REQUEST)
            address: tuple[str, int] = bench.server.recvfrom(100)[1]
            return address

        right, second, third = (socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(3))
        with right, second, third:
            for own, address in ((right, "127.0.0.1"), (second, "127.0.0.2"), (third, "127.0.0.3")):
                own.bind((address, 0))
            bench.poller.attach_server_socket(second)
            bench.poller.attach_server_socket(third)
            channel = bench.poller.open(ADDRESS, bench.port, bench.receiver, symmetric=True)
            assert channel is not None
            assert sender(channel) == second.getsockname()
            await bench.until(lambda: len(bench.receiver.left) == 1)
            bench.poller.attach_server_socket(right)
            assert sender(channel) == right.getsockname()
            await bench.until(lambda: len(bench.receiver.left) == 2)
            bench.poller.detach_server_socket(right)
            assert sender(channel) == second.getsockname()
            bench.poller.detach_server_socket(second)
            assert sender(channel) == third.getsockname()
            bench.poller.detach_server_socket(third)
            third.close()
            assert channel.send(lambda _: REQUEST) is None
            assert bench.poller.counters.send_errors == 1
            bench.poller.attach_server_socket(right)
            assert sender(channel) == right.getsockname()
            channel.close()
            bench.poller.detach_server_socket(right)

    run(scenario)


def test_bound_address_and_priority() -> None:
    async def scenario(bench: Bench) -> None:
        channel = bench.poller.open(ADDRESS, bench.port, bench.receiver, symmetric=False)
        assert channel is not None
        channel.send(lambda _: REQUEST)
        _, sender = bench.server.recvfrom(100)
        assert sender[0] == "127.0.0.5"

    run(scenario, PollerOptions(bind_ipv4=IPv4Address("127.0.0.5"), dscp=46))


def test_impossible_bindings_are_counted() -> None:
    async def scenario(bench: Bench) -> None:
        assert bench.poller.open(ADDRESS, bench.port, bench.receiver, symmetric=False) is None
        assert bench.poller.counters.open_errors == 1
        assert not bench.poller.can_reach(ADDRESS, bench.port)

    run(scenario, PollerOptions(bind_ipv4=IPv4Address("192.0.2.1")))
    run(scenario, PollerOptions(bind_device="nosuchdevice0"))


def test_routes() -> None:
    async def scenario(bench: Bench) -> None:
        assert bench.poller.can_reach(ADDRESS, 123)
        assert bench.poller.can_reach(ip_address("::1"), 123)
        # multicast and the like can't be connected to everywhere; an address of no use can't anywhere
        assert not bench.poller.can_reach(ip_address("255.255.255.255"), 123)

    run(scenario)


def test_options_of_the_configuration() -> None:
    config = parse_lines(
        ["acquisitionport 1123", "port 2123", "bindacqaddress 127.0.0.2", "bindacqdevice lo", "dscp 48"]
    )
    assert PollerOptions.from_config(config) == PollerOptions(
        acquisition_port=1123,
        server_port=2123,
        bind_ipv4=IPv4Address("127.0.0.2"),
        bind_device="lo",
        dscp=48,
    )
