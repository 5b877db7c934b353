"""The configuration read again while the daemon runs: what changes, what stays, what is refused, and that nobody waits.

Every daemon is tried as one process and as several: the same lines go another way then.
"""

import os
import pwd
import re
import signal
import socket
import subprocess
import sys
import time
from contextlib import closing
from ipaddress import ip_address

import pytest

from loadtest.client import Load as ManyClients
from loadtest.client import client
from loadtest.targets import target
from ntpd_fast.cli.ntpc.connection import Endpoint
from ntpd_fast.server.clientlog import clientlog_plan
from tests.processes import FILTER, children_of, wait_until
from tests.scrape import Scraper
from tests.system.harness import ROOT, ask, free_port, open_to_others
from tests.system.load import Load

AS_ROOT = pytest.mark.skipif(os.getuid() != 0, reason="there are no rights to drop")
WORKERS = pytest.mark.parametrize("workers", [0, 2])
RELOADED = "Reloaded the configuration"
REFUSED = "Could not reload the configuration, nothing was changed : "


def write(daemon, text: str) -> None:
    """Replace its configuration as a whole: a reload may be reading it."""
    new = daemon.config.with_suffix(".new")
    new.write_text(text)
    new.chmod(daemon.config.stat().st_mode & 0o777)
    new.replace(daemon.config)


def reload(daemon, *changes: tuple[str, str], add: tuple[str, ...] = (), expect: str = RELOADED) -> None:
    """Replace text in its configuration, append lines, send SIGHUP and wait for the line that ends it."""
    text = daemon.config.read_text()
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    write(daemon, text + "".join(f"{line}\n" for line in add))
    before = daemon.errors().count(expect)
    os.kill(daemon.pid, signal.SIGHUP)
    wait_until(lambda: daemon.errors().count(expect) > before, f"{expect}\n{daemon.errors()}")


def is_free(port: int) -> bool:
    """Whether nobody has this port of IPv4."""
    with socket.socket(type=socket.SOCK_DGRAM) as other:
        try:
            other.bind(("0.0.0.0", port))
        except OSError:
            return False
    return True


def stratum(answer: bytes | None) -> int:
    assert answer is not None, "no answer"
    return answer[1]


def has_stratum(daemon, number: int) -> bool:
    """For waiting: a machine that has no time for the daemon may cost an answer."""
    answer = daemon.ask(timeout_s=1.0)
    return answer is not None and answer[1] == number


@WORKERS
def test_access_and_local_reference(make_daemon, workers):
    daemon = make_daemon("local stratum 7", "allow 127.0.0.1", f"workers {workers}").start()
    assert stratum(daemon.ask()) == 7
    assert ask("127.0.0.1", daemon.port, 0.2, source="127.0.0.9") is None
    reload(daemon, ("local stratum 7", "local stratum 5"), ("allow 127.0.0.1", "allow 127.0.0.9"))
    wait_until(lambda: ask("127.0.0.1", daemon.port, 0.2, source="127.0.0.9") is not None, "the new rules")
    assert stratum(ask("127.0.0.1", daemon.port, source="127.0.0.9")) == 5
    assert ask("127.0.0.1", daemon.port, 0.2, source="127.0.0.1") is None
    daemon.stop()


@WORKERS
def test_family_that_the_new_rules_allow_is_served_and_one_they_deny_is_closed(make_daemon, workers):
    daemon = make_daemon("local", "allow 127.0.0.1", f"workers {workers}").start()
    family = children_of(daemon.pid)
    assert daemon.ask("::1", timeout_s=0.2) is None
    reload(daemon, ("allow 127.0.0.1", "allow ::1"))
    wait_until(lambda: daemon.ask("::1", timeout_s=0.2) is not None, "an answer over IPv6")
    wait_until(lambda: is_free(daemon.port), "the port of IPv4")
    assert children_of(daemon.pid) == family
    daemon.stop()


