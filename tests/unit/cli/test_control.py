"""The program as a whole: names, texts, exit status, what it loads; against a small daemon on a Unix socket."""

import os
import pty
import resource
import signal
import subprocess
import sys
import time

import pytest

from ntpd_fast import __version__
from ntpd_fast.cli import control
from ntpd_fast.monitor.codec import packet as pk
from ntpd_fast.monitor.codec.address import UNSPECIFIED
from ntpd_fast.monitor.codec.replies import Activity, Tracking
from tests.unit.cli.ntpc.test_connection import daemon  # noqa: F401 - a fixture

RUN = "import sys; sys.argv[0] = sys.argv[1]; from ntpd_fast.cli.control import main; sys.exit(main(sys.argv[2:]))"
# What would make the start slow, or has no business in a command line.
FORBIDDEN = {"asyncio", "dataclasses", "inspect", "json", "ipaddress", "hashlib", "ssl", "uvloop", "cryptography"}
FORBIDDEN |= {"pyroute2", "argparse", "logging", "subprocess", "readline", "curses", "ntpd_fast.config", "Cython"}


def ntpc(*arguments, name="ntpc-fast", **options):
    options.setdefault("timeout", 20)
    return subprocess.run(
        [sys.executable, "-c", RUN, name, *arguments], capture_output=True, text=True, check=False, **options
    )


def respond(request, _):
    header = pk.decode_request_header(request)
    if header.command == 44:
        return [pk.encode_reply(header, 0, pk.REPLIES[12], Activity(1, 2, 3, 4, 5))]
    if header.command == 33:
        tracking = Tracking(0, UNSPECIFIED, 0, 3, 0, *[0.0] * 9)
        return [pk.encode_reply(header, 0, pk.REPLIES[5], tracking)]
    return [pk.encode_reply(header, 1)]


@pytest.fixture
def path(daemon):  # noqa: F811 - the imported fixture
    return daemon(respond)[1].path


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("ntpc-fast", f"ntpc-fast (ntpd-fast) version {__version__} (+READLINE +SECHASH +IPV6 -DEBUG)\n"),
        ("/usr/bin/chronyc", "chronyc (chrony) version 4.8 (+READLINE +SECHASH +IPV6 -DEBUG)\n"),
    ],
)
def test_the_version_names_the_program_it_was_started_as(name, expected):
    for option in ("-v", "--version"):
        done = ntpc(option, name=name)
        assert (done.returncode, done.stdout, done.stderr) == (0, expected, "")


def test_help_lists_the_options_and_the_default_sockets():
    done = ntpc("tracking", "--help")
    assert done.returncode == 0
    assert done.stdout.startswith("Usage: ntpc-fast [OPTION]... [COMMAND]...\n\nOptions:\n")
    hosts = "/run/ntpd-fast/chronyd.sock,/run/ntpd-fast-monitor/chronyd.sock,/run/chrony/chronyd.sock"
    assert f"({hosts},/run/chrony-monitor/chronyd.sock,127.0.0.1,::1)" in done.stdout
    assert "--json" in done.stdout


def test_chronyc_has_chronys_sockets_and_options_only():
    done = ntpc("--help", name="chronyc")
    assert "(/run/chrony/chronyd.sock,/run/chrony-monitor/chronyd.sock,127.0.0.1,::1)" in done.stdout
    assert "--json" not in done.stdout


def test_a_wrong_option_is_named_with_the_usage():
    done = ntpc("-z")
    assert (done.returncode, done.stderr) == (1, "ntpc-fast: invalid option -- 'z'\n")
    assert done.stdout.startswith("Usage: ")


def test_no_daemon_at_all_is_explained():
    done = ntpc("-h", "/nonexistent/sock", "tracking")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        "Could not open connection to daemon\nhint: no daemon has this socket open: /nonexistent/sock\n"
    )
    assert ntpc("-h", "/nonexistent/sock", "tracking", name="chronyc").stderr == "Could not open connection to daemon\n"


@pytest.mark.parametrize(
    ("arguments", "exit_status"),
    [
        (["activity"], 0),
        (["reselect"], 1),
        (["-m", "activity", "reselect", "activity"], 1),
        (["-m", "reselect", "activity"], 1),
        (["-m", "activity", "exit", "reselect"], 0),
        (["foo"], 1),
        ([""], 0),
        (["x" * 2046], 1),
        (["x" * 2047], 1),
    ],
)
def test_the_exit_status_is_that_of_the_last_command(path, arguments, exit_status):
    assert ntpc("-h", path, *arguments).returncode == exit_status


def test_too_long_a_command_is_not_sent(path):
    assert ntpc("-h", path, "x" * 2046).stderr == "Unrecognized command\n"
    assert ntpc("-h", path, "x" * 2047).stderr == "Command too long\n"


@pytest.mark.parametrize(
    ("text", "exit_status", "activities"),
    [
        ("", 0, 0),
        ("activity\nfoo\nactivity\n", 0, 2),
        ("activity\nfoo", 1, 1),
        ("foo\nexit\nactivity\n", 0, 0),
        ("# comment\n\n  activity  \n", 0, 1),
        ("x" * 5000 + "\nactivity\n", 0, 1),
    ],
)
def test_commands_are_read_from_standard_input(path, text, exit_status, activities):
    done = ntpc("-h", path, input=text)
    assert done.returncode == exit_status
    assert done.stdout.count("sources online") == activities


