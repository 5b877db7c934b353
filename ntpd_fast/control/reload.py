"""Reading the configuration again while the daemon runs: what both the supervisor and control know of it.

A reload reads everything, checks it whole, and only then changes anything. It is read where waiting for files and
names holds nobody up: in a throw-away child of the supervisor, or, with a single process, in a thread. What cannot
change without a new start keeps running as it was and is named every time it is asked for (`split`).
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Mapping

from ntpd_fast._record import dataclass, fields, replace
from ntpd_fast.config import Config, ConfigError
from ntpd_fast.config.diff import compare
from ntpd_fast.config.directives import DIRECTIVES, Reload
from ntpd_fast.config.keyfile import SymmetricKey, read_keyfile
from ntpd_fast.control.plan import Plan, make_plan, worker_count
from ntpd_fast.control.runoptions import RunOptions
from ntpd_fast.server.sockets import BindAddress
from ntpd_fast.system.errors import FatalError, to_whom, why
from ntpd_fast.system.messages import Log, Severity


@dataclass(frozen=True, slots=True)
class Reading:
    """What was read, and found to be good. `keys`: None where those that there are stay."""

    config: Config
    plan: Plan
    keys: Mapping[int, SymmetricKey] | None


@dataclass(frozen=True, slots=True)
class Reader:
    """How the configuration is read: `read` as at the start (raises ConfigError), `run` from the command line."""

    read: Callable[[], Config]
    run: RunOptions

    def __call__(self, running_config: Config, log: Log) -> Reading | str:
        """Everything, checked as far as it can be without touching what runs; or why it cannot be used.

        Keys and certificates were read with root's rights at the start. When those that run now cannot read them they
        stay as they are; only files that are new in the configuration have to be readable.
        """
        try:
            config = self.read()
            plan = make_plan(config, self.run, cpus=cpus())
            if plan.nts is not None:
                _check_certificates(config, running_config)
            return Reading(config, plan, _read_keys(config, running_config, log))
        except (ConfigError, FatalError) as error:
            return f"{error}{to_whom(error.__cause__)}"


def _read_keys(config: Config, running_config: Config, log: Log) -> Mapping[int, SymmetricKey] | None:
    if config.keyfile is None:
        return {}
    keyfile = read_keyfile(config.keyfile)
    if keyfile.refused is not None:
        problem = f"Could not open keyfile {config.keyfile} : {why(keyfile.refused)}"
        if config.keyfile != running_config.keyfile:
            raise FatalError(problem)
        log(Severity.WARNING, f"{problem}, its keys stay as they are")
        return None
    for warning in keyfile.warnings:
        log(Severity.WARNING, warning)
    return keyfile.keys


def _check_certificates(config: Config, running_config: Config) -> None:
    # in memory where there is an NTS server: a daemon without one does without it
    from ntpd_fast._tls import TlsError
    from ntpd_fast.server.ntske_certificates import CertificateError, CertificateStore

    pairs = list(zip(config.ntsservercerts, config.ntsserverkeys, strict=True))
    if pairs == list(zip(running_config.ntsservercerts, running_config.ntsserverkeys, strict=True)):
        # whoever uses them looks at the files, and keeps what it has when it cannot read them
        return
    try:
        CertificateStore(pairs, lambda severity, text: None).load(time.time())
    except (CertificateError, TlsError) as error:
        raise FatalError(f"Could not load NTS server certificates : {error}") from error


def cpus() -> int:
    """How many CPUs this process may use."""
    return len(os.sched_getaffinity(0))


def store(reading: Reading | str, descriptor: int) -> None:
    """Write what was read to an empty file in memory that another process of the daemon has as well."""
    import pickle  # in memory, whoever reloads (`commanding`)

    with open(descriptor, "wb", closefd=False) as file:
        pickle.dump(reading, file)


def load(descriptor: int) -> Reading | str:
    """What `store` wrote; the file comes from a process of our own and from nobody else."""
    import pickle

    os.lseek(descriptor, 0, os.SEEK_SET)
    with open(descriptor, "rb", closefd=False) as file:
        found: Reading | str = pickle.load(file)
    return found


@dataclass(frozen=True, slots=True)
class Running:
    """What cannot change while the daemon runs, as far as a reload has to know it.

    `workers`: now; `workers_max`: for how many there is shared memory (0: one process does everything).
    `fixed_workers`: each has a socket that the service manager handed over. `ke_binds`: where NTS-KE listens, None
    where it was not started. `may_write_in`: whether files may be kept in a directory.
    """

    workers: int
    workers_max: int
    fixed_workers: bool
    ke_binds: tuple[BindAddress, ...] | None
    may_write_in: Callable[[str], bool]


@dataclass(frozen=True, slots=True)
class Change:
    """`config`: what runs from now on, the new one but for what needs a restart; `needs_restart` names that."""

    config: Config
    workers: int
    needs_restart: tuple[str, ...]


NTS_SERVER = frozenset({"ntsservercerts", "ntsserverkeys"})
KEY_EXCHANGE = NTS_SERVER | {"ntsaeads", "maxntsconnections", "ntsntpserver", "ntsratelimit", "port"}
"""What processes of key exchange learn when they start."""
_RESTART = frozenset(name for row in DIRECTIVES.values() if row.reload is Reload.RESTART for name in row.fields)


def _directories(config: Config) -> dict[str, str]:
    """Where files of the daemon are to be kept, by the field of the configuration that says it."""
    found = {"dumpdir": config.dumpdir, "logdir": config.logdir, "ntsdumpdir": config.ntsdumpdir}
    if config.driftfile is not None:
        found["driftfile"] = os.path.dirname(config.driftfile.path) or "."
    return {name: directory for name, directory in found.items() if directory is not None}


def _addresses(binds: Iterable[BindAddress]) -> set[str]:
    return {bind.address for bind in binds}


def split(running_config: Config, reading: Reading, running: Running, run: RunOptions) -> Change:
    """Tell what can change at once from what cannot."""
    changes = compare(running_config, reading.config)
    kept = set(_RESTART)
    named = list(changes.needing(Reload.RESTART))
    nts = reading.plan.nts
    if (nts is None) != (running.ke_binds is None) and changes.fields & (NTS_SERVER | {"port"}):
        kept |= NTS_SERVER
        named.append("ntsservercert and ntsserverkey (to begin or end key exchange)")
    if nts is not None and running.ke_binds is not None and _addresses(nts.binds) != _addresses(running.ke_binds):
        named.append("bindaddress (of key exchange)")
    if running_config.mailonchange is None and "mailonchange" in changes.fields:
        # the daemon was started without the right to run a program with rights of its own, as mailers have
        kept.add("mailonchange")
        named.append("mailonchange")
    for field_name, directory in _directories(reading.config).items():
        if field_name in changes.fields and not running.may_write_in(directory):
            kept.add(field_name)
            named.append(f"{field_name} (outside of what -F leaves)")
    workers = running.workers
    wanted = worker_count(reading.config, run, cpus=cpus(), serves=True)
    if wanted != running.workers:
        if running.workers_max == 0 or wanted == 0 or running.fixed_workers:
            # one process that was only a client until now need not be told what its line does not say
            if "workers" in changes.fields:
                kept.add("workers")
                named.append("workers")
        elif wanted > running.workers_max:
            workers = running.workers_max
            named.append(f"workers (beyond {running.workers_max})")
        else:
            workers = wanted
    old = {field.name: getattr(running_config, field.name) for field in fields(Config) if field.name in kept}
    return Change(replace(reading.config, **old), workers, tuple(dict.fromkeys(named)))
