"""A daemon made of recorded exchanges, and a session on it whose output is kept."""

from typing import Any

from ntpd_fast.cli.ntpc.connection import Answer, Endpoint
from ntpd_fast.cli.ntpc.options import Options
from ntpd_fast.cli.ntpc.output import CsvOutput, JsonOutput, Output
from ntpd_fast.cli.ntpc.session import Session
from ntpd_fast.monitor.codec.commands import COMMANDS, REPLIES, Number, Status
from ntpd_fast.monitor.codec.layout import Layout, Message
from ntpd_fast.monitor.codec.packet import ReplyHeader, decode_reply, decode_reply_header, decode_request
from ntpd_fast.monitor.codec.requests import AddSource

# Commands newer than a daemon of that version.
_NEWER = {"4.3": {Number.MODIFY_SELECTOPTS, Number.MODIFY_OFFSET, Number.LOCAL3}}


class ScriptedConnection:
    """Answers each request with the recorded reply to it, in the recorded order.

    What the daemon of `version` does not know is answered with status 3, as it would.
    """

    def __init__(self, exchanges: list[dict[str, Any]], version: str) -> None:
        self._remaining = [e for e in exchanges if e["reply_hex"] is not None]
        self._unknown = _NEWER.get(version, set())
        self.endpoint = Endpoint("/scripted")
        self.failures: list[tuple[Endpoint, OSError]] = []
        self.timeout_ms = 0
        self.retries = 0

    def exchange(self, number: Number, payload: Message) -> Answer | None:
        if number in self._unknown and (not self._remaining or number != self._command(self._remaining[0])):
            return Answer(ReplyHeader(6, 2, 0, 0, number, 1, Status.INVALID, 0), ())
        assert self._remaining, f"request {number.name} was not recorded"
        exchange = self._remaining.pop(0)
        wire = bytes.fromhex(exchange["request_hex"])
        command = COMMANDS[number]
        assert self._command(exchange) == number
        size = Layout.of(command.request).size
        recorded = decode_request(command, wire.ljust(command.length, b"\0"))
        if isinstance(recorded, AddSource) and recorded.max_unreach == 0:
            recorded = recorded._replace(max_unreach=AddSource(0, b"").max_unreach)  # reserved up to 4.7
        assert Layout.of(command.request).encode(payload)[:size] == Layout.of(command.request).encode(recorded), (
            payload,
            recorded,
        )
        reply = bytes.fromhex(exchange["reply_hex"])
        header = decode_reply_header(reply)
        return Answer(header, decode_reply(reply) if header.reply in REPLIES else None)

    def finished(self) -> bool:
        return not self._remaining

    def _command(self, exchange: dict[str, Any]) -> int:
        return int.from_bytes(bytes.fromhex(exchange["request_hex"])[4:6], "big")


class Run:
    """A session on a connection, and what it printed."""

    def __init__(self, connection: Any, options: Options, *, extended: bool = False) -> None:
        self._stdout = bytearray()
        self._stderr = bytearray()
        formats = JsonOutput if options.json else CsvOutput if options.csv else Output
        self.output = formats(self._stdout.extend, self._stderr.extend)
        self.session = Session(connection, self.output, extended=extended)
        self.session.numeric = options.numeric
        self.session.source_names = options.source_names
        self.session.end_dots = options.end_dots

    def lines(self, options: Options) -> int:
        """Execute the words of the command line; the exit status."""
        for line in options.words if options.multi else (" ".join(options.words),):
            if not self.session.run_line(line):
                return 1
            if self.session.quit:
                break
        return 0

    @property
    def stdout(self) -> str:
        return self._stdout.decode()

    @property
    def stderr(self) -> str:
        return self._stderr.decode()
