"""Where the daemon's messages go and what a line of them looks like.

Every module logs through the standard `logging` package; this file only sets up the one handler of the process:

- stderr or a file: `YYYY-MM-DDTHH:MM:SSZ TEXT` (UTC), flushed line by line. With debug messages on, the letter of the
  severity comes first (`...Z D:TEXT`), which is what admins and scripts know from chronyd;
- syslog: facility daemon, the program's name and pid, written to /dev/log by our own socket. The C library's syslog
  hides its descriptor, which a child that closes everything not on its list would pull from under it.

`descriptors()` names what a forked child has to keep so that it can go on logging.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import socket
import sys
import time
from collections.abc import Callable
from typing import Final

from ntpd_fast.system.messages import Log, Severity

# chronyd's -L: -1 debug, 0 info, 1 warning, 2 error, 3 fatal
SEVERITIES: Final = (logging.DEBUG, logging.INFO, logging.WARNING, logging.ERROR, logging.CRITICAL)
_LETTERS: Final = {
    logging.DEBUG: "D",
    logging.INFO: "I",
    logging.WARNING: "W",
    logging.ERROR: "E",
    logging.CRITICAL: "F",
}
# RFC 5424 section 6.2.1
_SYSLOG_SEVERITY: Final = {
    logging.DEBUG: 7,
    logging.INFO: 6,
    logging.WARNING: 4,
    logging.ERROR: 3,
    logging.CRITICAL: 2,
}
_SYSLOG_DAEMON: Final = 3
_SYSLOG_PATH: Final = "/dev/log"
LOG_FILE_MODE: Final = 0o640


def severity_of(level: int) -> int:
    """The `logging` level of `-L LEVEL`; out of range is clamped, as chronyd does."""
    return SEVERITIES[min(max(level + 1, 0), len(SEVERITIES) - 1)]


class LineFormatter(logging.Formatter):
    """`YYYY-MM-DDTHH:MM:SSZ TEXT`, or `...Z S:TEXT` where `letters` asks for the severity."""

    def __init__(self, letters: bool = False) -> None:
        super().__init__()
        self._letters = letters

    def format(self, record: logging.LogRecord) -> str:
        stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(record.created))
        letter = f"{_LETTERS.get(record.levelno, 'I')}:" if self._letters else ""
        return f"{stamp} {letter}{text_of(record)}"


def text_of(record: logging.LogRecord) -> str:
    """The message; what ends the daemon is marked, and a bug of ours brings its traceback."""
    text = record.getMessage()
    if record.levelno >= logging.CRITICAL:
        text = f"Fatal error : {text}"
    if record.exc_info:
        text = f"{text}\n{logging.Formatter().formatException(record.exc_info)}"
    return text


class LogFile(logging.Handler):
    """Lines appended to a file that logrotate may move: `reopen` follows it."""

    def __init__(self, path: str) -> None:
        super().__init__()
        self.path = path
        self._descriptor = self._open()

    def _open(self) -> int:
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOCTTY
        return os.open(self.path, flags, LOG_FILE_MODE)

    def fileno(self) -> int:
        return self._descriptor

    def emit(self, record: logging.LogRecord) -> None:
        # A full disk must not stop the clock; there is nowhere left to say so.
        with contextlib.suppress(OSError):
            os.write(self._descriptor, (self.format(record) + "\n").encode(errors="backslashreplace"))

    def reopen(self) -> None:
        """Open the path anew when it no longer exists (the file was rotated away).

        Raises OSError; the old file stays in use then.
        """
        if not os.path.exists(self.path):
            os.dup2(opened := self._open(), self._descriptor, inheritable=False)
            os.close(opened)


class Syslog(logging.Handler):
    """Datagrams to the local syslog socket, in the form the C library's syslog(3) sends."""

    def __init__(self, name: str, path: str = _SYSLOG_PATH) -> None:
        super().__init__()
        self._name = name
        self._path = path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        # A syslog daemon that does not read must not stop us; its queue bounds what is lost.
        self._socket.setblocking(False)
        self._connected = False

    def fileno(self) -> int:
        return self._socket.fileno()

    def emit(self, record: logging.LogRecord) -> None:
        priority = _SYSLOG_DAEMON << 3 | _SYSLOG_SEVERITY.get(record.levelno, 6)
        stamp = time.strftime("%b %e %H:%M:%S", time.localtime(record.created))
        for line in text_of(record).splitlines():
            message = f"<{priority}>{stamp} {self._name}[{os.getpid()}]: {line}"
            self._send(message.encode(errors="backslashreplace"))

    def _send(self, message: bytes) -> None:
        # Twice: the syslog daemon may have been started anew since the last line.
        for _ in range(2):
            try:
                if not self._connected:
                    self._socket.connect(self._path)
                    self._connected = True
                self._socket.send(message)
                return
            except OSError as error:
                self._connected = False
                if error.errno == errno.EAGAIN:
                    return


def set_up(
    name: str,
    *,
    to_stderr: bool = False,
    file: str | None = None,
    level: int = 0,
) -> logging.Handler:
    """Give the process its one handler: FILE before stderr before syslog.

    `level` is chronyd's `-L` number. Raises OSError when FILE cannot be opened.
    """
    handler: logging.Handler
    severity = severity_of(level)
    if file is not None:
        handler = LogFile(file)
    elif to_stderr:
        handler = logging.StreamHandler(sys.stderr)
    else:
        handler = Syslog(name)
    handler.setFormatter(LineFormatter(letters=severity == logging.DEBUG))
    root = logging.getLogger()
    for old in root.handlers[:]:
        root.removeHandler(old)
        old.close()
    root.addHandler(handler)
    root.setLevel(severity)
    return handler


def log_function(logger: logging.Logger) -> Log:
    """The channel of sans-IO parts (`system.messages`), ending in a logger."""

    def tell(severity: Severity, text: str) -> None:
        logger.log(SEVERITIES[severity], "%s", text)

    return tell


def reopen_file() -> None:
    """Follow a log file that was rotated away. Raises OSError; the old file stays in use then."""
    for handler in logging.getLogger().handlers:
        if isinstance(handler, LogFile):
            handler.reopen()


def descriptors() -> list[int]:
    """Descriptors beyond stderr that logging uses: a child keeps them."""
    return [handler.fileno() for handler in logging.getLogger().handlers if isinstance(handler, LogFile | Syslog)]


class Limited:
    """Log lines about something that may happen very often: at most one per interval, with the number left out."""

    def __init__(
        self,
        logger: logging.Logger,
        interval_s: float = 60.0,
        monotonic_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self._logger = logger
        self._interval_ns = int(interval_s * 1e9)
        self._monotonic_ns = monotonic_ns
        self._next_ns: int | None = None
        self.suppressed = 0

    def log(self, severity: int, text: str, *arguments: object) -> None:
        """Log now, or count."""
        now_ns = self._monotonic_ns()
        if self._next_ns is not None and now_ns < self._next_ns:
            self.suppressed += 1
            return
        self._next_ns = now_ns + self._interval_ns
        if self.suppressed:
            text = f"{text} (and {self.suppressed} more like it)"
            self.suppressed = 0
        self._logger.log(severity, text, *arguments)
