"""One soak: a daemon with everything switched on, clients, disturbances, samples; and the verdict on it."""

import socket
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

from loadtest.client import WRONG
from loadtest.targets import Target
from ntpd_fast.monitor.codec import replies as rep
from tests.daemon import Daemon, running
from tests.processes import is_running
from tests.soak.disturb import Disturber, Place
from tests.soak.load import KINDS, RATE_MAX, Clients
from tests.soak.pauses import Drops, Pauses, Witnesses
from tests.soak.priority import take_realtime, workers_first
from tests.soak.samples import Sample, Trend, read, trends

WORKERS = 2
SAMPLE_S = 10.0
_TURN_S = 0.25
_DROPS_S = 1.0
# Processes are warm after so long, or after a fifth of a short run.
_SETTLE_S = 300.0
# Told now and then: seconds since the start, samples so far, the clients.
Progress = Callable[[float, Sequence[Sample], Sequence[Clients]], None]
_LOOPBACK = IPv4Address("127.0.0.1")
RELOADED = "Reloaded the configuration"
# Lines of the log that only a fault of ours writes.
_SUSPICIOUS = ("Traceback", "Unexpected", "was killed", "exited with status", "stands still", "nonsense")


@dataclass
class Outcome:
    """What a soak saw. `explained`: lost requests that the daemon or the generator could not have answered or seen.

    `pauses`, `pause_max_s`: how often, and how long at most, the machine let nobody run or the soak stopped a worker.
    """

    elapsed_s: float
    rate: float
    kinds: dict[str, dict[str, int]]
    lost: int
    explained: dict[str, int]
    pauses: int
    pause_max_s: float
    faults: rep.Faults
    disturbances: dict[str, int]
    reports: int
    trends: list[Trend]
    problems: list[str]
    samples: list[Sample]

    def as_json(self) -> dict[str, Any]:
        found = asdict(self)
        found["faults"] = self.faults._asdict()
        return found


