"""Commands on the daemon itself: its end, its files, its keys."""

from __future__ import annotations

from ..backend import Lifecycle
from ..codec import replies as rep
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


def _reload_config(lifecycle: Lifecycle, _: req.Nothing) -> rep.ReloadState:
    return lifecycle.reload_config()


def _reload_report(lifecycle: Lifecycle, _: req.Nothing) -> rep.ReloadState:
    return lifecycle.reload_report()


ROWS = (
    Row(Number.SHUTDOWN, "lifecycle", _shutdown),
    Row(Number.DUMP, "lifecycle", _dump),
    Row(Number.CYCLELOGS, "lifecycle", _cycle_logs),
    Row(Number.REKEY, "lifecycle", _rekey),
    Row(Number.RELOAD_CONFIG, "lifecycle", _reload_config),
    Row(Number.RELOAD_REPORT, "lifecycle", _reload_report),
)
