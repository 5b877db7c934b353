"""Face of what the load generator computes from arguments alone."""

from collections.abc import Sequence

BUCKETS: int

def nonce(sequence: int, kind: int, seed: int) -> int:
    """The timestamp that names request `sequence`; kind 0 transmit, 1 receive (interleaved requests)."""

def from_nonce(value: int, seed: int) -> tuple[int, int]:
    """`(sequence, kind)` of a nonce."""

def bucket(value_ns: int) -> int:
    """Index of the histogram's bucket for a magnitude."""

def due_times(rate: float, count: int, *, burst: int = 1, poisson: bool = False, seed: int = 1) -> list[float]:
    """The first `count` due times (ns after the start) of a schedule of `rate` requests/s."""

def paced(
    rate: float, now_ns: Sequence[int], *, burst: int = 1, lag_ns: int = 2_000_000, limit: int = 64
) -> tuple[list[int], int]:
    """What a schedule started at 0 asks for at each time: `([requests at each], requests skipped)`."""
