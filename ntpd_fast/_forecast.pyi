"""The forecast of a socket's transmit times by itself, for tests."""

from typing import Final

WARM_STAGE: Final[int]
FULL_STAGE: Final[int]

class Forecast:
    def call(self, stage: int, count: int) -> tuple[float, float]: ...
    def learn_call(
        self, stage: int, count: int, wrote_ns: float, took_ns: float, *, sampled: bool = False, blind: bool = False
    ) -> None: ...
    def learn_departure(self, stage: int, place: int, measured_ns: float, *, lone: bool = False) -> None: ...
