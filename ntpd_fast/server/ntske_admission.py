"""Who may connect to the NTS-KE server: the access table of `allow` and `deny`, then `ntsratelimit`.

Both are read where the data plane reads them, in shared memory; the client log shard is this process's own.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from ntpd_fast._access import AccessView
from ntpd_fast._clientlog import ClientLogWriter
from ntpd_fast.config.model import RatelimitOptions

ACCESS = "access"
SERVICE_NTSKE = 1
_LIMIT_PASS = 0


class Admission(Protocol):
    """Decides about an accepted connection, once."""

    def admit(self, address: bytes) -> str:
        """Empty: welcome. Otherwise the counter of the refusal, `refused_access` or `refused_rate`.

        `address` is packed.
        """

    def set_limit(self, limit: RatelimitOptions | None) -> None:
        """Another `ntsratelimit`, None: no limit."""


class AdmitAll:
    """Everybody is welcome."""

    def admit(self, address: bytes) -> str:
        return ""

    def set_limit(self, limit: RatelimitOptions | None) -> None:
        """There is none."""


class TableSource(Protocol):
    """The part of `_region.ControlRegion` that holds the access table."""

    def table_version(self, name: str) -> int: ...

    def read_table(self, name: str) -> bytes | None: ...


class SharedAdmission:
    """The rules of the running daemon. `ntp_time` gives NTP64 time for the client log.

    clients: the log shard of key exchange; None with `noclientlog`. No limit is set before `set_limit`.
    """

    def __init__(
        self,
        tables: TableSource,
        clients: ClientLogWriter | None,
        ntp_time: Callable[[], int],
        reset: Callable[[], tuple[int, int]] = lambda: (0, 0),
    ) -> None:
        """`reset`: control's reset state of client logs, and the number of records in the shards before ours."""
        self._reset = reset
        self._tables = tables
        self._clients = clients
        self._ntp_time = ntp_time
        self._version = 0
        self._view: AccessView | None = None

    def set_limit(self, limit: RatelimitOptions | None) -> None:
        """`ntsratelimit`, None: no limit. Nothing is limited with `noclientlog`."""
        if self._clients is None:
            return
        if limit is None:
            self._clients.clear_limit(SERVICE_NTSKE)
        else:
            self._clients.set_limit(SERVICE_NTSKE, limit.interval, limit.burst, limit.leak)

    def admit(self, address: bytes) -> str:
        view = self._access()
        if view is None or not view.check(address):
            # as for NTP requests: who is denied is not recorded
            return "refused_access"
        if self._clients is not None:
            self._clients.set_reset(*self._reset())
            index = self._clients.hit(address, SERVICE_NTSKE, self._ntp_time())
            if self._clients.limit(index, SERVICE_NTSKE) != _LIMIT_PASS:
                return "refused_rate"
        return ""

    def _access(self) -> AccessView | None:
        while self._version != (version := self._tables.table_version(ACCESS)):
            table = self._tables.read_table(ACCESS)
            # a writer may have gone twice round the copies meanwhile: then what was read may be two halves
            if self._tables.table_version(ACCESS) == version:
                self._view = None if table is None else AccessView(table)
                self._version = version
        return self._view
