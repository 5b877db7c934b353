"""A small steady load on a daemon, each answer matched with its request: what is lost is known by number."""

import contextlib
import math
import select
import socket
import struct
import threading
import time
from dataclasses import dataclass, field

REQUESTS_A_SECOND = 1500


@dataclass
class Load:
    """Requests from one address at a steady rate; every answer is matched by its originate timestamp."""

    address: str
    port: int
    sent_ns: list[int] = field(default_factory=list)
    answered_ns: dict[int, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            client.bind((self.address, 0))
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
            client.connect(("127.0.0.1", self.port))
            client.setblocking(False)
            started = time.monotonic()
            while not self._stop.is_set():
                self._receive(client, 0.0005)
                due = int((time.monotonic() - started) * REQUESTS_A_SECOND)
                # after a pause of our own, no burst
                for _ in range(min(due - len(self.sent_ns), 20)):
                    self.sent_ns.append(time.monotonic_ns())
                    client.send(struct.pack("!B39xQ", 4 << 3 | 3, len(self.sent_ns)))
            deadline = time.monotonic() + 2
            while len(self.answered_ns) < len(self.sent_ns) and time.monotonic() < deadline:
                self._receive(client, 0.05)

    def _receive(self, client: socket.socket, timeout_s: float) -> None:
        if select.select([client], [], [], timeout_s)[0]:
            with contextlib.suppress(BlockingIOError):
                while True:
                    answer = client.recv(1024)
                    self.answered_ns[struct.unpack_from("!Q", answer, 24)[0]] = time.monotonic_ns()

    def __enter__(self) -> "Load":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    @property
    def lost(self) -> list[int]:
        return [number for number in range(1, len(self.sent_ns) + 1) if number not in self.answered_ns]

    def first_answers_after(self, moments_ns: list[int]) -> list[float]:
        """ns from each moment to the first answer to a request sent after it; endless when there was none yet."""
        answered = dict(self.answered_ns)
        sent = [(ns, answered[number + 1]) for number, ns in enumerate(self.sent_ns) if number + 1 in answered]
        return [min((answer - moment for ns, answer in sent if ns > moment), default=math.inf) for moment in moments_ns]
