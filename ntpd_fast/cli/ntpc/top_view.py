"""What `top` shows, without the terminal: samples go in, lines of text with styles come out.

Rates are differences between samples. The client list of a busy server is long, so it is read in pieces, a bounded
time of each turn, and the best of the pass before stay on the screen until the next pass is through.
"""

from collections.abc import Iterable
from heapq import nlargest
from typing import NamedTuple

from ntpd_fast.monitor.codec import replies as rep
from ntpd_fast.monitor.codec.address import Address

from .formats import LEAP_WORDS, ago, signed_offset
from .reports.clients import interval_rate

ORDERS = ("rate", "hits", "drops", "address")
# Clients remembered between two passes to know their rates, and kept for the screen.
REMEMBERED_MAX = 100_000
KEPT_MAX = 500

NORMAL, HEADING, STRONG, WARNING = "normal", "heading", "strong", "warning"
Line = tuple[str, str]


class Counters(NamedTuple):
    """The counters of `serverstats` whose rates are shown."""

    received: float
    dropped: float
    authenticated: float
    interleaved: float
    commands: float
    nke: float

    @classmethod
    def of(cls, stats: rep.ServerStats | rep.ServerStats3) -> "Counters":
        return cls(
            stats.ntp_hits,
            stats.ntp_drops,
            stats.ntp_auth_hits,
            stats.ntp_interleaved_hits,
            stats.cmd_hits,
            stats.nke_hits,
        )


class Client(NamedTuple):
    """A client with its rates, per second."""

    record: rep.ClientAccess
    rate: float
    drop_rate: float


