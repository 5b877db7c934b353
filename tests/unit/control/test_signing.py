"""Signing in control: the signing daemon can change under way, and what it cost is counted over all of them."""

import asyncio
import socket
import struct
from ipaddress import ip_address

from ntpd_fast.client.stamps import StampSource
from ntpd_fast.control.associations import Handed
from ntpd_fast.control.signing import Signer

SIGNED = b"S" * 68


async def play_samba(path, connections):
    """A signing daemon that signs everything and notes who is connected."""

    async def serve(reader, writer):
        connections.add(writer)
        try:
            while head := await reader.readexactly(4):
                request = await reader.readexactly(struct.unpack(">I", head)[0])
                body = struct.pack(">III", 0, 3, struct.unpack_from(">H", request, 8)[0]) + SIGNED
                writer.write(struct.pack(">I", len(body)) + body)
        except asyncio.IncompleteReadError:
            connections.discard(writer)
            writer.close()

    path.mkdir()
    return await asyncio.start_unix_server(serve, path / "socket")


def to_be_signed(port):
    home = ip_address("127.0.0.1")
    return Handed(
        to_sign=True, remote=home, port=port, local=home, interface=0, data=bytes(48), key_id=1, rx_raw_ns=0,
        rx_source=StampSource.KERNEL,
    )


async def until(condition):
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.01)


def test_another_directory_takes_effect_and_leaves_no_connection(tmp_path):
    told = []

    async def main():
        loop = asyncio.get_running_loop()
        with socket.socket(type=socket.SOCK_DGRAM) as ours, socket.socket(type=socket.SOCK_DGRAM) as client:
            ours.bind(("127.0.0.1", 0))
            client.bind(("127.0.0.1", 0))
            client.setblocking(False)
            handed = to_be_signed(client.getsockname()[1])
            first, second = set(), set()
            servers = [await play_samba(tmp_path / "a", first), await play_samba(tmp_path / "b", second)]
            signer = Signer(None, lambda: [ours], lambda severity, text: told.append(text))
            signer.sign(handed)  # nobody signs: it is gone
            for directory, here, gone in (("a", first, second), ("b", second, first)):
                signer.follow(str(tmp_path / directory))
                signer.sign(handed)
                async with asyncio.timeout(20):
                    assert await loop.sock_recv(client, 2000) == SIGNED
                await until(lambda here=here, gone=gone: len(here) == 1 and not gone)
            signer.follow(None)
            await until(lambda: not second)
            for server in servers:
                server.close()
            return signer.counters

    counters = asyncio.run(main())
    assert (counters.signed, counters.full, counters.failed, counters.unsent) == (2, 0, 0, 0)
    assert told == ["MS-SNTP authentication enabled"] * 2


def test_what_cannot_be_sent_is_counted(tmp_path):
    async def main():
        servers = await play_samba(tmp_path / "a", set())
        signer = Signer(str(tmp_path / "a"), list, lambda severity, text: None)
        signer.sign(to_be_signed(9))
        await until(lambda: signer.counters.unsent == 1)
        signer.close()
        servers.close()

    asyncio.run(main())


def test_an_answer_leaves_from_the_address_that_was_asked(tmp_path):
    async def main():
        loop = asyncio.get_running_loop()
        with (
            socket.socket(type=socket.SOCK_DGRAM) as other,
            socket.socket(type=socket.SOCK_DGRAM) as asked,
            socket.socket(type=socket.SOCK_DGRAM) as client,
        ):
            other.bind(("127.0.0.2", 0))
            asked.bind(("127.0.0.1", 0))
            client.bind(("127.0.0.1", 0))
            client.setblocking(False)
            servers = await play_samba(tmp_path / "a", set())
            signer = Signer(str(tmp_path / "a"), lambda: [other, asked], lambda severity, text: None)
            signer.sign(to_be_signed(client.getsockname()[1]))
            async with asyncio.timeout(20):
                _, sender = await loop.sock_recvfrom(client, 2000)
            signer.close()
            servers.close()
            assert sender == asked.getsockname()

    asyncio.run(main())
