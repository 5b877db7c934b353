"""`python -m tests.bench.reload`: whether a request is lost while the configuration of a loaded server changes.

A steady load from many clients, and SIGHUP after each change: workers one, two, one; any address, one, any. Exit status
1 when an answer is missing. Requests that a receive buffer had no room for, because a worker waited for a core, are
told apart: on a machine that does other things there are some without any reload (the first round tells).
"""

import argparse
import json
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from tests.daemon import Daemon, environment, running

RATE = 50_000.0
CLIENTS = 500
STEP_S = 0.5
CHANGES = (
    (("workers 1", "workers 2"),),
    (("bindaddress 0.0.0.0", "bindaddress 127.0.0.1"),),
    (("workers 2", "workers 1"), ("makestep 1 3", "makestep 2 3")),
    (("bindaddress 127.0.0.1", "bindaddress 0.0.0.0"),),
    (("workers 1", "workers 2"), ("makestep 2 3", "makestep 1 3")),
    (("workers 2", "workers 1"),),
)


def under_load(daemon: Daemon, rate: float, changes: Sequence[Sequence[tuple[str, str]]]) -> dict[str, int]:
    """Counters of the generator for one round of changes."""
    with tempfile.TemporaryDirectory() as name:
        report = Path(name) / "report.json"
        duration_s = STEP_S * (len(CHANGES) + 2)
        command = [sys.executable, "-m", "loadtest", "run", "127.0.0.1", str(daemon.port)]
        command += ["--rate", str(rate), "--duration", str(duration_s), "--clients", str(CLIENTS)]
        command += ["--json", str(report)]
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, env=environment()) as generator:
            time.sleep(2 * STEP_S)
            for change in changes:
                text = (daemon.directory / "conf").read_text()
                for old, new in change:
                    text = text.replace(old, new)
                new_conf = daemon.directory / "conf.new"
                new_conf.write_text(text)
                new_conf.replace(daemon.directory / "conf")
                daemon.process.send_signal(signal.SIGHUP)
                time.sleep(STEP_S)
            generator.wait(60)
        found = json.loads(report.read_text())
    counters: dict[str, int] = found.get("counters", found)
    return counters


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rate", type=float, default=RATE, help="requests/s")
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    lost = 0
    with running(["workers 1", "bindaddress 0.0.0.0", "makestep 1 3"], options=("-n", "-l", "log")) as daemon:
        quiet = under_load(daemon, arguments.rate, ())
        print(f"without a reload: {quiet['sent']} sent, {quiet['sent'] - quiet['answered']} lost")
        for number in range(arguments.rounds):
            counters = under_load(daemon, arguments.rate, CHANGES)
            missing = counters["sent"] - counters["answered"]
            lost += missing
            print(f"round {number + 1}: {len(CHANGES)} reloads, {counters['sent']} sent, {missing} lost")
        command = [sys.executable, "-m", "ntpd_fast.cli.control", "-h", daemon.socket, "faults"]
        faults = subprocess.run(command, capture_output=True, text=True, env=environment(), check=True).stdout
        print(next(line for line in faults.splitlines() if "receive buffer full" in line))
        reloads = daemon.log.count("Reloaded the configuration")
    wanted = arguments.rounds * len(CHANGES)
    print(f"{reloads} of {wanted} reloads, {lost} requests lost")
    return 0 if lost == 0 and reloads == wanted else 1


if __name__ == "__main__":
    sys.exit(main())
