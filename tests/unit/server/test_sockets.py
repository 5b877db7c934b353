"""Opening of NTP sockets and steering of clients to workers, with real sockets on ports of our own."""

import contextlib
import ipaddress
import logging
import random
import select
import socket

import pytest

from ntpd_fast.server import sockets as under_test
from ntpd_fast.server.sockets import BindAddress, NtpSockets, SocketOptions, open_sockets
from ntpd_fast.server.steering import Steering
from ntpd_fast.system.errors import FatalError
from ntpd_fast.system.listen_fds import HandedOver
from tests.netns import in_network_namespace, ip

SALTS = (0x12345678, 0x9ABCDEF0)
IPV6_FREEBIND = 78
IPV4, IPV6 = socket.AF_INET, socket.AF_INET6


def free_port(family=IPV4):
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1" if family == IPV4 else "::1", 0))
        return probe.getsockname()[1]


@pytest.fixture
def opening():
    """`open_sockets`, closed again at the end."""
    opened = []

    def open_some(wanted, workers, options=None, **more):
        opened.append(open_sockets(wanted, workers, options or SocketOptions(), salts=SALTS, **more))
        return opened[-1]

    yield open_some
    for sockets in opened:
        sockets.close()


def receivers(sockets: NtpSockets) -> list[int]:
    """Indices (0: control's) of the sockets of the first group that hold a packet, one entry a packet."""
    group = sockets.groups[0]
    hits = []
    for index, member in enumerate([group.control, *group.workers]):
        while member is not None and select.select([member], [], [], 0)[0]:
            member.recv(1024)
            hits.append(index)
    return hits


def send_from(address: str, port: int, to: str = "127.0.0.1", source_port: int = 0) -> None:
    with socket.socket(IPV6 if ":" in address else IPV4, socket.SOCK_DGRAM) as client:
        if ":" in address:
            client.setsockopt(socket.IPPROTO_IPV6, IPV6_FREEBIND, 1)
        client.bind((address, source_port))
        client.sendto(b"?" * 48, (to, port))


def test_client_keeps_its_worker_across_source_ports(opening):
    port = free_port()
    sockets = opening([BindAddress.any(IPV4, port)], 2)
    for _ in range(200):
        send_from("127.0.0.1", port)
    hits = receivers(sockets)
    assert len(hits) == 200
    assert set(hits) == {Steering(SALTS).index(ipaddress.ip_address("127.0.0.1"), 2)}


def test_kernel_and_python_steer_the_same(opening):
    port = free_port()
    sockets = opening([BindAddress.any(IPV4, port)], 3)
    chooser = random.Random(5)
    for _ in range(300):
        address = ipaddress.ip_address(0x7F000001 + chooser.randrange(1 << 23))
        send_from(str(address), port)
        assert receivers(sockets) == [Steering(SALTS).index(address, 3)]


def test_addresses_of_one_ipv6_network_share_a_worker():
    def steer() -> list[tuple[list[int], list[int]]]:
        ip("-6", "route", "add", "local", "2001:db8::/32", "dev", "lo")
        sockets = open_sockets([BindAddress.any(IPV6, 123)], 2, SocketOptions(), salts=SALTS)
        chooser = random.Random(6)
        results = []
        for network in range(8):
            base = int(ipaddress.ip_address("2001:db8::")) + (chooser.getrandbits(32) << 64)
            for _ in range(200 if network == 0 else 10):
                send_from(str(ipaddress.ip_address(base + 1 + chooser.getrandbits(63))), 123, "2001:db8::1")
            results.append((receivers(sockets), [Steering(SALTS).index(ipaddress.ip_address(base), 2)]))
        return results

    results = in_network_namespace(steer)
    assert len(results[0][0]) == 200
    for hits, expected in results:
        assert set(hits) == set(expected)
    assert {expected[0] for _, expected in results} == {1, 2}


def test_mapped_address_is_steered_like_its_ipv4_address():
    """A dual-stack socket handed over by the service manager sees IPv4 packets."""
    port = free_port()
    group = []
    for _ in range(3):
        member = socket.socket(IPV6, socket.SOCK_DGRAM)
        member.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        member.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        member.bind(("::", port))
        group.append(member)
    steering = Steering(SALTS, base=0)
    steering.attach(group[0], 3)
    for last in range(1, 40):
        send_from(f"127.0.0.{last}", port)
        expected = steering.index(ipaddress.ip_address(f"127.0.0.{last}"), 3)
        assert select.select(group, [], [], 1)[0] == [group[expected]]
        group[expected].recv(100)
    for member in group:
        member.close()


def test_salts_move_clients_and_load_is_even():
    one, other = Steering((1, 2)), Steering((3, 4))
    addresses = [ipaddress.ip_address(0x0A000000 + number) for number in range(4000)]
    counts = [0] * 4
    moved = 0
    for address in addresses:
        counts[one.index(address, 4) - 1] += 1
        moved += one.index(address, 4) != other.index(address, 4)
    assert min(counts) > 850
    assert max(counts) < 1150
    assert 2700 < moved < 3300