class View:
    """The state of the screen. Times are monotonic seconds, given in."""

    def __init__(self, order: str = "rate") -> None:
        self.order = order
        self.paused = False
        self.names: dict[Address, str] = {}
        self.message = ""
        self._counters: Counters | None = None
        self._counters_at_s = 0.0
        self._rates = Counters(0, 0, 0, 0, 0, 0)
        self._tracking: rep.Tracking | None = None
        self._activity: rep.Activity | None = None
        self._before: dict[bytes, tuple[int, int, float]] = {}
        self._pass: dict[bytes, tuple[int, int, float]] = {}
        self._pass_clients: list[Client] = []
        self._clients: list[Client] = []
        self._seen = 0
        self._total = 0
        self.progress = 0.0
        """Share of the client list read in this pass."""

    def take_server(
        self,
        now_s: float,
        stats: rep.ServerStats | rep.ServerStats3 | None,
        tracking: rep.Tracking | None,
        activity: rep.Activity | None,
    ) -> None:
        """A turn's reports on the server; None is one that is not open to us."""
        self._tracking, self._activity = tracking, activity
        if stats is None:
            return
        counters = Counters.of(stats)
        elapsed_s = now_s - self._counters_at_s
        if self._counters is not None and elapsed_s > 0.0:
            # A counter that went back is one of a daemon that was started again.
            self._rates = Counters._make(
                max(new - old, 0) / elapsed_s for new, old in zip(counters, self._counters, strict=True)
            )
        self._counters, self._counters_at_s = counters, now_s

    def take_clients(self, now_s: float, clients: Iterable[rep.ClientAccess], progress: float) -> None:
        """A piece of the client list."""
        self.progress = progress
        for record in clients:
            key = record.ip.packed
            hits, drops = record.ntp_hits, record.ntp_drops
            before = self._before.get(key)
            rate, drop_rate = interval_rate(record), 0.0
            if before is not None and now_s > before[2]:
                elapsed_s = now_s - before[2]
                rate = max(hits - before[0], 0) / elapsed_s
                drop_rate = max(drops - before[1], 0) / elapsed_s
            if len(self._pass) < REMEMBERED_MAX:
                self._pass[key] = hits, drops, now_s
            self._pass_clients.append(Client(record, rate, drop_rate))
            self._seen += 1
        if len(self._pass_clients) > 4 * KEPT_MAX:
            self._pass_clients = self._best(self._pass_clients)

    def end_pass(self) -> None:
        """The client list was read to its end."""
        self._clients = self._best(self._pass_clients)
        self._before, self._pass = self._pass, {}
        self._pass_clients = []
        self._total, self._seen = self._seen, 0
        self.progress = 1.0

    def set_order(self, order: str) -> None:
        self.order = order
        self._clients = self._best(self._clients)

    def _best(self, clients: list[Client]) -> list[Client]:
        if self.order == "address":
            return sorted(clients, key=lambda c: (c.record.ip.family, c.record.ip.packed))[:KEPT_MAX]
        keys = {
            "rate": lambda c: (c.rate, c.record.ntp_hits),
            "hits": lambda c: (c.record.ntp_hits, c.rate),
            "drops": lambda c: (c.drop_rate, c.record.ntp_drops),
        }
        return nlargest(KEPT_MAX, clients, keys[self.order])

    def render(self, width: int, height: int) -> list[Line]:
        """At most `height` lines of at most `width` characters."""
        if height < 1:
            return []
        lines = [*self._server_lines(), ("", NORMAL), (self._client_heading(), HEADING)]
        lines += [self._client_line(client) for client in self._clients[: max(height - len(lines) - 1, 0)]]
        lines = [*lines[: height - 1], (self._foot(), STRONG if not self.message else WARNING)]
        return [(text[:width], style) for text, style in lines]

    def addresses(self, height: int) -> list[Address]:
        """Of the clients that are on the screen."""
        return [client.record.ip for client in self._clients[:height]]

    def _server_lines(self) -> list[Line]:
        lines: list[Line] = []
        if self._tracking is not None:
            t = self._tracking
            leap = LEAP_WORDS[t.leap_status] if t.leap_status < len(LEAP_WORDS) else "Invalid"
            text = (
                f"Clock     stratum {t.stratum}  {leap}  offset {signed_offset(t.last_offset).strip()}"
                f"  rms {signed_offset(t.rms_offset).strip().lstrip('+')}  frequency {t.freq_ppm:+.3f} ppm"
            )
            lines.append((text, WARNING if t.leap_status == 3 else NORMAL))
        if self._activity is not None:
            a = self._activity
            lines.append((f"Sources   {a.online} online  {a.offline} offline  {a.unresolved} unresolved", NORMAL))
        if self._counters is None:
            lines.append(("Server    statistics are not open to us", WARNING))
        else:
            r, c = self._rates, self._counters
            lines.append((f"Requests  {r.received:,.0f}/s  ({c.received:,} in all)", STRONG))
            share = r.dropped / r.received if r.received else 0.0
            lines.append((f"Dropped   {r.dropped:,.0f}/s  ({share:.1%})", WARNING if r.dropped else NORMAL))
            lines.append(
                (
                    f"Of these  authenticated {r.authenticated:,.0f}/s  interleaved {r.interleaved:,.0f}/s"
                    f"  NTS-KE {r.nke:,.1f}/s  commands {r.commands:,.0f}/s",
                    NORMAL,
                )
            )
        return lines

    def _client_heading(self) -> str:
        return f"{'Client':<39} {'Rate/s':>10} {'Drops/s':>10} {'Requests':>10} {'Drops':>8} {'Last':>4}"

    def _client_line(self, client: Client) -> Line:
        record = client.record
        name = self.names.get(record.ip) or str(record.ip)
        text = (
            f"{name[:39]:<39} {client.rate:>10,.1f} {client.drop_rate:>10,.1f}"
            f" {record.ntp_hits:>10,} {record.ntp_drops:>8,} {ago(record.last_ntp_hit_ago)}"
        )
        return text, WARNING if client.drop_rate > 0.0 else NORMAL

    def _foot(self) -> str:
        if self.message:
            return self.message
        reading = "" if self.progress >= 1.0 else f"  reading the list: {self.progress:.0%}"
        state = "PAUSED  " if self.paused else ""
        return (
            f"{state}{self._total:,} clients by {self.order}{reading}"
            "   r rate  h hits  d drops  a address  n names  p pause  q quit"
        )
