"""The KE server's sockets: limits, deadlines, descriptors that run out, certificates that change. Loopback only."""

import asyncio
import contextlib
import mmap
import os
import resource
import socket
import struct
import time
from ipaddress import ip_address, ip_network

import pytest
import uvloop

from ntpd_fast._access import AccessView
from ntpd_fast._clientlog import ClientLogWriter, init_shard, shard_size
from ntpd_fast._keadmission import Admission, SharedAdmission
from ntpd_fast._kepoll import prefix_of
from ntpd_fast._nts import KeyRing
from ntpd_fast._region import ControlRegion, Mapping
from ntpd_fast.config.loader import parse_lines
from ntpd_fast.nts.records import MessageReader, encode, error_records, read_response, request_records
from ntpd_fast.server.access import AccessTable
from ntpd_fast.server.keyring import CURRENT, random_keys
from ntpd_fast.server.ntske_certificates import CertificateError, CertificateStore
from ntpd_fast.server.ntske_counters import COUNTER_BYTES, KeCounters
from ntpd_fast.server.ntske_loop import new_event_loop
from ntpd_fast.server.ntske_process import NtsKe, NtsKeOptions, NtsKeParts, raise_descriptor_limit
from ntpd_fast.server.ntske_server import NtsKeServer
from ntpd_fast.server.ntske_session import KeService
from tests.pki import Authority
from tests.tls_peers import server_credentials, tls_client

SIV = 15


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


class Lines:
    def __init__(self):
        self.lines = []

    def __call__(self, severity, text):
        self.lines.append(text)

    def having(self, part):
        return [line for line in self.lines if part in line]


@pytest.fixture
def log():
    return Lines()


def publish(ring):
    keys = random_keys()
    ring.publish([(k.identifier, k.algorithm, k.key) for k in keys], keys[CURRENT].identifier)


def filled_ring():
    ring = KeyRing()
    publish(ring)
    return ring


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


async def exchange(authority, port, *, tls=None, message=None, source="127.0.0.1"):
    """A whole key exchange; what the server answered."""
    loop = asyncio.get_running_loop()
    client = tls or tls_client(authority)
    message = encode(request_records([SIV])) if message is None else message
    with socket.socket() as sock:
        sock.setblocking(False)
        sock.bind((source, 0))
        await loop.sock_connect(sock, ("127.0.0.1", port))
        received = b""
        sent = False
        while True:
            if client.handshake() and not sent:
                sent = True
                client.write(message)
            if data := client.out():
                await loop.sock_sendall(sock, data)
            data = await loop.sock_recv(sock, 16384)
            client.feed(data)
            if sent:
                while chunk := client.read():
                    received += chunk
                if chunk == b"":
                    return received


async def dribble(authority, port, pieces):
    """An exchange whose bytes after the first flight come as `pieces` cuts them; what the server answered."""
    loop = asyncio.get_running_loop()
    client = tls_client(authority)
    with socket.socket() as sock:
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        await loop.sock_connect(sock, ("127.0.0.1", port))
        client.handshake()
        await loop.sock_sendall(sock, client.out())
        while not client.handshake():
            client.feed(await loop.sock_recv(sock, 16384))
        finished = client.out()
        client.write(encode(request_records([SIV])))
        for piece in pieces(finished, client.out()):
            await loop.sock_sendall(sock, piece)
            await asyncio.sleep(0.002)
        received = b""
        while data := await asyncio.wait_for(loop.sock_recv(sock, 16384), 20):
            client.feed(data)
            received += client.read() or b""
        return received


def in_bytes(finished, request):
    return [bytes([byte]) for byte in finished + request]


def finished_alone(finished, request):
    return [finished, request]


def cut_in_the_request(finished, request):
    return [finished + request[:1], request[1:-1], request[-1:]]


@pytest.mark.parametrize("pieces", [in_bytes, finished_alone, cut_in_the_request])
def test_a_request_is_answered_however_it_is_cut(loop, start, authority, pieces):
    server, port = start(timeout_s=20.0)
    assert granted(loop.run_until_complete(dribble(authority, port, pieces)))
    assert server.counters.read()["served"] == 1


