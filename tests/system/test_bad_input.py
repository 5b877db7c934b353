"""What goes wrong at the start: one clear line, exit status 1, and nothing left behind."""

import os
import pwd
import socket

import pytest

from tests.interop.chronyd import running as running_chronyd
from tests.netns import in_network_namespace, ip
from tests.system.harness import PROGRAM, Daemon, open_to_others

SERVE = ("local stratum 7", "allow")
# without a right to read everything and to bind low ports
AS_ORDINARY_USER = ["setpriv", "--bounding-set", "-all", "--reuid", "65534", *PROGRAM]
WORKERS = pytest.mark.parametrize("workers", [0, 2])
AS_ROOT = pytest.mark.skipif(os.getuid() != 0, reason="an ordinary user has no rights to lose")


def complaint(daemon: Daemon) -> str:
    """Run a daemon that must not start; what it complained of."""
    before = daemon.left_behind()
    done = daemon.run()
    assert done.returncode == 1
    assert done.stdout == ""
    fatal = [text for text in done.texts if text.startswith("Fatal error : ")]
    assert len(fatal) == 1, done.stderr
    # the reason is the last word, and the only complaint
    assert done.texts[-1] == fatal[0]
    assert not any("Traceback" in text or "Could not" in text for text in done.texts[:-1]), done.stderr
    assert daemon.left_behind() == before
    return fatal[0].removeprefix("Fatal error : ")


@pytest.mark.parametrize(
    ("line", "text"),
    [
        ("nonsense", "Invalid directive nonsense"),
        ("allow 1.2.3.4 5", "Could not parse allow directive"),
        ("port 65536", "Invalid value 65536 in port directive (min 0, max 65535)"),
        ("local stratum x", "Invalid value in local directive"),
    ],
)
def test_bad_line_is_named(make_daemon, line, text):
    daemon = make_daemon(*SERVE, line)
    assert complaint(daemon) == f"{text} at line 7 in file {daemon.config}"


def test_bad_directive_on_the_command_line_is_counted(make_daemon):
    daemon = make_daemon(*SERVE)
    position = daemon.arguments.index("-f")
    daemon.arguments[position:] = ["local", "nonsense"]
    assert complaint(daemon) == "Invalid directive nonsense at line 2"


def test_missing_configuration(make_daemon):
    daemon = make_daemon(*SERVE)
    daemon.config.unlink()
    assert complaint(daemon) == f"Could not open {daemon.config} : No such file or directory"


def test_configuration_that_is_no_file(make_daemon):
    daemon = make_daemon(*SERVE)
    daemon.config.unlink()
    daemon.config.mkdir()
    assert complaint(daemon) == f"Could not open {daemon.config} : Is a directory"


@AS_ROOT
def test_configuration_that_may_not_be_read(make_daemon):
    """Root may read everything, so the daemon is one without that right."""
    daemon = make_daemon(*SERVE, launcher=AS_ORDINARY_USER)
    daemon.arguments.insert(0, "-U")
    open_to_others(daemon.run_directory)
    daemon.config.chmod(0o600)
    assert complaint(daemon) == f"Could not open {daemon.config} : Permission denied"


@WORKERS
def test_port_in_use_by_a_second_instance(make_daemon, workers):
    first = make_daemon(*SERVE, f"workers {workers}").start()
    second = make_daemon(*SERVE, f"workers {workers}", port=first.port)
    text = f"Could not open NTP socket on 0.0.0.0:{first.port} : Address already in use"
    assert complaint(second) == text
    assert first.ask() is not None
    first.stop()


def test_port_in_use_by_chronyd(make_daemon, tmp_path):
    with running_chronyd(tmp_path, "allow", "local") as chronyd:
        daemon = make_daemon(*SERVE, "workers 2", port=chronyd.port)
        text = f"Could not open NTP socket on 0.0.0.0:{chronyd.port} : Address already in use"
        assert complaint(daemon) == text


def test_second_instance_with_the_same_pidfile(make_daemon):
    first = make_daemon(*SERVE).start()
    second = make_daemon(*SERVE, f"pidfile {first.pidfile}")
    text = f"Another ntpd-fast may already be running (pid={first.pid}), check {first.pidfile}"
    assert complaint(second) == text
    assert first.pidfile.exists()
    first.stop()


@WORKERS
def test_missing_ipv6_is_a_log_line(make_daemon, workers):
    daemon = make_daemon(*SERVE, f"workers {workers}")
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as other:
        other.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        other.bind(("::", daemon.port))
        daemon.start()
        assert daemon.ask() is not None
        assert f"Could not open NTP socket on [::]:{daemon.port} : Address already in use" in daemon.log_texts()
        daemon.stop()


def test_kernel_without_ipv6(make_daemon):
    def serve_there() -> tuple[bool, list[str]]:
        with open("/proc/sys/net/ipv6/conf/all/disable_ipv6", "w") as file:
            file.write("1\n")
        ip("link", "set", "lo", "up")
        daemon = make_daemon(*SERVE, "bindaddress 2001:db8::1", "workers 1", port=123)
        daemon.start()
        answered = daemon.ask() is not None
        daemon.stop()
        return answered, daemon.log_texts()

    answered, texts = in_network_namespace(serve_there)
    assert answered
    assert not any("Traceback" in text for text in texts)


