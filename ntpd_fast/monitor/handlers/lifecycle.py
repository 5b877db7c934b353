"""Commands on the daemon itself: its end, its files, its keys."""

from ..backend import Lifecycle
from ..codec import requests as req
from ..codec.commands import Number
from .row import Row


def _shutdown(lifecycle: Lifecycle, _: req.Nothing) -> None:
    lifecycle.shutdown()


def _dump(lifecycle: Lifecycle, _: req.Nothing) -> None:
    lifecycle.dump()


def _cycle_logs(lifecycle: Lifecycle, _: req.Nothing) -> None:
    lifecycle.cycle_logs()


def _rekey(lifecycle: Lifecycle, _: req.Nothing) -> None:
    lifecycle.rekey()


ROWS = (
    Row(Number.SHUTDOWN, "lifecycle", _shutdown),
    Row(Number.DUMP, "lifecycle", _dump),
    Row(Number.CYCLELOGS, "lifecycle", _cycle_logs),
    Row(Number.REKEY, "lifecycle", _rekey),
)