@WORKERS
def test_unchanged_sources_keep_their_samples(make_daemon, workers):
    server = make_daemon("local stratum 3", "allow").start()
    line = f"server 127.0.0.1 port {server.port} minpoll -2 maxpoll -2 iburst"
    daemon = make_daemon(line, "server 127.0.0.8", "allow", f"workers {workers}").start()

    def samples() -> int:
        rows = [row.split() for row in daemon.chronyc("-n", "sourcestats").splitlines()]
        return next((int(row[1]) for row in rows if row and row[0] == "127.0.0.1"), 0)

    wait_until(lambda: samples() >= 4, "samples")
    reload(daemon, ("server 127.0.0.8", "server 127.0.0.9 prefer"), add=("maxupdateskew 500", f"# {line}"))
    assert samples() >= 4
    listed = daemon.chronyc("-n", "sources")
    assert "127.0.0.9" in listed
    assert "127.0.0.8" not in listed
    reload(daemon, ("minpoll -2", "minpoll -1"))
    assert samples() < 4
    daemon.stop()
    server.stop()


@WORKERS
def test_broken_file_changes_nothing(make_daemon, workers, tmp_path):
    daemon = make_daemon("local stratum 7", "allow", f"workers {workers}").start()
    family = children_of(daemon.pid)
    good = daemon.config.read_text()
    taken = socket.socket(type=socket.SOCK_DGRAM)
    taken.bind(("0.0.0.0", 0))
    port = taken.getsockname()[1]
    address = f"0.0.0.0:{port}"
    broken = [
        (["local stratum 5", "oops"], f"Invalid directive oops at line 2 in file {daemon.config}"),
        (["include /nowhere"], "Could not open /nowhere : No such file or directory"),
        (["local stratum 5", "rtcsync", "rtcfile /x"], "rtcfile directive cannot be used with rtcsync"),
        (["local stratum 5", "allow", f"port {port}"], f"Could not open NTP socket on {address} : Address already"),
        (["ntsservercert /c", "ntsserverkey /k"], "Could not load NTS server certificates : /c : No such file"),
    ]
    for lines, reason in broken:
        daemon.config.write_text("".join(f"{line}\n" for line in lines))
        os.kill(daemon.pid, signal.SIGHUP)
        wait_until(lambda reason=reason: REFUSED + reason in daemon.errors(), f"{reason}\n{daemon.errors()}")
        assert stratum(daemon.ask()) == 7
    daemon.config.unlink()
    os.kill(daemon.pid, signal.SIGHUP)
    wait_until(lambda: f"{REFUSED}Could not open {daemon.config}" in daemon.errors(), "the missing file")
    assert RELOADED not in daemon.errors()
    assert children_of(daemon.pid) == family
    daemon.config.write_text(good.replace("stratum 7", "stratum 6"))
    reload(daemon)
    wait_until(lambda: has_stratum(daemon, 6), "the mended file")
    taken.close()
    daemon.stop()


@pytest.mark.parametrize("workers", [0, 1])
def test_what_needs_a_restart_is_named_and_goes_on_as_it_was(make_daemon, workers):
    daemon = make_daemon("local stratum 7", "allow", f"workers {workers}").start()
    lines = ("user nobody", "clientloglimit 10000", f"workers {1 - workers}", "smoothtime 400 0.01", "makestep 1 1")
    for _ in range(2):
        reload(daemon, add=lines, expect="Changed directives that need a restart : ")
    named = [line.partition(" : ")[2].split(", ") for line in daemon.log_texts() if "need a restart" in line]
    assert [sorted(names) for names in named] == [["clientloglimit", "smoothtime", "user", "workers"]] * 2
    assert len(children_of(daemon.pid)) == 2 * workers
    assert stratum(daemon.ask()) == 7
    assert "505 Facility not enabled" in daemon.chronyc("smoothing")
    daemon.stop()


@WORKERS
def test_port_and_address(make_daemon, workers):
    daemon = make_daemon("local", "allow", f"workers {workers}").start()
    family = children_of(daemon.pid)
    port = free_port()
    reload(daemon, (f"port {daemon.port}", f"port {port}"), add=("bindaddress 127.0.0.1",))
    assert ask("127.0.0.1", port) is not None
    assert ask("::1", port) is not None
    assert ask("127.0.0.2", port, 0.2) is None
    wait_until(lambda: ask("127.0.0.1", daemon.port, 0.1) is None, "the old port to be closed")
    reload(daemon, ("bindaddress 127.0.0.1", "bindaddress 127.0.0.2"))
    assert ask("127.0.0.2", port) is not None
    wait_until(lambda: ask("127.0.0.1", port, 0.1) is None, "the old address to be closed")
    reload(daemon, ("bindaddress 127.0.0.2", ""))
    assert all(ask(address, port) is not None for address in ("127.0.0.1", "127.0.0.2", "::1"))
    assert children_of(daemon.pid) == family
    assert len(os.listdir(f"/proc/{daemon.pid}/fd")) < 60
    daemon.stop()


