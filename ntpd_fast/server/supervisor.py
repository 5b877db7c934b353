"""The process that starts the others, keeps them alive and exits last.

No event loop and no threads: it polls one channel a child and the descriptor that signals arrive on, and may fork at
any moment. A child's death arrives as SIGCHLD (pidfds would need Linux 5.3; EL 8 runs 4.18). Rules:

- a child that dies is forked again on the same sockets and memory: at once the first time, then ever later;
- a worker whose heartbeat stands still is killed, which makes it a child that died;
- a worker is replaced without a gap: the successor is ready and waits, the old one stops at the end of a batch and says
  so, the successor goes;
- control decides by its exit status whether the daemon ends (`EXIT_END`, `EXIT_FAILED`) or control starts again
  (`EXIT_AGAIN`); any other end is a death, and what it held (the clock's frequency) is put back first;
- a reload is a script (`on_reload`): it acts, says what it waits for, and is taken up again when that has come; so is
  what opens and closes server sockets for commands (`on_families`), and one waits for the end of the other;
- until everything was ready once, a death ends the daemon: a start that cannot work must say so, not repeat.
"""

from __future__ import annotations

import contextlib
import gc
import logging
import os
import select
import signal
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Final, Protocol

from ntpd_fast._record import dataclass, field, replace
from ntpd_fast.server.channel import Channel, ChannelClosed, Message, Verb
from ntpd_fast.server.child import Confinement, spawn

log = logging.getLogger(__name__)

# What control's exit status asks for.
EXIT_END: Final = 0
EXIT_FAILED: Final = 1
EXIT_AGAIN: Final = 75  # EX_TEMPFAIL of sysexits.h

NS_PER_S: Final = 1_000_000_000
END_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT)
RELOAD_SIGNAL: Final = signal.SIGHUP
HELD_SIGNALS: Final = (*END_SIGNALS, RELOAD_SIGNAL)
"""Held back until somebody listens: what they do by default would leave files and processes behind."""
# Between two looks at what a reload waits for that wakes nobody (a queue that runs dry).
_SCRIPT_TICK_S: Final = 0.01
_SIGNAL_BATCH: Final = 1024
CHECKS_MAX: Final = 4
_WORDS_A_TURN: Final = 64


@dataclass(frozen=True, slots=True)
class Limits:
    """How long the supervisor waits for what, in seconds."""

    heartbeat_s: float = 5.0
    """A worker that did nothing for so long stands still (its loop beats several times a second)."""
    end_s: float = 5.0
    """From SIGTERM to SIGKILL at the end."""
    ready_s: float = 10.0
    """A successor that is not ready by then is given up."""
    stop_s: float = 1.0
    """A worker that does not stop by then is killed so that its successor can go."""
    check_s: float = 0.5
    """An answer to ourselves that has not come by then is asked for again; at the start, only `CHECKS_MAX` times."""
    idle_s: float = 0.5
    """From READY to what can wait: the first requests and control have the processors to themselves."""
    backoff_first_s: float = 0.1
    backoff_max_s: float = 30.0
    backoff_forget_s: float = 10.0
    """A child that lived so long was well: its next death counts as the first."""


class Notify(Protocol):
    """What the supervisor tells the service manager."""

    watchdog_interval_s: float | None

    def ready(self) -> None: ...
    def reloading(self) -> None: ...
    def stopping(self) -> None: ...
    def status(self, text: str) -> None: ...
    def watchdog(self) -> None: ...


Script = Iterator[Callable[[], bool]]
"""Acts between its waits; each is a condition that ends one."""


class Check(Protocol):
    """How the supervisor finds out whether requests are answered (`selfcheck.SelfCheck`)."""

    def ask(self) -> bool: ...
    def descriptors(self) -> list[int]: ...
    def heard(self, descriptor: int) -> bool: ...
    def close(self) -> None: ...


