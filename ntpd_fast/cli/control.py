"""ntpc-fast: the command line that shows and controls a daemon, chronyc's and ours.

Started through a link named `chronyc` it says it is chronyc and has chronyc's default sockets. The exit status is 0
when the last command succeeded.
"""

import os
import signal
import sys
from types import FrameType

from ntpd_fast import __version__
from ntpd_fast.monitor.paths import CHRONY_RUNTIME_DIRECTORY, RUNTIME_DIRECTORY, command_socket, group_socket

from .ntpc.connection import Connection, endpoints
from .ntpc.options import OptionError, Options, parse
from .ntpc.output import CsvOutput, JsonOutput, Output
from .ntpc.session import LINE_LENGTH_MAX, Session

PROGRAM = "ntpc-fast"
CHRONYC = "chronyc"
# Whose command line we are compatible with; scripts ask chronyc for it.
CHRONY_VERSION = "4.8"
FEATURES = "(+READLINE +SECHASH +IPV6 -DEBUG)"
LOOPBACK = ("127.0.0.1", "::1")
_QUIT_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGQUIT, signal.SIGHUP)


class _Interrupted(BaseException):
    """A signal asked to end."""


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise _Interrupted


def default_hosts(program: str) -> tuple[str, ...]:
    """Of our daemon with its own paths and with chrony's, the main socket and that of the monitoring group."""
    own = () if program == CHRONYC else (RUNTIME_DIRECTORY,)
    directories = (*own, CHRONY_RUNTIME_DIRECTORY)
    sockets = [command_socket(directory) for directory in directories]
    return (*(path for main in sockets for path in (main, group_socket(main))), *LOOPBACK)


def version_line(program: str) -> str:
    if program == CHRONYC:
        return f"{program} (chrony) version {CHRONY_VERSION} {FEATURES}"
    return f"{program} (ntpd-fast) version {__version__} {FEATURES}"


def main(arguments: list[str] | None = None) -> int:
    program = os.path.basename(sys.argv[0])
    if program != CHRONYC:
        program = PROGRAM
    hosts = default_hosts(program)
    output = Output()
    try:
        options = parse(sys.argv[1:] if arguments is None else arguments)
    except OptionError as error:
        output.error(f"{program}: {error}")
        _usage(output, program, hosts)
        return 1
    if options.version:
        output.text(version_line(program) + "\n")
        return 0 if output.flush() else 1
    if options.help:
        return 0 if _usage(output, program, hosts) else 1
    if not _drop_privileges(options.user, output):
        return 1
    if options.hosts is not None:
        hosts = tuple(options.hosts.split(","))
    return _run(options, program, hosts)


def _usage(output: Output, program: str, hosts: tuple[str, ...]) -> bool:
    from .ntpc.help import usage
    from .ntpc.options import PORT_DEFAULT

    output.text(usage(program, ",".join(hosts), PORT_DEFAULT, extended=program != CHRONYC))
    return output.flush()


def _drop_privileges(user: str, output: Output) -> bool:
    """To the user of -u, when started by root; root means to stay root."""
    if os.geteuid() != 0 or user == "root":
        return True
    import pwd

    try:
        entry = pwd.getpwnam(user)
    except KeyError:
        output.error(f"Could not get user/group ID of {user}")
        return False
    os.initgroups(user, entry.pw_gid)
    os.setgid(entry.pw_gid)
    os.setuid(entry.pw_uid)
    return True


def _output(options: Options, program: str) -> Output:
    if options.json:
        return JsonOutput(indent=2 if os.isatty(1) else None)
    if options.csv:
        return CsvOutput()
    automatic = program != CHRONYC and os.isatty(1) and "NO_COLOR" not in os.environ
    return Output(color=options.color == "always" or (options.color == "auto" and automatic))


def _run(options: Options, program: str, hosts: tuple[str, ...]) -> int:
    output = _output(options, program)
    connection = Connection(list(endpoints(hosts, options.port, options.family)))
    session = Session(connection, output, extended=program != CHRONYC)
    session.numeric = options.numeric
    session.source_names = options.source_names
    session.end_dots = options.end_dots
    session.family = options.family
    for number in _QUIT_SIGNALS:
        signal.signal(number, _interrupt)
    try:
        if not connection.open():
            output.error("Could not open connection to daemon")
            session.explain()
            return 1
        if options.words:
            succeeded = _run_arguments(session, options)
        else:
            succeeded = _run_input(session, program)
    except _Interrupted:
        output.flush()
        return 1
    finally:
        connection.close()
    return 0 if succeeded else 1


def _run_arguments(session: Session, options: Options) -> bool:
    if not options.multi:
        line = " ".join(options.words)
        if len(line) >= LINE_LENGTH_MAX:
            session.output.error("Command too long")
            return False
        return session.run_line(line)
    for line in options.words:
        if not session.run_line(line):
            return False
        if session.quit:
            break
    return True


def _run_input(session: Session, program: str) -> bool:
    from .ntpc.interactive import pieces, run_prompt

    if all(os.isatty(descriptor) for descriptor in (0, 1, 2)):
        name, version = ("chrony", CHRONY_VERSION) if program == CHRONYC else ("ntpd-fast", __version__)
        session.output.text(f"{name} version {version}\nCommand line of ntpd-fast, Apache-2.0; no warranty.\n\n")
        session.output.flush()
        return run_prompt(session, f"{program}> ")
    succeeded = True
    for line in sys.stdin:
        for piece in pieces(line.rstrip("\n")):
            succeeded = session.run_line(piece)
        if session.quit:
            break
    return succeeded


if __name__ == "__main__":
    sys.exit(main())