@WORKERS
def test_several_addresses(make_daemon, workers):
    """Each is bound by itself, answers from itself, and comes and goes by itself."""
    bound = ("bindaddress 127.0.0.2", "bindaddress 127.0.0.3")
    daemon = make_daemon("local", "allow", f"workers {workers}", *bound).start()

    def served(*expected: int) -> bool:
        return [last for last in range(1, 5) if ask(f"127.0.0.{last}", daemon.port, 0.3) is not None] == list(expected)

    assert served(2, 3)
    # NTP of the other family is not concerned
    assert stratum(ask("::1", daemon.port)) == 10
    reload(daemon, ("bindaddress 127.0.0.3", "bindaddress 127.0.0.1\nbindaddress 127.0.0.4\nbindaddress 127.0.0.4"))
    wait_until(lambda: served(1, 2, 4), "other addresses")
    reload(daemon, ("bindaddress 127.0.0.2\n", "bindaddress 127.0.0.2\nbindaddress 0.0.0.0\n"))
    wait_until(lambda: served(1, 2, 3, 4), "all addresses")
    reload(daemon, ("bindaddress 0.0.0.0\n", ""))
    wait_until(lambda: served(1, 2, 4), "the addresses again")
    assert not [line for line in daemon.log_texts() if "Could not" in line]
    daemon.stop()


