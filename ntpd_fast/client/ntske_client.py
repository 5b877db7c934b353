"""NTS key exchange as a client: TLS to the KE server, its certificate checked, keys and cookies for NTP.

`KeExchange` is the exchange without I/O. `KeClient` is the glue that runs it on a socket of its own inside the event
loop: nothing here waits for the network or a name. Whatever goes wrong is a `KeFailure`
with one line for the log; how long to wait before the next attempt follows from how far it got (nts.md §6).
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable, Sequence
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Protocol

from ntpd_fast._record import dataclass
from ntpd_fast._tls import AlpnError, Credentials, Session, TlsError, set_time_offset
from ntpd_fast.client.resolver import Resolution, Resolver
from ntpd_fast.nts.keys import export_keys
from ntpd_fast.nts.records import (
    AES_128_GCM_SIV,
    ALPN,
    BadResponse,
    BrokenMessage,
    MessageReader,
    Response,
    encode,
    is_address,
    read_response,
    request_records,
)

IPAddress = IPv4Address | IPv6Address

SESSION_TIMEOUT_S = 16.0
READ_SIZE = 16384
RETRY_LOG2_UNREACHABLE = 4
"""First wait after a server that was not there: 2^4 s."""
RETRY_LOG2_ANSWERED = 10
"""First wait after a server that was there, whatever came of it: 2^10 s."""


@dataclass(frozen=True)
class KeKeys:
    """A completed exchange. The alternate pair is for servers that may export AES-128-GCM-SIV keys differently."""

    algorithm: int
    c2s: bytes
    s2c: bytes
    cookies: tuple[bytes, ...]
    alternate: tuple[bytes, bytes] | None = None
    server: str | None = None
    """NTP server the KE server named: an address or a name; None: itself."""
    port: int | None = None
    """Its NTP port; None: the configured one."""

    def __repr__(self) -> str:
        return f"KeKeys(AEAD {self.algorithm}, {len(self.cookies)} cookies)"


@dataclass(frozen=True)
class KeFailure:
    """An exchange that gave no keys."""

    text: str
    retry_log2: int = RETRY_LOG2_ANSWERED
    """log2 of the first wait in seconds; every further attempt doubles it."""


class KeExchange:
    """One exchange over a connection that exists. Send what `start` and `receive` give until there is a `result`."""

    def __init__(
        self, credentials: Credentials, name: str, algorithms: Sequence[int], where: str, *, check_times: bool
    ) -> None:
        """`name` is verified, and sent unless it is an address; `where` names the server in messages."""
        self._algorithms = tuple(algorithms)
        self._where = where
        verified = name.rstrip(".")
        self._tls = Session(
            credentials,
            ALPN,
            server_side=False,
            peer_name=verified,
            send_name=not is_address(verified),
            check_times=check_times,
        )
        self._reader: MessageReader | None = None
        self.result: KeKeys | KeFailure | None = None

    @property
    def handshake_done(self) -> bool:
        return self._reader is not None

    def start(self) -> bytes:
        """The first bytes for the server."""
        self._tls.handshake()
        return self._tls.out()

    def receive(self, data: bytes) -> bytes:
        """Bytes from the server (empty: it hung up); bytes for it."""
        if self.result is not None:
            return b""
        try:
            self._tls.feed(data)
            if self._reader is None and self._tls.handshake():
                self._reader = MessageReader()
                self._tls.write(encode(request_records(self._algorithms)))
            if self._reader is not None:
                self._read(self._reader)
        except AlpnError:
            self.result = KeFailure(f"NTS-KE not supported by {self._where}")
        except TlsError as error:
            hung_up = not data and self._reader is None
            text = f"TLS handshake with {self._where} failed : {error}"
            self.result = KeFailure(text, RETRY_LOG2_UNREACHABLE if hung_up else RETRY_LOG2_ANSWERED)
        except (BrokenMessage, BadResponse) as error:
            self.result = KeFailure(f"Received invalid NTS-KE message from {self._where} : {error}")
            self._tls.close()
        return self._tls.out()

    def _read(self, reader: MessageReader) -> None:
        while (data := self._tls.read()) is not None:
            if not data:
                raise BrokenMessage("closed before the End of Message record")
            records = reader.feed(data)
            if records is not None:
                self.result = self._keys(read_response(records, self._algorithms))
                self._tls.close()
                return

    def _keys(self, response: Response) -> KeKeys:
        algorithm = response.algorithm
        compliant = response.compliant_export or algorithm != AES_128_GCM_SIV
        c2s, s2c = export_keys(self._tls, algorithm, compliant=compliant)
        alternate = None if compliant else export_keys(self._tls, algorithm)
        return KeKeys(
            algorithm, c2s, s2c, tuple(response.cookies), alternate, response.server, response.port
        )


@dataclass(frozen=True)
class KeRequest:
    """Where to get keys."""

    name: str
    """As configured: what the certificate has to be for."""
    address: IPAddress
    port: int
    algorithms: Sequence[int]
    certset: int = 0


class KeHandle(Protocol):
    """An exchange under way."""

    def cancel(self) -> object:
        """Give up; `done` is not called any more."""


KeDone = Callable[[KeKeys | KeFailure, IPAddress | None], None]
"""Takes the result and, with keys, the address of the NTP server."""


class KeyExchanger(Protocol):
    """Runs exchanges: `KeClient`, or something simulated."""

    def start(self, request: KeRequest, done: KeDone) -> KeHandle | None:
        """Begin; `done` is called once, later. None: cannot even begin."""


class Trust(Protocol):
    """Where the trusted certificates come from."""

    def credentials(self, certset: int) -> Credentials:
        """What is trusted under a `certset`. TlsError when it cannot be had."""


class KeClient:
    """Key exchanges of the daemon, each a task of the event loop."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        trust: Trust,
        resolver: Resolver,
        *,
        check_times: Callable[[], bool] = lambda: True,
        time_offset_s: Callable[[], float] = lambda: 0.0,
        bind_addresses: Sequence[IPAddress] = (),
        bind_device: str | None = None,
        timeout_s: float = SESSION_TIMEOUT_S,
    ) -> None:
        """
        check_times: whether validity periods count (`nocerttimecheck`). time_offset_s: corrected time minus system
        clock. bind_addresses, bind_device: `bindacqaddress` of each family, `bindacqdevice`.
        """
        self._loop = loop
        self._trust = trust
        self._resolver = resolver
        self._check_times = check_times
        self._time_offset_s = time_offset_s
        self.bind_to(bind_addresses, bind_device)
        self._timeout_s = timeout_s

    def bind_to(self, addresses: Sequence[IPAddress], device: str | None) -> None:
        """Connect from these addresses (at most one of each family) and this interface from now on."""
        self._bind = {address.version: address for address in addresses}
        self._device = device

    def start(self, request: KeRequest, done: KeDone) -> KeHandle | None:
        """See `KeyExchanger`."""
        where = f"{_endpoint(request.address, request.port)} ({request.name})"
        try:
            sock = self._socket(request.address.version)
        except OSError:
            return None

        async def run() -> None:
            with sock:
                result = await self._exchange(sock, request, where)
            address: IPAddress | None = None
            if isinstance(result, KeKeys):
                address = await self._ntp_address(result, request)
                if address is None:
                    result = KeFailure(f"Could not resolve NTP server {result.server} of {where}")
            done(result, address)

        return self._loop.create_task(run())

    def _socket(self, version: int) -> socket.socket:
        sock = socket.socket(socket.AF_INET if version == 4 else socket.AF_INET6)
        try:
            sock.setblocking(False)
            if self._device is not None:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, self._device.encode())
            if version in self._bind:
                sock.bind((str(self._bind[version]), 0))
        except OSError:
            sock.close()
            raise
        return sock

    async def _exchange(self, sock: socket.socket, request: KeRequest, where: str) -> KeKeys | KeFailure:
        try:
            exchange = KeExchange(
                self._trust.credentials(request.certset),
                request.name,
                request.algorithms,
                where,
                check_times=self._check_times(),
            )
        except TlsError as error:
            return KeFailure(f"Could not start NTS-KE with {where} : {error}")
        connected = False
        try:
            async with asyncio.timeout(self._timeout_s):
                await self._loop.sock_connect(sock, (str(request.address), request.port))
                connected = True
                return await self._converse(sock, exchange)
        except TimeoutError:
            retry_log2 = RETRY_LOG2_ANSWERED if exchange.handshake_done else RETRY_LOG2_UNREACHABLE
            return KeFailure(f"NTS-KE session with {where} timed out", retry_log2)
        except OSError as error:
            if not connected:
                return KeFailure(f"Could not connect to {where} : {_reason(error)}", RETRY_LOG2_UNREACHABLE)
            retry_log2 = RETRY_LOG2_ANSWERED if exchange.handshake_done else RETRY_LOG2_UNREACHABLE
            return KeFailure(f"TLS handshake with {where} failed : {_reason(error)}", retry_log2)

    async def _converse(self, sock: socket.socket, exchange: KeExchange) -> KeKeys | KeFailure:
        out = exchange.start()
        while True:
            if out:
                await self._loop.sock_sendall(sock, out)
            if exchange.result is not None:
                return exchange.result
            data = await self._loop.sock_recv(sock, READ_SIZE)
            # certificates are judged by the daemon's time, which may be far from the system clock's
            set_time_offset(self._time_offset_s())
            out = exchange.receive(data)
            if not data:
                # nobody is there any more to read an alert
                out = b""

    async def _ntp_address(self, keys: KeKeys, request: KeRequest) -> IPAddress | None:
        if keys.server is None:
            return request.address
        if is_address(keys.server):
            return ip_address(keys.server)
        answer: asyncio.Future[Resolution] = self._loop.create_future()

        def resolved(resolution: Resolution) -> None:
            if not answer.done():
                answer.set_result(resolution)

        # absolute: the name is the server's, not one of this machine's search list
        self._resolver.resolve(keys.server.rstrip(".") + ".", resolved)
        addresses = (await answer).addresses
        same_family = [address for address in addresses if address.version == request.address.version]
        return next(iter([*same_family, *addresses]), None)


def _reason(error: OSError) -> str:
    # event loops put a text of their own into strerror
    return os.strerror(error.errno) if error.errno else str(error)


def _endpoint(address: IPAddress, port: int) -> str:
    return f"[{address}]:{port}" if address.version == 6 else f"{address}:{port}"
