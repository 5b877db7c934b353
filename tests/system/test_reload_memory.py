"""Reloads leave nothing behind: objects and descriptors of each process are as many after many as after a few."""

import os
import re
import signal
import sys
from collections import Counter

import pytest

from tests.pki import Authority
from tests.processes import children_of, wait_until
from tests.system.harness import free_port
from tests.system.test_reload import RELOADED, write

# Each process tells how many objects it has when a reload ends: control, and the supervisor when the next begins.
LAUNCH = """
import gc, os, sys
from collections import Counter
def tell(who):
    gc.collect()
    kinds = Counter(type(one).__name__ for one in gc.get_objects())
    counts = " ".join(f"{name}={count}" for name, count in kinds.items())
    descriptors = len(os.listdir("/proc/self/fd"))
    print(f"\\nOBJECTS {who} {kinds.total()} {descriptors} {counts}", file=sys.stderr, flush=True)
from ntpd_fast.control.reloading import Reloading
from ntpd_fast.server.supervisor import Supervisor
def end(self, outcome, end=Reloading._end):
    end(self, outcome)
    del outcome
    self._loop.call_later(0.02, tell, "control")
def reload(self, reload=Supervisor.reload):
    tell("supervisor")
    reload(self)
Reloading._end, Supervisor.reload = end, reload
from ntpd_fast.cli import daemon
def load(load=daemon._load_for_successors):
    load()
    print("LOADED", file=sys.stderr, flush=True)
daemon._load_for_successors = load
sys.exit(daemon.main())
"""
WARM = 10
ROUNDS = 40
# What a few collections more or less, a timer or an answer that is awaited may make of it; a leak makes one a round.
OBJECTS_MAX = ROUNDS // 2


def counted(text: str, who: str) -> list[tuple[int, int, Counter[str]]]:
    """What a process has told: objects, descriptors, objects by kind."""
    found = []
    for total, descriptors, kinds in re.findall(rf"^OBJECTS {who} (\d+) (\d+) (.*)\n", text, re.M):
        by_kind = Counter({name: int(count) for name, count in (pair.rsplit("=", 1) for pair in kinds.split())})
        found.append((int(total), int(descriptors), by_kind))
    return found


@pytest.mark.parametrize("workers", [0, 1])
def test_reloads_leave_nothing_behind(make_daemon, tmp_path, workers):
    certificate, key = Authority().issue("127.0.0.1").write(tmp_path)
    for name in ("dumps", "logs", "sources.d"):
        (tmp_path / name).mkdir()
    daemon = make_daemon(
        "local", "allow", f"workers {workers}", f"ntsprocesses {workers}", f"ntsport {free_port()}",
        f"ntsservercert {certificate}", f"ntsserverkey {key}", f"dumpdir {tmp_path}/dumps", f"logdir {tmp_path}/logs",
        "log tracking measurements", f"sourcedir {tmp_path}/sources.d", "manual", "server 127.0.0.1 port 9 maxpoll 4",
        launcher=[sys.executable, "-c", LAUNCH],
    ).start()  # fmt: skip
    if workers:
        # some time after READY the supervisor loads what a successor of control will need
        wait_until(lambda: "LOADED" in daemon.errors(), "the supervisor's late load")
    fixed = daemon.config.read_text()
    children = len(children_of(daemon.pid))
    for turn in range(WARM + ROUNDS):
        (tmp_path / "sources.d" / "a.sources").write_text(f"server 127.0.0.{2 + turn % 3} port 9 iburst\n")
        other = (
            f"allow 198.51.{turn}.0/24\ncmdratelimit interval 1\nlogbanner {turn % 9}\nratelimit interval 3\n"
            f"bindaddress 127.0.0.1\nmaxslewrate 500\nntsratelimit interval {turn % 4}\nserver 127.0.0.9 port 9\n"
        )
        write(daemon, fixed + other * (turn % 2))
        os.kill(daemon.pid, signal.SIGHUP)
        wait_until(lambda turn=turn: daemon.errors().count(RELOADED) > turn, f"reload {turn}\n{daemon.errors()}")
        wait_until(lambda turn=turn: len(counted(daemon.errors(), "control")) > turn, "its end")
        wait_until(lambda: len(children_of(daemon.pid)) == children, "its processes' end")
    text = daemon.errors()
    for who in ("control", "supervisor")[: 1 + bool(workers)]:
        # every other configuration is the same
        (before, descriptors_before, kinds_before), *_, (after, descriptors_after, kinds_after) = counted(text, who)[
            WARM - 1 :: 2
        ]
        grown = +(kinds_after - kinds_before)
        assert after - before < OBJECTS_MAX, f"{who}: {before} objects became {after}: {grown.most_common(12)}"
        assert descriptors_after <= descriptors_before, who
    assert daemon.stop() == 0