def test_a_client_that_hangs_up_instead_of_its_finished_is_noticed(loop, start, authority):
    server, port = start(timeout_s=20.0)

    async def scenario():
        client = tls_client(authority)
        with socket.socket() as sock:
            sock.setblocking(False)
            await loop.sock_connect(sock, ("127.0.0.1", port))
            client.handshake()
            await loop.sock_sendall(sock, client.out())
            await loop.sock_recv(sock, 16384)
            # a fatal alert, shorter than any Finished
            await loop.sock_sendall(sock, bytes([21, 3, 3, 0, 2, 2, 42]))
        await until(lambda: server.sessions == 0)

    loop.run_until_complete(scenario())
    assert server.counters.read()["tls_failed"] == 1


async def until(condition):
    for _ in range(2000):
        if condition():
            return
        await asyncio.sleep(0.005)
    raise AssertionError("never came")


def test_an_answer_reaches_a_client_that_has_said_its_end_already(loop, start, authority):
    """Closing over what it sent last would reset the connection under the answer."""
    server, port = start(timeout_s=20.0)

    async def scenario():
        client = tls_client(authority)
        with socket.socket() as sock:
            sock.setblocking(False)
            await loop.sock_connect(sock, ("127.0.0.1", port))
            client.handshake()
            await loop.sock_sendall(sock, client.out())
            while not client.handshake():
                client.feed(await loop.sock_recv(sock, 16384))
            client.write(encode(request_records([SIV])))
            await loop.sock_sendall(sock, client.out())
            await until(lambda: server.counters.read()["served"] == 1)
            client.close()
            await loop.sock_sendall(sock, client.out())
            sock.shutdown(socket.SHUT_WR)
            await until(lambda: server.sessions == 0)
            received = b""
            while data := await loop.sock_recv(sock, 16384):
                client.feed(data)
                received += client.read() or b""
            return received

    assert len(granted(loop.run_until_complete(scenario())).cookies) == 8


async def reset_after_exchange(authority, port):
    """A client that closes with something unread, as many do: its kernel resets the connection."""
    loop = asyncio.get_running_loop()
    client = tls_client(authority)
    with socket.socket() as sock:
        sock.setblocking(False)
        await loop.sock_connect(sock, ("127.0.0.1", port))
        while not client.handshake():
            await loop.sock_sendall(sock, client.out())
            client.feed(await loop.sock_recv(sock, 16384))
        client.write(encode(request_records([SIV])))
        await loop.sock_sendall(sock, client.out())
        await asyncio.sleep(0.05)
        # the data and the reset come in one event
        await loop.sock_sendall(sock, b"more")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


async def half_open(port, data=b"\x16\x03\x01", source="127.0.0.1"):
    """A connection that never goes on."""
    loop = asyncio.get_running_loop()
    sock = socket.socket()
    sock.setblocking(False)
    sock.bind((source, 0))
    await loop.sock_connect(sock, ("127.0.0.1", port))
    if data:
        await loop.sock_sendall(sock, data)
    return sock


async def is_closed(sock, timeout_s=1.0):
    try:
        return await asyncio.wait_for(asyncio.get_running_loop().sock_recv(sock, 1), timeout_s) == b""
    except ConnectionResetError:
        return True
    except TimeoutError:
        return False


def granted(data):
    return read_response(MessageReader().feed(data), [SIV])


def test_clients_are_served_and_counted(loop, start, authority):
    server, port = start()

    async def scenario():
        answers = await asyncio.gather(*(exchange(authority, port) for _ in range(8)))
        assert all(len(granted(answer).cookies) == 8 for answer in answers)
        await asyncio.sleep(0.05)

    loop.run_until_complete(scenario())
    counters = server.counters.read()
    assert (counters["accepted"], counters["served"], counters["sessions"]) == (8, 8, 0)
    assert server.sessions == 0


