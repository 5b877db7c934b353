"""Commands that change the client itself and ask the daemon nothing."""

from . import arguments as arg
from .session import CommandError, Session

_RETRIES_MAX = 30
_TIMEOUT_MIN_MS = 100
_FAMILIES = {"-4": 4, "-6": 6, "-46": 0}


def leave(session: Session, rest: str) -> None:
    session.quit = True


def no_authentication(session: Session, rest: str) -> None:
    session.output.error("Authentication is no longer supported")


def dns(session: Session, rest: str) -> None:
    if rest in ("-n", "+n"):
        session.numeric = rest == "-n"
    elif rest in _FAMILIES:
        session.family = _FAMILIES[rest]
    else:
        raise CommandError("Unrecognized dns command")


def retries(session: Session, rest: str) -> None:
    value = arg.integer(rest) or 0
    if not 0 <= value <= _RETRIES_MAX:
        raise CommandError("Invalid maximum number of retries")
    session.connection.retries = value


def timeout(session: Session, rest: str) -> None:
    value = arg.integer(rest) or 0
    if value < _TIMEOUT_MIN_MS:
        raise CommandError(f"Timeout {value} is too short")
    session.connection.timeout_ms = value
