"""The form of a handler."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from ..codec.commands import Number, Status
from ..codec.layout import Message

# A payload to reply with, a status without payload, or plain success.
Result = Message | Status | None


class Row(NamedTuple):
    """`run(part, request)` serves the command, where `part` is the attribute of `Backends` named `subject`."""

    number: Number
    subject: str
    run: Callable[[Any, Any], Result]
    absent: Status | Callable[[Any], Message] = Status.FAILED
    """Answer of a daemon without that part; a function where there is a true answer (no sources: zero)."""
    changes_state: Callable[[Any], bool] | None = None
    """For a report that can also change something: whether this request does."""
