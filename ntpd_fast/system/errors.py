"""Errors for an admin to read: the one that ends a start, and the words for what the system refuses."""

from __future__ import annotations

import os
import pwd


class FatalError(Exception):
    """One line for the admin; the process that meets it logs it as `Fatal error : TEXT` and exits with status 1.

    Raised for what an admin can mend (a port in use, a missing directory, no permission), never for a peer's bytes.
    """


def why(error: OSError) -> str:
    """The system's reason, with `to_whom`."""
    return (error.strerror or str(error)) + to_whom(error)


def to_whom(error: BaseException | None) -> str:
    """Who has missed a permission, to be appended to the reason; empty for other errors, and for root."""
    if not isinstance(error, PermissionError) or os.geteuid() == 0:
        return ""
    return f" (as {user_name()})"


def user_name() -> str:
    """Whom this process runs as."""
    try:
        return f"user {pwd.getpwuid(os.geteuid()).pw_name}"
    except (KeyError, OSError):
        return f"UID {os.geteuid()}"
