"""What `-p` shows of a configuration.

Every line that counts, with its words as typed and single spaces between, in the order of reading; the lines
of included files stand in the place of the line that included them. A line is shown before it is understood,
so that the last one shown is the one a message is about.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import BinaryIO

from ntpd_fast.config.loader import load, parse_lines
from ntpd_fast.config.model import Config
from ntpd_fast.config.resolve import Resolver


def print_file(path: str, out: BinaryIO, *, resolver: Resolver | None = None, strict: bool = False) -> Config:
    """Show a configuration file on `out`. Raises ConfigError after the lines read until then."""
    return load(path, resolver=resolver, strict=strict, on_line=lambda line: _show(line, out))


def print_lines(
    lines: Sequence[str], out: BinaryIO, *, resolver: Resolver | None = None, strict: bool = False
) -> Config:
    """Show directives given as arguments on `out`. Raises ConfigError after the lines read until then."""
    return parse_lines(lines, resolver=resolver, strict=strict, on_line=lambda line: _show(line, out))


def _show(line: str, out: BinaryIO) -> None:
    out.write(line.encode("utf-8", "surrogateescape") + b"\n")
