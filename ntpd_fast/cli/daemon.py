"""The daemon's entry: options, configuration, going into the background, and then one process or several.

The order is the one admins know from chronyd: options, superuser, background, log, first line, configuration, pid file,
user, sockets, dropping of rights. Whatever goes wrong on the way is one line, exit status 1, and nothing left behind.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import sys
from collections.abc import Sequence
from typing import Final

from ntpd_fast import __version__
from ntpd_fast.cli.identity import Identity, identify
from ntpd_fast.cli.options import BadArgument, Mode, Options, UsageError, parse, usage
from ntpd_fast.clock.reference import ReferenceMode
from ntpd_fast.config import (
    Config,
    ConfigError,
    check_start,
    check_support,
    load,
    parse_lines,
    system_resolver,
)
from ntpd_fast.config.keyfile import access_warnings
from ntpd_fast.config.printer import print_file, print_lines
from ntpd_fast.config.start import user_exists
from ntpd_fast.control.confinement import make_sandbox
from ntpd_fast.control.main import load_rest, run_control
from ntpd_fast.control.overseer import ServiceManagerLink
from ntpd_fast.control.processes import kept_capabilities, make_slots
from ntpd_fast.control.reload import Reader
from ntpd_fast.control.runoptions import RunOptions
from ntpd_fast.control.setup import Setup, open_setup
from ntpd_fast.server.child import EXIT_BUG
from ntpd_fast.server.selfcheck import SelfCheck
from ntpd_fast.server.supervisor import HELD_SIGNALS, Supervisor
from ntpd_fast.system import log as daemon_log
from ntpd_fast.system import privileges
from ntpd_fast.system.background import Starter, to_background
from ntpd_fast.system.errors import FatalError
from ntpd_fast.system.features import feature_list
from ntpd_fast.system.listen_fds import HandedOver
from ntpd_fast.system.notify import Notifier
from ntpd_fast.system.pidfile import PidFile
from ntpd_fast.system.privileges import Capability, User, find_user
from ntpd_fast.system.syscalls import Kind

log = logging.getLogger(__name__)

_MODES: Final = {
    Mode.NORMAL: ReferenceMode.NORMAL,
    Mode.SET_ONCE: ReferenceMode.UPDATE_ONCE,
    Mode.PRINT_ONCE: ReferenceMode.PRINT_ONCE,
}
_WARNING: Final = 1


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the daemon; its exit status."""
    program = sys.argv[0] if sys.argv else ""
    name = identify(program).name
    try:
        options = parse(sys.argv[1:] if arguments is None else arguments)
    except UsageError as error:
        sys.stderr.write(f"{name}: {error}\n")
        sys.stdout.write(usage(name))
        return 1
    except BadArgument as error:
        sys.stderr.write(f"Fatal error : {error}\n")
        return 1
    identity = identify(program, options.config_file)
    if options.help:
        sys.stdout.write(usage(name))
        return 0
    if options.version:
        sys.stdout.write(f"{name} (ntpd_fast) version {__version__} ({feature_list()})\n")
        return 0
    if options.print_config:
        return _print_config(identity, options)
    return _start(identity, options)


def _print_config(identity: Identity, options: Options) -> int:
    """`-p`: a line that is wrong is shown before it is complained about."""
    daemon_log.set_up(identity.name, to_stderr=True, level=max(options.log_level, _WARNING))
    out = sys.stdout.buffer
    try:
        if options.directives:
            config = print_lines(options.directives, out, strict=options.strict)
        else:
            config = print_file(identity.config_file, out, strict=options.strict)
    except ConfigError as error:
        out.flush()
        log.critical("%s", error)
        return 1
    out.flush()
    for warning in config.warnings:
        log.warning("%s", warning)
    return 0


def _start(identity: Identity, options: Options) -> int:
    """Go into the background, open the log, run; tell whoever started us what became of it."""
    level = -1 if options.debug else options.log_level
    handler = daemon_log.set_up(identity.name, to_stderr=True, level=level)
    starter = Starter(options.ready_descriptor or -1)
    try:
        if options.check_superuser and options.mode is not Mode.PRINT_ONCE and os.geteuid() != 0:
            raise FatalError("Not superuser")
        if options.background:
            starter = to_background()
        if options.log_file is not None or not options.log_to_stderr:
            handler = _open_log(identity.name, options, level)
        with contextlib.ExitStack() as undo:
            status = _run(identity, options, starter, undo)
            log.info("%s exiting", identity.name)
        return status
    except (FatalError, ConfigError) as error:
        log.critical("%s", error)
        if not isinstance(handler, logging.StreamHandler):
            sys.stderr.write(f"Fatal error : {error}\n")
        starter.failed(str(error))
        return 1
    except Exception:
        # A bug of ours; in the background nobody would see where.
        log.exception("Unexpected error")
        starter.failed("Unexpected error, the log has more")
        return EXIT_BUG


def _open_log(name: str, options: Options, level: int) -> logging.Handler:
    try:
        return daemon_log.set_up(name, to_stderr=options.log_to_stderr, file=options.log_file, level=level)
    except OSError as error:
        raise FatalError(f"Could not open {options.log_file} : {error.strerror}") from error


