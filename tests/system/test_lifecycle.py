"""Start, signals, processes, end: the daemon as a whole."""

import contextlib
import fcntl
import os
import pwd
import re
import signal
import socket
import sys
import time

import pytest

from ntpd_fast.clock.kernelclock import read_state
from tests.netns import in_network_namespace, ip
from tests.processes import PATIENCE_S, children_of, is_running, status_of, wait_until
from tests.system.harness import PROGRAM, ask, open_to_others

SERVE = ("local stratum 7", "allow")
FEATURES = r"\(\+CMDMON [-+]REFCLOCK [-+]RTC \+PRIVDROP [-+]SCFILTER [-+]SIGND [-+]NTS \+SECHASH \+IPV6 [-+]DEBUG\)"
AS_ROOT = pytest.mark.skipif(os.getuid() != 0, reason="there are no rights to drop")


def stratum(answer: bytes | None) -> int:
    assert answer is not None, "no answer"
    return answer[1]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGQUIT])
def test_one_process_from_start_to_end(make_daemon, number):
    daemon = make_daemon(*SERVE).start()
    assert children_of(daemon.pid) == []
    assert daemon.pidfile.read_text() == f"{daemon.pid}\n"
    assert stratum(daemon.ask()) == 7
    assert stratum(daemon.ask("::1")) == 7
    assert len(os.listdir(f"/proc/{daemon.pid}/fd")) < 40
    assert len(os.listdir(f"/proc/{daemon.pid}/task")) == 1
    started = time.monotonic()
    assert daemon.stop(number) == 0
    assert time.monotonic() - started < 3
    lines = daemon.errors().splitlines()
    stamp = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ "
    assert re.fullmatch(stamp + rf"ntpd-fast version [\d.]+ starting {FEATURES}", lines[0])
    assert re.fullmatch(stamp + "ntpd-fast exiting", lines[-1])
    assert "Disabled control of system clock" in daemon.log_texts()
    assert not any("Could not" in line or "Disabled command socket" in line for line in lines)
    assert daemon.left_behind() == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_workers_answer_and_end_with_the_daemon(make_daemon, number):
    daemon = make_daemon(*SERVE, "workers 2", options=("-d",)).start()
    assert len(children_of(daemon.pid)) == 3
    for address in ("127.0.0.1", "127.0.0.77", "::1"):
        for _ in range(20):
            assert stratum(daemon.ask(address)) == 7
    assert "Reference ID    : 7F7F0101" in daemon.chronyc("tracking")
    assert re.search(r"NTP packets received +: 60\n", daemon.chronyc("serverstats"))
    assert daemon.stop(number) == 0
    assert daemon.log_texts()[-1] == "ntpd-fast exiting"
    assert daemon.left_behind() == []


def test_terminals_keys_reach_the_whole_group_and_end_well(make_daemon):
    daemon = make_daemon(*SERVE, "workers 1", launcher=["setsid", *PROGRAM]).start()
    family = children_of(daemon.pid)
    os.killpg(daemon.pid, signal.SIGINT)
    assert daemon.wait() == 0
    assert daemon.log_texts()[-1] == "ntpd-fast exiting"
    assert not any(is_running(pid) for pid in family)
    assert not any("killed" in line or "exited" in line for line in daemon.log_texts()), daemon.errors()


def test_default_number_of_workers(make_daemon):
    daemon = make_daemon(*SERVE, options=("-n", "-l", "daemon.log")).start()
    assert len(children_of(daemon.pid)) == 1 + len(os.sched_getaffinity(0))
    assert stratum(daemon.ask()) == 7
    daemon.stop()
    daemon = make_daemon("local", options=("-n", "-l", "daemon.log")).start()
    assert children_of(daemon.pid) == []
    assert daemon.ask(timeout_s=0.3) is None
    daemon.stop()


def test_nobody_survives_a_killed_supervisor(make_daemon):
    daemon = make_daemon(*SERVE, "workers 2").start()
    family = children_of(daemon.pid)
    assert len(family) == 3
    daemon.close()
    assert not any(is_running(pid) for pid in family)
    # what it left is found stale
    assert daemon.left_behind() == ["command.sock", "daemon.pid"]
    again = daemon.start()
    assert stratum(again.ask()) == 7
    again.stop()
    assert daemon.left_behind() == []


