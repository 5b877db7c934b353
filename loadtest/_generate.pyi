"""Face of the load generator's loop."""

from collections.abc import Sequence

COUNTER_NAMES: tuple[str, ...]
BATCH: int
REQUEST_MAX: int
SEGMENTS_MAX: int
CLIENTS_MAX: int

class Generator:
    """One loop over given sockets. Counters and histograms add up over runs until `reset`.

    fds: bound datagram sockets, used in turn by batch. server: packed address (4 or 16 bytes) and port.
    base, clients, shift: client i sends from `base + (i << shift)`; 0 < clients ≤ CLIENTS_MAX; with
    clients=1 and base=None the kernel chooses. header: first byte of a fresh request. bank: prebuilt
    requests of equal size `request_size`, a power of two of them; each carries nonce(index, 0, seed) as
    transmit timestamp, native byte order. Without a bank fresh 48-byte requests are made, interleaved ones
    (RFC 9769) if `interleaved`. seal_key: the bank's requests are templates: each is given its own transmit
    timestamp (and with `interleaved` what that takes), a new nonce and tag in the authenticator field that ends it
    (RFC 8915, AEAD_AES_SIV_CMAC_256 with this key), when it is sent. stamps: the sockets deliver SO_TIMESTAMPING
    software RX timestamps.
    segments: requests sent in one message through UDP_SEGMENT (a power of two ≤ SEGMENTS_MAX).
    outstanding_max: requests that may wait for their answers, a power of two; with one more the oldest is given up.
    Those of a bank come round long before: equal requests outstanding at once are told apart by their number only.
    ValueError when an argument is out of range, OSError when the kernel refuses to send or receive.
    """

    def __init__(
        self,
        fds: Sequence[int],
        server: bytes,
        port: int,
        *,
        scope_id: int = 0,
        base: bytes | None = None,
        clients: int = 1,
        shift: int = 0,
        header: int = 0x23,
        answer_size: int = 48,
        interleaved: bool = False,
        bank: bytes | None = None,
        request_size: int = 48,
        stamps: bool = False,
        segments: int = 1,
        seed: int = 1,
        seal_key: bytes | None = None,
        outstanding_max: int = ...,
    ) -> None: ...
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
        lag_s: float = 0.002,
        limit: int = 0,
    ) -> float:
        """Send for `duration_s` or `limit` requests, whichever ends first, then wait for the answers.

        rate: requests/s offered whatever comes back (open loop); window: at most so many outstanding (closed
        loop); one of the two is needed, both may be given. sleep: give the core up between arrivals,
        otherwise spin. Returns the seconds during which requests were sent.
        """

    def reset(self) -> None:
        """Zero counters and histograms; clients keep what they know of the server."""

    def counters(self) -> dict[str, int]: ...
    def histogram(self, name: str) -> tuple[list[int], list[int], int, int, int, int, int]:
        """`latency`, `tx_error` or `request_delay`, ns.

        (counts ≥ 0, counts < 0, count, sum, sum of the values < 0, minimum, maximum)

        latency: request sent → answer at the client's socket. tx_error: answer at the client's socket − the
        server's transmit timestamp for that answer (for interleaved answers: of the previous one, which it
        is about). request_delay: the server's receive timestamp − request sent.
        """

    def samples(self) -> list[tuple[int, bytes]]:
        """Up to 64 of the latest answers, taken evenly: (request's sequence number, datagram)."""
