"""What tests of a daemon with NTS need: a key exchange with it, an authenticated request, its statistics."""

import socket

from ntpd_fast._aead import Aead
from ntpd_fast.client.ntske_client import KeExchange, KeKeys
from tests.nts_packets import COOKIE, HEADER, UID, auth_field, cookies, field
from tests.tls_peers import trusting

SIV = 15


def free_tcp_port():
    with socket.create_server(("127.0.0.1", 0)) as sock:
        return sock.getsockname()[1]


def exchange(authority, daemon, address="127.0.0.1", name="127.0.0.1"):
    """A key exchange with the daemon."""
    client = KeExchange(trusting(authority), name, [SIV], "daemon", check_times=True)
    with socket.create_connection((address, daemon.ke_port), 10) as sock:
        out = client.start()
        while client.result is None:
            sock.sendall(out)
            out = client.receive(sock.recv(16384))
    assert isinstance(client.result, KeKeys), client.result
    return client.result


def answered(daemon, keys, cookie=None, timeout_s=5.0):
    """Cookies in the authenticated answer to a request; None for a NAK."""
    start = HEADER + field(UID, bytes(32)) + field(COOKIE, cookie or keys.cookies[0])
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(timeout_s)
        sock.connect(("127.0.0.1", daemon.port))
        sock.send(start + auth_field(Aead(keys.algorithm, keys.c2s), start, bytes(16)))
        answer = sock.recv(2000)
    if answer[12:16] == b"NTSN":
        return None
    assert answer[1] == 7
    return cookies(Aead(keys.algorithm, keys.s2c), answer)


def statistics(daemon):
    return {
        name.strip(): value.strip()
        for name, _, value in (line.partition(":") for line in daemon.chronyc("serverstats").splitlines())
    }