def test_background(make_daemon):
    daemon = make_daemon(*SERVE, "workers 1", options=("-l", "PATH"), launcher=PROGRAM)
    log = daemon.directory / "daemon.log"
    daemon.arguments[daemon.arguments.index("PATH")] = str(log)
    done = daemon.run()
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    # everything is there at that moment
    pid = int(daemon.pidfile.read_text())
    try:
        assert daemon.left_behind() == ["command.sock", "daemon.pid"]
        assert "stratum" in daemon.chronyc("tracking").lower()
        assert stratum(daemon.ask()) == 7
        assert os.getsid(pid) == pid
        assert os.readlink(f"/proc/{pid}/cwd") == "/"
        assert {os.readlink(f"/proc/{pid}/fd/{number}") for number in range(3)} == {"/dev/null"}
        family = [pid, *children_of(pid)]
        second = daemon.run()
        assert second.returncode == 1
        assert second.stderr == (f"Another ntpd-fast may already be running (pid={pid}), check {daemon.pidfile}\n")
        assert stratum(daemon.ask()) == 7
    finally:
        os.kill(pid, signal.SIGTERM)
    wait_until(lambda: not any(is_running(one) for one in family), "the daemon to end")
    assert daemon.left_behind() == []
    assert log.read_text().splitlines()[-1].endswith(" ntpd-fast exiting")


def test_failure_in_the_background_is_told_by_the_starting_process(make_daemon):
    daemon = make_daemon("nonsense", options=("-l", "/dev/null"))
    done = daemon.run()
    assert done.returncode == 1
    assert done.stderr == f"Invalid directive nonsense at line 5 in file {daemon.config}\n"
    assert daemon.left_behind() == []


def test_bug_in_the_background_is_in_the_log(make_daemon, monkeypatch):
    def fail(*_) -> None:
        raise RuntimeError("surprise")

    monkeypatch.setattr("ntpd_fast.cli.daemon.open_setup", fail)
    daemon = make_daemon(*SERVE, options=("-l", "daemon.log"))
    log = daemon.directory / "daemon.log"
    daemon.arguments[daemon.arguments.index("daemon.log")] = str(log)
    done = daemon.run()
    assert done.returncode == 1
    assert done.stderr == "Unexpected error, the log has more\n"
    assert "RuntimeError: surprise" in log.read_text()
    assert daemon.left_behind() == []


def test_shutdown_command(make_daemon):
    for workers in (0, 1):
        daemon = make_daemon(*SERVE, f"workers {workers}").start()
        assert daemon.chronyc("shutdown") == "200 OK\n"
        assert daemon.wait() == 0
        assert "Received shutdown command" in daemon.log_texts()
        assert daemon.log_texts()[-1] == "ntpd-fast exiting"
        assert daemon.left_behind() == []


@pytest.mark.parametrize(("directives", "status"), [(SERVE, 0), ((), 1)])
@pytest.mark.parametrize("workers", [0, 1])
def test_timeout(make_daemon, directives, status, workers):
    daemon = make_daemon(*directives, f"workers {workers}", options=("-d", "-t", "1")).start()
    assert daemon.wait() == status
    assert daemon.log_texts()[-2:] == ["Timeout reached", "ntpd-fast exiting"]


def test_name_of_the_link_is_the_name_of_the_daemon(make_daemon, tmp_path):
    link = tmp_path / "chronyd"
    link.write_text("import sys\nfrom ntpd_fast.cli.daemon import main\nsys.exit(main())\n")
    daemon = make_daemon(*SERVE, launcher=[sys.executable, str(link)]).start()
    assert daemon.stop() == 0
    assert re.match(r"chronyd version .* starting", daemon.log_texts()[0])
    assert daemon.log_texts()[-1] == "chronyd exiting"
    daemon.arguments = ["-v"]
    assert re.fullmatch(rf"chronyd \(\S+\) version \S+ {FEATURES}\n", daemon.run().stdout)


def test_directives_on_the_command_line(make_daemon):
    daemon = make_daemon()
    position = daemon.arguments.index("-f")
    words = daemon.config.read_text().splitlines()
    daemon.arguments[position:] = [*words, "local stratum 3", "allow 127.0.0.0/8"]
    daemon.start()
    assert stratum(daemon.ask()) == 3
    assert daemon.ask("::1", timeout_s=0.3) is None
    daemon.stop()


