"""The client log as the control process sees it: how large the shards are, what `clients` shows, how it is reset.

Every process that keeps clients has a shard of its own (`_clientlog`): each worker for NTP, together with a
timestamp map (`_tsmap`), and control and the NTS-KE processes for their services. `clientloglimit` bounds the sum of
them all. Reports go through the shards in order, as if they were one table, and merge what several of them know of
one address. Control never writes into another's shard: a reset is a number the writers follow.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ntpd_fast._clientlog import ClientLogReader, ClientRecord, shard_size
from ntpd_fast._record import dataclass
from ntpd_fast._tsmap import map_size

RECORDS_PER_BLOCK = 16

# chrony's bound.
RECORDS_MAX = 1 << 24

# Few clients use NTS-KE or the command port, each a few times: a sixteenth of the memory, and not more than this.
SIDE_BLOCKS_MAX = 256
_SIDE_PART = 16

# Of records that one page looks at, so that a request takes a fraction of a millisecond however few clients it finds.
# One that is shown, or was shown before, costs as much as many that are passed over.
EXAMINED_MAX = 16384
READ_COST = 64

_NEVER = -1


@dataclass(frozen=True, slots=True)
class ClientLogPlan:
    """Sizes of the client log. A shard's map follows its records in a worker's memory."""

    blocks: int
    """Blocks of 16 records in each worker's shard."""
    pairs: int
    """Timestamp pairs in each worker's map; as many as records."""
    side_blocks: int
    """Blocks in the shard of control and of each NTS-KE process."""
    workers: int
    side_shards: int
    reason: str | None
    """Why `clientloglimit` was not taken as it is; None: it was."""

    @property
    def log_bytes(self) -> int:
        """Of one worker's records; a multiple of 64."""
        return shard_size(self.blocks)

    @property
    def map_bytes(self) -> int:
        """Of one worker's timestamp map."""
        return map_size(self.pairs)

    @property
    def side_bytes(self) -> int:
        """Of one side shard."""
        return shard_size(self.side_blocks)

    @property
    def total_bytes(self) -> int:
        return self.workers * (self.log_bytes + self.map_bytes) + self.side_shards * self.side_bytes

    def blocks_for(self, workers: int) -> int:
        """Blocks of each shard when there are so many workers now; never more than `blocks`, and at least one."""
        block = shard_size(1) + map_size(RECORDS_PER_BLOCK) - shard_size(0) - map_size(0)
        room = self.workers * (self.log_bytes + self.map_bytes) // workers - shard_size(0) - map_size(0)
        return min(max(room // block, 1), self.blocks)

    @property
    def records(self) -> int:
        """NTP clients that all workers together can remember."""
        return self.workers * self.blocks * RECORDS_PER_BLOCK


def clientlog_plan(
    limit_bytes: int, workers: int, *, side_shards: int = 1, memory_bytes: int | None = None
) -> ClientLogPlan:
    """Divide `clientloglimit` among `workers` (>= 1) and `side_shards` (control, NTS-KE processes).

    A limit below one block a shard, above 2^24 clients, or above half of the machine's `memory_bytes` is clamped,
    with the reason in the plan.
    """
    reason = None
    fixed = shard_size(0) + map_size(0)
    block = shard_size(1) + map_size(RECORDS_PER_BLOCK) - fixed
    side_fixed, side_block = shard_size(0), shard_size(1) - shard_size(0)
    least = workers * (fixed + block) + side_shards * (side_fixed + side_block)
    most = side_shards * (side_fixed + SIDE_BLOCKS_MAX * side_block)
    most += workers * (fixed + max(1, RECORDS_MAX // RECORDS_PER_BLOCK // workers) * block)
    if memory_bytes is not None and memory_bytes // 2 < min(limit_bytes, most):
        reason = f"clientloglimit {limit_bytes} is more than half of the memory, using {memory_bytes // 2}"
        limit_bytes = memory_bytes // 2
    if limit_bytes > most:
        reason = f"clientloglimit {limit_bytes} is more than {RECORDS_MAX} clients need, using {most}"
        limit_bytes = most
    if limit_bytes < least:
        count = f"{workers} worker{'s' if workers > 1 else ''}"
        reason = f"clientloglimit {limit_bytes} is too small for {count}, using {least}"
        limit_bytes = least
    side_blocks = 0
    if side_shards:
        wanted = (limit_bytes // _SIDE_PART // side_shards - side_fixed) // side_block
        possible = 1 + (limit_bytes - least) // (side_shards * side_block)
        side_blocks = max(1, min(wanted, possible, SIDE_BLOCKS_MAX))
    left = limit_bytes - side_shards * (side_fixed + side_blocks * side_block)
    blocks = (left // workers - fixed) // block
    return ClientLogPlan(blocks, blocks * RECORDS_PER_BLOCK, side_blocks, workers, side_shards, reason)


class ResetState:
    """The reset that writers and readers follow: page by page, as the list is shown.

    `clients -r` asks for one page after the other. The records of the pages already shown count from the new
    generation on, the others from the one before. A page asked for again starts a new generation: nothing that has
    not been shown is reset.
    """

    def __init__(self, value: int = 0) -> None:
        self.value = value
        """What is published: generation (16 bits), the one before (16), boundary (32)."""

    def reset(self, first_index: int, next_index: int, indices: int) -> int:
        """Reset the records shown, `first_index` … `next_index` − 1 of `indices`; the value to publish."""
        new, before, boundary = self.value >> 48, self.value >> 32 & 0xFFFF, self.value & 0xFFFFFFFF
        if boundary >= indices:
            # the last list was shown to its end
            before, boundary = new, 0
        if boundary == 0 or first_index < boundary:
            new = new + 1 & 0xFFFF
        self.value = new << 48 | before << 32 | next_index
        return self.value


class ClientReports:
    """The rows of `clients`, from all shards."""

    def __init__(
        self, shards: Sequence[ClientLogReader], is_spare: Callable[[int], bool] = lambda number: False
    ) -> None:
        """`is_spare`: whether nobody has used a shard (by number) yet."""
        self._all = shards
        self._is_spare = is_spare
        self.indices = sum(shard.capacity for shard in shards)
        """Size of the table that the shards make together."""

    @property
    def evictions(self) -> int:
        """Client log records dropped."""
        return sum(shard.evictions for shard in self._shards)

    @property
    def _shards(self) -> list[ClientLogReader]:
        return [shard for number, shard in enumerate(self._all) if not self._is_spare(number)]

    def page(
        self, first_index: int, rows_max: int, hits_min: int, reset_state: int, ntp_time: int
    ) -> tuple[int, list[ClientRecord]]:
        """The index after the last record examined, and at most `rows_max` clients from `first_index` on.

        Only those with `hits_min` hits of one service. An address known to several shards is shown once, with what
        all of them know. `ntp_time`: now, NTP64. There may be more clients although fewer than `rows_max` are returned:
        a page ends with its work.
        """
        rows: list[ClientRecord] = []
        index = first_index
        left = EXAMINED_MAX
        for number, shard in enumerate(self._shards):
            # beyond what spare shards hold the place of
            index = max(index, shard.base)
            local = index - shard.base
            while local < shard.capacity and len(rows) < rows_max and left > 0:
                end = min(shard.capacity, local + left)
                found = shard.next(local, hits_min, reset_state, end)
                left -= found - local
                local = found
                if found < end:
                    record = shard.read(found, reset_state, ntp_time)
                    if record is not None and not self._shown(record.address, number, hits_min, reset_state):
                        rows.append(self._merged(record, number, reset_state, ntp_time))
                    left -= READ_COST
                    local += 1
                index = shard.base + local
            if len(rows) >= rows_max or left <= 0:
                break
        return index, rows

    def _shown(self, address: bytes, number: int, hits_min: int, reset_state: int) -> bool:
        """Whether a shard before this one shows the address."""
        for shard in self._shards[:number]:
            index = shard.find(address)
            if index is not None and shard.next(index, hits_min, reset_state, index + 1) == index:
                return True
        return False

    def _merged(self, record: ClientRecord, number: int, reset_state: int, ntp_time: int) -> ClientRecord:
        for other_number, shard in enumerate(self._shards):
            index = shard.find(record.address) if other_number != number else None
            other = None if index is None else shard.read(index, reset_state, ntp_time)
            if other is not None and other.address == record.address:
                record = _merge(record, other)
        return record


def _merge(one: ClientRecord, other: ClientRecord) -> ClientRecord:
    """Sums of counters; intervals and ages of the record that saw the service last."""
    latest = [
        one if last == _NEVER or 0 <= other_last < last else other
        for last, other_last in zip(other.last_s, one.last_s, strict=True)
    ]
    interval = tuple(record.interval_log2[i] for i, record in enumerate(latest))
    last_s = tuple(record.last_s[i] for i, record in enumerate(latest))
    hits = tuple(a + b for a, b in zip(one.hits, other.hits, strict=True))
    drops = tuple(a + b for a, b in zip(one.drops, other.drops, strict=True))
    return ClientRecord(one.address, hits, drops, interval, latest[0].timeout_interval_log2, last_s)
