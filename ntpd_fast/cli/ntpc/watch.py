"""`watch`: a report again and again, in place on a terminal."""

import os
import time

from . import arguments as arg
from .commands import COMMANDS
from .session import CommandError, Session

INTERVAL_DEFAULT_S = 2.0
INTERVAL_MIN_S = 0.1
_HOME_AND_CLEAR = "\x1b[H\x1b[2J"


def watch(session: Session, rest: str) -> bool:
    """Until `--count` times, a failure of the report, or a signal."""
    interval_s, count, line = _parse(rest)
    in_place = session.output.is_text and os.isatty(1)
    done = 0
    while True:
        if in_place:
            now = time.strftime("%Y-%m-%d %H:%M:%S")
            session.output.text(f"{_HOME_AND_CLEAR}Every {interval_s:g} s: {line}    {now}\n\n")
        elif done and session.output.is_text:
            session.output.text("\n")
        if not session.run_line(line) or session.quit:
            return False
        done += 1
        if done == count:
            return True
        time.sleep(interval_s)


def _parse(rest: str) -> tuple[float, int, str]:
    """(interval, number of times or 0 for no end, the report's command line)."""
    interval_s, count = INTERVAL_DEFAULT_S, 0
    words = rest.split()
    while words and words[0].startswith("--"):
        option, text = words[0], words[1] if len(words) > 1 else ""
        if option == "--interval":
            interval_s = arg.whole_real(text) or 0.0
            if not INTERVAL_MIN_S <= interval_s < float("inf"):
                raise CommandError(f"Invalid interval: {text or 'none given'} (seconds, at least {INTERVAL_MIN_S})")
        elif option == "--count":
            count = arg.whole_integer(text) or 0
            if count < 1:
                raise CommandError(f"Invalid count: {text or 'none given'}")
        else:
            raise CommandError(f"Unknown option of watch: {option}")
        words = words[2:]
    command = COMMANDS.get(words[0]) if words else None
    if command is None or not command.target.startswith("reports."):
        raise CommandError(f"Not a report: {words[0] if words else 'none given'}")
    return interval_s, count, " ".join(words)
