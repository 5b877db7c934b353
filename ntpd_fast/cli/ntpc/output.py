"""Where everything is printed: rows and status lines as text, CSV or JSON.

JSON is one document a command: an object for a report of one thing, a list for a table, or
`{"status": …, "message": …}` for a command without data and for a failure.
"""

import os
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from ntpd_fast.monitor.codec.floats import encode_float

from .template import Template

JsonFields = Sequence[tuple[str, Callable[[Any], Any]]]
Write = Callable[[bytes], None]

_BUFFER_MAX = 1 << 16


class Report(NamedTuple):
    """A report: how a row is printed, and what it holds for programs."""

    row: Template
    fields: JsonFields
    header: str = ""
    """Header line of a table; reports of one thing have none."""
    captions: str = ""
    """What -v prints above the header."""
    color: Callable[[Any], str] | None = None
    """SGR code of a row on a terminal; empty for none."""


def write_stdout(data: bytes) -> None:
    """All of it; OSError when it is not taken."""
    view = memoryview(data)
    while view:
        view = view[os.write(1, view) :]


def write_stderr(data: bytes) -> None:
    """As much as goes: there is nobody left to tell."""
    try:
        os.write(2, data)
    except OSError:
        return


class Output:
    """chronyc's text, and the base of the other formats.

    Keeps its own buffer instead of sys.stdout's: after a failed write that one would fail again at exit.
    """

    is_text = True

    def __init__(self, write: Write = write_stdout, write_error: Write = write_stderr, *, color: bool = False) -> None:
        self._write = write
        self._write_error = write_error
        self._pending: list[str] = []
        self._pending_size = 0
        self._failed = False
        self._color = color
        self.pipe_broken = False

    def begin(self, report: Report, *, verbose: bool = False) -> None:
        """A table is coming."""
        if verbose:
            self.text(report.captions)
        if report.header:
            self.text(f"{report.header}\n{'=' * len(report.header)}\n")

    def row(self, report: Report, values: Sequence[Any], record: Any) -> None:
        """One row: `values` for the template, `record` for the fields of JSON."""
        line = report.row.text(values)
        if self._color and report.color is not None and (code := report.color(record)):
            line = f"\x1b[{code}m{line}\x1b[0m"
        self.text(line + "\n")

    def information(self, line: str) -> None:
        """A line that only people want (`210 n_samples = 2`)."""
        self.text(line + "\n")

    def status(self, line: str) -> None:
        """A status line of the protocol."""
        self.text(line + "\n")

    def value(self, name: str, value: str) -> None:
        """A report that is one value."""
        self.text(value + "\n")

    def finish(self, succeeded: bool) -> None:
        """The command is done."""

    def text(self, text: str) -> None:
        self._pending.append(text)
        self._pending_size += len(text)
        if self._pending_size > _BUFFER_MAX:
            self._drain()

    def error(self, line: str) -> None:
        """A line on stderr, after what is still in the buffer."""
        self._drain()
        self._write_error((line + "\n").encode(errors="surrogateescape"))

    def flush(self) -> bool:
        """Whether everything written since the last time was taken; says so when it was not."""
        self._drain()
        failed, self._failed = self._failed, False
        if failed:
            self.error("Could not write to stdout")
        return not failed

    def _drain(self) -> None:
        data = "".join(self._pending).encode(errors="surrogateescape")
        self._pending.clear()
        self._pending_size = 0
        if data and not self._failed:
            try:
                self._write(data)
            except BrokenPipeError:
                self._failed = self.pipe_broken = True
            except OSError:
                self._failed = True


class CsvOutput(Output):
    """chronyc's `-c`."""

    is_text = False

    def begin(self, report: Report, *, verbose: bool = False) -> None:
        return

    def row(self, report: Report, values: Sequence[Any], record: Any) -> None:
        self.text(report.row.csv(values) + "\n")

    def information(self, line: str) -> None:
        return


class JsonOutput(Output):
    """One JSON document a command; indented on a terminal."""

    is_text = False

    def __init__(
        self,
        write: Write = write_stdout,
        write_error: Write = write_stderr,
        *,
        color: bool = False,
        indent: int | None = None,
    ) -> None:
        super().__init__(write, write_error)
        self._indent = indent
        self._rows: list[Any] = []
        self._is_table = False
        self._status = ""

    def begin(self, report: Report, *, verbose: bool = False) -> None:
        self._is_table = True

    def row(self, report: Report, values: Sequence[Any], record: Any) -> None:
        self._rows.append({name: _short(function(record)) for name, function in report.fields})

    def information(self, line: str) -> None:
        return

    def status(self, line: str) -> None:
        self._status = line

    def value(self, name: str, value: str) -> None:
        self._rows.append({name: value})

    def finish(self, succeeded: bool) -> None:
        if succeeded and (self._rows or self._is_table):
            self._document(self._rows if self._is_table else self._rows[-1])
        elif self._status:
            number, _, message = self._status.partition(" ")
            self._document({"status": int(number), "message": message})
        elif self._rows:
            self._document(self._rows)
        self._rows = []
        self._is_table = False
        self._status = ""

    def _document(self, document: Any) -> None:
        import json

        self.text(json.dumps(document, indent=self._indent, ensure_ascii=False) + "\n")


def _short(value: Any) -> Any:
    """Floats came with 25 bits: the fewest digits that mean the same bits."""
    if not isinstance(value, float):
        return value
    wire = encode_float(value)
    for digits in range(6, 10):
        short = float(f"{value:.{digits}g}")
        if encode_float(short) == wire:
            return short
    return value
