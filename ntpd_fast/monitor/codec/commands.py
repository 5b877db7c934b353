"""The table of commands: number, request, replies by length, who may use it; and the status codes.

A row is all there is to know about a command on the wire. Where the protocol grew, a command has several
replies, the longest first: the daemon sends the longest the request has room for, so that every chronyc from
4.3 on gets the one it can read.
"""

from collections.abc import Callable
from enum import Enum, IntEnum
from typing import Any, NamedTuple

from . import replies as rep
from . import requests as req
from .layout import Layout, Message

REQUEST_HEADER_LENGTH = 20
REPLY_HEADER_LENGTH = 28
REQUEST_LENGTH_MAX = 860


class Number(IntEnum):
    """The commands by name; numbers missing here were used once and are answered as unknown."""

    ONLINE = 1
    OFFLINE = 2
    BURST = 3
    MODIFY_MINPOLL = 4
    MODIFY_MAXPOLL = 5
    DUMP = 6
    MODIFY_MAXDELAY = 7
    MODIFY_MAXDELAYRATIO = 8
    MODIFY_MAXUPDATESKEW = 9
    SETTIME = 11
    MANUAL = 13
    N_SOURCES = 14
    SOURCE_DATA = 15
    REKEY = 16
    ALLOW = 17
    ALLOWALL = 18
    DENY = 19
    DENYALL = 20
    CMDALLOW = 21
    CMDALLOWALL = 22
    CMDDENY = 23
    CMDDENYALL = 24
    ACCHECK = 25
    CMDACCHECK = 26
    DEL_SOURCE = 29
    WRITERTC = 30
    DFREQ = 31
    TRACKING = 33
    SOURCESTATS = 34
    RTCREPORT = 35
    TRIMRTC = 36
    CYCLELOGS = 37
    MANUAL_LIST = 41
    MANUAL_DELETE = 42
    MAKESTEP = 43
    ACTIVITY = 44
    MODIFY_MINSTRATUM = 45
    MODIFY_POLLTARGET = 46
    MODIFY_MAXDELAYDEVRATIO = 47
    RESELECT = 48
    RESELECTDISTANCE = 49
    MODIFY_MAKESTEP = 50
    SMOOTHING = 51
    SMOOTHTIME = 52
    REFRESH = 53
    SERVER_STATS = 54
    LOCAL2 = 56
    NTP_DATA = 57
    SHUTDOWN = 62
    ONOFFLINE = 63
    ADD_SOURCE = 64
    NTP_SOURCE_NAME = 65
    RESET_SOURCES = 66
    AUTH_DATA = 67
    CLIENT_ACCESSES_BY_INDEX3 = 68
    SELECT_DATA = 69
    RELOAD_SOURCES = 70
    DOFFSET2 = 71
    MODIFY_SELECTOPTS = 72
    MODIFY_OFFSET = 73
    LOCAL3 = 74
    # Ours: "N" in the high byte, far from where the protocol's own numbers will ever be.
    FAULTS = 0x4E01
    RELOAD_CONFIG = 0x4E02
    RELOAD_REPORT = 0x4E03


class Status(IntEnum):
    """Status codes of replies; the text is chronyc's business."""

    SUCCESS = 0
    FAILED = 1
    UNAUTHORISED = 2
    INVALID = 3
    NO_SUCH_SOURCE = 4
    INVALID_TIMESTAMP = 5
    NOT_ENABLED = 6
    BAD_SUBNET = 7
    ACCESS_ALLOWED = 8
    ACCESS_DENIED = 9
    NO_HOST_ACCESS = 10
    SOURCE_ALREADY_KNOWN = 11
    TOO_MANY_SOURCES = 12
    NO_RTC = 13
    BAD_RTC_FILE = 14
    INACTIVE = 15
    BAD_SAMPLE = 16
    INVALID_ADDRESS_FAMILY = 17
    BAD_PACKET_VERSION = 18
    BAD_PACKET_LENGTH = 19
    INVALID_NAME = 21


class Access(Enum):
    """Where a command is allowed by default."""

    READ = "open to every allowed host"
    LOCAL_READ = "report for the Unix socket, over UDP only when opened by name"
    MODIFY = "Unix socket only"


