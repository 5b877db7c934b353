"""Broadcasts go out as configured, MS-SNTP answers come back signed by whoever plays Samba, keys are read again."""

import hashlib
import socket
import struct
import threading
import time
from pathlib import Path

import pytest

from tests.daemon import Daemon, free_port, running
from tests.processes import wait_until

# the second is the one this machine sends from to itself
BOUND = ["bindaddress 127.0.0.2", "bindaddress 127.0.0.1"]


@pytest.mark.parametrize(
    ("address", "interval_s", "poll", "workers", "bound"),
    [("127.0.0.1", 1, 0, 0, []), ("127.0.0.1", 3, 2, 1, []), ("::1", 1, 0, 1, []), ("127.0.0.1", 1, 0, 1, BOUND)],
)
def test_a_broadcast_is_heard(address: str, interval_s: int, poll: int, workers: int, bound: list[str]) -> None:
    """Poll is the interval's nearest power of two, as chronyd has it."""
    port = free_port()
    with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM) as listener:
        listener.bind((address, port))
        listener.settimeout(10)
        options = ("-n",) if workers else ("-d",)
        lines = [f"broadcast {interval_s} {address} {port}", f"workers {workers}", *bound]
        with running(lines, options=options) as daemon:
            packets = []
            for _ in range(2):
                packet, sender = listener.recvfrom(2000)
                assert sender[:2] == (address, daemon.port)
                packets.append((packet, time.time()))
    for packet, heard_s in packets:
        assert len(packet) == 48
        assert packet[0] == 4 << 3 | 5
        assert (packet[1], packet[2]) == (10, poll)
        assert packet[24:40] == bytes(16)
        assert abs(struct.unpack_from("!I", packet, 40)[0] - 2208988800 - heard_s) < 2


def test_a_broadcast_that_cannot_be_sent_is_told() -> None:
    with running([f"broadcast 1 127.0.0.1 {free_port()}", "port 0"]) as daemon:
        wait_until(lambda: "Could not broadcast to 127.0.0.1 : no server socket to send from" in daemon.log, "a line")


def play_samba(path: Path, seen: list[bytes], ready: threading.Event) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path / "socket"))
        listener.listen()
        listener.settimeout(20)
        ready.set()
        connection, _ = listener.accept()
        with connection:
            connection.settimeout(20)
            request = connection.recv(1000)
            seen.append(request)
            answer = request[20:] + request[16:20] + b"S" * 16
            packet_id = struct.unpack_from(">H", request, 12)[0]
            body = struct.pack(">III", 0, 3, packet_id) + answer
            connection.sendall(struct.pack(">I", len(body)) + body)


@pytest.mark.parametrize(
    ("workers", "asked", "answered", "bound"),
    [(0, 3, 4, []), (1, 3, 4, []), (1, 1, 2, []), (0, 3, 4, BOUND), (1, 3, 4, BOUND)],
)
def test_a_domain_client_gets_a_signed_answer(
    workers: int, asked: int, answered: int, bound: list[str], tmp_path: Path
) -> None:
    seen: list[bytes] = []
    ready = threading.Event()
    samba = threading.Thread(target=play_samba, args=(tmp_path, seen, ready))
    samba.start()
    ready.wait(10)
    lines = [f"ntpsigndsocket {tmp_path}", f"workers {workers}", *bound]
    with running(lines, options=("-n",) if workers else ("-d",)) as daemon:
        request = bytes([3 << 3 | asked, 0, 6, 32]) + bytes(36) + bytes(range(1, 9))
        request += struct.pack("<I", 0x1020304) + bytes(16)
        with socket.socket(type=socket.SOCK_DGRAM) as client:
            client.settimeout(10)
            client.sendto(request, ("127.0.0.1", daemon.port))
            try:
                answer, sender = client.recvfrom(2000)
            except TimeoutError:
                raise AssertionError(f"{seen}\n{daemon.log}") from None
    samba.join()
    assert sender == ("127.0.0.1", daemon.port)
    assert len(answer) == 68
    assert answer[0] & 0x3F == 3 << 3 | answered
    assert answer[24:32] == request[40:48]
    assert answer[48:52] == struct.pack("<I", 0x1020304)
    assert answer[52:] == b"S" * 16
    assert seen[0][20:] == answer[:48]


def accepts(daemon: Daemon, key: bytes, client: str) -> bool:
    """Whether a request with key 1 is answered, and with the same key; a dropped one is known by what comes after."""
    request = bytes([4 << 3 | 3, 0, 6, 32]) + bytes(36) + b"nonce 01"
    signed = request + struct.pack("!I", 1) + hashlib.sha1(key + request, usedforsecurity=False).digest()
    with socket.socket(type=socket.SOCK_DGRAM) as sock:
        sock.bind((client, 0))
        sock.settimeout(10)
        sock.sendto(signed, ("127.0.0.1", daemon.port))
        sock.sendto(request, ("127.0.0.1", daemon.port))
        answer = sock.recv(2000)
    if len(answer) == 48:
        return False
    assert answer[48:] == struct.pack("!I", 1) + hashlib.sha1(key + answer[:48], usedforsecurity=False).digest()
    return True


@pytest.mark.parametrize("workers", [0, 2])
def test_keys_read_again_are_those_of_every_worker(workers: int, tmp_path: Path) -> None:
    clients = [f"127.0.0.{number}" for number in range(1, 9)]
    old, new = b"o" * 20, b"n" * 20
    keyfile = tmp_path / "keys"
    keyfile.write_text(f"1 SHA1 HEX:{old.hex()}\n")
    keyfile.chmod(0o600)
    lines = [f"keyfile {keyfile}", f"workers {workers}"]
    with running(lines, options=("-n",) if workers else ("-d",)) as daemon:
        assert all(accepts(daemon, old, client) and not accepts(daemon, new, client) for client in clients)
        keyfile.write_text(f"1 SHA1 HEX:{new.hex()}\n")
        assert all(accepts(daemon, old, client) for client in clients)
        assert daemon.chronyc("rekey") == "200 OK\n"
        wait_until(lambda: all(accepts(daemon, new, client) for client in clients), "the new key")
        assert not any(accepts(daemon, old, client) for client in clients)
