"""What one run of ntpc-fast keeps: the connection, how names and values are shown, and the output.

`Session.run_line` executes one line. Report commands talk through `Session.report`, which prints status lines as
chronyc does and hands rows to the output in the chosen format.
"""

import socket
from importlib import import_module
from typing import TypeVar

from ntpd_fast.monitor.codec import replies as rep
from ntpd_fast.monitor.codec.address import Address
from ntpd_fast.monitor.codec.commands import NULL, Number, Status
from ntpd_fast.monitor.codec.layout import NAME_LENGTH, Message
from ntpd_fast.monitor.codec.requests import Nothing, OneAddress

from .commands import COMMANDS
from .connection import Answer, Connection, resolve
from .formats import refid_text
from .output import Output

LINE_LENGTH_MAX = 2047
NAME_WIDTH = 25
_COMMENTS = "!;#%"

STATUS_LINES = {
    0: "200 OK",
    1: "500 Failure",
    2: "501 Not authorised",
    3: "502 Invalid command",
    4: "503 No such source",
    5: "504 Duplicate or stale logon detected",
    6: "505 Facility not enabled in daemon",
    7: "507 Bad subnet",
    8: "208 Access allowed",
    9: "209 Access denied",
    10: "510 No command access from this host",
    11: "511 Source already present",
    12: "512 Too many sources present",
    13: "513 RTC driver not running",
    14: "514 Can't write RTC parameters",
    15: "519 Client logging is not active in the daemon",
    16: "516 Sample index out of range",
    17: "515 Invalid address family",
    18: "517 Protocol version mismatch",
    19: "518 Packet length mismatch",
    21: "521 Invalid name",
}
UNEXPECTED = "520 Got unexpected error from daemon"
NO_ANSWER = "506 Cannot talk to daemon"
BAD_REPLY = "508 Bad reply from daemon"
_SUCCESS = (Status.SUCCESS, Status.ACCESS_ALLOWED, Status.ACCESS_DENIED)

M = TypeVar("M", bound=Message)


class CommandError(Exception):
    """A command line that cannot be executed; the message goes to stderr (nothing when empty)."""


class RequestFailed(Exception):
    """The daemon did not do it; its status line has been printed."""


class Session:
    """The state of a run. `numeric`, `family` and the connection's limits change by commands."""

    def __init__(self, connection: Connection, output: Output, *, extended: bool = True) -> None:
        self.connection = connection
        self.output = output
        self.extended = extended
        """False: nothing but chronyc, not even hints."""
        self.numeric = False
        self.source_names = False
        self.end_dots = False
        self.family = 0
        self.quit = False
        self._explained = False

    def run_line(self, line: str) -> bool:
        """Execute one line; whether it succeeded."""
        line = " ".join(line.split())
        if not line or line[0] in _COMMENTS:
            return True
        succeeded = self._run_command(line)
        if self.end_dots:
            self.output.text(".\n")
            self.output.flush()
        if self.output.pipe_broken:
            self.quit = True
        return succeeded

    def _run_command(self, line: str) -> bool:
        word, _, rest = line.partition(" ")
        command = COMMANDS.get(word)
        if command is None or (command.extension and not self.extended):
            self.output.error("Unrecognized command")
            return False
        module, _, function = command.target.partition(":")
        run = getattr(import_module(f".{module}", __package__), function)
        try:
            succeeded = run(self, rest, *command.arguments)
        except CommandError as error:
            if str(error):
                self.output.error(str(error))
            succeeded = False
        except RequestFailed:
            succeeded = False
        self.output.finish(succeeded is not False)
        written = self.output.flush()
        return succeeded is not False and (written or command.plain)

    def request(self, number: Number, payload: Message) -> Answer:
        """Ask; RequestFailed, said on stdout, when nobody answers."""
        answer = self.connection.exchange(number, payload)
        if answer is None:
            self.output.status(NO_ANSWER)
            self.explain()
            raise RequestFailed
        return answer

    def plain(self, number: Number, payload: Message | None = None) -> None:
        """A command without data: always prints the status line."""
        self.acknowledge(self.request(number, Nothing() if payload is None else payload))

    def acknowledge(self, answer: Answer) -> None:
        """Print what became of a command without data."""
        self.check(answer, verbose=True)
        if answer.header.reply != NULL.number:
            self.output.status(BAD_REPLY)
            raise RequestFailed

    def check(self, answer: Answer, *, verbose: bool = False) -> None:
        """Print the status where chronyc does; RequestFailed unless it is a success."""
        status = answer.header.status
        if verbose or status != Status.SUCCESS:
            self.output.status(STATUS_LINES.get(status, UNEXPECTED))
        if status not in _SUCCESS:
            self.explain(status)
            raise RequestFailed

    def explain(self, status: int | None = None) -> None:
        """Say on stderr what may be the reason of a failure, once a run; chronyc would not."""
        if self.extended and not self._explained:
            from .hints import reasons

            for reason in reasons(self.connection, status):
                self._explained = True
                self.output.error(f"hint: {reason}")

    def report(
        self,
        number: Number,
        wanted: type[M] | tuple[type[M], ...],
        payload: Message | None = None,
        *,
        verbose: bool = False,
    ) -> M:
        """The reply of one type. RequestFailed when there is none, said on stdout."""
        answer = self.request(number, Nothing() if payload is None else payload)
        self.check(answer, verbose=verbose)
        if not isinstance(answer.payload, wanted):
            self.output.status(BAD_REPLY)
            raise RequestFailed
        return answer.payload

    def host_address(self, text: str) -> Address | None:
        """ID#, literal, or the first address a name resolves to."""
        address = Address.parse(text)
        if address is not None or text.startswith("ID#") or not text:
            return address
        found = resolve(text, self.family)
        return Address.parse(found[0]) if found else None

    def source_name(self, address: Address, ref_id: int, *, is_refclock: bool, truncate: bool = True) -> str:
        """The name of a source as the options want it; up to NAME_WIDTH characters where it may be cut."""
        if is_refclock:
            return refid_text(ref_id)
        if self.source_names:
            return self._configured_name(address) or "?"
        if self.is_numeric:
            return str(address)
        return self.host_name(address, truncate=truncate)

    @property
    def is_numeric(self) -> bool:
        return self.numeric or not self.output.is_text

    def host_name(self, address: Address, *, truncate: bool = True) -> str:
        """By reverse DNS; numeric where there is no name."""
        if self.is_numeric or not address.is_ip:
            return str(address)
        try:
            name = socket.getnameinfo((str(address), 0), 0)[0]
        except OSError:
            return str(address)
        return name[: NAME_WIDTH - 1] + ">" if truncate and len(name) > NAME_WIDTH else name

    def _configured_name(self, address: Address) -> str | None:
        try:
            return self.configured_name(address)
        except RequestFailed:
            return None

    def configured_name(self, address: Address) -> str:
        """RequestFailed, without a word, for a name with characters that are not graphic."""
        name = self.report(Number.NTP_SOURCE_NAME, rep.SourceName, OneAddress(address)).name
        if len(name) >= NAME_LENGTH or any(not 0x21 <= byte <= 0x7E for byte in name):
            raise RequestFailed
        return name.decode("ascii")
