"""The supervisor with real processes that only pretend to be control and workers."""

import ctypes
import itertools
import mmap
import os
import select
import signal
import time

import pytest

from ntpd_fast._record import replace
from ntpd_fast.server.channel import Channel, Verb
from ntpd_fast.server.child import Confinement
from ntpd_fast.server.supervisor import (
    EXIT_AGAIN,
    EXIT_END,
    EXIT_FAILED,
    Backoff,
    Child,
    Limits,
    Slot,
    Supervisor,
)
from tests.processes import children_of

LIMITS = Limits(heartbeat_s=0.5, end_s=1.0, ready_s=1.0, stop_s=0.3, backoff_first_s=0.05)
PATIENCE_S = 15.0
WORDS = ("control", "set-up", "serves", "stops", "ends", "starts")


class Manager:
    """What the service manager was told."""

    watchdog_interval_s = None

    def __init__(self):
        self.told = []

    def reloading(self):
        """A reload: the processes tell what came of it."""

    def ready(self):
        self.told.append("ready")

    def stopping(self):
        self.told.append("stopping")

    def status(self, text):
        self.told.append(f"status {text}")

    def watchdog(self):
        self.told.append("watchdog")


class World:
    """A supervisor's slots, the words their processes say, and numbers they share."""

    def __init__(self):
        self.read_end, self.write_end = os.pipe()
        self.memory = mmap.mmap(-1, 4096)
        self.numbers = (ctypes.c_int64 * 512).from_buffer(self.memory)
        self.manager = Manager()
        self.deaths = []
        self.slots = []

    def said(self, word):
        """How often processes have said `word`."""
        return self.numbers[256 + WORDS.index(word)]

    def say(self, *words):
        text = " ".join(str(word) for word in (time.monotonic_ns(), os.getpid(), *words))
        os.write(self.write_end, f"{text}\n".encode())
        self.numbers[256 + WORDS.index(words[0])] += 1

    def words(self):
        """What processes have said: rows of (monotonic ns, pid, word...)."""
        data = b""
        while select.select([self.read_end], [], [], 0)[0]:
            data += os.read(self.read_end, 65536)
        return [(int(t), int(p), *rest) for t, p, *rest in (line.split() for line in data.decode().splitlines())]

    def slot(self, name, main, **more):
        self.slots.append(
            Slot(
                name,
                main,
                lambda: Confinement(keep=[self.write_end]),
                on_death=lambda: self.deaths.append(name),
                **more,
            )
        )

    def control(self, main):
        self.slot("control", main, is_control=True)

    def run(self, limits=LIMITS, **more):
        supervisor = Supervisor(self.slots, self.manager, limits=limits, **more)
        return supervisor.run()


def wait_until(condition):
    """In a child: wait for something another process does."""
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, "nothing happens"
        time.sleep(0.005)


@pytest.fixture
def world():
    made = World()
    before = children_of(os.getpid())
    yield made
    os.close(made.read_end)
    os.close(made.write_end)
    # whatever a test did: nobody is left
    assert set(children_of(os.getpid())) <= set(before)


def serve(world, beat=None):
    """A worker: ready (or waiting for `go`), then serving until `stop` or the end."""

    def main(channel, waits):
        stopping = []
        signal.signal(signal.SIGTERM, lambda *_: stopping.append(True))
        world.say("set-up")
        channel.send(Verb.READY)
        if waits:
            select.select([channel], [], [])
            assert channel.receive().verb is Verb.GO
        world.say("serves")
        while not stopping:
            if beat:
                beat()
            if select.select([channel], [], [], 0.02)[0] and channel.receive().verb is Verb.STOP:
                world.say("stops")
                channel.send(Verb.STOPPED)
                return 0
        world.say("ends")
        return 0

    return main


def control_until(condition, status=EXIT_END, script=None):
    """Control: ready, plays its script, waits for `condition` and ends."""

    def main(channel, waits):
        channel.send(Verb.READY)
        if script:
            script(channel)
        wait_until(condition)
        return status

    return main


def never():
    return False


def replace_others(supervisor):
    """What a reload does here: new processes for all but control."""
    supervisor.replace(slot for slot in supervisor.slots if not slot.is_control)
    yield lambda: not supervisor.is_replacing


@pytest.mark.parametrize("status", [EXIT_END, EXIT_FAILED])
def test_control_ends_the_daemon_with_its_status(world, status):
    world.control(control_until(lambda: world.said("serves") == 2, status))
    world.slot("worker 0", serve(world))
    world.slot("worker 1", serve(world))
    assert world.run() == status
    assert world.manager.told[-1:] == ["stopping"]
    assert world.said("ends") == 2
    assert world.deaths == []