def test_growing_and_shrinking_move_clients_between_living_sockets_only(opening):
    port = free_port()
    sockets = opening([BindAddress.any(IPV4, port)], 1)
    addresses = [f"127.0.1.{last}" for last in range(1, 60)]

    def workers_in_use() -> set[int]:
        for address in addresses:
            send_from(address, port)
        hits = receivers(sockets)
        assert len(hits) == len(addresses)
        return set(hits)

    assert workers_in_use() == {1}
    sockets.fill(3)
    assert sockets.workers == 3
    assert workers_in_use() == {1}
    sockets.steer_to(3)
    assert workers_in_use() == {1, 2, 3}
    sockets.steer_to(2)
    assert workers_in_use() == {1, 2}
    sockets.drop_last()
    assert workers_in_use() == {1, 2}


def test_port_in_use_is_seen_and_nothing_is_left_open(opening):
    port = free_port()
    opening([BindAddress.any(IPV4, port)], 2)
    with pytest.raises(FatalError, match=rf"^Could not open NTP socket on 0\.0\.0\.0:{port} : Address already in use$"):
        open_sockets([BindAddress.any(IPV4, port)], 2, SocketOptions())


def test_a_port_shared_by_reuseport_is_in_use(opening):
    with socket.socket(IPV4, socket.SOCK_DGRAM) as chronyd:
        chronyd.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        chronyd.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        chronyd.bind(("0.0.0.0", 0))
        with pytest.raises(FatalError, match="Address already in use"):
            open_sockets([BindAddress.any(IPV4, chronyd.getsockname()[1])], 2, SocketOptions())


def test_one_missing_family_is_a_log_line(opening, caplog):
    port = free_port()
    with socket.socket(IPV6, socket.SOCK_DGRAM) as other:
        other.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        other.bind(("::", port))
        sockets = opening([BindAddress.any(IPV4, port), BindAddress.any(IPV6, port)], 1)
    assert [group.bind.family for group in sockets.groups] == [IPV4]
    assert caplog.messages == [f"Could not open NTP socket on [::]:{port} : Address already in use"]


def test_options_of_every_socket(opening):
    port = free_port(IPV6)
    sockets = opening(
        [BindAddress.any(IPV4, port), BindAddress.any(IPV6, port)], 2, SocketOptions(dscp=46, device=None)
    )
    members = [(group.bind.family, s) for group in sockets.groups for s in [group.control, *group.workers]]
    assert len(members) == 6
    for family, member in members:
        level = socket.IPPROTO_IP if family == IPV4 else socket.IPPROTO_IPV6
        names = (8, 10, 15, socket.IP_TOS) if family == IPV4 else (socket.IPV6_RECVPKTINFO, 23, 78, socket.IPV6_TCLASS)
        assert [member.getsockopt(level, name) for name in names] == [1, 3, 1, 46 << 2]
        assert member.getsockopt(socket.SOL_SOCKET, 37) == 0x18
        assert member.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) == under_test.RECEIVE_BUFFER_BYTES == 1 << 20
        assert not member.getblocking()
        assert not member.get_inheritable()


def test_sockets_of_a_device_get_only_what_comes_by_it():
    def receive() -> dict[str, list[int]]:
        ip("link", "add", "other0", "type", "veth", "peer", "name", "other1")
        ip("addr", "add", "192.0.2.1/24", "dev", "other0")
        ip("link", "set", "other0", "up")
        found: dict[str, list[int]] = {}
        for device in ("lo", "other0"):
            sockets = open_sockets([BindAddress.any(IPV4, 123)], 2, SocketOptions(device=device), salts=SALTS)
            found[device] = []
            # to the kernel, what a machine sends to an address of its own comes by the device of that address
            for to in ("127.0.0.1", "192.0.2.1"):
                send_from("127.0.0.9", 123, to)
                found[device].append(len(receivers(sockets)))
            sockets.close()
        return found

    assert in_network_namespace(receive) == {"lo": [1, 0], "other0": [0, 1]}


def test_device_that_does_not_exist_is_told():
    with pytest.raises(FatalError, match=r"Could not open NTP socket on .* : No such device"):
        open_sockets([BindAddress.any(IPV4, free_port())], 1, SocketOptions(device="nosuchdevice0"))


def test_limited_receive_buffer_is_told_once(opening, caplog, monkeypatch):
    monkeypatch.setattr(under_test, "_SO_RCVBUFFORCE", socket.SO_RCVBUF)
    too_much = 1 << 30
    opening([BindAddress.any(IPV4, free_port())], 2, SocketOptions(receive_buffer_bytes=too_much))
    assert len(caplog.messages) == 1
    assert caplog.messages[0].startswith("Receive buffer of NTP sockets limited to ")


