"""Why the daemon could not be asked, and what would help: loaded only when something failed."""

import errno
import os
from collections.abc import Iterator

from ntpd_fast.monitor.codec.commands import Status

from .connection import Connection, Endpoint

_MISMATCHES = (Status.INVALID, Status.BAD_PACKET_VERSION, Status.BAD_PACKET_LENGTH)


def reasons(connection: Connection, status: int | None) -> Iterator[str]:
    """Of a request that failed with a status; None: nobody answered."""
    if status is None:
        yield from _failures(connection.failures)
        if not connection.failures:
            yield "no answer: does the daemon run there, and does its cmdallow cover this host?"
    elif status == Status.UNAUTHORISED:
        used = connection.endpoint
        if used is not None and used.path is not None:
            yield f"{used} is for reports only; changes need the daemon's main socket"
            return
        yield f"asked over the network ({used}), where only reports are open"
        yield from _failures([failure for failure in connection.failures if failure[0].path is not None])
    elif status in _MISMATCHES:
        yield "the daemon is of another version and does not know the request in this form"


def _failures(failures: list[tuple[Endpoint, OSError]]) -> Iterator[str]:
    """One line a reason, with all the endpoints it is the reason for."""
    grouped: dict[str, list[str]] = {}
    for endpoint, error in failures:
        grouped.setdefault(_reason(endpoint, error), []).append(str(endpoint))
    for reason, endpoints in grouped.items():
        yield f"{reason}: {', '.join(endpoints)}"


def _reason(endpoint: Endpoint, error: OSError) -> str:
    if endpoint.path is None:
        return "nobody listens" if error.errno == errno.ECONNREFUSED else error.strerror or str(error)
    if error.errno in (errno.EACCES, errno.EPERM):
        return f"permission denied{_who_may(endpoint.path)}"
    if error.errno in (errno.ENOENT, errno.ECONNREFUSED):
        return "no daemon has this socket open"
    return error.strerror or str(error)


def _who_may(path: str) -> str:
    """The owner and group of what is in the way, the socket's directory or the socket, where that can be seen."""
    import grp
    import pwd

    directory = os.path.dirname(path)
    try:
        is_open = os.access(directory, os.W_OK | os.X_OK) and os.path.exists(path)
        found = os.stat(path if is_open else directory)
        owner = pwd.getpwuid(found.st_uid).pw_name
        group = grp.getgrgid(found.st_gid).gr_name
    except (OSError, KeyError):
        return ""
    return f", it is for user {owner} and group {group}"