def free_tcp_port() -> int:
    """One that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


def directives(place: Place, nts_port: int, rotate_s: int) -> list[str]:
    """Everything that has state to keep, with bounds that a soak reaches."""
    directory = place.directory
    return [
        f"workers {WORKERS}", "ntsprocesses 1", "clientloglimit 2000000", "clientlogprefix6 64",
        f"ntsport {nts_port}", f"ntsservercert {directory}/server.crt", f"ntsserverkey {directory}/server.key",
        f"ntsrotate {rotate_s}", f"ntsdumpdir {directory}/nts",
        f"sourcedir {directory}/sources.d", f"keyfile {directory}/keys", f"driftfile {directory}/drift",
        f"dumpdir {directory}/dumps", f"logdir {directory}/logs",
        "log measurements statistics tracking selection", "manual", "smoothtime 400 0.01",
    ]  # fmt: skip


def soak(
    duration_s: float,
    rate: float,
    *,
    progress: Progress | None = None,
    realtime: bool = False,
    stop_workers: bool = False,
) -> Outcome:
    """Run for `duration_s` with `rate` requests/s. ValueError for a rate that is out of bounds.

    `realtime`: everything takes precedence over whatever else the machine does; OSError where it may not.
    `stop_workers`: now and then one of them is stopped for a moment, as a machine without time for it would.
    """
    if not 0.0 < rate <= RATE_MAX:
        raise ValueError(f"rate {rate:g} is not within {RATE_MAX:g} requests/s")
    if realtime:
        take_realtime()
    nts_port = free_tcp_port()
    with ExitStack() as stack:
        upstream = stack.enter_context(running(["workers 0"]))
        place = stack.enter_context(prepared(upstream.port))
        # long enough for a set of NTS clients to live on its cookies
        rotate_s = round(max(5.0, min(60.0, duration_s / 10)))
        daemon = stack.enter_context(running(directives(place, nts_port, rotate_s)))
        pauses = Pauses()
        witnesses = stack.enter_context(Witnesses(pauses))
        disturber = Disturber(place, daemon, duration_s, pauses if stop_workers else None)
        stack.callback(disturber.close)
        if realtime:
            stack.enter_context(workers_first(daemon.process.pid))
        return _watch(
            daemon, disturber, witnesses, Drops(pauses), nts_port, duration_s, rate, progress, realtime=realtime
        )


@contextmanager
def prepared(upstream_port: int) -> Iterator[Place]:
    """A place with all its directories and files."""
    with tempfile.TemporaryDirectory(prefix="ntpd-fast-soak-") as name:
        directory = Path(name)
        for part in ("sources.d", "logs", "dumps", "nts"):
            (directory / part).mkdir()
        place = Place(directory, upstream_port)
        place.write_files(0)
        yield place


def _watch(
    daemon: Daemon,
    disturber: Disturber,
    witnesses: Witnesses,
    drops: Drops,
    nts_port: int,
    duration_s: float,
    rate: float,
    progress: Progress | None,
    *,
    realtime: bool,
) -> Outcome:
    clients = [
        Clients(
            kind,
            Target(_LOOPBACK, daemon.port),
            Target(_LOOPBACK, nts_port),
            rate * kind.share,
            seed,
            realtime=realtime,
        )
        for seed, kind in enumerate(KINDS, 1)
    ]
    samples: list[Sample] = []
    started = time.monotonic()
    sample_s = min(SAMPLE_S, duration_s / 20)
    next_sample_s = next_drops_s = 0.0

    def look() -> rep.Faults:
        faults = disturber.scrapers[0].faults()
        witnesses.read()
        now_s = time.monotonic()
        drops.look(faults.ntp_receive_buffer_full + faults.ntp_waited_too_long, now_s, now_s - started)
        return faults

    for one in clients:
        one.start()
    while (now_s := time.monotonic() - started) < duration_s and all(one.failure is None for one in clients):
        disturber.turn(now_s)
        if now_s >= next_drops_s:
            next_drops_s = now_s + _DROPS_S
            look()
        if now_s >= next_sample_s:
            next_sample_s = now_s + sample_s
            samples += read(daemon.process.pid, now_s)
            if progress is not None:
                progress(now_s, samples, clients)
        time.sleep(_TURN_S)
    for one in clients:
        one.end()
    elapsed_s = time.monotonic() - started
    faults = look()
    assert is_running(daemon.process.pid), daemon.log
    return _judge(daemon, clients, disturber, drops, samples, elapsed_s, min(_SETTLE_S, duration_s / 5), rate, faults)


def _judge(
    daemon: Daemon,
    clients: Sequence[Clients],
    disturber: Disturber,
    drops: Drops,
    samples: list[Sample],
    elapsed_s: float,
    settle_s: float,
    rate: float,
    faults: rep.Faults,
) -> Outcome:
    total: Counter[str] = Counter()
    for one in clients:
        total.update(one.counters)
    explained = {
        "dropped by the server after a pause of the machine": drops.excused,
        "client's receive buffer full": sum(one.buffer_drops for one in clients),
    }
    found = trends(samples, settle_s)
    problems = [problem for trend in found for problem in trend.problems()]
    problems += [f"{one.kind.name}: {one.failure!r}" for one in clients if one.failure is not None]
    problems += [f"{total[name]} answers {name}" for name in WRONG if total[name]]
    if total["lost"] > sum(explained.values()):
        problems.append(
            f"{total['lost']} requests lost, {total['late']} of them answered late, {sum(explained.values())} explained"
        )
    problems += [
        f"{count} requests dropped by the server at {at_s:.0f} s without a pause of the machine"
        for at_s, count in drops.unexcused[:10]
    ]
    if total["unauthentic"]:
        problems.append(f"{total['unauthentic']} of {total['verified']} NTS answers are not authentic")
    for name in ("answered", "interleaved", "key_exchanges", "verified"):
        if not total[name]:
            problems.append(f"nothing {name}")
    unanswered = sum(scraper.unanswered for scraper in disturber.scrapers)
    if unanswered:
        problems.append(f"{unanswered} reports not answered")
    problems += disturber.refused[:10]
    problems += [line for line in daemon.log.splitlines() if any(word in line for word in _SUSPICIOUS)][:10]
    reloads = disturber.done.get("reload", 0)
    # one that comes while another is under way may be one with it, and the last may be under way still
    if not reloads // 2 <= (count := daemon.log.count(RELOADED)) <= reloads:
        problems.append(f"{count} of {reloads} changes of the configuration were taken up")
    # every other one adds a worker
    if faults.worker_starts > WORKERS + (reloads + 1) // 2:
        problems.append(f"workers were started {faults.worker_starts} times")
    kinds = {
        one.kind.name: {
            **{name: value for name, value in one.counters.items() if value},
            "latency_max_ns": one.latency_max_ns,
        }
        for one in clients
    }
    return Outcome(
        elapsed_s, rate, kinds, total["lost"], explained, drops.pauses.count, drops.pauses.longest_s, faults,
        disturber.done, sum(scraper.reports for scraper in disturber.scrapers), found, problems, samples,
    )  # fmt: skip
