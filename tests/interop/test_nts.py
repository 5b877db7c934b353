"""NTS with Debian's chronyd on loopback, both ways: key exchange, authenticated time, bad messages, keys."""

from __future__ import annotations

import asyncio
import os
import random
import socket
import struct
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import uvloop

from ntpd_fast._aead import Aead
from ntpd_fast._nts import KeyRing, Responder
from ntpd_fast._tls import Session, TlsError
from ntpd_fast.client.names import Names
from ntpd_fast.client.nts_sources import NtsSources
from ntpd_fast.client.ntske_client import KeClient, KeExchange, KeKeys
from ntpd_fast.client.ntske_trust import TrustStore
from ntpd_fast.client.poller import Poller, PollerOptions
from ntpd_fast.client.resolver import Resolution
from ntpd_fast.client.sources import Sources, SourcesHooks, key_authenticators
from ntpd_fast.clock.drivers.null import NullDriver
from ntpd_fast.clock.local import LocalClock
from ntpd_fast.clock.reference import Reference, ReferenceOptions
from ntpd_fast.config.loader import parse_lines
from ntpd_fast.nts.records import (
    END,
    Record,
    Refusal,
    agreement_records,
    answer_request,
    encode,
)
from ntpd_fast.server.keyring import CURRENT, parse_file
from ntpd_fast.system.messages import Severity
from ntpd_fast.system.timers import AsyncioScheduler
from tests.interop.chronyd import Chronyd, chronyd_path, free_port, running
from tests.interop.nts_server import running_server
from tests.nts_packets import COOKIE, HEADER, PLACEHOLDER, UID, auth_field, cookies, field, fields
from tests.pki import Authority, Pair
from tests.tls_peers import tls_client, trusting

pytestmark = pytest.mark.skipif(chronyd_path() is None, reason="chronyd is not installed")

SIV = 15
TIMEOUT_S = 20.0


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority()


@pytest.fixture(scope="module")
def pair(authority: Authority) -> Pair:
    return authority.issue("127.0.0.1")


def free_tcp_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        return int(sock.getsockname()[1])


@dataclass
class NtsChronyd:
    """A chronyd that serves NTS."""

    chronyd: Chronyd
    ke_port: int


@contextmanager
def nts_server(directory: Path, pair: Pair) -> Iterator[NtsChronyd]:
    """A chronyd that keeps its keys in the directory."""
    certificate, key = pair.write(directory)
    ke_port = free_tcp_port()
    with running(
        directory,
        "local stratum 3",
        "allow",
        f"ntsserverkey {key}",
        f"ntsservercert {certificate}",
        f"ntsport {ke_port}",
        f"ntsdumpdir {directory}",
    ) as chronyd:
        wait_for(lambda: accepts(ke_port))
        yield NtsChronyd(chronyd, ke_port)