class Reply(NamedTuple):
    """A reply type. `narrow` makes its payload of the newer one's, which is what the back end hands in."""

    number: int
    message: type[Message]
    reserved: int = 0
    """Bytes of 0xff at the end."""
    narrow: Callable[[Any], Message] | None = None

    @property
    def length(self) -> int:
        """Of the whole packet."""
        return REPLY_HEADER_LENGTH + Layout.of(self.message).size + self.reserved


def _narrow_ntp_data(data: rep.NtpData) -> rep.NtpData1:
    return rep.NtpData1._make(data[: len(rep.NtpData1.__annotations__)])


def _narrow_server_stats(stats: rep.ServerStats) -> rep.ServerStats3:
    # Modulo 2^32, as the counters of that version were: what reads them takes differences.
    return rep.ServerStats3._make(value & 0xFFFFFFFF for value in stats[: len(rep.ServerStats3.__annotations__)])


NULL = Reply(1, req.Nothing)
REPLIES: dict[int, Reply] = {
    reply.number: reply
    for reply in (
        NULL,
        Reply(2, rep.SourceCount),
        Reply(3, rep.SourceData),
        Reply(5, rep.Tracking),
        Reply(6, rep.SourceStats),
        Reply(7, rep.RtcData),
        Reply(12, rep.Activity),
        Reply(13, rep.Smoothing),
        Reply(16, rep.NtpData1, reserved=12, narrow=_narrow_ntp_data),
        Reply(17, rep.ManualTimestamp),
        Reply(18, rep.ManualList),
        Reply(19, rep.SourceName),
        Reply(20, rep.AuthData),
        Reply(21, rep.ClientAccesses),
        Reply(23, rep.SelectData),
        Reply(24, rep.ServerStats3, narrow=_narrow_server_stats),
        Reply(25, rep.ServerStats, reserved=32),
        Reply(26, rep.NtpData, reserved=16),
        Reply(0x4E01, rep.Faults),
        Reply(0x4E02, rep.ReloadState),
    )
}


class Command(NamedTuple):
    """A row of the table."""

    number: Number
    request: type[Message]
    access: Access
    replies: tuple[Reply, ...] = (NULL,)
    """Of a success, the longest first."""

    @property
    def _request_length(self) -> int:
        return REQUEST_HEADER_LENGTH + Layout.of(self.request).size

    @property
    def length(self) -> int:
        """Of the whole request, padded for the longest reply: what a client sends."""
        return max(self._request_length, REPLY_HEADER_LENGTH, self.replies[0].length)

    @property
    def length_min(self) -> int:
        """The shortest request the daemon accepts: enough for the shortest reply."""
        return max(self._request_length, REPLY_HEADER_LENGTH, self.replies[-1].length)


def _replies(*numbers: int) -> tuple[Reply, ...]:
    return tuple(REPLIES[number] for number in numbers)


_READ, _LOCAL, _MODIFY = Access.READ, Access.LOCAL_READ, Access.MODIFY

