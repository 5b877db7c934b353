"""A look at processes by /proc, and waiting for what they do."""

import os
import time
from collections.abc import Callable

PATIENCE_S = 40.0

FILTER = ("-F", os.environ["TEST_FILTER_LEVEL"]) if "TEST_FILTER_LEVEL" in os.environ else ()
"""`make test-filter` runs every daemon of the tests with this."""


def children_of(pid: int) -> list[int]:
    """Direct children of a process, oldest first, those that ended and were not waited for included."""
    try:
        with open(f"/proc/{pid}/task/{pid}/children") as file:
            return [int(word) for word in file.read().split()]
    except FileNotFoundError:
        return []


def status_of(pid: int, *names: str) -> list[str]:
    """Fields of /proc/PID/status."""
    with open(f"/proc/{pid}/status") as file:
        fields = dict(line.split(":\t", 1) for line in file.read().splitlines() if ":\t" in line)
    return [fields[name] for name in names]


def is_running(pid: int) -> bool:
    """Whether there is such a process, and it has not ended (a zombie has)."""
    try:
        return not status_of(pid, "State")[0].startswith(("Z", "X"))
    except (FileNotFoundError, ProcessLookupError):
        return False


def wait_until(condition: Callable[[], object], what: str) -> None:
    """Until the condition holds; an error that names it when it does not for long."""
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, f"waited in vain: {what}"
        time.sleep(0.01)