@pytest.fixture
def nts_chronyd(tmp_path: Path, pair: Pair) -> Iterator[NtsChronyd]:
    with nts_server(tmp_path, pair) as server:
        yield server


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + TIMEOUT_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def accepts(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return False
    return True


def exchange(authority: Authority, ke_port: int) -> KeKeys:
    """Our client's exchange with whoever listens."""
    ours = KeExchange(trusting(authority), "127.0.0.1", [SIV], "chronyd", check_times=True)
    with socket.create_connection(("127.0.0.1", ke_port), TIMEOUT_S) as sock:
        sock.settimeout(TIMEOUT_S)
        out = ours.start()
        while ours.result is None:
            sock.sendall(out)
            out = ours.receive(sock.recv(16384))
    assert isinstance(ours.result, KeKeys)
    return ours.result


def raw_exchange(authority: Authority, ke_port: int, message: bytes) -> bytes | None:
    """What is answered to any message; None when the session just ends."""
    tls: Session = tls_client(authority, "127.0.0.1", send_name=False)
    with socket.create_connection(("127.0.0.1", ke_port), TIMEOUT_S) as sock:
        sock.settimeout(TIMEOUT_S)
        sent = False
        answer = b""
        while True:
            if tls.handshake() and not sent:
                sent = True
                tls.write(message)
            sock.sendall(tls.out())
            data = sock.recv(16384)
            tls.feed(data)
            if not sent:
                continue
            try:
                while chunk := tls.read():
                    answer += chunk
            except TlsError:
                return answer or None
            if chunk == b"":
                return answer


def record(kind: int, body: bytes = b"", critical: bool = True) -> Record:
    return Record(kind, body, critical)


PROTOCOL = record(1, b"\0\0")
OTHER_PROTOCOL = record(1, b"\0\1")
AEAD = record(4, b"\0\x0f")
UNKNOWN = record(0x4000)

# What 4.3 answers otherwise is left out: it does not know record 1024, and refuses critical records 6 and 7.
MESSAGES = [
    [PROTOCOL, AEAD],
    [AEAD, PROTOCOL],
    [],
    [AEAD],
    [PROTOCOL],
    [record(1), AEAD],
    [record(1, b"\0"), AEAD],
    [record(1, b"\0\0\0"), AEAD],
    [record(1, b"\0\0", False), AEAD],
    [PROTOCOL, PROTOCOL, AEAD],
    [PROTOCOL, OTHER_PROTOCOL, AEAD],
    [PROTOCOL, PROTOCOL, AEAD, UNKNOWN],
    [record(1, b"\0\1\0\0"), AEAD],
    [record(1, b"\0\0" * 1000), AEAD],
    [record(1, b"\0\1" * 128 + b"\0\0"), AEAD],
    [OTHER_PROTOCOL],
    [OTHER_PROTOCOL, AEAD],
    [OTHER_PROTOCOL, record(4)],
    [OTHER_PROTOCOL, AEAD, record(2, b"\0\0")],
    [OTHER_PROTOCOL, AEAD, UNKNOWN],
    [PROTOCOL, record(4)],
    [PROTOCOL, record(4, b"\0")],
    [PROTOCOL, record(4, b"\0\x0f\0")],
    [PROTOCOL, record(4, b"\0\1")],
    [PROTOCOL, record(4, b"\0\1"), record(2, b"\0\0")],
    [PROTOCOL, record(4, b"\0\x0f", False)],
    [PROTOCOL, record(4, b"\0\1" * 127 + b"\0\x0f")],
    [PROTOCOL, record(4, b"\0\1" * 128 + b"\0\x0f")],
    [PROTOCOL, AEAD, AEAD],
    [PROTOCOL, record(4, b"\0\1"), AEAD],
    [PROTOCOL, AEAD, record(2, b"\0\1")],
    [PROTOCOL, AEAD, record(2, b"\0\1", False)],
    [PROTOCOL, AEAD, record(3, b"\0\1", False)],
    [PROTOCOL, AEAD, record(5, bytes(100))],
    [PROTOCOL, AEAD, record(5, bytes(100), False)],
    [PROTOCOL, AEAD, record(7, b"", False)],
    [PROTOCOL, AEAD, UNKNOWN],
    [PROTOCOL, AEAD, record(0x4000, b"", False)],
    [PROTOCOL, AEAD, record(0x4000, bytes(1000))],
    [PROTOCOL, AEAD, record(0x4000, bytes(1000), False)],
    [UNKNOWN],
    [UNKNOWN, record(1)],
    [record(1), UNKNOWN],
    [record(2, b"\0\1"), UNKNOWN],
    [UNKNOWN, record(2, b"\0\1")],
]


def shape(message: bytes) -> list[tuple[int, bytes | int]]:
    """Records of a message; of cookies only the length."""
    found: list[tuple[int, bytes | int]] = []
    offset = 0
    while offset < len(message):
        kind, length = struct.unpack_from(">HH", message, offset)
        found.append((kind, length if kind == 5 else message[offset + 4 : offset + 4 + length]))
        offset += 4 + length
    return found


def test_our_server_answers_every_message_as_chronyd_does(nts_chronyd: NtsChronyd, authority: Authority) -> None:
    for records in MESSAGES:
        theirs = raw_exchange(authority, nts_chronyd.ke_port, encode(records))
        decision = answer_request(records, [SIV])
        if isinstance(decision, Refusal):
            ours = encode(decision.records)
        else:
            ours = encode(agreement_records(decision, [bytes(100)] * 8, port=nts_chronyd.chronyd.port))
        assert theirs is not None, records
        assert shape(theirs) == shape(ours), records


@pytest.mark.parametrize(
    "end", [record(0, b"", False).encode(), record(0, b"\0\0").encode(), END.encode() * 2, END.encode() + bytes(4)]
)
def test_chronyd_too_ends_a_session_without_an_answer(
    nts_chronyd: NtsChronyd, authority: Authority, end: bytes
) -> None:
    assert raw_exchange(authority, nts_chronyd.ke_port, PROTOCOL.encode() + AEAD.encode() + end) is None


def nts_requests() -> dict[str, Callable[[bytes], tuple[bytes, dict[str, object], bytes]]]:
    """Requests by name: from a cookie to (what the authenticator covers, how it is made, what follows)."""
    start = HEADER + field(UID, bytes(range(32)))

    def cookie_of(cookie: bytes) -> bytes:
        return field(COOKIE, cookie)

    holder = field(PLACEHOLDER, bytes(100))
    filler = field(0x7777, bytes(24))
    short = struct.pack(">HH", 0x7777, 8) + bytes(4)
    return {
        "plain": lambda c: (start + cookie_of(c), {}, b""),
        "cookie before UID": lambda c: (HEADER + cookie_of(c) + start[48:], {}, b""),
        "placeholder before cookie": lambda c: (start + holder + cookie_of(c), {}, b""),
        "placeholder not zero": lambda c: (start + cookie_of(c) + field(PLACEHOLDER, b"\1" * 100), {}, b""),
        "8 placeholders": lambda c: (start + cookie_of(c) + holder * 8, {}, b""),
        "other field first": lambda c: (HEADER + filler + start[48:] + cookie_of(c), {}, b""),
        "two authenticators": lambda c: (start + cookie_of(c) + field(0x0404, bytes(36)), {}, b""),
        "field after": lambda c: (start + cookie_of(c), {}, filler),
        "encrypted other": lambda c: (start + cookie_of(c), {"plain": filler}, b""),
        "encrypted cookie": lambda c: (start + cookie_of(c), {"plain": field(COOKIE, bytes(100))}, b""),
        "encrypted placeholder": lambda c: (start + cookie_of(c), {"plain": holder}, b""),
        "encrypted placeholders": lambda c: (start + cookie_of(c) + holder * 3, {"plain": holder * 4}, b""),
        "encrypted wrong length": lambda c: (start + cookie_of(c), {"plain": field(PLACEHOLDER, bytes(96))}, b""),
        "encrypted short": lambda c: (start + cookie_of(c), {"plain": short}, b""),
        "encrypted short and more": lambda c: (start + cookie_of(c), {"plain": short + holder}, b""),
        "encrypted truncated": lambda c: (start + cookie_of(c), {"plain": holder[:-4]}, b""),
        "encrypted 3 bytes": lambda c: (start + cookie_of(c), {"plain": b"abc"}, b""),
        "encrypted zeros": lambda c: (start + cookie_of(c), {"plain": bytes(16)}, b""),
        "encrypted UID": lambda c: (start + cookie_of(c), {"plain": start[48:]}, b""),
        "padding": lambda c: (start + cookie_of(c), {"padding": 100}, b""),
        "nonce 15": lambda c: (start + cookie_of(c), {"nonce": bytes(15)}, b""),
        "nonce 12": lambda c: (start + cookie_of(c), {"nonce": bytes(12)}, b""),
        "nonce 12 padded": lambda c: (start + cookie_of(c), {"nonce": bytes(12), "padding": 4}, b""),
        "nonce 64": lambda c: (start + cookie_of(c), {"nonce": bytes(64)}, b""),
        "nonce 500": lambda c: (start + cookie_of(c), {"nonce": bytes(500)}, b""),
        "UID 12": lambda c: (HEADER + field(UID, bytes(12)) + cookie_of(c), {}, b""),
        "UID 500": lambda c: (HEADER + field(UID, bytes(500)) + cookie_of(c), {}, b""),
        "cookie too long": lambda c: (start + cookie_of(c + bytes(4)), {}, b""),
        "cookie too short": lambda c: (start + cookie_of(c[:12]), {}, b""),
        "cookie of another": lambda c: (start + cookie_of(bytes(100)), {}, b""),
        "cookie of another, wrong placeholder": lambda c: (
            start + cookie_of(bytes(100)) + field(PLACEHOLDER, bytes(96)),
            {},
            b"",
        ),
        "no cookie": lambda c: (start, {}, b""),
        "no UID": lambda c: (HEADER + cookie_of(c), {}, b""),
    }


def test_our_data_plane_answers_every_request_as_chronyd_does(nts_chronyd: NtsChronyd, authority: Authority) -> None:
    keys = exchange(authority, nts_chronyd.ke_port)
    to_server, to_client = Aead(SIV, keys.c2s), Aead(SIV, keys.s2c)
    ring = KeyRing()
    ring.publish([(4, SIV, os.urandom(32))], 4)
    responder = Responder(ring)

    def described(answer: bytes | None) -> object:
        if answer is None:
            return None
        kinds = [(kind, len(body)) for kind, _, body in fields(answer)]
        fresh = 0 if answer[12:16] == b"NTSN" else len(cookies(to_client, answer))
        return len(answer), answer[12:16] == b"NTSN", kinds, fresh

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.connect(("127.0.0.1", nts_chronyd.chronyd.port))
        for name, make in nts_requests().items():
            packets = []
            for cookie in (keys.cookies[0], ring.make_cookie(SIV, keys.c2s, keys.s2c)):
                start, how, after = make(cookie)
                packets.append(start + auth_field(to_server, start, **{"nonce": bytes(16)} | how) + after)
            sock.send(packets[0])
            outcome = responder.check(packets[1])
            ours = None
            if not outcome.startswith("drop"):
                nak = outcome.startswith("nak")
                ours = responder.respond(bytes(12) + b"NTSN" + bytes(32) if nak else bytes([0x24, 3]) + bytes(46))
            sock.settimeout(0.2 if ours is None else 5.0)
            try:
                theirs: bytes | None = sock.recv(2000)
            except TimeoutError:
                theirs = None
            assert described(theirs) == described(ours), name


class NoNames:
    def resolve(self, name: str, done: Callable[[Resolution], None]) -> None:
        raise AssertionError("there are no names here")


class NtsClient:
    """The client half of a daemon with NTS, under uvloop."""

    def __init__(self, loop: asyncio.AbstractEventLoop, lines: list[str]) -> None:
        config = parse_lines(lines)
        rng = random.Random(1)
        self.logged: list[str] = []
        self.scheduler = AsyncioScheduler(loop, rng)
        self.clock = LocalClock(NullDriver(), self.scheduler, precision_s=1e-7, log=self._log)
        self.reference = Reference(self.clock, ReferenceOptions.from_config(config), log=self._log, random=rng)
        self.poller = Poller(loop, self.clock, PollerOptions.from_config(config), self._log)
        trust = TrustStore(config.ntstrustedcerts, self._log, system=not config.nosystemcert)
        self.nts = NtsSources(
            config,
            KeClient(loop, trust, NoNames()),
            key_authenticators({}, self._log),
            self._log,
            monotonic_ns=self.clock.monotonic_ns,
        )
        self.sources = Sources(
            self.clock,
            self.reference,
            self.poller,
            config,
            log=self._log,
            random=rng,
            authenticators=self.nts.authenticator,
            hooks=SourcesHooks(added=self.nts.adopt),
        )
        self.names = Names(
            self.sources,
            NoNames(),
            self.scheduler,
            can_reach=lambda address, port: True,
            refresh_s=0.0,
            log=self._log,
            random=rng,
        )
        self.nts.bind(self.sources)
        self.names.start(config.sources)

    def _log(self, severity: Severity, text: str) -> None:
        self.logged.append(text)

    async def until(self, condition: Callable[[], bool]) -> None:
        try:
            async with asyncio.timeout(TIMEOUT_S):
                while not condition():
                    await asyncio.sleep(0.05)
        except TimeoutError:
            pytest.fail(f"{self.logged} {self.report()}")

    def good(self) -> int:
        return self.sources.ntp_sources[0].association.report().counts.good

    def report(self) -> object:
        return self.sources.auth_report(self.sources.ntp_sources[0])

    def close(self) -> None:
        self.sources.close()
        self.poller.close()
        self.scheduler.close()


def client_lines(authority: Authority, directory: Path, ke_port: int, *more: str) -> list[str]:
    trusted = directory / "ca.pem"
    trusted.write_bytes(authority.pem)
    return [
        f"server 127.0.0.1 nts ntsport {ke_port} iburst minpoll -2 maxpoll -2",
        f"ntstrustedcerts {trusted}",
        "nosystemcert",
        *more,
    ]


def test_our_client_with_chronyd_as_server(nts_chronyd: NtsChronyd, authority: Authority, tmp_path: Path) -> None:
    async def main() -> None:
        client = NtsClient(asyncio.get_running_loop(), client_lines(authority, tmp_path, nts_chronyd.ke_port))
        client.sources.start()
        await client.until(lambda: client.good() >= 6)
        report = client.sources.auth_report(client.sources.ntp_sources[0])
        client.close()
        assert (report.key_type, report.key_id, report.key_length_bits) == (SIV, 1, 256)
        assert (report.cookies, report.cookie_length, report.nak, report.ke_attempts) == (8, 100, False, 0)
        assert f"Source 127.0.0.1 changed port to {nts_chronyd.chronyd.port}" in client.logged
        assert client.reference.synchronised

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())
    # after five of NTP and commands: NTS-KE accepted, NTS-KE dropped, authenticated packets
    statistics = nts_chronyd.chronyd.command("serverstats").strip().split(",")
    assert int(statistics[7]) >= 6


