"""Distributions of nanosecond values as the generator's loop counts them: exact below 32 ns, then 32 buckets
for each power of two (a percentile is right to 3 %). Counts of several runs add up.
"""

from dataclasses import dataclass
from typing import Self

from loadtest._generate import Generator
from loadtest._numbers import BUCKETS


def bucket_bounds(index: int) -> tuple[int, int]:
    """Lowest magnitude of bucket `index`, and the lowest of the next one."""
    if index < 32:
        return index, index + 1
    exponent = index // 32 + 4
    width = 1 << (exponent - 5)
    low = (index % 32 + 32) * width
    return low, low + width


@dataclass(frozen=True)
class Histogram:
    """Counts of values ≥ 0 and of values < 0 (by magnitude), and what buckets cannot tell: sums, minimum,
    maximum.
    """

    positive: tuple[int, ...]
    negative: tuple[int, ...]
    count: int
    sum: int
    negative_sum: int
    minimum: int
    maximum: int

    @classmethod
    def of(cls, generator: Generator, name: str) -> Self:
        positive, negative, *rest = generator.histogram(name)
        return cls(tuple(positive), tuple(negative), *rest)

    @classmethod
    def empty(cls) -> Self:
        return cls((0,) * BUCKETS, (0,) * BUCKETS, 0, 0, 0, 0, 0)

    def __add__(self, other: "Histogram") -> "Histogram":
        if not self.count or not other.count:
            return self if self.count else other
        return Histogram(
            tuple(a + b for a, b in zip(self.positive, other.positive, strict=True)),
            tuple(a + b for a, b in zip(self.negative, other.negative, strict=True)),
            self.count + other.count,
            self.sum + other.sum,
            self.negative_sum + other.negative_sum,
            min(self.minimum, other.minimum),
            max(self.maximum, other.maximum),
        )

    @property
    def mean(self) -> float:
        """ns; 0 when empty"""
        return self.sum / self.count if self.count else 0.0

    def magnitudes(self) -> "Histogram":
        """The distribution of the absolute values."""
        return Histogram(
            tuple(a + b for a, b in zip(self.positive, self.negative, strict=True)),
            (0,) * BUCKETS,
            self.count,
            self.sum - 2 * self.negative_sum,
            0,
            0 if any(self.negative) else self.minimum,
            max(abs(self.minimum), abs(self.maximum)),
        )

    def percentile(self, percent: float) -> float:
        """The value (ns) that `percent` of the values do not exceed; 0 when empty."""
        if not 0 <= percent <= 100:
            raise ValueError("percent out of range")
        if not self.count:
            return 0.0
        wanted = self.count * percent / 100
        seen = 0.0
        for index in reversed(range(BUCKETS)):
            here = self.negative[index]
            if here and seen + here >= wanted:
                low, high = bucket_bounds(index)
                return self._inside(-high + 1, -low, (wanted - seen) / here)
            seen += here
        for index in range(BUCKETS):
            here = self.positive[index]
            if here and seen + here >= wanted:
                low, high = bucket_bounds(index)
                return self._inside(low, high - 1, (wanted - seen) / here)
            seen += here
        return float(self.maximum)

    def _inside(self, low: int, high: int, share: float) -> float:
        """A point of a bucket, never outside what was really seen."""
        return min(max(low + (high - low) * share, self.minimum), self.maximum)

    def summary(self) -> dict[str, float]:
        """What reports print; ns."""
        return {
            "count": self.count,
            "mean": round(self.mean, 1),
            "p1": round(self.percentile(1), 1),
            "p50": round(self.percentile(50), 1),
            "p99": round(self.percentile(99), 1),
            "p999": round(self.percentile(99.9), 1),
            "minimum": self.minimum,
            "maximum": self.maximum,
        }
