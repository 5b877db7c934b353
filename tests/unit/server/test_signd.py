"""The signing client against a scripted signing daemon."""

from __future__ import annotations

import asyncio
import json
import struct
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from ntpd_fast.server.signd import QUEUE_MAX, SIGNED_MAX, SigndClient
from ntpd_fast.system.messages import Severity

VECTOR = json.loads((Path(__file__).parents[2] / "data" / "ntp_vectors.json").read_text())["signd"]
KEY_ID = bytes.fromhex("04030201")
ANSWER = bytes.fromhex(VECTOR["request"])[20:]

Script = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def signed_reply(packet_id: int, packet: bytes, *, operation: int = 3, version: int = 0) -> bytes:
    return struct.pack(">IIII", 12 + len(packet), version, operation, packet_id) + packet


async def read_request(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    """Packet id and answer of the next request."""
    size = int.from_bytes(await reader.readexactly(4), "big")
    request = await reader.readexactly(size)
    version, operation, packet_id, zero, key_id = struct.unpack_from(">IIHH4s", request)
    assert (version, operation, zero, key_id) == (0, 0, 0, KEY_ID)
    return packet_id, request[16:]


class Harness:
    """A client, the daemon it talks to, and everything they did."""

    def __init__(self, directory: Path, script: Script | None, *, reply_timeout_s: float = 5.0) -> None:
        self.directory = directory
        self.script = script
        self.delivered: list[tuple[int, bytes]] = []
        self.messages: list[tuple[Severity, str]] = []
        self.connections = 0
        self.client = SigndClient[int](str(directory), self._deliver, self._log, reply_timeout_s=reply_timeout_s)

    def _deliver(self, context: int, packet: bytes) -> None:
        self.delivered.append((context, packet))

    def _log(self, severity: Severity, text: str) -> None:
        self.messages.append((severity, text))

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        assert self.script is not None
        try:
            await self.script(reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # the client hung up, as scripts let it
        finally:
            writer.close()

    async def __aenter__(self) -> Harness:
        self.server = None
        if self.script is not None:
            self.server = await asyncio.start_unix_server(self._accept, str(self.directory / "socket"))
        return self

    async def __aexit__(self, *_: object) -> None:
        self.client.close()
        if self.server is not None:
            self.server.close()

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(10):
            while not condition():
                await asyncio.sleep(0.002)


async def sign_everything(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while True:
        packet_id, answer = await read_request(reader)
        writer.write(signed_reply(packet_id, answer + KEY_ID + bytes(16)))


def test_the_request_is_the_recorded_one(tmp_path: Path) -> None:
    seen = bytearray()

    async def record(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.extend(await reader.readexactly(68))
        writer.write(bytes.fromhex(VECTOR["response_example"]))
        await reader.read()

    async def run() -> None:
        async with Harness(tmp_path, record) as harness:
            harness.client._packet_id = 2
            assert harness.client.submit(KEY_ID, ANSWER, 77)
            await harness.until(lambda: bool(harness.delivered))
            assert harness.delivered == [(77, bytes.fromhex(VECTOR["response_example"])[16:])]

    asyncio.run(run())
    assert bytes(seen) == bytes.fromhex(VECTOR["request"])


def test_answers_come_back_in_order_over_one_connection(tmp_path: Path) -> None:
    async def run() -> None:
        async with Harness(tmp_path, sign_everything) as harness:
            for turn in range(5):
                for i in range(QUEUE_MAX):
                    assert harness.client.submit(KEY_ID, ANSWER, turn * QUEUE_MAX + i)
                wanted = (turn + 1) * QUEUE_MAX
                await harness.until(lambda wanted=wanted: len(harness.delivered) == wanted)
            assert [context for context, _ in harness.delivered] == list(range(5 * QUEUE_MAX))
            assert harness.connections == 1
            assert harness.client.counters.signed == 5 * QUEUE_MAX

    asyncio.run(run())


def test_one_request_is_in_flight(tmp_path: Path) -> None:
    async def run() -> None:
        release = asyncio.Event()
        arrived: list[int] = []

        async def hold(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            while True:
                packet_id, answer = await read_request(reader)
                arrived.append(packet_id)
                await release.wait()
                assert not reader._buffer, "a second request before the first was answered"
                writer.write(signed_reply(packet_id, answer))

        async with Harness(tmp_path, hold) as harness:
            for i in range(3):
                harness.client.submit(KEY_ID, ANSWER, i)
            await harness.until(lambda: len(arrived) == 1)
            await asyncio.sleep(0.05)
            assert len(arrived) == 1
            release.set()
            await harness.until(lambda: len(harness.delivered) == 3)

    asyncio.run(run())


def test_the_queue_is_bounded_and_counted(tmp_path: Path) -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    async def run() -> None:
        async with Harness(tmp_path, silent) as harness:
            accepted = [harness.client.submit(KEY_ID, ANSWER, i) for i in range(QUEUE_MAX + 5)]
            assert accepted == [True] * QUEUE_MAX + [False] * 5
            assert harness.client.counters.full == 5

    asyncio.run(run())


def test_a_refusal_costs_only_its_own_request(tmp_path: Path) -> None:
    async def refuse_first(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        packet_id, _ = await read_request(reader)
        writer.write(signed_reply(packet_id, b"", operation=4))
        await sign_everything(reader, writer)

    async def run() -> None:
        async with Harness(tmp_path, refuse_first) as harness:
            for i in range(3):
                harness.client.submit(KEY_ID, ANSWER, i)
            await harness.until(lambda: len(harness.delivered) == 2)
            assert [context for context, _ in harness.delivered] == [1, 2]
            assert harness.client.counters.refused == 1
            assert harness.connections == 1
            assert harness.messages == []

    asyncio.run(run())


def test_a_reply_in_pieces_is_put_together(tmp_path: Path) -> None:
    async def dribble(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        packet_id, answer = await read_request(reader)
        for byte in signed_reply(packet_id, answer + KEY_ID + bytes(16)):
            writer.write(bytes([byte]))
            await writer.drain()
            await asyncio.sleep(0)
        await reader.read()

    async def run() -> None:
        async with Harness(tmp_path, dribble) as harness:
            harness.client.submit(KEY_ID, ANSWER, 5)
            await harness.until(lambda: bool(harness.delivered))
            assert harness.delivered == [(5, ANSWER + KEY_ID + bytes(16))]

    asyncio.run(run())


@pytest.mark.parametrize(
    "reply",
    [
        signed_reply(2, bytes(68)),
        signed_reply(1, bytes(68), version=1),
        signed_reply(1, bytes(SIGNED_MAX + 1)),
        struct.pack(">I", 11) + bytes(11),
        struct.pack(">I", 0xFFFFFFFF),
        signed_reply(1, bytes(68)) + b"\0\0\0\x50more",
        b"",
    ],
    ids=["other id", "other version", "too long", "too short", "absurd length", "more than asked for", "hang up"],
)
def test_on_any_error_the_queue_empties_and_the_next_request_connects_again(tmp_path: Path, reply: bytes) -> None:
    first = True

    async def fail_once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal first
        if not first:
            await sign_everything(reader, writer)
        first = False
        await read_request(reader)
        writer.write(reply)
        await writer.drain()
        if reply:
            await reader.read()

    async def run() -> None:
        async with Harness(tmp_path, fail_once) as harness:
            for i in range(1 if b"more" in reply else 4):
                harness.client.submit(KEY_ID, ANSWER, i)
            await harness.until(lambda: not harness.client.connected)
            counters = harness.client.counters
            assert counters.signed + counters.failed == (1 if b"more" in reply else 4)
            assert len(harness.messages) == (counters.failed > 0)
            harness.delivered.clear()
            harness.client.submit(KEY_ID, ANSWER, 9)
            await harness.until(lambda: bool(harness.delivered))
            assert harness.delivered == [(9, ANSWER + KEY_ID + bytes(16))]
            assert harness.connections == 2

    asyncio.run(run())


def test_a_silent_daemon_is_given_up(tmp_path: Path) -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    async def run() -> None:
        async with Harness(tmp_path, silent, reply_timeout_s=0.05) as harness:
            for i in range(3):
                harness.client.submit(KEY_ID, ANSWER, i)
            await harness.until(lambda: harness.client.counters.failed == 3)
            assert harness.messages == [(Severity.WARNING, "No reply from signd")]

    asyncio.run(run())


def test_without_a_daemon_requests_are_dropped_and_told_once(tmp_path: Path) -> None:
    async def run() -> None:
        async with Harness(tmp_path, None) as harness:
            for i in range(3):
                harness.client.submit(KEY_ID, ANSWER, i)
                await harness.until(lambda wanted=i + 1: harness.client.counters.failed == wanted)
            text = f"Could not connect to signd socket {tmp_path}/socket : No such file or directory"
            assert harness.messages == [(Severity.WARNING, text)]

    asyncio.run(run())


def test_close_while_connecting_and_while_waiting(tmp_path: Path) -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    async def run() -> None:
        async with Harness(tmp_path, silent) as harness:
            harness.client.submit(KEY_ID, ANSWER, 1)
            harness.client.close()
            assert harness.client.counters.failed == 1
            harness.client.submit(KEY_ID, ANSWER, 2)
            await harness.until(lambda: harness.connections > 0)
            harness.client.close()
            assert harness.client.counters.failed == 2
            await asyncio.sleep(0.01)
            assert harness.messages == []

    asyncio.run(run())