def test_a_full_disk_is_noticed(path):
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-c", RUN, "ntpc-fast", "-h", path, "activity"],
            stdout=full, stderr=subprocess.PIPE, text=True, check=False, timeout=20,
        )  # fmt: skip
    assert (done.returncode, done.stderr) == (1, "Could not write to stdout\n")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT])
def test_a_signal_ends_a_wait_and_leaves_no_socket_behind(path, number):
    with subprocess.Popen(
        [sys.executable, "-c", RUN, "ntpc-fast", "-h", path, "waitsync", "0", "0", "0", "30"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        assert process.stdout.readline().startswith("try: 1, ")
        process.send_signal(number)
        assert process.wait(10) == 1
        assert process.stderr is not None
        assert process.stderr.read() == ""
    assert os.listdir(os.path.dirname(path)) == ["sock"]


def test_a_reader_that_goes_away_ends_it(path):
    with subprocess.Popen(
        [sys.executable, "-c", RUN, "ntpc-fast", "-h", path, "-m", *["activity"] * 2000],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.wait(20) == 1
        assert process.stderr is not None
        assert process.stderr.read() == "Could not write to stdout\n"


def test_an_unknown_user_is_fatal(monkeypatch, capfd):
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert control.main(["-u", "nobody-of-this-name", "activity"]) == 1
    assert capfd.readouterr().err == "Could not get user/group ID of nobody-of-this-name\n"


class Terminal:
    """The program on a terminal of its own."""

    def __init__(self, path, *words, **environment):
        self.seen = b""
        self._unread = b""
        self._pid, self._terminal = pty.fork()
        if self._pid == 0:
            command = [sys.executable, "-c", RUN, "ntpc-fast", "-h", path, *words]
            os.execve(sys.executable, command, {**os.environ, **environment})

    def expect(self, wanted):
        while wanted not in self._unread:
            data = os.read(self._terminal, 1000)
            self.seen += data
            self._unread += data
        self._unread = self._unread.partition(wanted)[2]

    def type(self, text):
        os.write(self._terminal, text)

    def exit_status(self):
        status = os.waitstatus_to_exitcode(os.waitpid(self._pid, 0)[1])
        os.close(self._terminal)
        return status


def test_on_a_terminal_there_is_a_prompt_with_history(path, tmp_path):
    terminal = Terminal(path, TERM="dumb", XDG_STATE_HOME=str(tmp_path))
    for line, expected in ((b"activity\n", b"unknown address"), (b"exit\n", b"exit")):
        terminal.expect(b"ntpc-fast> ")
        terminal.type(line)
        terminal.expect(expected)
    assert terminal.exit_status() == 0
    assert terminal.seen.startswith(f"ntpd-fast version {__version__}\r\n".encode())
    assert (tmp_path / "ntpc-fast" / "history").read_text() == "activity\nexit\n"


def test_it_loads_only_what_it_needs(path):
    code = (
        "import sys; from ntpd_fast.cli.control import main; code = main(sys.argv[1:]);"
        "print(' '.join(sorted(sys.modules)), file=sys.stderr); sys.exit(code)"
    )
    done = subprocess.run(
        [sys.executable, "-S", "-c", code, "-n", "-h", path, "tracking"],
        capture_output=True, text=True, check=True, timeout=20, env={**os.environ, "PYTHONPATH": _root()},
    )  # fmt: skip
    loaded = set(done.stderr.split())
    assert loaded & FORBIDDEN == set()
    assert not any(name.startswith(("ntpd_fast.server", "ntpd_fast.client", "ntpd_fast.clock")) for name in loaded)


def test_it_starts_in_a_few_times_the_time_of_python_itself(path, tmp_path):
    """60 ms where Python alone takes 10, which is measured in the same way: processor time, best of several."""
    environment = {**os.environ, "PYTHONPATH": _root(), "PYTHONPYCACHEPREFIX": str(tmp_path)}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    bare_s = min(_cpu_s([sys.executable, "-c", "pass"], environment) for _ in range(7))
    command = [sys.executable, "-c", RUN, "ntpc-fast", "-n", "-h", path, "tracking"]
    started_s = min(_cpu_s(command, environment) for _ in range(7))
    assert started_s < 6 * bare_s


def _cpu_s(command, environment):
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL, timeout=20)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def _root():
    return os.path.dirname(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))


def test_nothing_waits_when_the_daemon_is_there(path):
    begin = time.monotonic()
    assert ntpc("-h", path, "activity").returncode == 0
    assert time.monotonic() - begin < 10


def test_top_draws_on_a_terminal_and_leaves_it_on_q(path):
    terminal = Terminal(path, "top", TERM="xterm", LINES="24", COLUMNS="100")
    terminal.expect(b"1 online  2 offline  5 unresolved")
    terminal.expect(b"The client list is not open to us")
    terminal.type(b"q")
    terminal.expect(b"\x1b[?1049l")  # back to the screen from before
    assert terminal.exit_status() == 0