def test_refused_option_is_told_once_and_done_without(opening, caplog, monkeypatch):
    monkeypatch.setattr(under_test, "_IP_FREEBIND", 9999)
    sockets = opening([BindAddress.any(IPV4, free_port())], 3)
    assert sockets.workers == 3
    assert caplog.messages == ["Could not set FREEBIND on NTP socket : Protocol not available"]


def test_packets_before_steering_do_not_wait_in_controls_socket(opening):
    port = free_port()
    sockets = opening([BindAddress.any(IPV4, port)], 0)
    send_from("127.0.0.1", port)
    assert receivers(sockets) == [0]
    send_from("127.0.0.1", port)
    sockets.fill(1)
    sockets.steer_to(1)
    under_test._empty(sockets.groups[0])
    send_from("127.0.0.1", port)
    assert receivers(sockets) == [1]


def handed_over(port: int, count: int) -> list[socket.socket]:
    handed = []
    for _ in range(count):
        member = socket.socket(IPV4, socket.SOCK_DGRAM)
        member.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        member.bind(("0.0.0.0", port))
        handed.append(member)
    return handed


@pytest.mark.parametrize("count", [1, 3])
def test_sockets_handed_over_make_as_many_workers(opening, caplog, count):
    caplog.set_level(logging.INFO)
    port = free_port()
    given = HandedOver(handed_over(port, count))
    sockets = opening([BindAddress.any(IPV4, port)], 4, handed_over=given)
    assert sockets.workers == count
    assert sockets.for_control() == []
    assert f"for 0.0.0.0:{port}" in caplog.messages[0]
    for last in range(1, 40):
        send_from(f"127.0.0.{last}", port)
        expected = Steering(SALTS, base=0).index(ipaddress.ip_address(f"127.0.0.{last}"), count)
        assert receivers(sockets) == [expected + 1]


def test_socket_handed_over_for_something_else_is_ignored(opening, caplog):
    other = free_port()
    given = HandedOver(handed_over(other, 1))
    port = free_port()
    sockets = opening([BindAddress.any(IPV4, port)], 1, handed_over=given)
    assert len(sockets.for_control()) == 1
    given.close_rest()
    assert caplog.messages == [f"Ignored socket handed over for 0.0.0.0:{other}"]


def test_without_workers_one_socket_is_controls(opening):
    port = free_port()
    given = handed_over(port, 2)
    manager = [member.dup() for member in given]    # who hands over keeps what is handed over
    sockets = opening([BindAddress.any(IPV4, port)], 0, handed_over=HandedOver(given))
    assert len(sockets.for_control()) == 1
    assert sockets.workers == 0
    for last in range(1, 20):
        send_from(f"127.0.0.{last}", port)
    assert receivers(sockets) == [0] * 19
    for member in manager:
        member.close()


def waiting(group: under_test.Group) -> int:
    """How many datagrams wait in the sockets of a group."""
    count = 0
    for member in [group.control, *group.workers]:
        assert member is not None
        with contextlib.suppress(BlockingIOError):
            while True:
                member.recv(100)
                count += 1
    return count


def test_address_opened_beside_a_wider_one_takes_over_and_gives_back(opening):
    port = free_port()
    sockets = opening([BindAddress.any(IPV4, port)], 2)
    wide = sockets.groups[0]
    narrow = sockets.extend(BindAddress(IPV4, "127.0.0.1", port), 2)
    for last in range(1, 20):
        send_from(f"127.0.1.{last}", port)
    assert (waiting(wide), waiting(narrow)) == (0, 19)
    send_from("127.0.1.1", port)
    under_test.cut_off(sockets.take(narrow.bind))
    send_from("127.0.1.2", port)
    assert (waiting(wide), waiting(narrow)) == (1, 1)
    under_test.close_group(narrow)
    assert [group.bind for group in sockets.groups] == [wide.bind]


def test_addresses_are_opened_all_or_none(opening):
    port = free_port()
    sockets = opening([BindAddress.any(IPV4, port)], 1)
    with socket.socket(IPV4, socket.SOCK_DGRAM) as other:
        other.bind(("127.0.0.1", 0))
        taken = BindAddress(IPV4, "127.0.0.1", other.getsockname()[1])
        wanted = [BindAddress.any(IPV4, port), BindAddress(IPV4, "127.0.0.2", port), taken]
        refused = r"Could not open NTP socket on 127\.0\.0\.1:\d+ : Address already in use$"
        with pytest.raises(OSError, match=refused):
            sockets.open_all(wanted, 1)
    assert [group.bind for group in sockets.groups] == [BindAddress.any(IPV4, port)]
    assert [group.bind.address for group in sockets.open_all(wanted[:2], 1)] == ["127.0.0.2"]
