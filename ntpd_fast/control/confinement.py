"""What of the file system each kind of process needs, from a configuration: the paths of the sandbox."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from ntpd_fast.config.model import Config
from ntpd_fast.control.runoptions import RunOptions
from ntpd_fast.system.sandbox import Paths, Sandbox, directories_of
from ntpd_fast.system.syscalls import Kind

# The TLS library looks at its system-wide policy whenever certificates are loaded.
_TLS_POLICY: Final = ("/etc/gnutls", "/etc/crypto-policies", "/usr/share/crypto-policies", "/proc/sys/crypto")


def make_sandbox(config: Config, run: RunOptions, level: int, own_files: Sequence[str | None]) -> Sandbox:
    """The sandbox of a daemon that runs so; `own_files`: what it writes beside what the configuration names.

    Supervisor and control read everything their user may, and write only where the daemon's files are, which are
    replaced as a whole. A worker keeps nothing; key exchange, the certificates it loads again.
    """
    socket_path = run.command_socket if config.bindcmdaddress_path is None else config.bindcmdaddress_path
    directories = [name for name in (config.dumpdir, config.logdir, config.ntsdumpdir) if name is not None]
    files = [
        socket_path,
        config.driftfile.path if config.driftfile is not None else None,
        config.rtcfile,
        *(clock.parameter for clock in config.refclocks if clock.driver == "SOCK"),
        *own_files,
    ]
    daemon = Paths(readable=("/",), writable=(*directories, *directories_of(*files)), devices=("/dev",))
    certificates = directories_of(*config.ntsservercerts, *config.ntsserverkeys)
    return Sandbox(
        level,
        {
            Kind.SUPERVISOR: daemon,
            Kind.CONTROL: daemon,
            Kind.NTS_KE: Paths(readable=(*certificates, *_TLS_POLICY)),
        },
    )