def test_clients_wait_for_the_first_server_keys(loop, start, authority):
    server, port = start(ring=KeyRing())

    async def scenario():
        waiting = [asyncio.ensure_future(exchange(authority, port)) for _ in range(3)]
        await asyncio.sleep(0.1)
        publish(server.service.ring)
        assert [len(granted(answer).cookies) for answer in await asyncio.gather(*waiting)] == [8, 8, 8]

    loop.run_until_complete(scenario())
    assert server.counters.read()["refused"] == 0


def test_without_server_keys_clients_are_told_in_the_end(loop, start, authority):
    server, port = start(ring=KeyRing())
    assert loop.run_until_complete(exchange(authority, port)) == encode(error_records(2))
    assert server.counters.read()["refused"] == 1


def test_a_connection_that_its_client_resets_gives_its_place_back(loop, start, authority):
    server, port = start(timeout_s=20.0)

    async def scenario():
        await reset_after_exchange(authority, port)
        for _ in range(100):
            if server.sessions == 0:
                return
            await asyncio.sleep(0.01)

    loop.run_until_complete(scenario())
    assert server.counters.read()["served"] == 1
    assert server.sessions == 0


def test_a_session_ends_in_time_whatever_its_client_does(loop, start, authority):
    server, port = start(timeout_s=0.3)

    async def drip(sock):
        with contextlib.suppress(OSError):
            while True:
                await loop.sock_sendall(sock, b"\x16")
                await asyncio.sleep(0.05)

    async def scenario():
        silent = await half_open(port, b"")
        begun = await half_open(port)
        dripping = await half_open(port, b"\x16\x03\x01\x10\x00")
        task = asyncio.ensure_future(drip(dripping))
        before = time.monotonic()
        for sock in (silent, begun, dripping):
            assert await is_closed(sock)
            sock.close()
        assert time.monotonic() - before < 0.6
        task.cancel()

    loop.run_until_complete(scenario())
    assert server.counters.read()["timed_out"] == 3
    assert server.sessions == 0


def test_deadlines_hold_again_after_all_sessions_have_ended(loop, start, authority):
    server, port = start(timeout_s=0.3)

    async def scenario():
        for _ in range(3):
            assert granted(await exchange(authority, port))
            silent = await half_open(port)
            assert await is_closed(silent, 10)
            silent.close()
            await until(lambda: server.sessions == 0)

    loop.run_until_complete(scenario())
    counters = server.counters.read()
    assert (counters["served"], counters["timed_out"]) == (3, 3)


def test_a_client_that_stays_after_its_answer_is_closed_in_time(loop, start, authority):
    server, port = start(timeout_s=0.3)

    async def scenario():
        client = tls_client(authority)
        with socket.socket() as sock:
            sock.setblocking(False)
            await loop.sock_connect(sock, ("127.0.0.1", port))
            while not client.handshake():
                await loop.sock_sendall(sock, client.out())
                client.feed(await loop.sock_recv(sock, 16384))
            client.write(encode(request_records([SIV])))
            await loop.sock_sendall(sock, client.out())
            while await loop.sock_recv(sock, 16384):
                pass
            assert server.sessions == 1
            await asyncio.sleep(0.5)
            assert server.sessions == 0

    loop.run_until_complete(scenario())
    counters = server.counters.read()
    assert (counters["served"], counters["timed_out"]) == (1, 0)


def test_the_limit_of_sessions(loop, start, authority):
    server, port = start(connections_max=3)

    async def scenario():
        held = [await half_open(port) for _ in range(3)]
        await asyncio.sleep(0.05)
        assert server.sessions == 3
        late = await half_open(port)
        assert await is_closed(late)
        late.close()
        assert server.sessions == 3
        # another network gets a place
        assert granted(await exchange(authority, port, source="127.0.1.1"))
        assert await is_closed(held[0])
        assert not await is_closed(held[1], 0.1)
        for sock in held:
            sock.close()
        await asyncio.sleep(0.1)
        assert granted(await exchange(authority, port))

    loop.run_until_complete(scenario())
    counters = server.counters.read()
    assert (counters["refused_full"], counters["evicted"], counters["served"]) == (1, 1, 2)


