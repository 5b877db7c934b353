"""The clients of a soak: a few kinds of them at a steady, bounded rate, ever new ones among them.

Each kind runs in a thread of its own; the generator's loop does not hold the interpreter's lock. Nothing here judges.
"""

import random
import threading
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass, replace
from ipaddress import IPv4Address
from pathlib import Path

from loadtest.client import Client, Load, Result, client
from loadtest.nts import Session, answer_holds, exchange_keys, templates
from loadtest.targets import Target
from tests.soak.priority import take_clients

# What a whole soak may send, whatever is asked for: a test, not a siege.
RATE_MAX = 100_000.0
TURN_S = 1.0
# Far longer than the daemon lets a request wait before it drops it.
TIMEOUT_S = 2.0
TEMPLATES = 64
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
    Kind("nts", 0.05, 64, 5.0, nts=True),
    Kind("nts interleaved", 0.05, 64, 5.0, interleaved=True, nts=True),
)


class Clients(threading.Thread):
    """One kind of client against `target`. `counters` sum up everything; `failure` is what ended it early.

    NTS requests are sealed as they are sent, so that no two are alike; `unauthentic` counts those answers among some of
    them that do not prove who sent them.
    """

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
        session = None
        if self.kind.nts:
            session = exchange_keys(self._key_exchange)
            self.counters["key_exchanges"] += 1
        with ExitStack() as stack:
            sender = stack.enter_context(client(self._target, self._load(session)))
            for _ in range(round(self.kind.lives_s / TURN_S)):
                if self._ends.is_set():
                    break
                result = sender.run(TURN_S, rate=self._rate, poisson=True, sleep=True, timeout_s=TIMEOUT_S)
                self.counters.update(result.counters)
                self.latency_max_ns = max(self.latency_max_ns, result.latency.maximum)
                if session is not None:
                    self._verify(session, sender, result)
            self.buffer_drops += drops(sender)

    def _load(self, session: Session | None) -> Load:
        # in 127.1.0.0 … 127.254.255.255, whole sets
        first = _LOOPBACK_FIRST + self._random.randrange(0xFC0000)
        load = Load(
            clients=self.kind.clients,
            first=IPv4Address(first),
            interleaved=self.kind.interleaved,
            stamps=False,
        )
        if session is None:
            return load
        return replace(load, bank=lambda _: templates(TEMPLATES, session), seal_key=session.c2s)

    def _verify(self, session: Session, sender: Client, result: Result) -> None:
        for sequence, datagram in result.samples:
            self.counters["verified"] += 1
            if not answer_holds(session, sender.request(sequence), datagram):
                self.counters["unauthentic"] += 1


def drops(sender: Client) -> int:
    """Datagrams that the receive buffers of this client's sockets had no room for."""
    total = 0
    for line in Path("/proc/net/udp").read_text().splitlines()[1:]:
        fields = line.split()
        if int(fields[1].partition(":")[2], 16) in sender.ports:
            total += int(fields[-1])
    return total