def test_a_wrong_name_is_told(nts_chronyd: NtsChronyd, tmp_path: Path) -> None:
    other = Authority("another")

    async def main() -> None:
        client = NtsClient(asyncio.get_running_loop(), client_lines(other, tmp_path, nts_chronyd.ke_port))
        client.sources.start()
        await client.until(lambda: bool(client.logged))
        client.close()
        [line] = client.logged
        assert line.startswith(f"TLS handshake with 127.0.0.1:{nts_chronyd.ke_port} (127.0.0.1) failed : ")
        assert "issuer is unknown" in line

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())


async def chronyc(chronyd: Chronyd, *words: str) -> list[str]:
    output = await asyncio.get_running_loop().run_in_executor(None, chronyd.command, *words)
    return output.strip().split(",")


def test_chronyd_as_client_of_our_server(authority: Authority, pair: Pair, tmp_path: Path) -> None:
    async def main() -> None:
        async with running_server(pair) as server:
            trusted = tmp_path / "ca.pem"
            trusted.write_bytes(authority.pem)
            with running(
                tmp_path,
                f"server 127.0.0.1 nts ntsport {server.ke_port} iburst minpoll -2 maxpoll -2 xleave",
                f"ntstrustedcerts {trusted}",
                "nosystemcert",
                port=0,
            ) as chronyd:
                async with asyncio.timeout(TIMEOUT_S):
                    while server.counter("ntp_auth_hits") < 8:
                        await asyncio.sleep(0.1)
                # name, mode, key id, type, length, last, attempts, NAK, cookies, cookie length
                authdata = await chronyc(chronyd, "authdata")
                assert authdata[1:5] == ["NTS", "1", "15", "256"]
                assert authdata[6:] == ["0", "0", "8", "100"]
                ntpdata = await chronyc(chronyd, "ntpdata")
                assert ntpdata[0] == "127.0.0.1"
            counters = server.ke.counters.read()
            assert counters["served"] == 1
            assert server.counter("ntp_interleaved_hits") >= 3

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())