def test_many_half_open_connections_do_not_keep_others_out(loop, start, authority):
    server, port = start(connections_max=400)

    async def scenario():
        held = [await half_open(port) for _ in range(300)]
        before = time.monotonic()
        assert granted(await exchange(authority, port))
        assert time.monotonic() - before < 1
        for sock in held:
            sock.close()

    loop.run_until_complete(scenario())
    assert server.counters.read()["served"] == 1


def test_descriptors_that_run_out(loop, start, authority):
    server, port = start(connections_max=1000)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)

    async def scenario():
        clients = [socket.socket() for _ in range(8)]
        # fill the gaps, then leave room for three of the eight
        fillers = [os.open("/dev/null", os.O_RDONLY)]
        while fillers[-1] < max(sock.fileno() for sock in clients):
            fillers.append(os.open("/dev/null", os.O_RDONLY))
        highest = max(int(name) for name in os.listdir("/proc/self/fd"))
        while fillers[-1] < highest:
            fillers.append(os.open("/dev/null", os.O_RDONLY))
        resource.setrlimit(resource.RLIMIT_NOFILE, (fillers[-1] + 1 + 3, hard))
        try:
            for sock in clients:
                sock.setblocking(False)
                await loop.sock_connect(sock, ("127.0.0.1", port))
            await asyncio.sleep(0.3)
            assert server.counters.read()["out_of_resources"] >= 1
            assert server.sessions == 3
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        await asyncio.sleep(0.3)
        assert server.sessions == 8
        for sock in clients:
            sock.close()
        for filler in fillers:
            os.close(filler)
        assert granted(await exchange(authority, port))

    loop.run_until_complete(scenario())


def test_running_out_is_told_once(loop, start, log):
    server, _ = start()
    for _ in range(3):
        server.out_of_resources(OSError(24, "Too many open files"))
    assert log.lines == ["Could not accept NTS-KE connection : Too many open files"]


def test_stop_drops_sessions_and_keeps_the_listener(loop, start, authority):
    server, port = start()

    async def scenario():
        held = await half_open(port)
        await asyncio.sleep(0.05)
        server.stop()
        assert await is_closed(held)
        held.close()
        waiting = await half_open(port)
        await asyncio.sleep(0.05)
        assert server.sessions == 0
        server.start()
        await asyncio.sleep(0.05)
        assert server.sessions == 1
        waiting.close()

    loop.run_until_complete(scenario())


class Tables:
    """A control region with the access table."""

    def __init__(self):
        rooms = {"access": 65536}
        fd = os.memfd_create("control")
        os.ftruncate(fd, ControlRegion.plan(rooms))
        self.region = ControlRegion(Mapping(fd, ControlRegion.plan(rooms), True))
        os.close(fd)
        self.region.create(1, rooms)

    def set(self, *allowed):
        rules = AccessTable()
        for network in allowed:
            rules.set(network, True)
        self.table = rules.compile()
        self.region.write_table("access", self.table)


def test_access_rules_and_rate_limit(loop, start, authority):
    tables = Tables()
    shard = memoryview(mmap.mmap(-1, shard_size(16)))
    init_shard(shard, 16, bytes(20))
    clients = ClientLogWriter(shard)
    clients.set_limit(1, 6, 2, 4)
    server, port = start(admission=SharedAdmission(tables.region, clients, ntp_time=lambda: 1 << 60))

    async def refused():
        sock = await half_open(port)
        closed = await is_closed(sock)
        sock.close()
        return closed

    async def scenario():
        assert await refused()
        tables.set(ip_network("192.0.2.0/24"))
        assert await refused()
        tables.set(ip_network("127.0.0.0/8"))
        assert granted(await exchange(authority, port))
        assert granted(await exchange(authority, port))
        for _ in range(20):
            sock = await half_open(port)
            await asyncio.sleep(0.005)
            sock.close()

    loop.run_until_complete(scenario())
    counters = server.counters.read()
    assert counters["refused_access"] == 2
    assert counters["refused_rate"] >= 10
    assert counters["served"] == 2


