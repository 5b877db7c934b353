"""From one process to the next: the only place of the daemon that forks, and what a child does first.

A child starts as a copy of the supervisor: with its signal handlers, its descriptors and its rights. Before anything
else runs it gets rid of all three. It never returns into the supervisor's code: it ends inside `spawn`, so no object
of the supervisor is torn down in the child (a socket object would close a number that by then means another file).
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import sys
from collections.abc import Callable, Collection, Iterable
from typing import NoReturn

from ntpd_fast._record import dataclass
from ntpd_fast.system.privileges import (
    Capability,
    die_with_parent,
    forbid_new_privileges,
    keep_capabilities,
    name_process,
)

log = logging.getLogger(__name__)

# A Python error that nobody handled: EX_SOFTWARE of sysexits.h
EXIT_BUG = 70
_STANDARD_DESCRIPTORS = (0, 1, 2)


@dataclass(frozen=True, slots=True)
class Confinement:
    """What a child is left with.

    `keep`: descriptors beyond the standard three. `capabilities`: those it keeps. `death_signal`: what it gets when
    the supervisor dies. `new_privileges`: whether programs it runs may gain some (`mailonchange` runs sendmail).
    `name`: what process lists show (empty: as the parent). The sandbox comes later: each process closes itself in when
    it has opened everything.
    """

    keep: Collection[int]
    capabilities: Collection[Capability] = ()
    death_signal: signal.Signals = signal.SIGKILL
    new_privileges: bool = False
    name: str = ""


def spawn(main: Callable[[], int], confinement: Confinement) -> int:
    """Fork a child that runs `main` confined and exits with what it returns; the child's pid.

    Raises OSError when there can be no more processes.
    """
    parent = os.getpid()
    # No signal may find the child with the supervisor's handlers and wakeup descriptor.
    old_mask = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    try:
        pid = os.fork()
        if pid == 0:
            _run(main, confinement, parent)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, old_mask)
    return pid


def _run(main: Callable[[], int], confinement: Confinement, parent: int) -> NoReturn:
    status = EXIT_BUG
    try:
        if enter_child(confinement, parent):
            status = main()
        else:
            status = 0
    except SystemExit as exit_request:
        status = exit_request.code if isinstance(exit_request.code, int) else EXIT_BUG
    except BaseException:  # the end of the process: whatever it is must be told, and must not unwind further
        log.exception("Unexpected error in process %d", os.getpid())
    finally:
        with contextlib.suppress(OSError, ValueError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(status)


def enter_child(confinement: Confinement, parent: int) -> bool:
    """Become what `confinement` says; False when the parent is gone and there is nothing to do.

    Called with all signals blocked; they are unblocked once no handler of the parent is left. Raises OSError.
    """
    reset_signals()
    if confinement.name:
        name_process(confinement.name)
    close_others(confinement.keep)
    keep_capabilities(confinement.capabilities)
    if not confinement.new_privileges:
        forbid_new_privileges()
    return die_with_parent(confinement.death_signal, parent)


def reset_signals() -> None:
    """Default actions for all signals but SIGPIPE, which stays ignored, and the mask of a fresh process."""
    signal.set_wakeup_fd(-1)
    for number in signal.valid_signals():
        handler = signal.getsignal(number)
        if callable(handler):
            signal.signal(number, signal.SIG_DFL)
    # The terminal's keys reach the whole process group: the supervisor decides what they mean.
    for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def close_others(keep: Iterable[int]) -> None:
    """Close every descriptor but the standard three and those in `keep`."""
    kept = sorted({*_STANDARD_DESCRIPTORS, *keep})
    # one close_range(2) call for each gap where the system has it
    for before, after in zip(kept, [*kept[1:], os.sysconf("SC_OPEN_MAX")], strict=True):
        # never an empty range: CPython hands its end on as -1, which the system takes for "all"
        if before + 1 < after:
            os.closerange(before + 1, after)