def test_the_one_line_check_of_a_server(authority: Authority, pair: Pair, tmp_path: Path) -> None:
    """chronyd -Q with one sample: what admins use to see whether a server works."""

    async def main() -> None:
        async with running_server(pair) as server:
            trusted = tmp_path / "ca.pem"
            trusted.write_bytes(authority.pem)
            process = await asyncio.create_subprocess_exec(
                str(chronyd_path()),
                "-Q",
                "-t",
                "8",
                "-u",
                "root",
                f"server 127.0.0.1 iburst nts maxsamples 1 ntsport {server.ke_port}",
                f"ntstrustedcerts {trusted}",
                "nosystemcert",
                f"pidfile {tmp_path}/pid",
                "cmdport 0",
                f"bindcmdaddress {tmp_path}/sock",
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
            )
            output, _ = await process.communicate()
            assert "System clock wrong by" in output.decode(), output.decode()
            assert process.returncode == 0

    with asyncio.Runner() as runner:
        runner.run(main())


def test_taking_over_from_chronyd(authority: Authority, pair: Pair, tmp_path: Path) -> None:
    """chronyd's clients keep their cookies when we replace it: same keys on disk, same ports, no new key exchange."""
    with nts_server(tmp_path, pair) as server:
        chronyd, ke_port = server.chronyd, server.ke_port
        keys = exchange(authority, ke_port)
        port = chronyd.port

    async def main() -> None:
        async with running_server(pair, tmp_path, ntp_port=port, ke_port=ke_port) as server:
            assert "Loaded server NTS keys" in server.logged
            to_server, to_client = Aead(SIV, keys.c2s), Aead(SIV, keys.s2c)
            start = HEADER + field(UID, bytes(32)) + field(COOKIE, keys.cookies[0])
            loop = asyncio.get_running_loop()
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
                sock.setblocking(False)
                await loop.sock_connect(sock, ("127.0.0.1", port))
                await loop.sock_sendall(sock, start + auth_field(to_server, start, bytes(16)))
                answer = await asyncio.wait_for(loop.sock_recv(sock, 2000), TIMEOUT_S)
            assert len(cookies(to_client, answer)) == 1

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())
    loaded, _ = parse_file((tmp_path / "ntskeys").read_bytes())
    assert loaded[CURRENT].identifier == int.from_bytes(keys.cookies[0][:4])


