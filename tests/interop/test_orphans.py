"""Orphans: groups of two daemons of ours and one chronyd of Debian that have no time but their own.

The member with the smallest address leads, the others follow it, and when it dies the next one takes over. A large
`maxclockerror` makes the root distance grow to the limit of `distance` in seconds instead of hours. Members are
addresses in a network namespace, so that all use port 123.
"""

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.daemon import running
from tests.interop import chronyd
from tests.netns import in_network_namespace, ip

SETTLED = 3
"""Looks in a row that find one leader before it has to stay so: the first measurements say little."""

LOOKS = 5
LOOK_S = 0.5
PATIENCE_S = 60.0


@dataclass(frozen=True)
class Member:
    """One member: what chronyc prints of it, and how it is ended without a word."""

    chronyc: Callable[..., str]
    kill: Callable[[], None]

    def reference(self) -> tuple[str, int]:
        """Reference id (hex) and stratum."""
        words = self.chronyc("tracking").split(",")
        return words[0], int(words[2])


def lines_of(number: int, numbers: list[int], kind: str) -> list[str]:
    others = [f"{kind} 192.0.2.{other} minpoll 0 maxpoll 0 iburst" for other in numbers if other != number]
    own = f"192.0.2.{number}"
    return [f"bindaddress {own}", f"bindacqaddress {own}", "allow 192.0.2.0/24", "maxclockerror 40000", *others]


@contextlib.contextmanager
def group(directory: Path, numbers: list[int], foreign: int, kind: str) -> Iterator[dict[int, Member]]:
    """Members at addresses of these numbers; the `foreign` one is chronyd."""
    with contextlib.ExitStack() as stack:
        members = {}
        for number in numbers:
            lines = lines_of(number, numbers, kind)
            if number == foreign:
                own = directory / str(number)
                own.mkdir(mode=0o700)
                theirs = stack.enter_context(
                    chronyd.running(own, "local stratum 10 orphan distance 0.2", *lines, port=123)
                )
                members[number] = Member(theirs.command, theirs.kill)
                continue
            # the present default waits for 5 minutes, chronyd 4.3 does not wait
            ours = stack.enter_context(
                running(
                    ["local stratum 10 orphan distance 0.2 waitunsynced 0", *lines], local=False, port=123, lasts=False
                )
            )
            members[number] = Member(lambda *words, ours=ours: ours.chronyc("-c", *words), ours.kill)  # type: ignore[misc]
        yield members


def follow(members: Mapping[int, Member]) -> bool:
    """Whether the first one serves its own time and all others follow it."""
    first, *others = sorted(members)
    return members[first].reference() == ("7F7F0101", 10) and all(
        members[other].reference() == (f"C00002{first:02X}", 11) for other in others
    )


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["server", "peer"])
def test_orphans_have_one_leader_and_another_when_it_dies(kind: str, tmp_path: Path) -> None:
    """Two groups at a time: chronyd leads the first and comes second in the other."""

    def inside() -> None:
        numbers = [1, 2, 3, 11, 12, 13]
        for number in numbers:
            ip("addr", "add", f"192.0.2.{number}/32", "dev", "lo")
        with (
            group(tmp_path, numbers[:3], foreign=1, kind=kind) as theirs,
            group(tmp_path, numbers[3:], foreign=12, kind=kind) as ours,
        ):
            for when in "at first", "after the leader's death":
                seen, deadline = 0, time.monotonic() + PATIENCE_S
                while seen < SETTLED:
                    assert time.monotonic() < deadline, f"nobody leads {when}"
                    seen = seen + 1 if follow(theirs) and follow(ours) else 0
                    time.sleep(LOOK_S)
                for _ in range(LOOKS):
                    assert follow(theirs)
                    assert follow(ours)
                    time.sleep(LOOK_S)
                if when == "at first":
                    theirs.pop(1).kill()
                    ours.pop(11).kill()

    in_network_namespace(inside)
