"""Which command may come from where.

Everything over the Unix socket; over UDP what the `opencommands` directive opens, which is never a command that
changes something; over the socket of the monitoring group (`cmdgroup`) every report and no change.
"""

from __future__ import annotations

from collections.abc import Set

from ntpd_fast.config.model import OpenCommand

from .codec.commands import Access, Command, Number
from .sockets import Origin

# N_SOURCES is what the reports that list sources start with.
_COMMANDS: dict[OpenCommand, frozenset[Number]] = {
    OpenCommand.ACTIVITY: frozenset({Number.ACTIVITY}),
    OpenCommand.AUTHDATA: frozenset({Number.AUTH_DATA, Number.N_SOURCES}),
    OpenCommand.CLIENTS: frozenset({Number.CLIENT_ACCESSES_BY_INDEX3}),
    OpenCommand.MANUAL: frozenset({Number.MANUAL_LIST}),
    OpenCommand.NTPDATA: frozenset({Number.NTP_DATA, Number.N_SOURCES}),
    OpenCommand.RTCDATA: frozenset({Number.RTCREPORT}),
    OpenCommand.SELECTDATA: frozenset({Number.SELECT_DATA, Number.N_SOURCES}),
    OpenCommand.SERVERSTATS: frozenset({Number.SERVER_STATS, Number.FAULTS}),
    OpenCommand.SMOOTHING: frozenset({Number.SMOOTHING}),
    OpenCommand.SOURCENAME: frozenset({Number.NTP_SOURCE_NAME}),
    OpenCommand.SOURCES: frozenset({Number.SOURCE_DATA, Number.N_SOURCES}),
    OpenCommand.SOURCESTATS: frozenset({Number.SOURCESTATS, Number.N_SOURCES}),
    OpenCommand.TRACKING: frozenset({Number.TRACKING}),
}


def open_commands(opened: Set[OpenCommand]) -> frozenset[Number]:
    """The commands that UDP clients may send."""
    return frozenset().union(*(_COMMANDS[command] for command in opened))


def is_permitted(command: Command, origin: Origin, over_udp: Set[Number], changes_state: bool) -> bool:
    """`over_udp` from `open_commands`; `changes_state`: a report that was asked to change something, too."""
    if origin is Origin.UNIX:
        return True
    if command.access is Access.MODIFY or changes_state:
        return False
    return origin is Origin.UNIX_REPORTS or command.number in over_udp