def test_ready_is_told_once_when_all_are(world):
    world.control(control_until(lambda: world.numbers[0] == 1 and world.said("serves") == 3))

    def slow(channel, waits):
        wait_until(lambda: world.said("serves") == 2)
        assert world.numbers[0] == 0
        return serve(world)(channel, waits)

    def started():
        world.numbers[0] += 1

    world.slot("worker 0", serve(world))
    world.slot("worker 1", serve(world))
    world.slot("worker 2", slow)
    assert world.run(on_ready=started) == EXIT_END
    assert world.numbers[0] == 1
    assert world.manager.told == ["ready", "stopping"]


def test_killed_worker_is_replaced_at_once(world):
    """How quick that is, tests/system says of the whole daemon."""

    def kill(channel):
        wait_until(lambda: world.said("serves") == 1)
        os.kill(world.numbers[0], signal.SIGKILL)

    def main(channel, waits):
        world.numbers[0] = os.getpid()
        return serve(world)(channel, waits)

    world.control(control_until(lambda: world.said("serves") == 2, script=kill))
    world.slot("worker 0", main)
    # if it had to wait, it would be for longer than anybody's patience
    assert world.run(Limits(backoff_first_s=3600.0)) == EXIT_END
    assert world.deaths == ["worker 0"]


def test_worker_that_keeps_dying_is_started_ever_later(world, caplog):
    def main(channel, waits):
        world.say("starts")
        channel.send(Verb.READY)
        wait_until(lambda: world.numbers[0] == 1)
        os.kill(os.getpid(), signal.SIGKILL)

    def started():
        world.numbers[0] = 1

    world.control(control_until(lambda: world.said("starts") == 5))
    world.slot("worker 0", main)
    assert world.run(on_ready=started) == EXIT_END
    starts = [row[0] / 1e9 for row in world.words()]
    gaps = [later - earlier for earlier, later in itertools.pairwise(starts)]
    assert [gap >= least for gap, least in zip(gaps, (0, 0.05, 0.1, 0.2), strict=True)] == [True] * 4
    assert any("was killed by SIGKILL" in line for line in caplog.messages)
    assert any("Starting worker 0 again in 0.1 seconds" in line for line in caplog.messages)


def test_worker_whose_heart_stops_is_killed_and_replaced(world, caplog):
    def main(channel, waits):
        def beat():
            world.numbers[0] = time.monotonic_ns()
            if world.said("set-up") == 1:
                os.kill(os.getpid(), signal.SIGSTOP)

        return serve(world, beat)(channel, waits)

    world.control(control_until(lambda: world.said("serves") == 2))
    world.slot("worker 0", main, heartbeat_ns=lambda: world.numbers[0])
    assert world.run() == EXIT_END
    assert world.deaths == ["worker 0"]
    assert any("has stood still for 0." in line for line in caplog.messages)


def test_successor_serves_when_its_predecessor_has_stopped(world):
    def script(channel):
        wait_until(lambda: world.said("serves") == 2)
        channel.send(Verb.RELOAD)

    world.control(control_until(lambda: world.said("serves") == 4, script=script))
    world.slot("worker 0", serve(world))
    world.slot("worker 1", serve(world))
    assert world.run(on_reload=replace_others) == EXIT_END
    when = {row[1:3]: row[0] for row in world.words()}
    old, new = [], []
    for pid, word in when:
        if word == "set-up":
            (old if len(old) < 2 else new).append(pid)
    if when[old[0], "stops"] > when[old[1], "stops"]:
        old.reverse()
    for predecessor, successor in zip(old, new, strict=True):
        assert when[successor, "set-up"] < when[predecessor, "stops"] < when[successor, "serves"]
    # one after the other
    assert when[old[0], "stops"] < when[new[1], "set-up"]
    assert world.said("ends") == 2
    assert world.deaths == []


def test_successor_takes_over_from_one_that_does_not_stop(world, caplog):
    def deaf(channel, waits):
        if waits:
            return serve(world)(channel, waits)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        channel.send(Verb.READY)
        time.sleep(30)
        return 0

    world.control(
        control_until(lambda: world.said("serves") == 1, script=lambda channel: channel.send(Verb.RELOAD)),
    )
    world.slot("worker 0", deaf)
    assert world.run(on_reload=replace_others) == EXIT_END
    assert [row[2] for row in world.words()] == ["set-up", "serves", "ends"]
    assert any("does not do as told: killed" in line for line in caplog.messages)