def _run(identity: Identity, options: Options, starter: Starter, undo: contextlib.ExitStack) -> int:
    """From the first line of the log to the end. Raises FatalError, ConfigError; `undo` removes what was made."""
    notifier = Notifier()
    log.info("%s version %s starting (%s)", identity.name, __version__, feature_list())
    config = _read_config(identity, options)
    user = _choose_user(identity, options, config)
    # A signal from here on must not leave anything behind: it waits until somebody listens.
    signal.pthread_sigmask(signal.SIG_BLOCK, HELD_SIGNALS)
    _make_pidfile(identity, options, config, user, undo)
    reader = Reader(lambda: _read_config(identity, options), _run_options(identity, options, config))
    setup = open_setup(config, reader, user, HandedOver.from_environment())
    undo.callback(setup.close)
    pidfile = identity.pidfile if config.pidfile is None else config.pidfile
    setup.sandbox = make_sandbox(config, reader.run, options.filter_level, (pidfile, options.log_file))
    _give_up_rights(setup)
    check = SelfCheck(setup.ntp_sockets, setup.shared.control.probe) if notifier.listens else None
    if setup.workers == 0 and setup.ke_processes == 0:
        return run_control(setup, ServiceManagerLink(notifier, starter.ready, check))
    slots, renewal = make_slots(setup, notifier.watchdog_interval_s)
    supervisor = Supervisor(
        slots,
        notifier,
        on_ready=starter.ready,
        on_idle=_load_for_successors,
        on_families=renewal.families_script,
        on_reload=renewal.script,
        check=check,
    )
    status = supervisor.run()
    if supervisor.failure is not None:
        raise FatalError(supervisor.failure)
    return status


def _read_config(identity: Identity, options: Options) -> Config:
    """Read and check the configuration; what it wants to be told is in the log."""
    resolver = system_resolver(options.family)
    if options.directives:
        config = parse_lines(options.directives, resolver=resolver)
    else:
        config = load(identity.config_file, resolver=resolver)
    check_start(config, user=options.user, sched_priority=options.priority, filter_level=options.filter_level)
    for warning in (*config.warnings, *check_support(config)):
        log.warning("%s", warning)
    if options.set_from_rtc and os.path.exists(config.rtcdevice):
        log.warning("Setting the clock from the RTC (-s) has no effect yet, only the drift file is used")
    return config


def _run_options(identity: Identity, options: Options, config: Config) -> RunOptions:
    return RunOptions(
        program=identity.name,
        command_socket=identity.command_socket,
        single_process=options.single_process,
        mode=_MODES[options.mode],
        control_clock=options.control_clock and config.kernelclock is None,
        restarted=options.restarted,
        reload_dumps=options.reload_dumps,
        set_from_rtc=options.set_from_rtc,
        timeout_s=options.timeout_s,
        family=options.family,
        lock_memory=options.lock_memory or config.lock_all,
        priority=config.sched_priority if options.priority is None else options.priority,
    )


def _choose_user(identity: Identity, options: Options, config: Config) -> User:
    """Whom to run as: -u, `user`, or the service user where there is one; ourselves when we may not choose."""
    wanted = options.user or config.user
    if wanted is None:
        wanted = next((name for name in identity.users if user_exists(name)), None)
    ourselves = User("", os.geteuid(), os.getegid())
    if wanted is None:
        return ourselves
    user = find_user(wanted)
    if ourselves.uid in (0, user.uid):
        return user
    if options.user or config.user:
        log.warning("Could not change to user %s : not superuser", wanted)
    return ourselves


def _make_pidfile(identity: Identity, options: Options, config: Config, user: User, undo: contextlib.ExitStack) -> None:
    """Write the pid file, in a directory made for it where the default one is missing."""
    path = config.pidfile
    if path is None:
        path = "" if options.mode is Mode.PRINT_ONCE else identity.pidfile
    if not path:
        return
    if path == identity.pidfile:
        _make_directory(os.path.dirname(path), user)
    pidfile = PidFile.create(path, identity.name)

    def remove() -> None:
        try:
            pidfile.remove()
        except OSError as error:
            log.warning("Could not remove %s : %s", path, error.strerror)

    undo.callback(remove)


def _make_directory(path: str, user: User) -> None:
    """The run directory, as the command socket in it wants it: the service user's, and closed to others."""
    try:
        os.mkdir(path, 0o770)
        if os.geteuid() == 0:
            os.chown(path, user.uid, user.gid)
    except FileExistsError:
        return
    except OSError as error:
        raise FatalError(f"Could not create {path} : {error.strerror}") from error


def _load_for_successors() -> None:
    """What a control that is started again needs in memory. Without descriptors or memory it has to read it itself."""
    try:
        load_rest()
    except (ImportError, OSError, MemoryError) as error:
        log.warning("Could not load what a restarted control needs : %s", error)


def _may_load_later(user: User) -> bool:
    """Whether the service user can read Python's modules, ours and those of others: not where they lie in somebody's
    home."""
    directories = [path for path in sys.path if os.path.isdir(path)]
    return privileges.may_read(user, [os.__file__, __file__, *directories])


def _give_up_rights(setup: Setup) -> None:
    """Become the service user, with the few capabilities that are needed later, and close ourselves in.

    Raises FatalError.
    """
    setup.sandbox.prepare()
    if not _may_load_later(setup.user):
        load_rest()
    try:
        if setup.run.lock_memory:
            privileges.raise_memory_lock_limit()
        if setup.run.priority:
            privileges.set_realtime_priority(setup.run.priority)
        privileges.drop_to(setup.user, kept_capabilities(setup))
        if setup.config.mailonchange is None:
            # sendmail runs with the rights of its own group
            privileges.forbid_new_privileges()
    except OSError as error:
        raise FatalError(f"Could not give up rights : {error.strerror}") from error
    if os.geteuid() == 0:
        log.warning("Running with root privileges")
    elif setup.config.keyfile is not None:
        for warning in access_warnings(setup.config.keyfile):
            log.warning("%s", warning)
    if setup.run.control_clock and not privileges.has_capability(Capability.SYS_TIME):
        log.warning("CAP_SYS_TIME not present")
    setup.sandbox.close_in(Kind.SUPERVISOR)
    setup.sandbox.announce()


if __name__ == "__main__":
    sys.exit(main())
