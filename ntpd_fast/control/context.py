"""What the parts of control have in common, and those that there are before anybody may command them."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import TYPE_CHECKING

from ntpd_fast._record import dataclass, field
from ntpd_fast.control.clockwork import Clockwork
from ntpd_fast.control.dataplane import DataPlane
from ntpd_fast.control.keys import Keys
from ntpd_fast.control.logfiles import LogFiles
from ntpd_fast.control.overseer import Overseer
from ntpd_fast.control.setup import Setup
from ntpd_fast.server.channel import Message
from ntpd_fast.server.supervisor import EXIT_END

if TYPE_CHECKING:
    import asyncio

    from ntpd_fast.control.broadcast import Broadcaster
    from ntpd_fast.control.dumping import Dumping
    from ntpd_fast.control.mailing import Mailing
    from ntpd_fast.control.nts import NtsServerKeys
    from ntpd_fast.control.ntsclient import NtsClient
    from ntpd_fast.control.serving import Serving
    from ntpd_fast.control.upstream import Upstream


def _heed_nothing(message: Message) -> None:
    pass


@dataclass(slots=True)
class Context:
    """What every part may use. `parts` collects how they end."""

    setup: Setup
    overseer: Overseer
    parts: contextlib.ExitStack
    loop: asyncio.AbstractEventLoop = field(init=False)
    """There from READY on: to load an event loop takes a fifth of the start."""
    exit_status: int = EXIT_END
    heed: Callable[[Message], None] = _heed_nothing
    """Acts on what the overseer says."""
    mode_ended: Callable[[bool], None] | None = None
    """Who is told, in place of the process's end, that a special mode is over, with a measurement or without."""

    def listen(self, message: Message) -> None:
        """What the overseer says, to whoever heeds it by then."""
        self.heed(message)

    def end(self, status: int) -> None:
        """Leave the event loop after this event; the process exits with `status`."""
        self.exit_status = status
        self.loop.stop()


@dataclass(frozen=True, slots=True)
class Serviceable:
    """What the time can be served with: there before READY."""

    plane: DataPlane
    keys: Keys
    files: LogFiles
    clockwork: Clockwork
    server_keys: NtsServerKeys | None


@dataclass(frozen=True, slots=True)
class Running:
    """All that keeps the time and serves it."""

    plane: DataPlane
    keys: Keys
    files: LogFiles
    mailing: Mailing
    clockwork: Clockwork
    server_keys: NtsServerKeys | None
    nts: NtsClient
    upstream: Upstream
    dumping: Dumping
    serving: Serving
    broadcaster: Broadcaster