COMMANDS: dict[int, Command] = {
    command.number: command
    for command in (
        Command(Number.ONLINE, req.AddressMask, _MODIFY),
        Command(Number.OFFLINE, req.AddressMask, _MODIFY),
        Command(Number.BURST, req.Burst, _MODIFY),
        Command(Number.MODIFY_MINPOLL, req.SourceInteger, _MODIFY),
        Command(Number.MODIFY_MAXPOLL, req.SourceInteger, _MODIFY),
        Command(Number.DUMP, req.Nothing, _MODIFY),
        Command(Number.MODIFY_MAXDELAY, req.SourceReal, _MODIFY),
        Command(Number.MODIFY_MAXDELAYRATIO, req.SourceReal, _MODIFY),
        Command(Number.MODIFY_MAXUPDATESKEW, req.Real, _MODIFY),
        Command(Number.SETTIME, req.SetTime, _MODIFY, _replies(17)),
        Command(Number.MANUAL, req.Option, _MODIFY),
        Command(Number.N_SOURCES, req.Nothing, _READ, _replies(2)),
        Command(Number.SOURCE_DATA, req.Index, _READ, _replies(3)),
        Command(Number.REKEY, req.Nothing, _MODIFY),
        Command(Number.ALLOW, req.AccessSubnet, _MODIFY),
        Command(Number.ALLOWALL, req.AccessSubnet, _MODIFY),
        Command(Number.DENY, req.AccessSubnet, _MODIFY),
        Command(Number.DENYALL, req.AccessSubnet, _MODIFY),
        Command(Number.CMDALLOW, req.AccessSubnet, _MODIFY),
        Command(Number.CMDALLOWALL, req.AccessSubnet, _MODIFY),
        Command(Number.CMDDENY, req.AccessSubnet, _MODIFY),
        Command(Number.CMDDENYALL, req.AccessSubnet, _MODIFY),
        Command(Number.ACCHECK, req.OneAddress, _LOCAL),
        Command(Number.CMDACCHECK, req.OneAddress, _LOCAL),
        Command(Number.DEL_SOURCE, req.OneAddress, _MODIFY),
        Command(Number.WRITERTC, req.Nothing, _MODIFY),
        Command(Number.DFREQ, req.Real, _MODIFY),
        Command(Number.TRACKING, req.Nothing, _READ, _replies(5)),
        Command(Number.SOURCESTATS, req.Index, _READ, _replies(6)),
        Command(Number.RTCREPORT, req.Nothing, _READ, _replies(7)),
        Command(Number.TRIMRTC, req.Nothing, _MODIFY),
        Command(Number.CYCLELOGS, req.Nothing, _MODIFY),
        Command(Number.MANUAL_LIST, req.Nothing, _READ, _replies(18)),
        Command(Number.MANUAL_DELETE, req.Index, _MODIFY),
        Command(Number.MAKESTEP, req.Nothing, _MODIFY),
        Command(Number.ACTIVITY, req.Nothing, _READ, _replies(12)),
        Command(Number.MODIFY_MINSTRATUM, req.SourceInteger, _MODIFY),
        Command(Number.MODIFY_POLLTARGET, req.SourceInteger, _MODIFY),
        Command(Number.MODIFY_MAXDELAYDEVRATIO, req.SourceReal, _MODIFY),
        Command(Number.RESELECT, req.Nothing, _MODIFY),
        Command(Number.RESELECTDISTANCE, req.Real, _MODIFY),
        Command(Number.MODIFY_MAKESTEP, req.ModifyMakeStep, _MODIFY),
        Command(Number.SMOOTHING, req.Nothing, _READ, _replies(13)),
        Command(Number.SMOOTHTIME, req.Option, _MODIFY),
        Command(Number.REFRESH, req.Nothing, _MODIFY),
        Command(Number.SERVER_STATS, req.Nothing, _LOCAL, _replies(25, 24)),
        Command(Number.LOCAL2, req.Local2, _MODIFY),
        Command(Number.NTP_DATA, req.OneAddress, _LOCAL, _replies(26, 16)),
        Command(Number.SHUTDOWN, req.Nothing, _MODIFY),
        Command(Number.ONOFFLINE, req.Nothing, _MODIFY),
        Command(Number.ADD_SOURCE, req.AddSource, _MODIFY),
        Command(Number.NTP_SOURCE_NAME, req.OneAddress, _READ, _replies(19)),
        Command(Number.RESET_SOURCES, req.Nothing, _MODIFY),
        Command(Number.AUTH_DATA, req.OneAddress, _LOCAL, _replies(20)),
        Command(Number.CLIENT_ACCESSES_BY_INDEX3, req.ClientAccesses, _LOCAL, _replies(21)),
        Command(Number.SELECT_DATA, req.Index, _LOCAL, _replies(23)),
        Command(Number.RELOAD_SOURCES, req.Nothing, _MODIFY),
        Command(Number.DOFFSET2, req.Real, _MODIFY),
        Command(Number.MODIFY_SELECTOPTS, req.ModifySelectOpts, _MODIFY),
        Command(Number.MODIFY_OFFSET, req.ModifyOffset, _MODIFY),
        Command(Number.LOCAL3, req.Local3, _MODIFY),
        Command(Number.FAULTS, req.Nothing, _LOCAL, _replies(0x4E01)),
        Command(Number.RELOAD_CONFIG, req.Nothing, _MODIFY, _replies(0x4E02)),
        Command(Number.RELOAD_REPORT, req.Nothing, _MODIFY, _replies(0x4E02)),
    )
}