def test_successor_that_never_gets_ready_is_given_up(world, caplog):
    def main(channel, waits):
        if waits:
            world.numbers[0] = os.getpid()
            time.sleep(30)
        return serve(world)(channel, waits)

    def given_up():
        return world.numbers[0] and not os.path.exists(f"/proc/{world.numbers[0]}")

    world.control(control_until(given_up, script=lambda channel: channel.send(Verb.RELOAD)))
    world.slot("worker 0", main)
    assert world.run(on_reload=replace_others) == EXIT_END
    assert [row[2] for row in world.words()] == ["set-up", "serves", "ends"]
    assert any(line.startswith("Successor of worker 0") for line in caplog.messages)


def test_what_opens_sockets_waits_for_a_reload_and_only_the_last_word_counts(world):
    acted = []

    def reload(supervisor):
        acted.append("reload")
        world.numbers[0] = 1
        yield lambda: world.numbers[1] == 1
        acted.append("reloaded")

    def families(supervisor, text):
        def follow():
            acted.append(text)
            world.numbers[2] = 1
            yield lambda: True

        return follow()

    def script(channel):
        channel.send(Verb.RELOAD)
        wait_until(lambda: world.numbers[0] == 1)
        channel.send(Verb.FAMILIES, "0 4")
        channel.send(Verb.FAMILIES, "0 6")
        world.numbers[1] = 1

    world.control(control_until(lambda: world.numbers[2] == 1, script=script))
    world.slot("worker 0", serve(world))
    # with nothing else to wake up for
    limits = replace(LIMITS, heartbeat_s=20 * PATIENCE_S)
    assert world.run(limits, on_reload=reload, on_families=families) == EXIT_END
    assert acted == ["reload", "reloaded", "0 6"]
    # the start and the reload
    assert world.manager.told == ["ready", "ready", "stopping"]


def test_dead_control_is_put_right_and_started_again(world):
    def main(channel, waits):
        world.say("control")
        channel.send(Verb.READY)
        wait_until(lambda: world.numbers[0] == 1)
        if world.said("control") == 1:
            os.kill(os.getpid(), signal.SIGSEGV)
        return EXIT_AGAIN if world.said("control") == 2 else EXIT_END

    def started():
        world.numbers[0] = 1

    world.control(main)
    world.slot("worker 0", serve(world))
    assert world.run(on_ready=started) == EXIT_END
    assert world.said("control") == 3
    # only the crash needs the clock put right: one that asks to start again has done so itself
    assert world.deaths == ["control"]
    assert world.said("serves") == 1
    assert world.manager.told == ["ready", "stopping"]


@pytest.mark.parametrize("who", ["control", "worker 0"])
def test_death_before_the_daemon_was_ready_ends_it(world, who):
    def dies(channel, waits):
        return 70

    world.control(dies if who == "control" else control_until(never))
    world.slot("worker 0", dies if who == "worker 0" else serve(world))
    assert world.run() == EXIT_FAILED
    assert world.manager.told == ["stopping"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGQUIT])
def test_signal_ends_all(world, number):
    def script(channel):
        wait_until(lambda: world.said("serves") == 1)
        os.kill(os.getppid(), number)

    world.control(control_until(never, script=script))
    world.slot("worker 0", serve(world))
    before = signal.getsignal(number)
    assert world.run() == EXIT_END
    assert world.said("ends") == 1
    assert signal.getsignal(number) is before


def test_child_that_ignores_the_end_is_killed(world, caplog):
    def deaf(channel, waits):
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        world.say("serves")
        channel.send(Verb.READY)
        time.sleep(30)
        return 0

    world.control(control_until(lambda: world.said("serves") == 1))
    world.slot("worker 0", deaf)
    assert world.run() == EXIT_END
    assert any("does not do as told: killed" in line for line in caplog.messages)


def test_service_manager_hears_status_and_life(world):
    def script(channel):
        channel.send(Verb.STATUS, "Selected PPS0")
        channel.send(Verb.ALIVE)

    world.control(control_until(lambda: True, script=script))
    assert world.run() == EXIT_END
    assert world.manager.told == ["ready", "status Selected PPS0", "watchdog", "stopping"]


def test_no_sign_of_life_while_no_worker_answers(world):
    """With a heart that stands still longer than a heartbeat, and a worker not judged for it yet."""
    now_ns = 0
    supervisor = Supervisor([], world.manager, limits=LIMITS, monotonic_ns=lambda: now_ns)
    world.slot("worker 0", never, heartbeat_ns=lambda: world.numbers[0])
    world.slot("worker 1", never, heartbeat_ns=lambda: world.numbers[1])
    supervisor.slots = world.slots
    assert not supervisor._answers()
    ours, theirs = Channel.pair()
    for slot in world.slots:
        slot.child = Child(0, ours, started_ns=0, fresh_ns=0)
    assert supervisor._answers()
    now_ns = 600_000_000
    assert not supervisor._answers()
    world.numbers[1] = 300_000_000
    assert supervisor._answers()
    ours.close()
    theirs.close()