def test_counters_can_be_read_by_others():
    memory = bytearray(COUNTER_BYTES)
    KeCounters(memory).add("served", 3)
    assert KeCounters(memory).read()["served"] == 3
    assert sum(KeCounters(memory).read().values()) == 3


def packed_prefix_of(address):
    return prefix_of(ip_address(address).packed)


def test_prefixes():
    assert packed_prefix_of("192.0.2.1") == packed_prefix_of("192.0.2.200")
    assert packed_prefix_of("192.0.2.1") != packed_prefix_of("192.0.3.1")
    assert packed_prefix_of("2001:db8:1::1") == packed_prefix_of("2001:db8:1:2::1")
    assert packed_prefix_of("2001:db8:1::1") != packed_prefix_of("2001:db8:2::1")


def test_certificates_are_reloaded_without_dropping_sessions(loop, authority, log, tmp_path):
    paths = authority.issue("ntp.example.test").write(tmp_path)
    store = CertificateStore([paths], log)
    store.load(time.time())
    second = Authority("second authority")

    async def scenario(port, ntske):
        # in the middle of a session
        client = tls_client(authority)
        with socket.socket() as sock:
            sock.setblocking(False)
            await loop.sock_connect(sock, ("127.0.0.1", port))
            client.handshake()
            await loop.sock_sendall(sock, client.out())
            client.feed(await loop.sock_recv(sock, 16384))
            second.issue("ntp.example.test").write(tmp_path)
            ntske.reload_certificates(force=False)
            while not client.handshake():
                client.feed(await loop.sock_recv(sock, 16384))
            client.write(encode(request_records([SIV])))
            await loop.sock_sendall(sock, client.out())
            client.feed(await loop.sock_recv(sock, 16384))
            assert granted(client.read())
        assert granted(await exchange(second, port))
        # a bad pair changes nothing, and is told once
        (tmp_path / "server.key").write_text("nonsense")
        ntske.reload_certificates(force=False)
        ntske.reload_certificates(force=False)
        assert granted(await exchange(second, port))

    with socket.create_server(("127.0.0.1", 0)) as listener:
        parts = NtsKeParts([listener], store, filled_ring(), AlwaysWelcome(), KeCounters())
        ntske = NtsKe(loop, NtsKeOptions([SIV], 10), parts, log)
        ntske.start()
        loop.run_until_complete(scenario(listener.getsockname()[1], ntske))
        ntske.stop()
    assert parts.counters.read()["certificate_reloads"] == 1
    assert log.having("Reloaded NTS server certificates")
    assert len(log.having("the old ones stay")) == 1
    assert "server.key" in log.having("the old ones stay")[0]


class AlwaysWelcome(Admission):
    limit = None

    def set_limit(self, limit):
        self.limit = limit


def test_another_configuration_is_followed_without_dropping_sessions(loop, authority, log, tmp_path):
    store = CertificateStore([authority.issue("ntp.example.test").write(tmp_path)], log)
    store.load(time.time())
    second = Authority("second authority")
    others = [second.issue("ntp.example.test").write(tmp_path, "other")]
    admission = AlwaysWelcome()
    limit = parse_lines(["ntsratelimit interval 3"]).ntsratelimit

    async def scenario(port, ntske):
        held = [await half_open(port) for _ in range(3)]
        await asyncio.sleep(0.05)
        assert ntske.server.sessions == 3
        bad = [(str(tmp_path / "none.crt"), others[0][1])]
        ntske.follow(NtsKeOptions([SIV], 2, "ntp2.example.test", 1123), bad, limit)
        # sessions that have begun keep their places, which are now too many for anybody else
        assert ntske.server.sessions == 3
        refused = await half_open(port)
        assert await is_closed(refused)
        for sock in [*held, refused]:
            sock.close()
        await asyncio.sleep(0.05)
        answer = read_response(MessageReader().feed(await exchange(authority, port)), [SIV])
        assert (answer.server, answer.port) == ("ntp2.example.test", 1123)
        ntske.follow(NtsKeOptions([SIV], 2), others, None)
        assert granted(await exchange(second, port))
        # those are the files looked at from now on
        third = Authority("third authority")
        third.issue("ntp.example.test").write(tmp_path, "other")
        ntske.reload_certificates(force=False)
        assert granted(await exchange(third, port))

    with socket.create_server(("127.0.0.1", 0)) as listener:
        parts = NtsKeParts([listener], store, filled_ring(), admission, KeCounters())
        ntske = NtsKe(loop, NtsKeOptions([SIV], 10), parts, log)
        ntske.start()
        loop.run_until_complete(scenario(listener.getsockname()[1], ntske))
        ntske.stop()
    assert admission.limit is None
    counters = parts.counters.read()
    assert (counters["certificate_reloads"], counters["refused_full"]) == (2, 1)
    assert log.having("the old ones stay") == [
        f"Could not load NTS server certificates, the old ones stay : {tmp_path}/none.crt : No such file or directory"
    ]
    assert log.having("Loaded other NTS server certificates")