def test_our_client_survives_a_restart_without_a_new_exchange(authority: Authority, pair: Pair, tmp_path: Path) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        async with running_server(pair) as server:
            lines = client_lines(authority, tmp_path, server.ke_port, f"ntsdumpdir {tmp_path}")
            for run in range(2):
                client = NtsClient(loop, lines)
                client.sources.start()
                await client.until(lambda client=client: client.good() >= 4)
                report = client.sources.auth_report(client.sources.ntp_sources[0])
                assert (report.key_id, report.key_type, report.cookies) == (1, 30, 8)
                client.nts.save(client.sources.now())
                assert (tmp_path / "127.0.0.1.nts").exists()
                assert ("Loaded NTS keys of 127.0.0.1" in client.logged) == (run == 1)
                client.close()
            assert server.ke.counters.read()["served"] == 1

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())


def test_a_server_that_lost_its_keys_is_asked_for_new_ones(authority: Authority, pair: Pair, tmp_path: Path) -> None:
    """A server with other keys sends a NAK; new keys are made once the wait after the last exchange is over."""
    ntp_port, ke_port = free_port(), free_tcp_port()

    async def main() -> None:
        loop = asyncio.get_running_loop()
        client = NtsClient(loop, client_lines(authority, tmp_path, ke_port))
        async with running_server(pair, ntp_port=ntp_port, ke_port=ke_port):
            client.sources.start()
            await client.until(lambda: client.good() >= 4)
        async with running_server(pair, ntp_port=ntp_port, ke_port=ke_port) as server:
            await client.until(lambda: client.sources.auth_report(client.sources.ntp_sources[0]).nak)
            # keys that were just made are not made again for 2^10 s
            await asyncio.sleep(1.0)
            assert server.ke.counters.read()["accepted"] == 0
            client.sources.ntp_sources[0].association.auth.reset()
            before = client.good()
            await client.until(lambda: client.good() >= before + 2)
            assert server.ke.counters.read()["served"] == 1
        client.close()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())
