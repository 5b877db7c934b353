"""Control's end of the data plane: what it tells the workers, and what it counts of them.

Everything goes through shared memory: tables are published as new versions, counters and client records are read
where the workers write them. Nothing here waits for a worker.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Callable, Iterable
from ipaddress import IPv4Address, IPv6Address

from ntpd_fast._auth import build_key_table
from ntpd_fast._clientlog import ClientLogReader, ClientLogWriter, ClientRecord, init_shard, shard_size
from ntpd_fast._packet import ntp64
from ntpd_fast._record import dataclass
from ntpd_fast._region import serving_table
from ntpd_fast._tsmap import TimestampMapReader
from ntpd_fast.config.model import RatelimitOptions
from ntpd_fast.server.access import AccessTable
from ntpd_fast.server.clientlog import ClientReports, ResetState
from ntpd_fast.server.shared import Shared
from ntpd_fast.system.messages import Log, Severity

IPAddress = IPv4Address | IPv6Address

SERVICE_NTP, SERVICE_NTSKE, SERVICE_COMMAND = range(3)

_PEERS_MAGIC = 0x53524550
_PEER_ROW = struct.Struct("=16sIHH")
_PEER_SYMMETRIC = 1

# A table that has to wait for workers is tried again so often.
RETRY_S = 0.02
# Longer than the supervisor lets a worker stand still: when it goes on, somebody should know.
LONG_WAIT_S = 10.0
TRIES_BEFORE_WARNING = round(LONG_WAIT_S / RETRY_S)


@dataclass(frozen=True, slots=True, order=True)
class PeerRow:
    """One association whose packets arrive on the server sockets: address, port, and whether it is a `peer`."""

    address: IPAddress
    port: int
    symmetric: bool

    def sort_key(self) -> tuple[bytes, int, int]:
        return self.address.packed.ljust(16, b"\0"), self.address.version, self.port


def peer_table(rows: Iterable[PeerRow]) -> bytes:
    """The bytes of a peer table (layout in `_packet.pxd`), sorted as the workers search it."""
    packed = []
    for row in sorted(rows, key=PeerRow.sort_key):
        address, version, port = row.sort_key()
        packed.append(_PEER_ROW.pack(address, version, port, _PEER_SYMMETRIC if row.symmetric else 0))
    return struct.pack("=II", _PEERS_MAGIC, len(packed)) + b"".join(packed)


class DataPlane:
    """What control publishes to the workers. One object for the life of the control process.

    A table has room for a few versions. When a worker still reads the oldest of them, the new one waits, and the newest
    that waits is what is written as soon as the worker has moved on: a fraction of a second, or the time until the
    supervisor has replaced a worker that stands still. `call_later(delay_s, callback)` is the event loop's.
    """

    def __init__(self, shared: Shared, call_later: Callable[[float, Callable[[], None]], object], log: Log) -> None:
        self._shared = shared
        self._call_later = call_later
        self._log = log
        self._waiting: dict[str, bytes] = {}
        self._tries = 0
        self.deferred = 0
        """How often a table had to wait for workers."""

    def publish_access(self, table: AccessTable) -> None:
        """New access rules; every worker takes them up with its next batch. AccessTableFull when they do not fit."""
        self._publish("access", table.compile(self._shared.control.table_capacity("access")))

    def publish_keys(self, keys: list[tuple[int, str, bytes]]) -> None:
        """New symmetric keys: (id, type, key) each; KeyTableFull when they are too many."""
        self._publish("keys", build_key_table(keys, self._shared.control.table_capacity("keys")))

    def publish_peers(self, rows: Iterable[PeerRow]) -> None:
        """The associations whose packets workers hand to control."""
        self._publish("peers", peer_table(rows))

    def publish_serving(self, *, net_correction: bool, signd: bool, limit: RatelimitOptions | None) -> None:
        """Options of answering."""
        row = None if limit is None else (limit.interval, limit.burst, limit.leak, limit.kod)
        self._publish("serving", serving_table(net_correction, signd, row))

    def _publish(self, name: str, data: bytes) -> None:
        if name not in self._waiting and self._written(name, data):
            return
        self.deferred += 1
        if not self._waiting:
            self._tries = 0
            self._call_later(RETRY_S, self._retry)
        self._waiting[name] = data

    def _written(self, name: str, data: bytes) -> bool:
        try:
            self._shared.write_table(name, data)
        except BlockingIOError:
            return False
        return True

    def _retry(self) -> None:
        self._waiting = {name: data for name, data in self._waiting.items() if not self._written(name, data)}
        if not self._waiting:
            return
        self._tries += 1
        if self._tries == TRIES_BEFORE_WARNING:
            names = ", ".join(sorted(self._waiting))
            self._log(Severity.WARNING, f"Workers have not taken up new tables for {LONG_WAIT_S:.0f} s : {names}")
        self._call_later(RETRY_S, self._retry)


class ClientAccounts:
    """The client log as control keeps and reports it: its own shard for commands, all shards for `clients`.

    `side_blocks`: size of control's shard, 0 with `noclientlog`; `limit`: `cmdratelimit`.
    """

    def __init__(self, shared: Shared, side_blocks: int, limit: RatelimitOptions | None) -> None:
        self._shared = shared
        self._reset = ResetState(shared.control.log_reset)
        self._random = b""
        self.enabled = side_blocks > 0 and shared.plan.log_blocks > 0
        self.command_hits = 0
        self.command_drops = 0
        readers: list[ClientLogReader] = []
        self._maps: list[tuple[int, TimestampMapReader]] = []
        base = 0
        if self.enabled:
            for index in range(shared.parts):
                memory = shared.worker(index).log_memory()
                assert memory is not None
                readers.append(ClientLogReader(memory, base))
                base += readers[-1].capacity
                if stamps := shared.worker(index).map_memory():
                    self._maps.append((index, TimestampMapReader(stamps)))
            side = bytearray(shard_size(side_blocks))
            init_shard(side, side_blocks, os.urandom(20), shared.plan.ipv6_prefix)
            self._writer = ClientLogWriter(side)
            self._writer.set_reset(self._reset.value, base)
            self._base = base
            self.set_limit(limit)
            readers.append(ClientLogReader(side, base))
            base += readers[-1].capacity
            for index in range(shared.ke_parts):
                memory = shared.ke(index).log_memory()
                assert memory is not None
                readers.append(ClientLogReader(memory, base))
                base += readers[-1].capacity
        self._reports = ClientReports(readers, self._is_spare)

    def _is_spare(self, number: int) -> bool:
        """A part that no worker has had yet; looking at it would give it memory."""
        return 0 < number < self._shared.parts and self._shared.worker(number).generation == 0

    def set_limit(self, limit: RatelimitOptions | None) -> None:
        """Replace `cmdratelimit`."""
        if not self.enabled:
            return
        if limit is None:
            self._writer.clear_limit(SERVICE_COMMAND)
        else:
            self._writer.set_limit(SERVICE_COMMAND, limit.interval, limit.burst, limit.leak)

    def admit_command(self, address: IPAddress | None, exempt: bool, now_ns: int) -> bool:
        """Count a command of `address` (None: a Unix socket); False when the rate limit drops it."""
        self.command_hits += 1
        if address is None or not self.enabled:
            return True
        index = self._writer.hit(address.packed, SERVICE_COMMAND, ntp64(now_ns))
        if exempt or index < 0:
            return True
        self._writer.feed_random(os.urandom(16))
        if self._writer.limit(index, SERVICE_COMMAND):
            self.command_drops += 1
            return False
        return True

    @property
    def indices(self) -> int:
        """Size of the table that all shards make together."""
        return self._reports.indices

    @property
    def evictions(self) -> int:
        """Client records that had to make room."""
        return self._reports.evictions

    def timestamps(self) -> tuple[int, float]:
        """Pairs held for interleaved clients, and the longest time in s that any worker's pairs span."""
        held = [stamps.held() for index, stamps in self._maps if not self._is_spare(index)]
        return sum(count for count, _ in held), max((span for _, span in held), default=0.0)

    def page(
        self, first_index: int, rows_max: int, hits_min: int, reset: bool, now_ns: int
    ) -> tuple[int, list[ClientRecord]]:
        """Some rows of `clients`, and the index after them. With `reset` the rows shown count from zero afterwards."""
        next_index, records = self._reports.page(first_index, rows_max, hits_min, self._reset.value, ntp64(now_ns))
        if reset and self.enabled:
            state = self._reset.reset(first_index, next_index, self.indices)
            self._shared.control.log_reset = state
            self._writer.set_reset(state, self._base)
        return next_index, records
