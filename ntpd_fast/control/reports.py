"""Back ends of the command protocol that need nothing but the data plane: statistics, clients, access."""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import IPv4Address, IPv6Address

from ntpd_fast._clientlog import ClientRecord
from ntpd_fast.config.model import AccessRule
from ntpd_fast.control.dataplane import ClientAccounts
from ntpd_fast.monitor.backend import CommandFailed
from ntpd_fast.monitor.codec.address import UNSPECIFIED, Address, Family
from ntpd_fast.monitor.codec.commands import Status
from ntpd_fast.monitor.codec.replies import NEVER, ClientAccess, ClientAccesses, ServerStats
from ntpd_fast.server.access import AccessTable, AccessTableFull
from ntpd_fast.server.shared import Shared
from ntpd_fast.system.messages import Log, Severity

IPAddress = IPv4Address | IPv6Address

_NO_CLIENT = ClientAccess(UNSPECIFIED, *[0] * (len(ClientAccess._fields) - 1))
_DROP_LIMIT = 6     # slot of the outcome "drop_limit" (`_packet.OUTCOMES`)


class Statistics:
    """`serverstats`, the account of commands, and `clients`."""

    def __init__(self, shared: Shared, accounts: ClientAccounts, now_ns: Callable[[], int]) -> None:
        self._shared = shared
        self._accounts = accounts
        self._now_ns = now_ns
        self.nke_hits: Callable[[], int] = lambda: 0
        """NTS-KE connections accepted; replaced by whoever serves them. So the next."""
        self.nke_drops: Callable[[], int] = lambda: 0

    def server_stats(self) -> ServerStats:
        """The sums over all workers."""
        counters = self._shared.counters()
        held, span_s = self._accounts.timestamps()
        return ServerStats(
            ntp_hits=counters["ntp_hits"],
            nke_hits=self.nke_hits(),
            cmd_hits=self._accounts.command_hits,
            ntp_drops=self._shared.outcomes()[_DROP_LIMIT],
            nke_drops=self.nke_drops(),
            cmd_drops=self._accounts.command_drops,
            log_drops=self._accounts.evictions,
            ntp_timestamps=held,
            ntp_span_seconds=int(span_s),
            **{name: counters[name] for name in ServerStats._fields if name in counters and name != "ntp_hits"},
        )

    def admit(self, address: Address | None, exempt: bool, now_ns: int) -> bool:
        """Count a command; False when `cmdratelimit` drops it."""
        return self._accounts.admit_command(None if address is None else address.ip(), exempt, now_ns)

    def client_accesses(self, first_index: int, n_clients_max: int, min_hits: int, reset: bool) -> ClientAccesses:
        """Rows of `clients`; CommandFailed(INACTIVE) with `noclientlog`."""
        if not self._accounts.enabled:
            raise CommandFailed(Status.INACTIVE)
        next_index, records = self._accounts.page(first_index, n_clients_max, min_hits, reset, self._now_ns())
        clients = tuple(map(_client_access, records))
        if next_index < self._accounts.indices:
            # whoever asks takes a page that is not full for the last one, and passes over records without address
            clients += (_NO_CLIENT,) * (n_clients_max - len(clients))
        return ClientAccesses(self._accounts.indices, next_index, clients)


def _client_access(record: ClientRecord) -> ClientAccess:
    address, hits, drops, intervals, timeout_interval, ages = record
    family = Family.INET4 if len(address) == 4 else Family.INET6
    last = (NEVER if age < 0 else age for age in ages)
    return ClientAccess._make((Address(family, address), *hits, *drops, *intervals, timeout_interval, *last))


class AccessBackend:
    """`allow`, `deny` and `accheck` (or their command twins) on one table.

    `changed` is called with the table after each change, `service` is the word of the log ("NTP", "command").
    """

    def __init__(
        self, table: AccessTable, service: str, log: Log, changed: Callable[[AccessTable], None] | None = None
    ) -> None:
        self.table = table
        self._service = service
        self._log = log
        self._changed = changed

    def replace(self, table: AccessTable) -> None:
        """Other rules altogether."""
        self.table = table
        if self._changed is not None:
            self._changed(table)

    def set_rule(self, rule: AccessRule) -> None:
        """Add a rule. CommandFailed: BAD_SUBNET for an impossible one, FAILED when there is no room for it."""
        try:
            self.table.set_rule(rule)
        except ValueError:
            raise CommandFailed(Status.BAD_SUBNET) from None
        except AccessTableFull as error:
            self._log(Severity.ERROR, f"Could not change {self._service} access : {error}")
            raise CommandFailed(Status.FAILED) from None
        what = "any address" if rule.address is None else f"{rule.address}/{rule.prefix_len}"
        verb = "Allowed" if rule.allow else "Denied"
        everything = "all " if rule.all else ""
        self._log(Severity.INFO, f"{verb} {everything}{self._service} access from {what}")
        if self._changed is not None:
            self._changed(self.table)

    def is_allowed(self, address: IPAddress) -> bool:
        return self.table.is_allowed(address)
