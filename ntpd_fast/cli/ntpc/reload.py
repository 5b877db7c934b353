"""`reload config`: have the daemon read its configuration again, and tell what came of it. Not one of chronyc's."""

import time
from collections.abc import Callable

from ntpd_fast.monitor.codec import replies as rep
from ntpd_fast.monitor.codec.commands import Number, Status

from .session import STATUS_LINES, CommandError, Session

LOOK_S = 0.05
PATIENCE_S = 90.0
"""The daemon gives up reading after a minute."""


def reload_config(
    session: Session,
    sleep: Callable[[float], None] = time.sleep,
    monotonic_s: Callable[[], float] = time.monotonic,
) -> None:
    """Fails, with the daemon's reason, when nothing was changed. What needs a restart is no failure."""
    before = session.report(Number.RELOAD_CONFIG, rep.ReloadState)
    deadline_s = monotonic_s() + PATIENCE_S
    while True:
        state = session.report(Number.RELOAD_REPORT, rep.ReloadState)
        if not state.busy and state.ended != before.ended:
            break
        if monotonic_s() > deadline_s:
            session.output.status(STATUS_LINES[Status.FAILED])
            raise CommandError("The daemon has not ended the reload yet; its log will tell")
        sleep(LOOK_S)
    text = (state.text + state.more).decode(errors="replace")
    if state.refused:
        session.output.status(STATUS_LINES[Status.FAILED])
        raise CommandError(text)
    session.output.status(STATUS_LINES[Status.SUCCESS])
    if text:
        session.output.error(text)