@pytest.mark.parametrize("line", ["pidfile DIR/missing/x.pid", "pidfile DIR"])
def test_pidfile_that_cannot_be(make_daemon, line):
    daemon = make_daemon(*SERVE)
    line = line.replace("DIR", str(daemon.directory))
    with open(daemon.config, "a") as file:
        file.write(f"{line}\n")
    path = line.split()[1]
    reason = "No such file or directory" if "missing" in line else "not a regular file"
    assert complaint(daemon) == f"Could not open {path} : {reason}"


def test_symbolic_link_in_place_of_the_pidfile(make_daemon, tmp_path):
    daemon = make_daemon(*SERVE)
    victim = tmp_path / "victim"
    victim.write_text("precious")
    daemon.pidfile.symlink_to(victim)
    assert complaint(daemon) == f"Could not open {daemon.pidfile} : Too many levels of symbolic links"
    assert victim.read_text() == "precious"


def test_log_file_that_cannot_be(make_daemon):
    daemon = make_daemon(*SERVE, options=("-n", "-l", "/nonexistent/daemon.log"))
    assert complaint(daemon) == "Could not open /nonexistent/daemon.log : No such file or directory"


def test_unknown_user(make_daemon):
    daemon = make_daemon(*SERVE)
    daemon.arguments += ["-u", "no-such-user"]
    assert complaint(daemon) == "Could not get user/group ID of no-such-user"


@AS_ROOT
def test_ordinary_user_is_told_at_once(make_daemon):
    daemon = make_daemon(*SERVE, launcher=AS_ORDINARY_USER)
    daemon.arguments.remove("-u")
    daemon.arguments.remove("root")
    open_to_others(daemon.run_directory)
    assert complaint(daemon) == "Not superuser"


def test_command_socket_in_a_wrong_directory_is_disabled_not_fatal(make_daemon):
    daemon = make_daemon(*SERVE)
    daemon.run_directory.chmod(0o777)
    daemon.start()
    assert f"Disabled command socket {daemon.command_socket}" in daemon.log_texts()
    assert daemon.ask() is not None
    daemon.stop()


@AS_ROOT
@pytest.mark.parametrize("level", ["0", "2"])
def test_state_directories_of_others_are_told_not_fatal(make_daemon, tmp_path, level):
    """Root's directories for a service user: what cannot be kept is named, and service goes on."""
    directory = tmp_path / "root's"
    directory.mkdir(mode=0o700)
    daemon = make_daemon(
        "local stratum 7",
        "allow",
        f"driftfile {directory}/drift",
        f"dumpdir {directory}",
        f"logdir {directory}",
        "log tracking",
        options=("-d", "-F", level),
        user="nobody",
    )
    open_to_others(daemon.directory)
    nobody = pwd.getpwnam("nobody")
    for name in (daemon.run_directory, daemon.directory):
        os.chown(name, nobody.pw_uid, nobody.pw_gid)
    daemon.start()
    assert daemon.ask() is not None
    assert daemon.stop() == 0
    texts = daemon.log_texts()
    for refused in (f"Could not open {directory}/tracking.log", f"Could not open {directory}/drift"):
        assert f"{refused} : Permission denied (as user nobody)" in texts, texts
    assert not any("Traceback" in text for text in texts)
    assert list(directory.iterdir()) == []


@pytest.mark.parametrize(
    "options", [("-F", "3"), ("-P", "100"), ("-P", "-1")], ids=["filter level", "priority", "negative priority"]
)
def test_options_out_of_range(make_daemon, options):
    daemon = make_daemon(*SERVE)
    daemon.arguments += options
    expected = "Unsupported filter level" if options[0] == "-F" else f"Bad scheduler priority: {options[1]}"
    assert complaint(daemon) == expected


def test_environment_full_of_junk(make_daemon):
    junk = {
        "LISTEN_FDS": "junk",
        "LISTEN_PID": "-1",
        "NOTIFY_SOCKET": "/nonexistent/socket",
        "WATCHDOG_USEC": "nan",
        "SOURCE_DATE_EPOCH": "yesterday",
        "TZ": ":/nonexistent",
        "LC_ALL": "xx_XX",
        "PYTHONWARNINGS": "junk",
    }
    daemon = make_daemon(*SERVE, "workers 1", environment=junk).start()
    assert daemon.ask() is not None
    assert daemon.stop() == 0
    assert daemon.left_behind() == []


def test_port_that_needs_a_right_we_do_not_have(make_daemon):
    def start_there() -> str:
        daemon = make_daemon(*SERVE, launcher=AS_ORDINARY_USER, port=123)
        with open("/proc/sys/net/ipv4/ip_unprivileged_port_start", "w") as file:
            file.write("1024\n")
        position = daemon.arguments.index("-u")
        daemon.arguments[position : position + 2] = ["-U"]
        open_to_others(daemon.run_directory)
        daemon.directory.chmod(0o777)
        return complaint(daemon)

    assert in_network_namespace(start_there) == "Could not open NTP socket on 0.0.0.0:123 : Permission denied"