@pytest.mark.parametrize(("option", "answering", "silent"), [("-4", "127.0.0.1", "::1"), ("-6", "::1", "127.0.0.1")])
def test_one_family_only(make_daemon, option, answering, silent):
    daemon = make_daemon(*SERVE, options=("-d", option)).start()
    assert stratum(daemon.ask(answering)) == 7
    assert daemon.ask(silent, timeout_s=0.3) is None
    daemon.stop()


@pytest.fixture
def manager(tmp_path):
    """A service manager's socket, and what to give a daemon so that it talks to it."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(str(tmp_path / "notify"))
        listening.settimeout(PATIENCE_S)
        yield listening, {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "400000"}


def heard_until(listening: socket.socket, word: bytes) -> list[bytes]:
    """Everything that is said until `word`, with it."""
    words = [listening.recv(200)]
    while words[-1] != word:
        words.append(listening.recv(200))
    return words


@pytest.mark.parametrize("workers", [0, 2])
def test_ready_means_answering(make_daemon, manager, workers):
    """At the moment of the word an answer is there at once; our own question counts nowhere."""
    listening, environment = manager
    daemon = make_daemon(*SERVE, f"workers {workers}", environment=environment).start(wait=False)
    heard_until(listening, b"READY=1")
    assert stratum(daemon.ask()) == 7
    heard_until(listening, b"WATCHDOG=1")
    counted = daemon.chronyc("serverstats")
    assert re.search(r"NTP packets received +: 1\n", counted)
    assert re.search(r"NTP packets dropped +: 0\n", counted)
    assert daemon.stop() == 0
    assert not any("No answer" in line for line in daemon.log_texts())


def test_wedged_workers_feed_no_watchdog(make_daemon, manager):
    """The processes exist and control lives; nobody answers."""
    listening, environment = manager
    daemon = make_daemon(*SERVE, "workers 2", environment=environment).start()
    _, *workers = children_of(daemon.pid)
    heard_until(listening, b"WATCHDOG=1")
    for pid in workers:
        os.kill(pid, signal.SIGSTOP)
    # what they answered before may still be on its way to us
    time.sleep(1.5)
    listening.settimeout(0.0)
    with contextlib.suppress(BlockingIOError):
        while True:
            listening.recv(200)
    listening.settimeout(PATIENCE_S)
    heard_until(listening, b"WATCHDOG=1")
    # many intervals later, and only since a wedged one was replaced
    assert any("has stood still" in line for line in daemon.log_texts())
    wait_until(lambda: sum("has stood still" in line for line in daemon.log_texts()) == 2, "both to be replaced")
    wait_until(lambda: daemon.ask() is not None, "an answer")
    daemon.stop()


def test_one_wedged_worker_does_not_restart_the_service(make_daemon, manager):
    listening, environment = manager
    daemon = make_daemon(*SERVE, "workers 2", environment=environment).start()
    _, victim, _ = children_of(daemon.pid)
    stopped = time.monotonic()
    os.kill(victim, signal.SIGSTOP)
    heard_until(listening, b"WATCHDOG=1")
    heard_until(listening, b"WATCHDOG=1")
    # not because it was replaced, unless this machine is very busy
    assert is_running(victim) or time.monotonic() - stopped > 4.0
    with contextlib.suppress(ProcessLookupError):
        os.kill(victim, signal.SIGCONT)
    daemon.stop()


def test_status_line_follows_what_is_served(make_daemon, manager):
    listening, environment = manager
    daemon = make_daemon("allow", "workers 1", environment=environment).start()
    before = [word for word in heard_until(listening, b"READY=1") if word != b"WATCHDOG=1"]
    assert re.fullmatch(rb"STATUS=Not synchronised, offset [+-]0\.000000 s, 0 requests/s", before[0])
    assert daemon.chronyc("local", "stratum", "5") == "200 OK\n"
    for _ in range(30):
        daemon.ask()
    listening.settimeout(2 * PATIENCE_S)
    while not (line := listening.recv(200)).startswith(b"STATUS="):
        assert line == b"WATCHDOG=1"
    assert re.fullmatch(rb"STATUS=Stratum 5, local reference, offset [+-]0\.\d{6} s, [1-9]\d* requests/s", line)
    daemon.stop()


def test_packet_filter_on_our_own_requests_does_not_keep_the_daemon_down(make_daemon, tmp_path):
    """No loopback interface: there is no way to ask, and no reason to call that a failure."""

    def start_there() -> tuple[list[bytes], list[str]]:
        ip("link", "set", "lo", "down")
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
            listening.bind(str(tmp_path / "notify"))
            listening.settimeout(PATIENCE_S)
            environment = {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "400000"}
            daemon = make_daemon(*SERVE, "workers 1", environment=environment, port=123).start()
            words = [*heard_until(listening, b"READY=1"), *heard_until(listening, b"WATCHDOG=1")]
            daemon.stop()
            return words, daemon.log_texts()

    words, texts = in_network_namespace(start_there)
    assert words[-1] == b"WATCHDOG=1"
    assert not any("Could not" in text for text in texts)


def test_service_manager_is_told(make_daemon, tmp_path):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(PATIENCE_S)
        environment = {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "400000"}
        for workers in (0, 1):
            daemon = make_daemon(*SERVE, f"workers {workers}", environment=environment).start()
            words = [manager.recv(100)]
            while words[-1] != b"READY=1":
                words.append(manager.recv(100))
            assert any(re.fullmatch(rb"STATUS=Stratum 7, local reference, offset .* s, 0 requests/s", w) for w in words)
            assert ask(port=daemon.port) is not None
            for _ in range(3):
                assert manager.recv(100) == b"WATCHDOG=1"
            daemon.stop()
            while (word := manager.recv(100)) == b"WATCHDOG=1":
                pass
            assert word == b"STOPPING=1"


def start_with(daemon, given):
    """Hand over these files, as a service manager does between fork and exec."""
    script = "import os,sys; [os.dup2(int(fd), 3 + i) for i, fd in enumerate(sys.argv[1].split(','))]; "
    script += "os.environ['LISTEN_PID'] = str(os.getpid()); os.execv(sys.argv[2], sys.argv[2:])"
    numbers = [fcntl.fcntl(opened.fileno(), fcntl.F_DUPFD, 200) for opened in given]
    daemon.launcher = [sys.executable, "-c", script, ",".join(map(str, numbers)), *PROGRAM]
    daemon.environment["LISTEN_FDS"] = str(len(given))
    daemon.start(pass_fds=tuple(numbers))
    for opened in given:
        opened.close()
    for number in numbers:
        os.close(number)


def test_descriptors_handed_over_that_do_not_fit(make_daemon, tmp_path):
    """A file, a Unix socket, a stream, another port: each is named and not used."""
    daemon = make_daemon(*SERVE, "workers 1", options=("-d", "-4"))
    stream = socket.create_server(("127.0.0.1", 0))
    other = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    other.bind(("127.0.0.1", 0))
    unix = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    ports = [stream.getsockname()[1], other.getsockname()[1]]
    start_with(daemon, [(tmp_path / "file").open("w"), unix, stream, other])
    texts = daemon.log_texts()
    assert [text for text in texts if text.startswith("Ignored")] == [
        "Ignored descriptor 3 handed over : Socket operation on non-socket",
        "Ignored descriptor 4 handed over : not an IP socket",
        *(f"Ignored socket handed over for 127.0.0.1:{port}" for port in ports),
    ]
    assert stratum(daemon.ask()) == 7
    daemon.stop()


@pytest.mark.parametrize("count", [1, 2])
def test_sockets_handed_over(make_daemon, count):
    daemon = make_daemon(*SERVE, "workers 4", options=("-d", "-4"))
    given = []
    for _ in range(count):
        opened = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        opened.bind(("0.0.0.0", daemon.port))
        given.append(opened)
    start_with(daemon, given)
    assert len(children_of(daemon.pid)) == 1 + count
    for last in range(1, 20):
        assert stratum(daemon.ask(f"127.0.0.{last}")) == 7
    assert any("handed over for 0.0.0.0:" in line for line in daemon.log_texts())
    # nobody but the service manager could open them again
    assert daemon.chronyc("deny", "all") == "200 OK\n"
    wait_until(lambda: daemon.ask(timeout_s=0.2) is None, "the rule")
    os.kill(daemon.pid, signal.SIGHUP)
    wait_until(lambda: any("Reloaded the configuration" in line for line in daemon.log_texts()), "the reload")
    assert daemon.chronyc("allow", "all") == "200 OK\n"
    for last in range(1, 20):
        wait_until(lambda last=last: daemon.ask(f"127.0.0.{last}", timeout_s=0.2) is not None, "every worker")
    daemon.stop()


@AS_ROOT
@pytest.mark.parametrize("workers", [0, 2])
def test_rights_are_dropped(make_daemon, workers):
    nobody = pwd.getpwnam("nobody")
    daemon = make_daemon(*SERVE, f"workers {workers}", user="nobody")
    open_to_others(daemon.directory)
    daemon.run_directory.chmod(0o770)
    os.chown(daemon.run_directory, nobody.pw_uid, nobody.pw_gid)
    os.chown(daemon.directory, nobody.pw_uid, nobody.pw_gid)
    daemon.start()
    assert stratum(daemon.ask()) == 7
    everybody = [daemon.pid, *children_of(daemon.pid)]
    for pid in everybody:
        uid, gid, groups, permitted, effective = status_of(pid, "Uid", "Gid", "Groups", "CapPrm", "CapEff")
        assert set(uid.split()) == {str(nobody.pw_uid)}
        assert set(gid.split()) == {str(nobody.pw_gid)}
        assert groups.split() in ([], [str(nobody.pw_gid)])
        # -x and a high port: nothing is needed
        assert (permitted, effective) == ("0" * 16, "0" * 16)
    for pid in everybody[1:]:
        assert status_of(pid, "NoNewPrivs") == ["1"]
    assert os.stat(daemon.command_socket).st_uid == nobody.pw_uid
    assert daemon.stop() == 0
    assert daemon.left_behind() == []


def test_once_without_sources_ends_at_once(make_daemon):
    daemon = make_daemon("port 0", options=("-Q",))
    done = daemon.run()
    assert done.returncode == 1
    assert done.texts[-2:] == ["No suitable source for synchronisation", "ntpd-fast exiting"]


@AS_ROOT
@pytest.mark.parametrize("level", ["0", "1"])
@pytest.mark.parametrize(
    ("options", "lines"), [(("-m", "-P", "1"), ()), ((), ("lock_all", "sched_priority 1", "user nobody"))]
)
def test_memory_lock_priority_and_user(make_daemon, options, lines, level):
    """Of the supervisor and control, not of those who talk to strangers; as an ordinary user, closed in or not."""
    nobody = pwd.getpwnam("nobody")
    daemon = make_daemon(*SERVE, "workers 1", *lines, options=("-d", "-F", level, *options), user="nobody")
    if lines:
        position = daemon.arguments.index("-u")
        del daemon.arguments[position : position + 2]
    open_to_others(daemon.directory)
    for directory in (daemon.run_directory, daemon.directory):
        os.chown(directory, nobody.pw_uid, nobody.pw_gid)
    daemon.start()
    control, worker = children_of(daemon.pid)
    assert os.sched_getscheduler(control) == os.SCHED_FIFO
    assert os.sched_getparam(control).sched_priority == 1
    assert os.sched_getscheduler(worker) == os.SCHED_OTHER
    assert status_of(control, "VmLck")[0].strip() != "0 kB"
    assert status_of(worker, "VmLck")[0].strip() == "0 kB"
    for pid in (daemon.pid, control, worker):
        assert set(status_of(pid, "Uid")[0].split()) == {str(nobody.pw_uid)}
    assert stratum(daemon.ask()) == 7
    assert not any("Could not" in line for line in daemon.log_texts())
    daemon.stop()


def test_debug_lines_have_letters(make_daemon):
    daemon = make_daemon(*SERVE, options=("-d", "-d")).start()
    daemon.stop()
    assert all(re.match(r"\S+Z [DIWEF]:", line) for line in daemon.errors().splitlines())


def test_configuration_is_printed_not_run(make_daemon):
    daemon = make_daemon("allow   10.0.0.0/8", "local", options=("-p",))
    done = daemon.run()
    assert done.returncode == 0
    assert done.stdout.splitlines()[-2:] == ["allow 10.0.0.0/8", "local"]
    daemon.arguments.append("--strict")
    assert daemon.run().returncode == 0
    daemon.config.write_text("local\nworkers 2\n")
    done = daemon.run()
    assert (done.returncode, done.stdout) == (1, "local\nworkers 2\n")
    assert done.texts == [f"Fatal error : Invalid directive workers at line 2 in file {daemon.config}"]
    daemon.arguments.remove("--strict")
    assert daemon.run().returncode == 0
    daemon.config.write_text("local\nnonsense 1\n")
    done = daemon.run()
    assert done.returncode == 1
    assert done.stdout == "local\nnonsense 1\n"
    assert done.texts == [f"Fatal error : Invalid directive nonsense at line 2 in file {daemon.config}"]


@pytest.mark.parametrize(
    ("arguments", "status", "out", "error"),
    [
        (["-h"], 0, "Usage: ntpd-fast", ""),
        (["-Z", "--help"], 0, "Usage: ntpd-fast", ""),
        (["--version"], 0, "ntpd-fast (", ""),
        (["-Z"], 1, "Usage: ntpd-fast", "ntpd-fast: option -Z not recognized\n"),
        (["-f"], 1, "Usage: ntpd-fast", "ntpd-fast: option -f requires argument\n"),
        (["-t", "x"], 1, "", "Fatal error : Invalid argument x\n"),
    ],
)
def test_options_that_end_at_once(make_daemon, arguments, status, out, error):
    daemon = make_daemon()
    daemon.arguments = arguments
    done = daemon.run()
    assert done.returncode == status
    assert done.stdout.startswith(out)
    assert done.stderr == error


@pytest.mark.parametrize("workers", [0, 2])
def test_family_is_served_when_its_first_address_is_allowed(make_daemon, workers):
    daemon = make_daemon("local stratum 7", "allow 127.0.0.1", f"workers {workers}").start()
    assert daemon.ask("::1", timeout_s=0.2) is None
    family = children_of(daemon.pid)
    assert daemon.chronyc("allow", "::1") == "200 OK\n"
    wait_until(lambda: daemon.ask("::1", timeout_s=0.2) is not None, "an answer over IPv6")
    assert stratum(daemon.ask()) == 7
    if workers:
        # everybody stays: workers are given the new sockets
        assert children_of(daemon.pid) == family
    assert daemon.stop() == 0
    assert not any("Could not" in line or "killed" in line for line in daemon.log_texts())


def test_service_begins_when_the_first_address_is_allowed(make_daemon):
    daemon = make_daemon("local stratum 7", options=("-n", "-l", "daemon.log")).start()
    assert daemon.ask(timeout_s=0.2) is None
    assert daemon.chronyc("allow", "127.0.0.1") == "200 OK\n"
    assert stratum(daemon.ask()) == 7
    assert daemon.chronyc("allow") == "200 OK\n"
    assert stratum(daemon.ask("::1")) == 7
    assert daemon.stop() == 0


@pytest.mark.parametrize("workers", [0, 1])
def test_clock_kept_by_others_is_served_as_the_kernel_says(make_daemon, workers):
    """Against the kernel of this machine, whatever it says of its clock; nothing is changed."""
    before = read_state()
    daemon = make_daemon("kernelclock stratum 4 refid TEST", "allow", f"workers {workers}").start()
    assert "Disabled control of system clock" in daemon.log_texts()
    answer = daemon.ask()
    assert answer is not None
    if before.synchronised:
        assert (stratum(answer), answer[12:16]) == (4, b"TEST")
        assert "System clock is kept right by others" in daemon.log_texts()
        dispersion_s = int.from_bytes(answer[8:12], "big") / 65536
        assert abs(dispersion_s - before.max_error_s) < 0.1
    else:
        assert (stratum(answer), answer[0] >> 6) == (0, 3)
        assert "System clock is not synchronised" in daemon.log_texts()
    assert read_state().synchronised == before.synchronised
    assert daemon.stop() == 0


@pytest.mark.parametrize("line", ["server 127.0.0.1", "refclock SHM 0"])
def test_clock_kept_by_others_needs_no_sources(make_daemon, line):
    daemon = make_daemon("kernelclock", line)
    done = daemon.run()
    assert done.returncode == 1
    assert done.texts[-1] == "Fatal error : kernelclock directive cannot be used with sources"
