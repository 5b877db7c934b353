"""`python -m tests.bench.start`: how long a daemon takes to be ready, and how much memory it takes; budgets judged.

Each daemon is a new process with warm files, started as its package does it, by a service manager of ours that hears
READY. Wants an idle machine: what is judged is the median of several starts. Exit status 1 when a budget is missed.
"""

import argparse
import os
import re
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.pki import Authority
from tests.processes import children_of
from tests.system.harness import REQUEST, free_port

ROOT = Path(__file__).parents[2]
PATIENCE_S = 20.0
SETTLING_S = 1.5
# packaging/files/launcher.in
LAUNCHER = """
import gc, sys
sys.path[:0] = sys.argv.pop(1).split(":")
gc.disable()
from ntpd_fast.cli.start import main
gc.freeze()
gc.enable()
sys.exit(main())
"""


@dataclass(frozen=True)
class Start:
    """One start: ms from exec to READY and to the answer to a request sent then; MiB of all its processes."""

    ready_ms: float
    answer_ms: float
    pss_mib: float


class Bench:
    """Starts daemons in a directory of its own."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._environment = {
            "PATH": os.environ.get("PATH", "/usr/bin:/bin"),
            "NOTIFY_SOCKET": str(directory / "notify"),
            "PYTHONPYCACHEPREFIX": str(directory / "compiled"),
        }
        # the modules of the libraries, and ours before them
        self._path = ":".join([str(ROOT), *(path for path in sys.path if path.endswith("site-packages"))])

    def start(self, *lines: str, options: Sequence[str] = ()) -> Start:
        """Start a daemon with these lines, measure it, end it."""
        port = free_port()
        config = self._directory / "conf"
        run = self._directory / "run"
        run.mkdir(mode=0o700, exist_ok=True)
        common = [f"port {port}", "cmdport 0", f"bindcmdaddress {run}/sock", f"pidfile {run}/pid", "local", "allow"]
        config.write_text("\n".join([*common, *lines, ""]))
        (self._directory / "notify").unlink(missing_ok=True)
        with (
            socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager,
            socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client,
            (self._directory / "log").open("wb") as log,
        ):
            manager.bind(str(self._directory / "notify"))
            manager.settimeout(PATIENCE_S)
            client.settimeout(PATIENCE_S)
            client.connect(("127.0.0.1", port))
            rights = ["-u", "root"] if os.geteuid() == 0 else ["-U"]
            command = [sys.executable, "-sPS", "-c", LAUNCHER, self._path, "-n", "-x", *rights, "-f", str(config)]
            began = time.monotonic()
            daemon = subprocess.Popen(
                [*command, *options], env=self._environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
            try:
                while manager.recv(1000) != b"READY=1":
                    pass
                ready = time.monotonic()
                client.send(REQUEST)
                client.recv(1000)
                answered = time.monotonic()
                # both the supervisor and control still load what nobody waited for
                time.sleep(SETTLING_S)
                pss_mib = sum(pss_kib(pid) for pid in (daemon.pid, *children_of(daemon.pid))) / 1024
            finally:
                daemon.send_signal(signal.SIGTERM)
                daemon.wait(PATIENCE_S)
        return Start((ready - began) * 1e3, (answered - began) * 1e3, pss_mib)


def pss_kib(pid: int) -> int:
    """Memory of a process, what it shares with others counted in proportion."""
    match = re.search(r"^Pss: +(\d+) kB", Path(f"/proc/{pid}/smaps_rollup").read_text(), re.M)
    assert match is not None
    return int(match[1])


def judge(what: str, figure: float, most: float, unit: str) -> bool:
    """Print a budget and whether it is kept."""
    kept = figure <= most
    print(f"{'kept  ' if kept else 'MISSED'}  {what} ≤ {most:g} {unit}: {figure:.1f}")
    return kept


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.start", description=__doc__)
    parser.add_argument("--rounds", type=int, metavar="N", default=21)
    parser.add_argument("options", nargs="*", help="more options of the daemon, after --")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="ntpd-fast-start-") as name:
        directory = Path(name)
        bench = Bench(directory)
        certificate, key = Authority().issue("127.0.0.1").write(directory)
        nts = (f"ntsservercert {certificate}", f"ntsserverkey {key}", f"ntsport {free_port()}", "ntsprocesses 1")
        log = "noclientlog"     # what it takes is what `clientloglimit` says
        plain, with_nts, wide = ("workers 1", log), ("workers 1", log, *nts), ("workers 3", log)
        starts: dict[tuple[str, ...], list[Start]] = {}
        for lines in (plain, with_nts, wide):
            # compiled modules are written now, which a daemon that is closed in (-F) could not do
            bench.start(*lines)
            starts[lines] = [bench.start(*lines, options=chosen.options) for _ in range(chosen.rounds)]
        for lines, row in starts.items():
            what = f"{lines[0]}{', NTS' if lines is with_nts else ''}"
            figures = sorted(one.ready_ms for one in row)
            print(f"ready after, ms ({what}): {' '.join(f'{figure:.0f}' for figure in figures)}")
            nine_of_ten = figures[-(-len(figures) * 9 // 10) - 1]
            print(f"median {statistics.median(figures):.0f}, nine of ten within {nine_of_ten:.0f}")

    def median(lines: tuple[str, ...], figure: str) -> float:
        return statistics.median(getattr(one, figure) for one in starts[lines])

    further_mib = (median(wide, "pss_mib") - median(plain, "pss_mib")) / 2
    kept = [
        judge("READY after exec", median(plain, "ready_ms"), 150, "ms"),
        judge("READY after exec, with NTS", median(with_nts, "ready_ms"), 200, "ms"),
        judge("an answer after exec", median(plain, "answer_ms"), 200, "ms"),
        judge("memory of a server with one worker", median(plain, "pss_mib"), 45, "MiB"),
        judge("memory of each further worker", further_mib, 5, "MiB"),
    ]
    return 0 if all(kept) else 1


if __name__ == "__main__":
    sys.exit(main())
