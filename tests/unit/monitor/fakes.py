"""Back ends for the tests of the dispatcher: one that plays a recorded reply, one that counts changes."""

from collections import Counter
from collections.abc import Callable, Set
from typing import Any

from ntpd_fast.config.model import AccessRule
from ntpd_fast.monitor.backend import Backends, CommandFailed, IPAddress
from ntpd_fast.monitor.codec import packet as pk
from ntpd_fast.monitor.codec import replies as rep
from ntpd_fast.monitor.codec.address import Address
from ntpd_fast.monitor.codec.commands import Status
from ntpd_fast.monitor.codec.layout import Layout


class FakeCommandLog:
    def __init__(self, admit: bool = True) -> None:
        self.seen: list[tuple[Address | None, bool, int]] = []
        self._admit = admit

    def admit(self, address: Address | None, exempt: bool, now_ns: int) -> bool:
        self.seen.append((address, exempt, now_ns))
        return exempt or self._admit


class FakeCommandAccess:
    def __init__(self, allowed: Set[str] = frozenset()) -> None:
        self.allowed = allowed
        self.rules: list[AccessRule] = []

    def set_rule(self, rule: AccessRule) -> None:
        self.rules.append(rule)

    def is_allowed(self, address: IPAddress) -> bool:
        return str(address) in self.allowed


class ScriptedPart:
    """Every part of a back end at once: whatever is called gives what leads to the recorded reply.

    Statuses in `never` are not raised: the dispatcher and its handlers have to find them by themselves.
    """

    def __init__(self, recorded: bytes | None, never: Set[Status]) -> None:
        self._payload = None if recorded is None else pk.decode_reply(recorded)
        self._status = Status.SUCCESS if recorded is None else Status(pk.decode_reply_header(recorded).status)
        self._never = never

    def __getattr__(self, name: str) -> Callable[..., Any]:
        def method(*_: Any) -> Any:
            if self._status is not Status.SUCCESS and self._status not in self._never:
                raise CommandFailed(self._status)
            return self._result(name)

        return method

    def reload_config(self) -> rep.ReloadState:
        self.changes["reload_config"] += 1
        return rep.ReloadState(1)

    def reload_report(self) -> rep.ReloadState:
        return rep.ReloadState(0, 1, 1, b"why", b"")

    def source_count(self) -> int:
        if isinstance(self._payload, rep.SourceCount):
            return self._payload.n_sources
        return 0 if self._status is Status.NO_SUCH_SOURCE else 1 << 30

    def samples(self) -> tuple[rep.ManualSample, ...]:
        if isinstance(self._payload, rep.ManualList):
            return self._payload.samples
        return () if self._status is Status.BAD_SAMPLE else (rep.ManualSample(0, 0.0, 0.0, 0.0),) * 16

    def is_allowed(self, _: IPAddress) -> bool:
        return self._status is Status.ACCESS_ALLOWED

    def admit(self, *_: Any) -> bool:
        return True

    def _result(self, name: str) -> Any:
        if name in ("set_online", "set_offline", "burst"):
            return True
        payload = self._payload
        if isinstance(payload, rep.ServerStats3):
            return rep.ServerStats(*payload)
        if isinstance(payload, rep.NtpData1):
            return rep.NtpData(*payload, 0, 0, 0, 0)
        if isinstance(payload, rep.SourceName):
            return payload.name.decode()
        return payload if payload else BLANK.get(name)


BLANK: dict[str, Any] = {
    "tracking": rep.Tracking(0, Address.source_id(0), 0, 0, 0, *[0.0] * 9),
    "server_stats": rep.ServerStats(),
    "ntp_data": Layout.of(rep.NtpData).decode(bytes(Layout.of(rep.NtpData).size), 0),
}


def full_backends(part: Any) -> Backends:
    """A daemon that has every part, all of them `part`."""
    return Backends(**dict.fromkeys(Backends.__dataclass_fields__, part))


class CountingPart:
    """Every part of a back end at once; counts the calls that change something."""

    def __init__(self) -> None:
        self.changes: Counter[str] = Counter()

    def __getattr__(self, name: str) -> Callable[..., Any]:
        def method(*_: Any) -> Any:
            self.changes[name] += 1
            return True

        return method

    def settime(self, _: int) -> rep.ManualTimestamp:
        self.changes["settime"] += 1
        return rep.ManualTimestamp(0.0, 0.0, 0.0)

    def tracking(self) -> rep.Tracking:
        return BLANK["tracking"]  # type: ignore[no-any-return]

    def server_stats(self) -> rep.ServerStats:
        return rep.ServerStats(2**64 - 1, 2**40)

    def faults(self) -> rep.Faults:
        return rep.Faults()

    def source_count(self) -> int:
        return 3

    def source_data(self, _: int) -> rep.SourceData:
        return rep.SourceData(Address.source_id(1), 6, 0, 1, 0, 0, rep.NEVER, 0.0, 0.0, 0.0)

    def source_stats(self, _: int) -> rep.SourceStats:
        return rep.SourceStats(0, Address.source_id(1), 0, 0, 0, 4.0, 0.0, 2000.0, 0.0, 0.0)

    def select_data(self, _: int) -> rep.SelectData:
        return rep.SelectData(0, Address.source_id(1), "M", False, 3, 0, 0, 0, 1.0, 0.0, 0.0)

    def ntp_data(self, _: Address) -> rep.NtpData:
        return BLANK["ntp_data"]  # type: ignore[no-any-return]

    def auth_data(self, _: Address) -> rep.AuthData:
        return rep.AuthData(0, 0, 0, 0, 0, rep.NEVER, 0, 0, 0)

    def source_name(self, _: Address) -> str:
        return "ntp.example.net"

    def activity(self) -> rep.Activity:
        return rep.Activity(0, 0, 0, 0, 3)

    def samples(self) -> tuple[rep.ManualSample, ...]:
        return (rep.ManualSample(0, 0.0, 0.0, 0.0),) * 3

    def smoothing(self) -> rep.Smoothing:
        return rep.Smoothing(0, 0.0, 0.0, 0.0, 0.0, 0.0)

    def rtc_data(self) -> rep.RtcData:
        return rep.RtcData(0, 0, 0, 0, 0.0, 0.0)

    def client_accesses(self, first: int, count: int, _: int, reset: bool) -> rep.ClientAccesses:
        if reset:
            self.changes["client_accesses"] += 1
        row = rep.ClientAccess(Address.source_id(1), *[0] * 13)
        return rep.ClientAccesses(16, min(first + count, 16), (row,) * count)

    def is_allowed(self, _: IPAddress) -> bool:
        return True

    def admit(self, *_: Any) -> bool:
        return True