def test_another_rate_limit():
    shard = memoryview(mmap.mmap(-1, shard_size(16)))
    init_shard(shard, 16, bytes(20))
    tables = Tables()
    tables.set(ip_network("127.0.0.0/8"))
    admission = SharedAdmission(tables.region, ClientLogWriter(shard), ntp_time=lambda: 1 << 60)
    address = ip_address("127.0.0.1").packed

    def refused():
        return sum(admission.admit(address) == "refused_rate" for _ in range(100))

    assert refused() == 0
    admission.set_limit(parse_lines(["ntsratelimit interval 10 burst 2 leak 4"]).ntsratelimit)
    assert refused() > 60
    admission.set_limit(None)
    assert refused() == 0
    SharedAdmission(tables.region, None).set_limit(None)


def test_bad_certificates_are_told_with_path_and_reason(authority, pair, log, tmp_path):
    paths = pair.write(tmp_path)
    other = authority.issue("ntp.example.test").write(tmp_path, "other")

    def refusal(certificate, key):
        with pytest.raises(CertificateError) as refused:
            CertificateStore([(str(certificate), str(key))], log).load(time.time())
        return str(refused.value)

    assert refusal(tmp_path / "none.crt", paths[1]) == f"{tmp_path}/none.crt : No such file or directory"
    assert refusal(paths[0], tmp_path) == f"{tmp_path} : Is a directory"
    assert "do not match" in refusal(paths[0], other[1])
    assert refusal(paths[1], paths[1]).startswith(f"{paths[1]} with {paths[1]}")


def test_certificates_that_are_not_valid_now_are_told(authority, log, tmp_path):
    for name, start_day, end_day, text in [
        ("old", -10, -5, "has expired"),
        ("new", 5, 10, "is not valid yet"),
        ("soon", -10, 3, "expires on"),
        ("good", -10, 30, ""),
    ]:
        paths = authority.issue("ntp.example.test", start_days=start_day, end_days=end_day).write(tmp_path, name)
        log.lines.clear()
        CertificateStore([paths], log).load(time.time())
        if text:
            assert f"{name}.crt {text}" in log.lines[0]
        else:
            assert log.lines == []


def test_the_descriptor_limit_is_raised_as_far_as_it_goes(log):
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        # a process of its own: limits cannot be lowered and raised again without privileges
        resource.setrlimit(resource.RLIMIT_NOFILE, (256, 1024))
        raise_descriptor_limit(500, log)
        first = resource.getrlimit(resource.RLIMIT_NOFILE)
        raise_descriptor_limit(100, log)
        unchanged = resource.getrlimit(resource.RLIMIT_NOFILE) == first
        os.write(write, f"{first[0]} {unchanged} {len(log.lines)}".encode())
        os._exit(0)
    os.close(write)
    with os.fdopen(read) as stream:
        assert stream.read() == "564 True 0"
    assert os.waitpid(child, 0)[1] == 0


def test_access_view_is_the_compiled_table():
    tables = Tables()
    tables.set(ip_network("10.0.0.0/8"))
    assert AccessView(tables.table).check(bytes([10, 1, 1, 1]))
