"""The generator with its sockets: what a load is, and one set up against a target.

Sockets are bound to the wildcard and name the source of each message in a control message, so one of them
plays any number of clients. On loopback every address of 127.0.0.0/8 is ours; for IPv6 a prefix has to be
routed to the machine (`network.private_network` does it in a namespace).
"""

import ipaddress
import secrets
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

from loadtest._generate import Generator
from loadtest.histogram import Histogram
from loadtest.targets import Address, Target

RECEIVE_BUFFER = 8 << 20  # bytes; the generator must not be the one who loses answers

# linux/net_tstamp.h; asm-generic/socket.h (Python's socket module names none of them)
SO_RCVBUFFORCE = 33
SO_TIMESTAMPING = 37
SOF_TIMESTAMPING_RX_SOFTWARE = 1 << 3
SOF_TIMESTAMPING_SOFTWARE = 1 << 4
IP_FREEBIND = 15
IPV6_FREEBIND = 78

# counters of answers that no request explains, or that contradict themselves
WRONG = ("duplicate", "unknown", "foreign", "wrong_length", "wrong_mode", "disordered", "bad_interleaved")

# makes (bank, request size) from the seed of the nonces
BankBuilder = Callable[[int], tuple[bytes, int]]


@dataclass(frozen=True)
class Load:
    """Who asks and how, without the rate.

    clients: how many addresses ask in turn, the first at `first` and each next one 1 << shift further.
    sockets: source ports they share. seal_key: the bank holds NTS requests that are completed and sealed with this key
    as they are sent, which interleaved ones have to be. answer_size: bytes of a right answer (default: as the request).
    """

    clients: int = 1
    first: Address | None = None
    shift: int = 0
    sockets: int = 1
    interleaved: bool = False
    bank: BankBuilder | None = None
    seal_key: bytes | None = None
    answer_size: int | None = None
    version: int = 4
    mode: int = 3
    segments: int = 1
    stamps: bool = True


@dataclass
class Result:
    """What one run saw. Times in ns unless named otherwise."""

    elapsed_s: float
    counters: dict[str, int]
    latency: Histogram
    tx_error: Histogram
    request_delay: Histogram
    samples: list[tuple[int, bytes]] = field(default_factory=list)

    @property
    def offered_per_s(self) -> float:
        return self.counters["sent"] / self.elapsed_s

    @property
    def answered_per_s(self) -> float:
        return self.counters["answered"] / self.elapsed_s

    @property
    def loss(self) -> float:
        """Share of the requests that got no answer in time."""
        return 1 - self.counters["answered"] / self.counters["sent"] if self.counters["sent"] else 0.0

    @property
    def wrong(self) -> dict[str, int]:
        """Counters that must be 0 when server and generator are right."""
        return {name: self.counters[name] for name in WRONG if self.counters[name]}


def open_socket(family: int, stamps: bool) -> socket.socket:
    """One datagram socket of the generator's, with room for what it cannot fetch at once."""
    sock = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
    try:
        try:
            sock.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, RECEIVE_BUFFER)
        except PermissionError:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            sock.setsockopt(socket.IPPROTO_IPV6, IPV6_FREEBIND, 1)
        else:
            sock.setsockopt(socket.IPPROTO_IP, IP_FREEBIND, 1)
        if stamps:
            flags = SOF_TIMESTAMPING_RX_SOFTWARE | SOF_TIMESTAMPING_SOFTWARE
            sock.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPING, flags)
        sock.bind(("::" if family == socket.AF_INET6 else "0.0.0.0", 0))
    except OSError:
        sock.close()
        raise
    return sock


class Client:
    """A generator ready to run. Counters start at 0 with each run; what clients know of the server stays."""

    def __init__(self, target: Target, load: Load, sockets: list[socket.socket]) -> None:
        self.seed = secrets.randbits(64)
        bank, size = load.bank(self.seed) if load.bank else (None, 48)
        first = load.first
        if first is None and load.clients > 1:
            first = ipaddress.ip_address("127.1.0.0") if target.address.version == 4 else None
        self.ports = [sock.getsockname()[1] for sock in sockets]
        self.load = load
        self.bank = bank
        self.request_size = size
        self._generator = Generator(
            [sock.fileno() for sock in sockets],
            target.address.packed,
            target.port,
            base=first.packed if first else None,
            clients=load.clients,
            shift=load.shift,
            header=load.version << 3 | load.mode,
            answer_size=load.answer_size or size,
            interleaved=load.interleaved,
            bank=bank,
            request_size=size,
            stamps=load.stamps,
            segments=load.segments,
            seed=self.seed,
            seal_key=load.seal_key,
        )

    def request(self, sequence: int) -> bytes:
        """The prebuilt request that carried this sequence number; of a sealed one, the template it was made from."""
        if self.bank is None:
            raise ValueError("fresh requests are not kept")
        index = sequence % (len(self.bank) // self.request_size)
        return self.bank[index * self.request_size : (index + 1) * self.request_size]

    def run(
        self,
        duration_s: float,
        *,
        rate: float = 0.0,
        window: int = 0,
        burst: int = 1,
        poisson: bool = False,
        sleep: bool = False,
        timeout_s: float = 0.2,
        limit: int = 0,
    ) -> Result:
        """One run; see `Generator.run`."""
        self._generator.reset()
        elapsed_s = self._generator.run(
            duration_s,
            rate=rate,
            window=window,
            burst=burst,
            poisson=poisson,
            sleep=sleep,
            timeout_s=timeout_s,
            limit=limit,
        )
        return Result(
            elapsed_s,
            self._generator.counters(),
            Histogram.of(self._generator, "latency"),
            Histogram.of(self._generator, "tx_error"),
            Histogram.of(self._generator, "request_delay"),
            self._generator.samples(),
        )


@contextmanager
def client(target: Target, load: Load) -> Iterator[Client]:
    """A client with its sockets open. OSError when one cannot be had."""
    family = socket.AF_INET if target.address.version == 4 else socket.AF_INET6
    with ExitStack() as stack:
        sockets = [stack.enter_context(open_socket(family, load.stamps)) for _ in range(load.sockets)]
        yield Client(target, load, sockets)