@WORKERS
def test_an_address_that_cannot_be_had_leaves_the_others(make_daemon, workers):
    """The others are served, and the log says which one is not."""
    daemon = make_daemon("local", "allow", f"workers {workers}", "bindaddress 127.0.0.2", "bindaddress 127.0.0.3")
    with socket.socket(type=socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.2", daemon.port))
        daemon.start()
        assert stratum(ask("127.0.0.3", daemon.port)) == 10
        assert f"Could not open NTP socket on 127.0.0.2:{daemon.port} : Address already in use" in daemon.errors()
    daemon.stop()


def test_the_end_of_a_reload_is_told_when_all_its_sources_are_there(make_daemon):
    daemon = make_daemon("local", "allow", "workers 1").start()
    many = [f"server 127.9.{number // 250}.{1 + number % 250} offline" for number in range(350)]
    alone = daemon.config.read_text()
    for lines in (many, []):
        daemon.config.write_text(alone + "".join(f"{line}\n" for line in lines))
        reload(daemon)
        assert len(daemon.chronyc("-n", "-c", "sources").splitlines()) == len(lines)
    assert daemon.stop() == 0


def test_workers_are_added_and_end(make_daemon):
    daemon = make_daemon("local", "allow", "workers 1").start()
    clients = [f"127.0.3.{last}" for last in range(1, 40)]
    unanswered = 0

    def all_are_answered() -> None:
        nonlocal unanswered
        for one in clients:
            while ask("127.0.0.1", daemon.port, source=one) is None:
                unanswered += 1
                assert unanswered <= len(clients), daemon.errors()

    first = children_of(daemon.pid)
    all_are_answered()
    for count in (3, 2, 4, 1):
        old = daemon.config.read_text()
        daemon.config.write_text(re.sub(r"workers \d", f"workers {count}", old))
        reload(daemon)
        wait_until(lambda count=count: len(children_of(daemon.pid)) == 1 + count, f"{count} workers")
        assert children_of(daemon.pid)[:2] == first
        all_are_answered()
    # a machine without time for a worker is the only reason: what waits for too long is dropped, and told
    with closing(Scraper(Endpoint(str(daemon.command_socket)))) as scraper:
        assert scraper.faults().ntp_waited_too_long == unanswered
    assert not [line for line in daemon.log_texts() if "killed" in line or "exited" in line]
    rows = [row.split() for row in daemon.chronyc("-n", "clients").splitlines()]
    hits = {row[0]: int(row[1]) for row in rows if row and row[0] in clients}
    # more workers than ever before share the client log anew: the last time that was when there were four
    assert hits == dict.fromkeys(clients, 2)
    assert daemon.stop() == 0


@pytest.mark.parametrize("workers", [1, 2])
def test_client_logs_of_more_workers_stay_within_the_limit(make_daemon, workers):
    daemon = make_daemon("local", "allow", f"workers {workers}", "clientloglimit 200000").start()
    most = clientlog_plan(200_000, workers).records
    load = ManyClients(clients=4 * most, first=ip_address("127.7.0.1"), interleaved=True)

    def listed() -> int:
        with client(target("127.0.0.1", daemon.port), load) as sender:
            result = sender.run(30.0, rate=20_000, sleep=True, limit=3 * load.clients, timeout_s=5)
        assert not result.wrong
        return daemon.chronyc("-n", "clients").count("\n127.7.")

    assert 0.8 * most < listed() <= most
    daemon.config.write_text(daemon.config.read_text().replace(f"workers {workers}", "workers 4"))
    reload(daemon)
    wait_until(lambda: len(children_of(daemon.pid)) == 5, "four workers")
    family = children_of(daemon.pid)
    assert 0.7 * most < listed() <= most
    # one that is started again has what its predecessor had
    os.kill(family[-1], signal.SIGKILL)
    wait_until(lambda: children_of(daemon.pid)[-1] not in family, "its successor")
    assert 0.7 * most < listed() <= most
    # and a control that is, too
    os.kill(children_of(daemon.pid)[0], signal.SIGKILL)
    wait_until(lambda: "Resumed the state" in daemon.errors(), "a new control")
    wait_until(lambda: "127.7." in daemon.chronyc("-n", "clients"), "the list")
    assert 0.7 * most < listed() <= most
    daemon.stop()


def starved(daemon) -> int:
    """Requests that were lost for want of a core: a receive buffer was full, or they had waited for too long."""
    program = [sys.executable, "-m", "ntpd_fast.cli.control", "-h", str(daemon.command_socket), "faults"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    report = subprocess.run(program, capture_output=True, text=True, timeout=60, env=environment, check=True).stdout
    return sum(int(found) for found in re.findall(r"(?:waited too long|receive buffer full) *: (\d+)", report))


def test_no_request_is_lost_whatever_changes(make_daemon):
    """One worker, two, one; any address, one, another's beside it, any; rules and limits in between.

    The machine may be busy with other things: what a worker without a core loses is counted, and the best of several
    rounds has to be without it.
    """
    daemon = make_daemon("local", "allow", "workers 1", "bindaddress 0.0.0.0").start()
    changes = [
        (("workers 1", "workers 2"),),
        (("bindaddress 0.0.0.0", "bindaddress 127.0.0.1"),),
        (("workers 2", "workers 1"), ("allow", "allow 127/8")),
        (("bindaddress 127.0.0.1", "bindaddress 0.0.0.0"),),
        (("workers 1", "workers 2"), ("bindaddress 0.0.0.0", "bindaddress 127.0.0.1")),
        (("workers 2", "workers 1"), ("bindaddress 127.0.0.1", "bindaddress 0.0.0.0"), ("allow 127/8", "allow")),
    ]
    losses, before = [], 0
    while not losses or (losses[-1] and len(losses) < 4):
        with Load("127.0.0.1", daemon.port) as one, Load("127.0.0.2", daemon.port) as two:
            time.sleep(0.2)
            for change in changes:
                reload(daemon, *change)
                time.sleep(0.3)
        assert len(one.sent_ns) > 1000
        losses.append(len(one.lost) + len(two.lost))
        before, excused = starved(daemon), starved(daemon) - before
        assert losses[-1] <= excused, (losses, excused, one.lost, two.lost)
    assert losses[-1] == 0
    assert not any("killed" in line or "Could not" in line for line in daemon.log_texts())
    daemon.stop()


def test_control_that_died_comes_back_with_what_was_reloaded(make_daemon):
    daemon = make_daemon("local stratum 7", "allow", "workers 1").start()
    reload(daemon, ("stratum 7", "stratum 4"), ("workers 1", "workers 2"), add=("broadcast 60 127.255.255.255",))
    wait_until(lambda: len(children_of(daemon.pid)) == 3, "two workers")
    os.kill(children_of(daemon.pid)[0], signal.SIGKILL)
    wait_until(lambda: "Resumed the state" in daemon.errors(), "a new control")
    wait_until(lambda: "7F7F0101" in daemon.chronyc("tracking"), "its command socket")
    assert stratum(daemon.ask()) == 4
    reload(daemon, ("stratum 4", "stratum 3"))
    wait_until(lambda: has_stratum(daemon, 3), "the next reload")
    daemon.stop()


@WORKERS
def test_keys_logs_and_directories(make_daemon, workers, tmp_path):
    keys = tmp_path / "keys"
    keys.write_text("1 SHA1 HEX:" + "11" * 20 + "\n")
    (tmp_path / "sources").mkdir()
    daemon = make_daemon("local", "allow", f"keyfile {keys}", f"workers {workers}").start()
    assert "Loaded 1 symmetric keys" in daemon.errors()
    keys.write_text("1 SHA1 HEX:" + "11" * 20 + "\n2 SHA256 HEX:" + "22" * 32 + "\n")
    (tmp_path / "sources" / "a.sources").write_text("server 127.0.0.7\n")
    reload(daemon, add=(f"logdir {tmp_path}/logs", "log tracking", f"sourcedir {tmp_path}/sources", "server 127.0.0.6"))
    assert "Loaded 2 symmetric keys" in daemon.errors()
    listed = daemon.chronyc("-n", "sources")
    assert "127.0.0.7" in listed
    assert "127.0.0.6" in listed
    if FILTER:
        assert "logdir (outside of what -F leaves)" in daemon.errors()
    else:
        assert (tmp_path / "logs").is_dir()
    daemon.stop()


@WORKERS
def test_limits_of_commands_and_reports(make_daemon, workers):
    cmdport = free_port()
    daemon = make_daemon("local", "allow", f"workers {workers}", "ratelimit interval 1")
    daemon.config.write_text(daemon.config.read_text().replace("cmdport 0", f"cmdport {cmdport}"))
    daemon.start()

    def over_udp(*words: str) -> str:
        command = ["chronyc", "-n", "-h", "127.0.0.1", "-p", str(cmdport), *words]
        return subprocess.run(command, capture_output=True, text=True, timeout=20, check=False).stdout

    assert "501 Not authorised" in over_udp("serverstats")
    reload(daemon, ("ratelimit interval 1", "ratelimit interval 12 burst 1 leak 4"), add=("opencommands serverstats",))
    assert "NTP packets received" in over_udp("serverstats")
    assert "501 Not authorised" in over_udp("activity")
    answers = [ask("127.0.0.1", daemon.port, 0.05) for _ in range(20)]
    assert answers.count(None) > 5
    daemon.stop()


@WORKERS
def test_daemon_that_is_closed_in_follows_too(make_daemon, workers, tmp_path):
    """Path rules are for good: files elsewhere need a restart. All else goes on, new sockets and workers included."""
    lines = ("local stratum 7", "allow", f"workers {workers}", "bindaddress 0.0.0.0")
    daemon = make_daemon(*lines, options=("-d", "-F", "1")).start()
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    more = ("server 127.0.0.9", f"dumpdir {elsewhere}")
    reload(daemon, ("0.0.0.0", "127.0.0.1"), ("stratum 7", "stratum 6"), add=more)
    wait_until(lambda: ask("127.0.0.2", daemon.port, 0.1) is None, "the old address to be closed")
    assert stratum(daemon.ask()) == 6
    assert "127.0.0.9" in daemon.chronyc("-n", "sources")
    reload(daemon, ("bindaddress 127.0.0.1", ""), (f"workers {workers}", f"workers {workers + bool(workers)}"))
    wait_until(lambda: len(children_of(daemon.pid)) == (4 if workers else 0), "another worker")
    assert stratum(ask("127.0.0.2", daemon.port)) == 6
    assert not [line for line in daemon.log_texts() if "killed" in line or "exited" in line]
    daemon.stop()


@WORKERS
@AS_ROOT
def test_unreadable_file_is_told_with_the_user_who_could_not_read_it(make_daemon, workers):
    daemon = make_daemon("local stratum 7", "allow", f"workers {workers}", user="nobody")
    open_to_others(daemon.directory)
    nobody = pwd.getpwnam("nobody")
    os.chown(daemon.run_directory, nobody.pw_uid, nobody.pw_gid)
    daemon.start()
    daemon.config.chmod(0o600)
    reason = f"{REFUSED}Could not open {daemon.config} : Permission denied (as user nobody)"
    reload(daemon, expect=reason)
    assert stratum(daemon.ask()) == 7
    daemon.config.chmod(0o644)
    reload(daemon, ("stratum 7", "stratum 6"))
    wait_until(lambda: has_stratum(daemon, 6), "the new stratum")
    daemon.stop()


@AS_ROOT
@pytest.mark.parametrize(("mode", "expected"), [
    (0o600, ["Missing read access to {} : Permission denied"]),
    (0o640, []),
    (0o666, ["World-readable permissions on {}", "World-writable permissions on {}", "Having write access to {}"]),
])  # fmt: skip
def test_key_file_out_of_reach_is_told_at_the_start_and_its_keys_outlive_reloads(make_daemon, tmp_path, mode, expected):
    nobody = pwd.getpwnam("nobody")
    daemon = make_daemon("local", "allow", "workers 1", user="nobody")
    open_to_others(daemon.directory)
    os.chown(daemon.run_directory, nobody.pw_uid, nobody.pw_gid)
    keys = daemon.directory / "keys"
    keys.write_text("1 SHA1 HEX:" + "11" * 20 + "\n")
    os.chown(keys, 0, nobody.pw_gid)
    keys.chmod(mode)
    daemon.config.write_text(daemon.config.read_text() + f"keyfile {keys}\n")
    daemon.start()
    assert [line for line in daemon.log_texts() if line.endswith(str(keys)) or "read access" in line] == [
        line.format(keys) for line in expected
    ]
    reload(daemon)
    stays = f"Could not open keyfile {keys} : Permission denied (as user nobody), its keys stay as they are"
    assert (stays in daemon.errors()) == (mode == 0o600)
    assert "Loaded 0 symmetric keys" not in daemon.errors()
    if mode == 0o600:
        other = daemon.directory / "other"
        other.write_text("2 SHA1 HEX:" + "22" * 20 + "\n")
        other.chmod(0o600)
        refused = f"{REFUSED}Could not open keyfile {other} : Permission denied (as user nobody)"
        reload(daemon, (str(keys), str(other)), expect=refused)
    daemon.stop()


@WORKERS
def test_service_manager_hears_of_reloads(make_daemon, workers, tmp_path):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(20)
        environment = {"NOTIFY_SOCKET": str(tmp_path / "notify")}
        daemon = make_daemon("local", "allow", f"workers {workers}", environment=environment).start()

        def hear(wanted: str) -> str:
            while not (text := manager.recv(4096).decode()).startswith(wanted):
                pass
            return text

        hear("READY=1")
        before = time.monotonic_ns() // 1000
        os.kill(daemon.pid, signal.SIGHUP)
        told = hear("RELOADING=1")
        assert before <= int(told.partition("MONOTONIC_USEC=")[2]) <= time.monotonic_ns() // 1000
        hear("READY=1")
        daemon.stop()


@WORKERS
def test_command_waits_and_tells(make_daemon, workers):
    daemon = make_daemon("local stratum 7", "allow", f"workers {workers}").start()

    def command() -> tuple[int, str, str]:
        program = [sys.executable, "-m", "ntpd_fast.cli.control", "-h", str(daemon.command_socket), "reload", "config"]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        done = subprocess.run(program, capture_output=True, text=True, timeout=60, env=environment, check=False)
        return done.returncode, done.stdout, done.stderr

    good = daemon.config.read_text()
    write(daemon, good.replace("stratum 7", "stratum 6"))
    assert command() == (0, "200 OK\n", "")
    assert stratum(daemon.ask()) == 6
    write(daemon, good + "user nobody\n")
    assert command() == (0, "200 OK\n", "Changed directives that need a restart : user\n")
    assert stratum(daemon.ask()) == 7
    write(daemon, good.replace("stratum 7", "stratum 77"))
    line = good.splitlines().index("local stratum 7") + 1
    reason = f"Invalid value in local directive at line {line} in file {daemon.config}\n"
    assert command() == (1, "500 Failure\n", reason)
    assert stratum(daemon.ask()) == 7
    daemon.stop()


@WORKERS
def test_many_signals_are_few_reloads_and_the_last_file_counts(make_daemon, workers):
    daemon = make_daemon("local stratum 1", "allow", f"workers {workers}").start()
    for number in range(2, 12):
        write(daemon, re.sub(r"stratum \d+", f"stratum {number}", daemon.config.read_text()))
        os.kill(daemon.pid, signal.SIGHUP)
    wait_until(lambda: has_stratum(daemon, 11), "the last file")
    assert 1 <= daemon.errors().count(RELOADED) <= 10
    daemon.stop()
