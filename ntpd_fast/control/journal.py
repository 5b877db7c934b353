"""What commands have changed, for the control process that is started in place of one that died.

Tables in shared memory outlive control, so that workers go on with what a command has set; a control that knew only the
configuration would take it back. A change is kept as the request that made it, and made again at the start. Rules:

- only settings: no corrections of the clock, no measurements, nothing that was for once;
- a request made again counts where it was made last;
- a reload that changes a directive forgets what commands have said on its subject, as the running control does, or
  would have done had it lived (`Reloads`);
- one writer, control; the supervisor only holds the memory, workers never see it;
- bounded: what does not fit is in force until control dies, counted and told.
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any, Final

from ntpd_fast.config.model import AccessRule, LocalOptions, MakeStep
from ntpd_fast.control.journalmemory import JOURNAL_BYTES, VERSION_BYTES, WORD, Reloads
from ntpd_fast.monitor.codec.commands import COMMANDS, Number
from ntpd_fast.monitor.codec.layout import Layout
from ntpd_fast.monitor.handlers.table import ROWS
from ntpd_fast.system.messages import Log, Severity

ACCESS, COMMAND_ACCESS, KEYS = "access", "cmd_access", "keyfile"
REFERENCE: Final = frozenset({"local", "makestep", "maxupdateskew_ppm"})
SOURCES = ""

SUBJECTS: Mapping[Number, str] = {
    number: subject
    for subject, numbers in {
        ACCESS: (Number.ALLOW, Number.ALLOWALL, Number.DENY, Number.DENYALL),
        COMMAND_ACCESS: (Number.CMDALLOW, Number.CMDALLOWALL, Number.CMDDENY, Number.CMDDENYALL),
        "local": (Number.LOCAL2, Number.LOCAL3),
        "makestep": (Number.MODIFY_MAKESTEP,),
        "maxupdateskew_ppm": (Number.MODIFY_MAXUPDATESKEW,),
        "manual": (Number.MANUAL,),
        "reselectdist_s": (Number.RESELECTDISTANCE,),
        KEYS: (Number.REKEY,),
        # what was said of one source stays true of it, whatever others a reload brings
        SOURCES: (
            Number.ONLINE, Number.OFFLINE, Number.ONOFFLINE, Number.ADD_SOURCE, Number.DEL_SOURCE,
            Number.MODIFY_MINPOLL, Number.MODIFY_MAXPOLL, Number.MODIFY_MAXDELAY, Number.MODIFY_MAXDELAYRATIO,
            Number.MODIFY_MAXDELAYDEVRATIO, Number.MODIFY_MINSTRATUM, Number.MODIFY_POLLTARGET, Number.MODIFY_OFFSET,
            Number.MODIFY_SELECTOPTS,
        ),
    }.items()
    for number in numbers
}  # fmt: skip
"""Commands that are remembered, and the field of the configuration whose change makes them void."""

_ROW = struct.Struct("=HHI")
"""Number of the command, length of its payload, how many reloads there were before it."""

Request = tuple[Number, bytes]
"""A command and its payload."""


class Journal:
    """The requests in force. `descriptor` is of `journalmemory.make_memory`; None: nobody would ask, nothing is kept.

    Memory holds two versions and the number of the one that counts, which is written last: a control that is killed on
    the way leaves the old one.
    """

    def __init__(self, descriptor: int | None, log: Log, reloads: Reloads | None = None) -> None:
        self._log = log
        self._reloads = Reloads() if reloads is None else reloads
        self._memory = None if descriptor is None else mmap.mmap(descriptor, WORD.size + 2 * VERSION_BYTES)
        self._requests: dict[Request, int] = {
            request: reload for request, reload in self._read() if reload >= self._void_before(SUBJECTS[request[0]])
        }
        """Each with the number of reloads before it."""
        self.missed = 0
        """Changes there was no room for."""

    def requests(self, *subjects: str) -> list[Request]:
        """Those on some subjects, in the order in which they are to be made again."""
        return [request for request in self._requests if SUBJECTS[request[0]] in subjects]

    def record(self, number: Number, payload: bytes) -> None:
        """A command was carried out."""
        if self._memory is None or number not in SUBJECTS:
            return
        request = (number, payload)
        self._requests.pop(request, None)
        self._requests[request] = self._reloads.count
        if sum(_ROW.size + len(kept) for _, kept in self._requests) > JOURNAL_BYTES:
            del self._requests[request]
            self.missed += 1
            if self.missed == 1:
                self._log(Severity.WARNING, "Too many changes by commands : a new control would not know the latest")
            return
        self._write()

    def forget(self, changed: Collection[str]) -> None:
        """A reload has changed these fields of the configuration, and read the keys again."""
        left = {
            request: reload
            for request, reload in self._requests.items()
            if SUBJECTS[request[0]] not in {*changed, KEYS}
        }
        if len(left) < len(self._requests):
            self._requests = left
            self._write()

    def _void_before(self, subject: str) -> int:
        """The last reload that had to do with it; every one reads the keys again."""
        return self._reloads.count if subject == KEYS else self._reloads.last.get(subject, 0)

    def _write(self) -> None:
        assert self._memory is not None
        data = b"".join(
            _ROW.pack(number, len(payload), reload) + payload
            for (number, payload), reload in self._requests.items()
        )
        other = 1 - WORD.unpack_from(self._memory)[0]
        at = WORD.size + other * VERSION_BYTES
        self._memory[at : at + WORD.size + len(data)] = WORD.pack(len(data)) + data
        WORD.pack_into(self._memory, 0, other)

    def _read(self) -> Iterator[tuple[Request, int]]:
        if self._memory is None:
            return
        at = WORD.size + WORD.unpack_from(self._memory)[0] * VERSION_BYTES
        end = at + WORD.size + WORD.unpack_from(self._memory, at)[0]
        at += WORD.size
        while at < end:
            number, length, reload = _ROW.unpack_from(self._memory, at)
            at += _ROW.size
            yield (Number(number), self._memory[at : at + length]), reload
            at += length


class _Capture:
    """Takes settings like the parts they are for."""

    def __init__(self) -> None:
        self.rules: list[AccessRule] = []
        self.settings: dict[str, Any] = {}

    def set_rule(self, rule: AccessRule) -> None:
        self.rules.append(rule)

    def set_local(self, options: LocalOptions | None) -> None:
        self.settings["local"] = options

    def set_makestep(self, makestep: MakeStep) -> None:
        self.settings["makestep"] = makestep

    def set_maxupdateskew_ppm(self, skew_ppm: float) -> None:
        self.settings["maxupdateskew_ppm"] = skew_ppm


def _captured(requests: list[Request]) -> _Capture:
    capture = _Capture()
    for number, payload in requests:
        ROWS[number].run(capture, Layout.of(COMMANDS[number].request).decode(payload, 0))
    return capture


def commanded_rules(journal: Journal) -> list[AccessRule]:
    """The access rules that commands have added, for the table before workers are given it."""
    return _captured(journal.requests(ACCESS)).rules


def commanded_reference(journal: Journal) -> Mapping[str, Any]:
    """Fields of `ReferenceOptions` that commands have set, for the first page that workers see."""
    return _captured(journal.requests(*REFERENCE)).settings


class Repeater:
    """Makes requests again. `run` says whether one was carried out; those that were not wait, in their order.

    A request for a source waits until the source has its address. `call_soon` is the event loop's.
    """

    def __init__(
        self, run: Callable[[Number, bytes], bool], call_soon: Callable[[Callable[[], None]], object]
    ) -> None:
        self._run = run
        self._call_soon = call_soon
        self._waiting: list[Request] = []
        self._will_try = False

    def repeat(self, requests: list[Request]) -> None:
        """Make them now."""
        for request in requests:
            if not self._run(*request):
                self._waiting.append(request)

    def try_soon(self) -> None:
        """Something has changed: try those that wait, once however often this is said before the loop's next turn."""
        if self._waiting and not self._will_try:
            self._will_try = True
            self._call_soon(self._try)

    def _try(self) -> None:
        self._will_try = False
        waiting, self._waiting = self._waiting, []
        self.repeat(waiting)
