"""What administrators, monitoring and cron do to a daemon while it serves: each row now and then, all of it harmless.

Everything goes the way a user would go: files are written, then the command is sent over the Unix socket.
"""

import os
import random
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from ntpd_fast.cli.ntpc.connection import Connection, Endpoint
from ntpd_fast.monitor.codec import replies as rep
from ntpd_fast.monitor.codec import requests as req
from ntpd_fast.monitor.codec.address import Address
from ntpd_fast.monitor.codec.commands import Number, Status
from ntpd_fast.monitor.codec.layout import Message
from tests.daemon import Daemon
from tests.pki import Authority
from tests.processes import children_of, status_of
from tests.scrape import Scraper
from tests.soak.pauses import Pauses

STOP_S = (0.15, 0.3)
"""How long a worker is stopped, at least and at most: about as long as the daemon lets a request wait."""


@dataclass
class Place:
    """Where the daemon under test keeps things, and who gives it time."""

    directory: Path
    upstream_port: int
    authority: Authority = field(default_factory=Authority)

    def write_files(self, turn: int) -> None:
        """Key file, sources and certificate, different each turn."""
        keys = "".join(f"{number} SHA1 HEX:{number * 7919 + turn:040X}\n" for number in range(1, 20 + turn % 5))
        (self.directory / "keys").write_text(keys)
        addresses = [f"127.0.0.{2 + (turn + number) % 5}" for number in range(2)]
        sources = "".join(
            f"server {address} port {self.upstream_port} minpoll 0 maxpoll 3 iburst\n" for address in addresses
        )
        (self.directory / "sources.d" / "soak.sources").write_text(sources)
        self.authority.issue("127.0.0.1").write(self.directory)


class Disturber:
    """Does what is due. `done` counts by name, `refused` what the daemon did not do.

    `pauses`: where to note that a worker was stopped for a moment; without, that is not done.
    """

    def __init__(self, place: Place, daemon: Daemon, duration_s: float, pauses: Pauses | None = None) -> None:
        self._place = place
        self._daemon = daemon
        self._configuration = (daemon.directory / "conf").read_text()
        self._connection = Connection([Endpoint(daemon.socket)])
        self.scrapers = [Scraper(Endpoint(daemon.socket)), Scraper(Endpoint(None, "127.0.0.1", daemon.cmdport))]
        self._random = random.Random(1)
        self.done: dict[str, int] = {}
        self.refused: list[str] = []
        # (name, every so many seconds, what), at least a few times in a short run
        self._rows: tuple[tuple[str, float, Callable[[int], None]], ...] = tuple(
            (name, min(interval_s, duration_s / 5), action)
            for name, interval_s, action in (
                ("reports", 5.0, self._reports),
                ("access rules", 20.0, self._access),
                ("clients", 60.0, self._clients),
                ("rekey", 60.0, self._rekey),
                ("reload sources", 30.0, self._reload_sources),
                ("reload", 60.0, self._reload),
                ("cyclelogs", 60.0, self._cycle_logs),
                ("dump", 60.0, self._dump),
                *([("stopped worker", 60.0, partial(self._stop_worker, pauses))] if pauses is not None else []),
            )
        )
        self._due_s = {name: interval_s for name, interval_s, _ in self._rows}

    def close(self) -> None:
        self._connection.close()
        for scraper in self.scrapers:
            scraper.close()

    def turn(self, now_s: float) -> None:
        """Everything that is due at `now_s` from the start."""
        for name, interval_s, action in self._rows:
            if now_s >= self._due_s[name]:
                self._due_s[name] = now_s + interval_s
                turn = self.done[name] = self.done.get(name, 0) + 1
                action(turn)

    def _command(self, number: Number, payload: Message | None = None) -> None:
        answer = self._connection.exchange(number, req.Nothing() if payload is None else payload)
        if answer is None or answer.header.status != Status.SUCCESS:
            status = "no answer" if answer is None else Status(answer.header.status).name
            self.refused.append(f"{number.name}: {status}")

    def _reports(self, _: int) -> None:
        for scraper in self.scrapers:
            scraper.everything()

    def _access(self, turn: int) -> None:
        network = req.AccessSubnet(Address.parse(f"198.51.{turn % 256}.0"), 24)
        self._command(Number.ALLOW, network)
        self._command(Number.DENY, network)

    def _clients(self, _: int) -> None:
        """The whole list, as `clients` reads it."""
        first = 0
        while True:
            page = self.scrapers[0].ask(
                Number.CLIENT_ACCESSES_BY_INDEX3, req.ClientAccesses(first, rep.CLIENTS_PER_REPLY, 0, 0)
            )
            if not isinstance(page, rep.ClientAccesses) or page.next_index >= page.n_indices:
                return
            first = page.next_index

    def _rekey(self, turn: int) -> None:
        self._place.write_files(turn)
        self._command(Number.REKEY)

    def _reload_sources(self, turn: int) -> None:
        self._place.write_files(turn)
        self._command(Number.RELOAD_SOURCES)

    def _reload(self, turn: int) -> None:
        """Another configuration: one more worker or one less, other rules, other limits."""
        lines = ("workers 3", f"allow 198.51.{turn % 256}.0/24", "cmdratelimit interval 1", f"logbanner {turn % 50}")
        path = self._daemon.directory / "conf"
        fresh = path.with_suffix(".new")
        fresh.write_text(self._configuration + "".join(f"{line}\n" for line in lines if turn % 2))
        fresh.replace(path)
        self._daemon.process.send_signal(signal.SIGHUP)

    def _cycle_logs(self, turn: int) -> None:
        for path in (self._place.directory / "logs").glob("*.log"):
            os.replace(path, path.with_suffix(".old"))
        self._command(Number.CYCLELOGS)

    def _dump(self, _: int) -> None:
        self._command(Number.DUMP)

    def _stop_worker(self, pauses: Pauses, turn: int) -> None:
        """The machine has no time for one of the workers; not the one that a reload may be about to end."""
        workers = [pid for pid in children_of(self._daemon.process.pid) if _name_of(pid).startswith("ntpd-worker")]
        pid = workers[turn % min(2, len(workers))]
        started_s = time.monotonic()
        os.kill(pid, signal.SIGSTOP)
        try:
            time.sleep(self._random.uniform(*STOP_S))
        finally:
            os.kill(pid, signal.SIGCONT)
        pauses.note(started_s, time.monotonic())


def _name_of(pid: int) -> str:
    """What a process calls itself, "" when it has ended."""
    try:
        return status_of(pid, "Name")[0]
    except (FileNotFoundError, ProcessLookupError):
        return ""
