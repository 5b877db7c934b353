"""The face of `_keadmission`: see the .pyx."""

from collections.abc import Callable
from typing import Protocol

from ntpd_fast._clientlog import ClientLogWriter
from ntpd_fast._region import ControlRegion

class Limit(Protocol):
    @property
    def interval(self) -> int: ...
    @property
    def burst(self) -> int: ...
    @property
    def leak(self) -> int: ...

class Admission:
    def admit(self, address: bytes) -> str: ...
    def set_limit(self, limit: Limit | None) -> None: ...

class SharedAdmission(Admission):
    def __init__(
        self,
        region: ControlRegion,
        clients: ClientLogWriter | None,
        log_base: int = 0,
        ntp_time: Callable[[], int] | None = None,
    ) -> None: ...