@pytest.mark.parametrize("nonsense", [b"nonsense", b"go", b"replace", b"status x", b"\xff" * 500])
def test_worker_that_talks_nonsense_is_killed(world, caplog, nonsense):
    def main(channel, waits):
        if world.said("starts") == 0:
            world.say("starts")
            channel.send(Verb.READY)
            wait_until(lambda: world.numbers[0] == 1)
            channel._socket.send(nonsense)
            time.sleep(30)
        return serve(world)(channel, waits)

    def started():
        world.numbers[0] = 1

    world.control(control_until(lambda: world.said("serves") == 1))
    world.slot("worker 0", main)
    assert world.run(on_ready=started) == EXIT_END
    assert any("talks nonsense" in line for line in caplog.messages)
    assert world.manager.told == ["ready", "stopping"]


def test_flood_of_words_does_not_hold_up_the_supervisor(world):
    """Somebody else is heard in between: SIGTERM ends the daemon."""

    def flood(channel, waits):
        channel.send(Verb.READY)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            channel.send(Verb.READY)
        return 0

    def script(channel):
        time.sleep(0.2)
        os.kill(os.getppid(), signal.SIGTERM)

    world.control(control_until(never, script=script))
    world.slot("worker 0", flood)
    started = time.monotonic()
    assert world.run() == EXIT_END
    assert time.monotonic() - started < PATIENCE_S / 2


def test_supervisors_own_error_leaves_nobody_behind(world):
    world.control(control_until(never))
    world.slot("worker 0", serve(world))

    def fail():
        raise RuntimeError("surprise")

    with pytest.raises(RuntimeError, match="surprise"):
        world.run(on_ready=fail)


def test_backoff_doubles_up_to_its_limit_and_forgets():
    backoff = Backoff(Limits(backoff_first_s=0.1, backoff_max_s=1.0, backoff_forget_s=60.0))
    assert [backoff.delay_s(1.0) for _ in range(7)] == [0.0, 0.1, 0.2, 0.4, 0.8, 1.0, 1.0]
    assert backoff.delay_s(61.0) == 0.0
    assert backoff.delay_s(1.0) == 0.1


class Question:
    """What the supervisor asks itself: a pipe that somebody may write the answer to."""

    def __init__(self, answers):
        self.asked = 0
        self.closed = False
        self._answers = answers
        self._read_end, self._write_end = os.pipe()

    def ask(self):
        self.asked += 1
        if self.asked in self._answers:
            os.write(self._write_end, b"x")
        return True

    def descriptors(self):
        return [] if self.closed else [self._read_end]

    def heard(self, descriptor):
        return os.read(descriptor, 1) == b"x"

    def close(self):
        self.closed = True


def alive_until(world, condition):
    def main(channel, waits):
        channel.send(Verb.READY)
        wait_until(lambda: world.numbers[0] == 1)
        deadline = time.monotonic() + PATIENCE_S
        while not condition():
            assert time.monotonic() < deadline
            channel.send(Verb.ALIVE)
            time.sleep(0.01)
        return EXIT_END

    return main


def test_ready_waits_for_an_answer_to_ourselves(world):
    """The second question is answered; later ones feed the watchdog only when they are."""
    question = Question(answers={2, 5, 6})

    def started():
        world.numbers[0] = question.asked

    def alive(channel, waits):
        channel.send(Verb.READY)
        wait_until(lambda: world.numbers[0])
        for _ in range(5):
            channel.send(Verb.ALIVE)
            time.sleep(0.05)
        return EXIT_END

    world.control(alive)
    world.slot("worker 0", serve(world))
    assert world.run(Limits(check_s=0.05, end_s=1.0), check=question, on_ready=started) == EXIT_END
    assert world.numbers[0] == 2
    assert world.manager.told == ["ready", "watchdog", "watchdog", "stopping"]


def test_start_goes_on_when_our_own_requests_get_no_answer(world, caplog):
    question = Question(answers=())

    def started():
        world.numbers[0] = 1

    world.control(alive_until(world, lambda: world.said("serves") == 1 and world.numbers[0] == 1))
    world.slot("worker 0", serve(world))
    assert world.run(Limits(check_s=0.05, end_s=1.0), check=question, on_ready=started) == EXIT_END
    assert question.asked == 4
    assert question.closed
    assert world.manager.told[0] == "ready"
    assert [r.getMessage() for r in caplog.records if "No answer" in r.getMessage()] == [
        "No answer to requests of our own: watching the processes only"
    ]
