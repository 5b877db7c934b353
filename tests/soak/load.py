"""The clients of a soak: a few kinds of them at a steady, bounded rate, ever new ones among them.

Each kind runs in a thread of its own; the generator's loop does not hold the interpreter's lock. Nothing here judges.
"""

import random
import threading
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from ipaddress import IPv4Address
from pathlib import Path

from loadtest.client import Client, Load, Result, client
from loadtest.nts import Session, exchange_keys, sealed_bank
from loadtest.targets import Target
from tests.soak.priority import take_clients

# What a whole soak may send, whatever is asked for: a test, not a siege.
RATE_MAX = 100_000.0
TURN_S = 1.0
# Far longer than the daemon lets a request wait before it drops it.
TIMEOUT_S = 2.0
BANK = 64
_LOOPBACK_FIRST = 0x7F010000


@dataclass(frozen=True)
class Kind:
    """`share` of the rate; a new set of `clients` every `lives_s` seconds."""

    name: str
    share: float
    clients: int
    lives_s: float
    interleaved: bool = False
    nts: bool = False


# The sets of basic clients are large and short-lived, so that client log and timestamp map turn over.
KINDS = (
    Kind("basic", 0.55, 4096, 30.0),
    Kind("interleaved", 0.35, 256, 120.0, interleaved=True),
    Kind("nts", 0.10, 1, 5.0, nts=True),
)


class Clients(threading.Thread):
    """One kind of client against `target`. `counters` sum up everything; `failure` is what ended it early."""

    def __init__(
        self, kind: Kind, target: Target, key_exchange: Target, rate: float, seed: int, *, realtime: bool = False
    ) -> None:
        super().__init__(name=kind.name, daemon=True)
        self.kind = kind
        self.counters: Counter[str] = Counter()
        self.buffer_drops = 0
        """Answers that our own receive buffer had no room for."""
        self.latency_max_ns = 0
        self.failure: BaseException | None = None
        self._target = target
        self._key_exchange = key_exchange
        self._rate = rate
        self._random = random.Random(seed)
        self._realtime = realtime
        self._ends = threading.Event()

    def end(self) -> None:
        """Send no more, and wait for the answers that are due."""
        self._ends.set()
        self.join()

    def run(self) -> None:
        try:
            if self._realtime:
                take_clients()
            while not self._ends.is_set():
                self._live()
        except BaseException as error:
            self.failure = error
            raise

    def _live(self) -> None:
        """A set of clients from its first request to its last."""
        with ExitStack() as stack:
            sender = stack.enter_context(client(self._target, self._load()))
            for _ in range(round(self.kind.lives_s / TURN_S)):
                if self._ends.is_set():
                    break
                self._account(
                    sender.run(TURN_S, rate=self._rate, poisson=True, sleep=True, timeout_s=TIMEOUT_S)
                )
            self.buffer_drops += drops(sender)

    def _load(self) -> Load:
        # in 127.1.0.0 … 127.254.255.255, whole sets
        first = _LOOPBACK_FIRST + self._random.randrange(0xFC0000)
        bank: Callable[[int], tuple[bytes, int]] | None = None
        if self.kind.nts:
            session: Session = exchange_keys(self._key_exchange)
            self.counters["key_exchanges"] += 1
            bank = partial(_bank, session)
        return Load(
            clients=self.kind.clients,
            first=IPv4Address(first),
            interleaved=self.kind.interleaved,
            bank=bank,
            stamps=False,
        )

    def _account(self, result: Result) -> None:
        self.counters.update(result.counters)
        self.latency_max_ns = max(self.latency_max_ns, result.latency.maximum)


def _bank(session: Session, seed: int) -> tuple[bytes, int]:
    return sealed_bank(BANK, seed, session)


def drops(sender: Client) -> int:
    """Datagrams that the receive buffers of this client's sockets had no room for."""
    total = 0
    for line in Path("/proc/net/udp").read_text().splitlines()[1:]:
        fields = line.split()
        if int(fields[1].partition(":")[2], 16) in sender.ports:
            total += int(fields[-1])
    return total
