"""The daemon's command line: chronyd's options, one row each.

GNU rules: options may follow directives, short ones combine, `--` ends them. Numbers are read from the front of their
word, as chronyd reads them.
"""

from __future__ import annotations

import enum
import getopt
import re
from collections.abc import Sequence
from typing import Any, Final

from ntpd_fast._record import dataclass, replace

_NUMBER: Final = re.compile(r"\s*[+-]?[0-9]+")
_INT_MAX: Final = 2**31 - 1


class Mode(enum.Enum):
    """What the daemon is run for."""

    NORMAL = enum.auto()
    SET_ONCE = enum.auto()
    """`-q`: set the clock and exit."""
    PRINT_ONCE = enum.auto()
    """`-Q`: log the offset and exit."""


class UsageError(Exception):
    """An option there is not, or one without its argument."""


class BadArgument(Exception):
    """An option whose argument is no number."""


@dataclass(frozen=True, slots=True)
class Options:
    """What the command line says."""

    family: int | None = None
    """4 or 6; None: both."""
    config_file: str | None = None
    background: bool = True
    log_to_stderr: bool = False
    debug: bool = False
    """`-d` twice."""
    log_file: str | None = None
    log_level: int = 0
    print_config: bool = False
    strict: bool = False
    """With `-p`: what chrony would refuse is a mistake, our own directives included."""
    mode: Mode = Mode.NORMAL
    reload_dumps: bool = False
    restarted: bool = False
    set_from_rtc: bool = False
    timeout_s: int | None = None
    user: str | None = None
    check_superuser: bool = True
    filter_level: int = 0
    priority: int | None = None
    lock_memory: bool = False
    control_clock: bool = True
    ready_descriptor: int = 0
    """Gets a newline when the daemon is ready; 0: none."""
    help: bool = False
    version: bool = False
    directives: tuple[str, ...] = ()

    @property
    def single_process(self) -> bool:
        """Whether one process is wanted unless the configuration says otherwise (`-d`, and modes that end soon)."""
        return self.log_to_stderr


# Option, name of its argument ("" for none), what it says, fields it sets ("?": the argument goes there).
_STRING, _INT = "?", "?int"
ROWS: Final[tuple[tuple[str, str, str, dict[str, Any]], ...]] = (
    ("4", "", "Use IPv4 addresses only", {"family": 4}),
    ("6", "", "Use IPv6 addresses only", {"family": 6}),
    ("f", "FILE", "Specify configuration file", {"config_file": _STRING}),
    ("n", "", "Don't run as daemon", {"background": False}),
    (
        "d",
        "",
        "Don't run as daemon, log to stderr, one process (twice: debug)",
        {"background": False, "log_to_stderr": True},
    ),
    ("l", "FILE", "Log to file", {"log_file": _STRING}),
    ("L", "LEVEL", "Set logging threshold: -1 debug, 0 info, 1 warning, 2 error, 3 fatal", {"log_level": _INT}),
    ("p", "", "Print configuration and exit", {"print_config": True}),
    ("q", "", "Set clock and exit", {"mode": Mode.SET_ONCE, "background": False, "log_to_stderr": True}),
    ("Q", "", "Log offset and exit", {"mode": Mode.PRINT_ONCE, "background": False, "log_to_stderr": True}),
    ("r", "", "Reload dump files", {"reload_dumps": True}),
    ("R", "", "Adapt configuration for restart", {"restarted": True}),
    ("s", "", "Set clock from RTC", {"set_from_rtc": True}),
    ("t", "SECONDS", "Exit after elapsed time", {"timeout_s": _INT}),
    ("u", "USER", "Specify user", {"user": _STRING}),
    ("U", "", "Don't check for root", {"check_superuser": False}),
    ("F", "LEVEL", "Set system call filter level", {"filter_level": _INT}),
    ("P", "PRIORITY", "Set process priority", {"priority": _INT}),
    ("m", "", "Lock memory", {"lock_memory": True}),
    ("x", "", "Don't control clock", {"control_clock": False}),
    ("N", "FD", "Write a newline to FD when ready", {"ready_descriptor": _INT}),
    ("v", "", "Print version and exit", {"version": True}),
    ("h", "", "Print usage and exit", {"help": True}),
)
_FIELDS: Final = {f"-{letter}": fields for letter, _, _, fields in ROWS} | {
    "--help": {"help": True},
    "--version": {"version": True},
    "--strict": {"strict": True},
}
STRICT: Final = ("--strict", "With -p: accept only what chrony does")
_SHORT: Final = "".join(letter + (":" if argument else "") for letter, argument, _, _ in ROWS)


def parse(arguments: Sequence[str]) -> Options:
    """The options of a command line without its program name. Raises UsageError, BadArgument."""
    # Long options are looked for before everything else, even behind a mistake.
    for argument in arguments:
        if argument in ("--help", "--version"):
            return replace(Options(), **_FIELDS[argument])
    try:
        given, directives = getopt.gnu_getopt(list(arguments), _SHORT, ["strict"])
    except getopt.GetoptError as error:
        raise UsageError(str(error)) from error
    options = Options(directives=tuple(directives))
    for name, argument in given:
        options = replace(options, **{field: _value(kind, argument) for field, kind in _FIELDS[name].items()})
    if sum(name == "-d" for name, _ in given) > 1:
        options = replace(options, debug=True)
    if options.strict and not options.print_config:
        raise UsageError("option --strict goes with -p")
    if options.mode is Mode.PRINT_ONCE:
        options = replace(options, control_clock=False)
    return options


def _value(kind: Any, argument: str) -> Any:
    if kind == _STRING:
        return argument
    if kind != _INT:
        return kind
    number = _NUMBER.match(argument)
    if number is None:
        raise BadArgument(f"Invalid argument {argument}")
    return max(-_INT_MAX, min(int(number.group()), _INT_MAX))


def usage(program: str) -> str:
    """The text of `-h`."""
    lines = [f"Usage: {program} [OPTION]... [DIRECTIVE]...", "", "Options:"]
    for letter, argument, text, _ in ROWS:
        option = f"-{letter}" + (f" {argument}" if argument else "")
        if letter in "vh":
            option += {"v": ", --version", "h": ", --help"}[letter]
        lines.append(f"  {option:<14} {text}")
    name, text = STRICT
    lines.append(f"  {name:<14} {text}")
    return "\n".join(lines) + "\n"