class Backoff:
    """When to start a child again: at once, then after doubling delays until it has lived long enough."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._failures = 0

    def delay_s(self, lived_s: float) -> float:
        """The wait after a life of `lived_s` seconds."""
        if lived_s >= self._limits.backoff_forget_s:
            self._failures = 0
        failures = self._failures
        self._failures = min(failures + 1, 32)
        if failures == 0:
            return 0.0
        return min(self._limits.backoff_first_s * 2.0 ** (failures - 1), self._limits.backoff_max_s)


@dataclass(slots=True)
class Child:
    """A running process."""

    pid: int
    channel: Channel
    started_ns: int
    fresh_ns: int
    """Since when its heartbeat is to be judged."""
    ready: bool = False
    deadline_ns: int | None = None
    """When it is killed for not having done what it was told."""


@dataclass(slots=True)
class Slot:
    """A process the daemon consists of.

    `main(channel, waits)` runs in the child; with `waits` it says `ready` and serves only after `go`. `heartbeat_ns`
    is the monotonic time of its last sign of life (None: it has none). `on_death` runs in the supervisor after an
    unexpected end, before the next start. `reload_signal` makes it read its files again. `once` is for a process that
    is started for one task: it gets the exit code. `drain_s`: how long a replaced process may take to its end.
    """

    name: str
    main: Callable[[Channel, bool], int]
    confinement: Callable[[], Confinement]
    is_control: bool = False
    heartbeat_ns: Callable[[], int] | None = None
    on_death: Callable[[], None] | None = None
    reload_signal: int | None = None
    once: Callable[[int], None] | None = None
    drain_s: float | None = None
    leaving: bool = False
    """Not to be started again."""
    child: Child | None = None
    successor: Child | None = None
    retired: Child | None = None
    restart_ns: int | None = None

    def children(self) -> list[Child]:
        """Every process of this slot that has not been waited for."""
        return [child for child in (self.child, self.successor, self.retired) if child is not None]


@dataclass(slots=True)
class _Wakeup:
    """The pipe that signals arrive on while we poll."""

    read_end: int
    write_end: int
    old_descriptor: int
    old_handlers: dict[int, Any] = field(default_factory=dict)


class Supervisor:
    """Runs the slots until the daemon ends.

    `on_ready`: called once, when all are ready; `on_idle`: some time after that was told. `on_families`: begins the
    script that opens and closes sockets as control says (ValueError: nonsense). `on_reload`: begins that of a reload.
    """

    def __init__(
        self,
        slots: Sequence[Slot],
        notify: Notify,
        *,
        on_ready: Callable[[], None] | None = None,
        on_families: Callable[[Supervisor, str], Script] | None = None,
        on_reload: Callable[[Supervisor], Script] | None = None,
        on_idle: Callable[[], None] | None = None,
        check: Check | None = None,
        limits: Limits | None = None,
        monotonic_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self.slots = list(slots)
        self._notify = notify
        self._on_ready = on_ready
        self._on_families = on_families
        self._on_idle = on_idle
        self._idle_ns: int | None = None
        self._check = check
        self._checks_left = 0
        self._check_deadline_ns: int | None = None
        self._on_reload = on_reload
        self._script: Script | None = None
        self._families_script: Script | None = None
        """Of what control has said last, while another script is on its way."""
        self._reloading = False
        self._waits_for: Callable[[], bool] = bool
        self._reload_wanted = False
        self.configured = False
        """Control has taken the new configuration up (set by its word, cleared by the script)."""
        self._limits = limits or Limits()
        self._monotonic_ns = monotonic_ns
        self._backoffs: dict[str, Backoff] = {}
        self._replacing: list[Slot] = []
        self._was_ready = False
        self._ending = False
        self._status = EXIT_END
        self.failure: str | None = None
        """Why control could not start."""
        self._turn_ns = monotonic_ns()

    def run(self) -> int:
        """Start everything, keep it alive, end it; the daemon's exit status."""
        # What exists now is never garbage: collections in children then leave the shared pages alone.
        gc.freeze()
        wakeup = _catch_signals()
        try:
            for slot in self.slots:
                self._start(slot)
            while not self._finished():
                self._turn(wakeup)
        finally:
            if self._check is not None:
                self._check.close()
            self._kill_all()
            _release_signals(wakeup)
        return self._status

    def _finished(self) -> bool:
        return self._ending and not any(slot.children() for slot in self.slots)

    def _turn(self, wakeup: _Wakeup) -> None:
        """Wait for the next event or deadline and act on it."""
        poll = select.poll()
        poll.register(wakeup.read_end, select.POLLIN)
        by_descriptor: dict[int, tuple[Slot, Child]] = {}
        for slot in self.slots:
            for child in slot.children():
                descriptor = child.channel.fileno()
                if descriptor >= 0:
                    by_descriptor[descriptor] = (slot, child)
                    poll.register(descriptor, select.POLLIN)
        checked = self._check.descriptors() if self._check is not None else []
        for descriptor in checked:
            poll.register(descriptor, select.POLLIN)
        for descriptor, _ in poll.poll(self._timeout_ms()):
            if descriptor == wakeup.read_end:
                self._take_signals(wakeup)
            elif descriptor in checked:
                self._hear(descriptor)
            else:
                self._listen(*by_descriptor[descriptor])
        self._reap()
        self._keep_time()
        self._run_script()

    def _timeout_ms(self) -> int:
        now_ns = self._monotonic_ns()
        longest_s = self._limits.heartbeat_s / 4 if self._script is None else _SCRIPT_TICK_S
        deadlines = [now_ns + int(longest_s * NS_PER_S)]
        if self._check_deadline_ns is not None:
            deadlines.append(self._check_deadline_ns)
        if self._idle_ns is not None:
            deadlines.append(self._idle_ns)
        for slot in self.slots:
            if slot.restart_ns is not None:
                deadlines.append(slot.restart_ns)
            deadlines += [child.deadline_ns for child in slot.children() if child.deadline_ns is not None]
        return max(0, -(-(min(deadlines) - now_ns) // 1_000_000))

    def _start(self, slot: Slot) -> None:
        slot.restart_ns = None
        slot.child = self._spawn(slot, waits=False)
        if slot.child is None:
            self._failed(slot, 0.0)
        elif not slot.is_control:
            slot.child.deadline_ns = slot.child.started_ns + int(self._limits.ready_s * NS_PER_S)

    def _spawn(self, slot: Slot, *, waits: bool) -> Child | None:
        """Fork a child for the slot; None, with a log line, when the system has no room for one."""
        try:
            ours, theirs = Channel.pair()
        except OSError as error:
            log.error("Could not start %s : %s", slot.name, error.strerror)
            return None
        confinement = slot.confinement()
        confinement = replace(confinement, keep=[*confinement.keep, theirs.fileno()], name=f"ntpd-{slot.name}")
        started_ns = self._monotonic_ns()
        try:
            pid = spawn(lambda: slot.main(theirs, waits), confinement)
        except OSError as error:
            log.error("Could not start %s : %s", slot.name, error.strerror)
            ours.close()
            return None
        finally:
            theirs.close()
        return Child(pid, ours, started_ns, started_ns)

    def _failed(self, slot: Slot, lived_s: float) -> None:
        """The slot has no process: start one at once or later, or end a start that does not work."""
        if not self._was_ready:
            self._end(EXIT_FAILED)
            return
        delay_s = self._backoffs.setdefault(slot.name, Backoff(self._limits)).delay_s(lived_s)
        slot.restart_ns = self._monotonic_ns() + int(delay_s * NS_PER_S)
        if delay_s > 0.0:
            log.warning("Starting %s again in %.1f seconds", slot.name, delay_s)

    def _take_signals(self, wakeup: _Wakeup) -> None:
        with contextlib.suppress(BlockingIOError):
            numbers = os.read(wakeup.read_end, _SIGNAL_BATCH)
            if any(number in END_SIGNALS for number in numbers):
                self._end(EXIT_END)
            elif RELOAD_SIGNAL in numbers:
                self.reload()

    def _listen(self, slot: Slot, child: Child) -> None:
        """Take what a child says. One that talks nonsense, or what is not its to say, is not to be trusted: it dies."""
        try:
            # What is left after so many words is there at the next turn.
            for _ in range(_WORDS_A_TURN):
                message = child.channel.receive() if child.channel.fileno() >= 0 else None
                if message is None:
                    return
                if message.verb.sender not in ("child", "control" if slot.is_control else "worker"):
                    raise ValueError(f"'{message.verb.word}' is not for it to say")
                self._heed(slot, child, message)
        except ChannelClosed:
            # Its death, if that is what it is, is told by waitpid; a descriptor at its end would only wake us.
            child.channel.close()
        except ValueError as error:
            log.error("%s (pid %d) talks nonsense (%s): killed", slot.name.capitalize(), child.pid, error)
            child.channel.close()
            self._kill(child)

    def _heed(self, slot: Slot, child: Child, message: Message) -> None:
        match message.verb:
            case Verb.READY if not child.ready:
                child.ready = True
                if not self._ending:
                    child.deadline_ns = None
                if child is slot.successor:
                    self._stop_predecessor(slot)
                self._announce()
            case Verb.STOPPED:
                # Without a successor (it died meanwhile) the end of this one starts the next.
                if child is slot.child and slot.successor is not None:
                    self._promote(slot)
            case Verb.FAILED:
                self.failure = message.text
            case Verb.STATUS:
                self._notify.status(message.text)
            case Verb.ALIVE:
                if self._answers() and self._check_deadline_ns is None and not self._ask():
                    self._notify.watchdog()
            case Verb.CERTIFICATES:
                self.reload_certificates()
            case Verb.FAMILIES:
                if self._on_families is not None:
                    self._families_script = self._on_families(self, message.text)
            case Verb.RELOAD:
                self.reload()
            case Verb.CONFIGURED:
                self.configured = True

    def reload_certificates(self) -> None:
        """Have those that hold certificates load them again."""
        for slot in self.slots:
            if slot.reload_signal is not None:
                # one that is not ready yet has no handler, and reads its files anyway
                for child in slot.children():
                    if child.ready:
                        os.kill(child.pid, slot.reload_signal)

    def _announce(self) -> None:
        if self._was_ready or not all(slot.child is not None and slot.child.ready for slot in self.slots):
            return
        self._was_ready = True
        self._checks_left = CHECKS_MAX
        if not self._ask():
            self._declare_ready()

    def _declare_ready(self) -> None:
        self._checks_left = 0
        if self._on_ready is not None:
            self._on_ready()
        self._notify.ready()
        if self._on_idle is not None:
            self._idle_ns = self._monotonic_ns() + int(self._limits.idle_s * NS_PER_S)

    def _ask(self) -> bool:
        """Send a request of our own; false when there is no way to."""
        if self._check is None or not self._check.ask():
            return False
        if self._checks_left:
            self._check_deadline_ns = self._monotonic_ns() + int(self._limits.check_s * NS_PER_S)
        return True

    def _hear(self, descriptor: int) -> None:
        """What we asked ourselves is answered: the service is up, or still up."""
        if self._check is None or not self._check.heard(descriptor) or self._ending:
            return
        self._check_deadline_ns = None
        if self._checks_left:
            self._declare_ready()
        else:
            self._notify.watchdog()

    def _check_again(self) -> None:
        """No answer at the start. One who drops our packets (a packet filter) must not keep the daemon down."""
        self._check_deadline_ns = None
        self._checks_left -= 1
        if self._checks_left and self._ask():
            return
        log.warning("No answer to requests of our own: watching the processes only")
        if self._check is not None:
            self._check.close()
            self._check = None
        self._declare_ready()

    def reload(self) -> None:
        """Read the configuration again, after a reload that goes on."""
        self._reload_wanted = self._on_reload is not None

    def _run_script(self) -> None:
        if self._ending:
            self._script = None
            return
        self._begin_script()
        while self._script is not None and self._waits_for():
            try:
                self._waits_for = next(self._script)
            except StopIteration:
                self._script = None
                if self._reloading:
                    self._reloading = False
                    self._notify.ready()
                # what was asked for meanwhile: nothing else would wake us up for it
                self._begin_script()

    def _begin_script(self) -> None:
        """Take up the next script, unless one is on its way."""
        if self._script is not None or not self._was_ready:
            return
        if self._families_script is not None:
            self._script, self._waits_for = self._families_script, lambda: True
            self._families_script = None
        elif self._reload_wanted and self._on_reload is not None:
            self._reload_wanted = False
            self._reloading = True
            self._notify.reloading()
            self._script, self._waits_for = self._on_reload(self), lambda: True

    def start_slot(self, slot: Slot) -> None:
        """Add a slot and start its process."""
        self.slots.append(slot)
        self._start(slot)

    def end_slot(self, slot: Slot) -> None:
        """Have the process of a slot stop and forget the slot; nobody takes over."""
        slot.leaving = True
        slot.restart_ns = None
        if slot.child is None:
            self.slots.remove(slot)
            return
        # nobody waits for its sockets
        slot.child.deadline_ns = self._monotonic_ns() + int(self._limits.end_s * NS_PER_S)
        slot.child.channel.send(Verb.STOP)

    def tell(self, slot: Slot, verb: Verb, text: str = "", descriptors: Sequence[int] = ()) -> None:
        """Say something to a slot's process, if it has one."""
        if slot.child is not None:
            slot.child.channel.send(verb, text, descriptors)

    def replace(self, slots: Iterable[Slot]) -> None:
        """Put new processes in the place of those of some slots, one after the other."""
        self._replacing += [slot for slot in slots if slot not in self._replacing]
        self._replace_next()

    @property
    def is_replacing(self) -> bool:
        """Whether processes are being replaced, or those that were have not ended yet."""
        return bool(self._replacing) or any(slot.successor or slot.retired for slot in self.slots)

    def _replace_next(self) -> None:
        while self._replacing and not self._ending and not any(slot.successor for slot in self.slots):
            slot = self._replacing.pop(0)
            if slot.child is None:
                continue  # it is about to be started anew anyway
            slot.successor = self._spawn(slot, waits=True)
            if slot.successor is not None:
                slot.successor.deadline_ns = slot.successor.started_ns + int(self._limits.ready_s * NS_PER_S)

    def _stop_predecessor(self, slot: Slot) -> None:
        if slot.child is None:
            self._promote(slot)
            return
        slot.child.deadline_ns = self._monotonic_ns() + int(self._limits.stop_s * NS_PER_S)
        slot.child.channel.send(Verb.STOP)

    def _promote(self, slot: Slot) -> None:
        """The sockets are free: the successor serves; the old process only has to end."""
        successor = slot.successor
        assert successor is not None
        slot.child, slot.successor, slot.retired = successor, None, slot.child
        if slot.retired is not None and slot.drain_s is not None:
            slot.retired.deadline_ns = self._monotonic_ns() + int(slot.drain_s * NS_PER_S)
        successor.fresh_ns = self._monotonic_ns()
        successor.channel.send(Verb.GO)
        self._replace_next()

    def _reap(self) -> None:
        """Act on every child that has ended."""
        for slot in list(self.slots):
            for child in slot.children():
                pid, wait_status = os.waitpid(child.pid, os.WNOHANG)
                if pid:
                    # Its last words may still be in the channel.
                    self._listen(slot, child)
                    child.channel.close()
                    self._bury(slot, child, os.waitstatus_to_exitcode(wait_status))

    def _bury(self, slot: Slot, child: Child, exit_code: int) -> None:
        if child is slot.retired:
            slot.retired = None
        elif child is slot.successor:
            slot.successor = None
            if not self._ending:
                log.error("Successor of %s (pid %d) %s", slot.name, child.pid, _how(exit_code))
                self._replace_next()
        else:
            slot.child = None
            self._bury_current(slot, child, exit_code)

    def _bury_current(self, slot: Slot, child: Child, exit_code: int) -> None:
        if slot.once is not None or slot.leaving:
            self.slots.remove(slot)
            if slot.once is not None:
                slot.once(exit_code)
            return
        if slot.is_control and exit_code in (EXIT_END, EXIT_FAILED):
            self._end(exit_code)
            return
        if slot.is_control and exit_code == EXIT_AGAIN and not self._ending:
            self._start(slot)
            return
        if self._ending and exit_code == 0:
            return
        log.error("%s (pid %d) %s", slot.name.capitalize(), child.pid, _how(exit_code))
        if slot.on_death is not None:
            slot.on_death()
        if self._ending:
            return
        if slot.successor is None:
            self._failed(slot, (self._monotonic_ns() - child.started_ns) / NS_PER_S)
        elif slot.successor.ready:
            self._promote(slot)

    def _keep_time(self) -> None:
        """Start, kill and judge what the time has come for."""
        now_ns = self._monotonic_ns()
        # If we were held up ourselves (a stopped machine), so were the children: judge them from now on.
        held_up = now_ns - self._turn_ns > self._limits.heartbeat_s / 2 * NS_PER_S
        self._turn_ns = now_ns
        if self._check_deadline_ns is not None and self._check_deadline_ns <= now_ns and not self._ending:
            self._check_again()
        if self._idle_ns is not None and self._idle_ns <= now_ns and self._on_idle is not None:
            self._idle_ns = None
            self._on_idle()
        for slot in self.slots:
            if slot.restart_ns is not None and slot.restart_ns <= now_ns:
                self._start(slot)
            for child in slot.children():
                if held_up:
                    child.fresh_ns = now_ns
                if child.deadline_ns is not None and child.deadline_ns <= now_ns:
                    log.error("%s (pid %d) does not do as told: killed", slot.name.capitalize(), child.pid)
                    self._kill(child)
            if slot.child is not None and slot.child.ready and not self._ending:
                self._judge(slot, slot.child, now_ns)

    def _judge(self, slot: Slot, child: Child, now_ns: int) -> None:
        silence_s = self._silence_s(slot, child, now_ns)
        if silence_s > self._limits.heartbeat_s:
            log.error(
                "%s (pid %d) has stood still for %.1f seconds: killed", slot.name.capitalize(), child.pid, silence_s
            )
            child.fresh_ns = now_ns
            self._kill(child)

    def _silence_s(self, slot: Slot, child: Child, now_ns: int) -> float:
        if slot.heartbeat_ns is None:
            return 0.0
        return (now_ns - max(slot.heartbeat_ns(), child.fresh_ns)) / NS_PER_S

    def _answers(self) -> bool:
        """Whether the data plane is alive: some worker is, or there are none."""
        now_ns = self._monotonic_ns()
        workers = [slot for slot in self.slots if slot.heartbeat_ns is not None]
        return not workers or any(
            slot.child is not None and self._silence_s(slot, slot.child, now_ns) < self._limits.heartbeat_s
            for slot in workers
        )

    def _kill(self, child: Child) -> None:
        child.deadline_ns = None
        os.kill(child.pid, signal.SIGKILL)

    def _end(self, status: int) -> None:
        """Have every child end; `run` returns `status` when all have."""
        if self._ending:
            return
        self._ending = True
        self._status = status
        self._check_deadline_ns = self._idle_ns = None
        self._notify.stopping()
        deadline_ns = self._monotonic_ns() + int(self._limits.end_s * NS_PER_S)
        for slot in self.slots:
            slot.restart_ns = None
            for child in slot.children():
                child.deadline_ns = deadline_ns
                os.kill(child.pid, signal.SIGTERM)

    def _kill_all(self) -> None:
        """Leave no child behind, whatever ended `run`."""
        for slot in self.slots:
            for child in slot.children():
                os.kill(child.pid, signal.SIGKILL)
                os.waitpid(child.pid, 0)
                child.channel.close()


def _how(exit_code: int) -> str:
    """In words, how a process ended."""
    if exit_code >= 0:
        return f"exited with status {exit_code}"
    try:
        name = signal.Signals(-exit_code).name
    except ValueError:
        return f"was killed by signal {-exit_code}"
    if -exit_code == signal.SIGSYS:
        return f"was killed by {name}, for a system call that its filter forbids"
    return f"was killed by {name}"


def _catch_signals() -> _Wakeup:
    """Have signals written to a pipe; what was set before is kept for `_release_signals`."""
    read_end, write_end = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    old_descriptor = signal.set_wakeup_fd(write_end, warn_on_full_buffer=False)
    wakeup = _Wakeup(read_end, write_end, old_descriptor)
    for number in (*HELD_SIGNALS, signal.SIGCHLD):
        # A handler has to exist for the descriptor to be written to; what arrives there is acted on.
        wakeup.old_handlers[number] = signal.signal(number, lambda *_: None)
    # Blocked by whoever made things that a signal must not leave behind.
    signal.pthread_sigmask(signal.SIG_UNBLOCK, HELD_SIGNALS)
    return wakeup


def _release_signals(wakeup: _Wakeup) -> None:
    for number, handler in wakeup.old_handlers.items():
        signal.signal(number, handler)
    signal.set_wakeup_fd(wakeup.old_descriptor)
    os.close(wakeup.read_end)
    os.close(wakeup.write_end)
