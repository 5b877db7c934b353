"""Places for sessions, shared out fairly: who gives way when all are taken, and who is the oldest.

Every operation is O(1), whatever the number of sessions: a flood of connections must not be able to buy CPU here.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from typing import Generic, TypeVar

Session = TypeVar("Session", bound=Hashable)


class SessionTable(Generic[Session]):
    """At most `places` sessions, each of a prefix (a network), ordered by age."""

    def __init__(self, places: int) -> None:
        if places < 1:
            raise ValueError("a table without places")
        self._places = places
        self._sessions: OrderedDict[Session, tuple[float, bytes]] = OrderedDict()
        self._by_prefix: dict[bytes, OrderedDict[Session, None]] = {}
        # prefixes by the number of their sessions, and the greatest number: a change is always by one
        self._by_count: dict[int, OrderedDict[bytes, None]] = {}
        self._count_max = 0

    def resize(self, places: int) -> None:
        """Another number of places. Sessions beyond it keep theirs; nobody is let in before they have ended."""
        if places < 1:
            raise ValueError("a table without places")
        self._places = places

    def __len__(self) -> int:
        return len(self._sessions)

    @property
    def full(self) -> bool:
        return len(self._sessions) >= self._places

    def add(self, session: Session, prefix: bytes, now: float) -> None:
        """Take a place; there has to be one."""
        if self.full:
            raise ValueError("no place left")
        self._sessions[session] = (now, prefix)
        members = self._by_prefix.setdefault(prefix, OrderedDict())
        members[session] = None
        self._recount(prefix, len(members) - 1, len(members))

    def remove(self, session: Session) -> None:
        _, prefix = self._sessions.pop(session)
        members = self._by_prefix[prefix]
        del members[session]
        self._recount(prefix, len(members) + 1, len(members))
        if not members:
            del self._by_prefix[prefix]

    def oldest(self) -> tuple[float, Session] | None:
        """When the oldest session came, and the session."""
        for session, (since, _) in self._sessions.items():
            return since, session
        return None

    def count(self, prefix: bytes) -> int:
        members = self._by_prefix.get(prefix)
        return len(members) if members else 0

    def give_way(self, prefix: bytes) -> Session | None:
        """The session to close for a newcomer of `prefix`: the oldest of the prefix with the most sessions.

        None when that would only turn the tables: the newcomer's prefix would then have as many or more. None, too,
        when there would still be no place (`resize`).
        """
        if len(self._sessions) > self._places:
            return None
        if self._count_max <= self.count(prefix) + 1:
            return None
        heaviest = next(iter(self._by_count[self._count_max]))
        return next(iter(self._by_prefix[heaviest]))

    def _recount(self, prefix: bytes, before: int, after: int) -> None:
        if before:
            prefixes = self._by_count[before]
            del prefixes[prefix]
            if not prefixes:
                del self._by_count[before]
        if after:
            self._by_count.setdefault(after, OrderedDict())[prefix] = None
        if after > self._count_max or (before == self._count_max and before not in self._by_count):
            self._count_max = after
