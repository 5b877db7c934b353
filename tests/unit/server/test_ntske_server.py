"""The KE server's sockets: limits, deadlines, descriptors that run out. Loopback only."""

import asyncio
import contextlib
import os
import resource
import socket
import struct
import time

import pytest

from ntpd_fast._nts import KeyRing
from ntpd_fast.nts.records import encode, error_records, request_records
from ntpd_fast.server.ntske_counters import COUNTER_BYTES, KeCounters
from ntpd_fast.server.ntske_process import raise_descriptor_limit
from tests.unit.server.ntske import SIV, exchange, granted, greeting, half_open, is_closed, publish, take_greeting


async def dribble(authority, port, pieces):
    """An exchange whose bytes after the first flight come as `pieces` cuts them; what the server answered."""
    loop = asyncio.get_running_loop()
    async with greeting(authority, port) as (sock, client):
        await take_greeting(sock, client)
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
        async with greeting(authority, port) as (sock, _):
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
        async with greeting(authority, port) as (sock, client):
            await take_greeting(sock, client)
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
    async with greeting(authority, port) as (sock, client):
        await take_greeting(sock, client)
        client.write(encode(request_records([SIV])))
        await loop.sock_sendall(sock, client.out())
        await asyncio.sleep(0.05)
        # the data and the reset come in one event
        await loop.sock_sendall(sock, b"more")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


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
        async with greeting(authority, port) as (sock, client):
            await take_greeting(sock, client)
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


def test_counters_can_be_read_by_others():
    memory = bytearray(COUNTER_BYTES)
    KeCounters(memory).add("served", 3)
    assert KeCounters(memory).read()["served"] == 3
    assert sum(KeCounters(memory).read().values()) == 3


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
