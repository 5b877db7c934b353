"""The sockets that NTP clients talk to: opened once, kept for the life of the daemon.

Each bound address has one group. Its first socket is control's own: bound WITHOUT SO_REUSEPORT, so that a port in use
is seen (also against a second instance of ours, or chronyd, which sets the option and would silently share), and given
the option afterwards, so that one socket for each worker can join. Rules:

- every socket of a group has the same owner, the service user: the kernel lets no other join;
- only the last socket of a group may be closed: the kernel moves the last one into the hole, and clients would change
  their workers;
- a group that workers serve always has the steering program, or packets spread by port;
- an option the kernel refuses is logged and done without, a socket that cannot be bound is an error of its address.

Sockets handed over by the service manager make a group without one of control's own.
"""

from __future__ import annotations

import contextlib
import logging
import os
import select
import socket
from collections.abc import Container, Iterable, Sequence
from typing import Final

from ntpd_fast._record import dataclass, field, replace
from ntpd_fast.server.steering import Steering
from ntpd_fast.system.errors import FatalError, why
from ntpd_fast.system.listen_fds import HandedOver, format_address
from ntpd_fast.system.privileges import User, files_as

log = logging.getLogger(__name__)

# What the kernel accounts for queued packets, headers included: some 1,360 requests, 5 ms at full load. That bridges
# most pauses of a virtual machine; larger buffers only make answers stale.
RECEIVE_BUFFER_BYTES: Final = 1024 * 1024

# linux/in.h, linux/in6.h, asm-generic/socket.h: what the socket module does not name
_IP_PKTINFO: Final = 8
_IP_MTU_DISCOVER: Final = 10
_IP_FREEBIND: Final = 15
_IPV6_MTU_DISCOVER: Final = 23
_IPV6_FREEBIND: Final = 78
_PMTUDISC_PROBE: Final = 3
_SO_RCVBUFFORCE: Final = 33
_SO_TIMESTAMPING: Final = 37
# linux/net_tstamp.h
_TIMESTAMPING_RX_SOFTWARE: Final = 1 << 3
_TIMESTAMPING_SOFTWARE: Final = 1 << 4
_LEFTOVERS_MAX: Final = 4096
_DISCARD_PORT: Final = 9
_LOOPBACK: Final = {socket.AF_INET: "127.0.0.1", socket.AF_INET6: "::1"}
_ANY: Final = {socket.AF_INET: "0.0.0.0", socket.AF_INET6: "::"}


@dataclass(frozen=True, slots=True)
class BindAddress:
    """Where a group listens. `address` is a literal of `family`, `port` 1..65535."""

    family: socket.AddressFamily
    address: str
    port: int
    ptp: bool = False
    """NTP over PTP is spoken here."""

    @property
    def version(self) -> int:
        """4 or 6."""
        return 4 if self.family == socket.AF_INET else 6

    @classmethod
    def any(cls, family: socket.AddressFamily, port: int) -> BindAddress:
        """Every address of the family."""
        return cls(family, _ANY[family], port)

    def __str__(self) -> str:
        return format_address(self.address, self.port)


@dataclass(frozen=True, slots=True)
class SocketOptions:
    """What the configuration says about NTP sockets. `dscp` 0..63; `device` as for SO_BINDTODEVICE."""

    dscp: int = 0
    device: str | None = None
    receive_buffer_bytes: int = RECEIVE_BUFFER_BYTES


@dataclass(slots=True)
class Group:
    """The sockets of one bound address; `workers[k]` is worker k's."""

    bind: BindAddress
    control: socket.socket | None
    workers: list[socket.socket] = field(default_factory=list)
    inherited: bool = False
    """From the service manager: once closed, not ours to open again."""

    @property
    def handed_over(self) -> bool:
        return self.control is None


class NtpSockets:
    """All groups of a daemon."""

    def __init__(self, groups: Sequence[Group], opener: _Opener, salts: tuple[int, int]) -> None:
        self.groups = list(groups)
        self._opener = opener
        self._salts = salts

    def for_control(self) -> list[socket.socket]:
        """Control's own: it sends from them, and with `workers 0` answers on them."""
        return [group.control for group in self.groups if group.control is not None and not group.bind.ptp]

    def for_control_ptp(self) -> list[socket.socket]:
        """The same of those that carry NTP over PTP."""
        return [group.control for group in self.groups if group.control is not None and group.bind.ptp]

    def for_worker(self, index: int) -> list[socket.socket]:
        """Those worker `index` answers on. An address handed over as fewer sockets has none for the last workers."""
        return [group.workers[index] for group in self.groups if index < len(group.workers)]

    @property
    def device(self) -> str | None:
        """The one interface that all sockets are bound to (`binddevice`)."""
        return self._opener.options.device

    def steering(self, group: Group) -> Steering | None:
        """How clients are steered to the workers of a group; None where there is nothing to steer."""
        if len(group.workers) < (2 if group.handed_over else 1):
            return None
        return Steering(self._salts, base=0 if group.handed_over else 1)

    @property
    def workers(self) -> int:
        """How many workers have a socket."""
        return max((len(group.workers) for group in self.groups), default=0)

    def extend(self, bind: BindAddress, workers: int) -> Group:
        """Open one more address while running, as the service user. Raises OSError, with nothing left open.

        Beside an address of ours with the same port it takes over at once what is sent to it. What reached control's
        socket before packets were steered past it is for a worker to answer (`Engine.empty`).
        """
        beside_ours = any(
            (group.bind.family, group.bind.port) == (bind.family, bind.port) and not group.handed_over
            for group in self.groups
        )
        if beside_ours:
            for group in self.groups:
                for member in _members(group):
                    member.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        group = self._opener.open_group(bind, workers, beside_ours=beside_ours)
        try:
            self._steer(group, workers)
        except OSError:
            _close(group)
            raise
        self.groups.append(group)
        return group

    def missing(self, wanted: Iterable[BindAddress]) -> list[BindAddress]:
        """Those of the wanted addresses that there are not yet, each once."""
        present = {group.bind for group in self.groups}
        return [bind for bind in dict.fromkeys(wanted) if bind not in present]

    def unwanted(self, wanted: Container[BindAddress]) -> list[Group]:
        """The groups of all other addresses."""
        return [group for group in self.groups if group.bind not in wanted]

    def open_all(self, wanted: Iterable[BindAddress], workers: int) -> list[Group]:
        """Open those of the wanted addresses that there are not yet. Raises OSError that names one, none opened."""
        opened: list[Group] = []
        for bind in self.missing(wanted):
            try:
                opened.append(self.extend(bind, workers))
            except OSError as error:
                for group in opened:
                    self.groups.remove(group)
                    _close(group)
                text = f"Could not open NTP socket on {bind} : {why(error)}"
                raise OSError(error.errno, text) from error
        return opened

    def is_free(self, bind: BindAddress) -> bool:
        """Whether an address could be opened: nobody has it, nor a process of ours that has yet to let it go."""
        try:
            _close(self._opener.open_group(bind, 0))
        except OSError:
            return False
        return True

    def forget_workers(self) -> None:
        """In a child that has closed the sockets of workers: never touch their numbers, which now mean other files."""
        for group in self.groups:
            for member in group.workers:
                member.detach()
            group.workers = []

    def take(self, bind: BindAddress) -> Group:
        """Take a group out, which is the caller's to `cut_off` and close. Raises KeyError."""
        for group in self.groups:
            if group.bind == bind:
                self.groups.remove(group)
                return group
        raise KeyError(bind)

    def set_dscp(self, dscp: int) -> None:
        """Mark what is sent from now on, on all sockets there are and will be."""
        for group in self.groups:
            for member in _members(group):
                self._opener.set_dscp(member, dscp)
        self._opener.options = replace(self._opener.options, dscp=dscp)

    def fill(self, workers: int) -> None:
        """Give each group sockets for `workers` workers; steered to by `steer_to`. Raises OSError."""
        for group in self.groups:
            if not group.handed_over:
                self._opener.fill(group, workers)

    def has_waiting(self, index: int) -> bool:
        """Whether requests wait for worker `index`."""
        poll = select.poll()
        for member in self.for_worker(index):
            poll.register(member, select.POLLIN)
        return any(events & select.POLLIN for _, events in poll.poll(0))

    def steer_to(self, workers: int) -> None:
        """Steer to the first `workers` only; the others get nothing new and may be drained. Raises OSError."""
        for group in self.groups:
            self._steer(group, workers)

    def _steer(self, group: Group, workers: int) -> None:
        count = len(group.workers) if group.handed_over else min(workers, len(group.workers))
        # One socket that nobody of ours shares has no group to attach a program to.
        if count > (1 if group.handed_over else 0):
            Steering(self._salts, base=0 if group.handed_over else 1).attach(group.workers[0], count)

    def drop_last(self) -> None:
        """Close the socket of the last worker of each group, after `steer_to` and draining."""
        for group in self.groups:
            if group.workers and not group.handed_over:
                group.workers.pop().close()

    def close(self) -> None:
        """Close everything, last joined first."""
        for group in self.groups:
            _close(group)
        self.groups = []


def _random_word() -> int:
    return int.from_bytes(os.urandom(4))


def open_sockets(
    wanted: Iterable[BindAddress],
    workers: int,
    options: SocketOptions,
    user: User | None = None,
    handed_over: HandedOver | None = None,
    salts: tuple[int, int] | None = None,
) -> NtpSockets:
    """Open one group for each wanted address, with sockets for `workers` workers (0: control answers).

    Raises FatalError when none of the wanted addresses can be opened; one that cannot beside others that can is
    logged. `user` will own the sockets. `salts` are two random 32-bit numbers (drawn when None).
    """
    opener = _Opener(options)
    opened = NtpSockets([], opener, salts or (_random_word(), _random_word()))
    failures: list[str] = []
    with files_as(user):
        for bind in wanted:
            taken = handed_over.take(bind.family, socket.SOCK_DGRAM, bind.address, bind.port) if handed_over else []
            try:
                group = opener.adopt(bind, taken, workers) if taken else opener.open_group(bind, workers)
            except OSError as error:
                failures.append(f"Could not open NTP socket on {bind} : {error.strerror or error}")
                continue
            opened.groups.append(group)
        if failures and not opened.groups:
            # One line for the admin: the second family failed for the same reason as a rule.
            raise FatalError(failures[0])
        for failure in failures:
            log.error("%s", failure)
        try:
            opened.steer_to(workers)
        except OSError as error:
            opened.close()
            raise FatalError(f"Could not steer NTP packets to workers : {error.strerror}") from error
    for group in opened.groups:
        _empty(group)
    return opened


class _Opener:
    """Makes sockets with the options of a configuration; says once what the kernel refuses."""

    def __init__(self, options: SocketOptions) -> None:
        self.options = options
        self._said: set[str] = set()

    def open_group(self, bind: BindAddress, workers: int, *, beside_ours: bool = False) -> Group:
        """Control's socket, then those that join it. Raises OSError, with nothing left open.

        `beside_ours`: the port is taken by ourselves, so there is nobody else to be seen.
        """
        group = Group(bind, self._new_socket(bind))
        assert group.control is not None
        try:
            if beside_ours:
                group.control.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            group.control.bind((bind.address, bind.port))
            self.fill(group, workers)
        except OSError:
            for member in [*reversed(group.workers), group.control]:
                member.close()
            raise
        return group

    def fill(self, group: Group, workers: int) -> None:
        """Let sockets join until there is one for each of `workers`. Raises OSError."""
        bind = group.bind
        assert group.control is not None
        if len(group.workers) < workers:
            group.control.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        while len(group.workers) < workers:
            joining = self._new_socket(bind)
            try:
                joining.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
                joining.bind((bind.address, bind.port))
            except OSError:
                joining.close()
                raise
            group.workers.append(joining)

    def adopt(self, bind: BindAddress, taken: list[socket.socket], workers: int) -> Group:
        """A group of sockets handed over: one becomes control's (`workers 0`), else N make N workers'."""
        for handed in taken:
            self._set_options(handed, bind.family)
        if workers == 0:
            if len(taken) > 1:
                # Whoever hands over sockets keeps them open: what would reach the others would be lost.
                Steering((0, 0), base=0).attach(taken[0], 1)
            for extra in taken[1:]:
                log.warning("Ignored socket handed over for %s : no workers", bind)
                extra.close()
            return Group(bind, taken[0], inherited=True)
        log.info("Using %d socket%s handed over for %s", len(taken), "s" if len(taken) > 1 else "", bind)
        return Group(bind, None, taken, inherited=True)

    def _new_socket(self, bind: BindAddress) -> socket.socket:
        opened = socket.socket(bind.family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        try:
            if bind.family == socket.AF_INET6:
                # Demanded, not wished: without it the socket takes the IPv4 port as well.
                opened.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            if self.options.device is not None:
                device = self.options.device.encode() + b"\0"
                opened.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, device)
            self._set_options(opened, bind.family)
        except OSError:
            opened.close()
            raise
        return opened

    def _set_options(self, opened: socket.socket, family: int) -> None:
        """The options we can do without: a refusal is logged."""
        ipv6 = family == socket.AF_INET6
        level = socket.IPPROTO_IPV6 if ipv6 else socket.IPPROTO_IP
        stamps = _TIMESTAMPING_RX_SOFTWARE | _TIMESTAMPING_SOFTWARE
        rows: list[tuple[str, int, int, int]] = [
            # the address that was asked is the one that answers
            ("PKTINFO", level, socket.IPV6_RECVPKTINFO if ipv6 else _IP_PKTINFO, 1),
            # an address that does not exist yet may be bound
            ("FREEBIND", level, _IPV6_FREEBIND if ipv6 else _IP_FREEBIND, 1),
            # answers are small: no path MTU discovery, and no IP-ID to be made for each
            ("MTU_DISCOVER", level, _IPV6_MTU_DISCOVER if ipv6 else _IP_MTU_DISCOVER, _PMTUDISC_PROBE),
            ("SO_TIMESTAMPING", socket.SOL_SOCKET, _SO_TIMESTAMPING, stamps),
            ("SO_BROADCAST", socket.SOL_SOCKET, socket.SO_BROADCAST, 1),
        ]
        for name, option_level, option, value in rows:
            try:
                opened.setsockopt(option_level, option, value)
            except OSError as error:
                self._say(f"Could not set {name} on NTP socket : {error.strerror}")
        if self.options.dscp:
            self.set_dscp(opened, self.options.dscp)
        self._set_receive_buffer(opened)

    def set_dscp(self, opened: socket.socket, dscp: int) -> None:
        ipv6 = opened.family == socket.AF_INET6
        level, option = (socket.IPPROTO_IPV6, socket.IPV6_TCLASS) if ipv6 else (socket.IPPROTO_IP, socket.IP_TOS)
        try:
            opened.setsockopt(level, option, dscp << 2)
        except OSError as error:
            self._say(f"Could not set DSCP on NTP socket : {error.strerror}")

    def _set_receive_buffer(self, opened: socket.socket) -> None:
        """The kernel doubles what is asked for, and allows no more than net.core.rmem_max without privilege."""
        wanted = self.options.receive_buffer_bytes
        asked = wanted // 2
        for option in (_SO_RCVBUFFORCE, socket.SO_RCVBUF):
            with contextlib.suppress(OSError):
                opened.setsockopt(socket.SOL_SOCKET, option, asked)
                break
        got = opened.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF)
        if got < wanted:
            self._say(
                f"Receive buffer of NTP sockets limited to {got} of {wanted} bytes (net.core.rmem_max is below {asked})"
            )

    def _say(self, text: str) -> None:
        if text not in self._said:
            self._said.add(text)
            log.warning("%s", text)


def group_of(control: socket.socket, ptpport: int) -> Group:
    """A group as control has it that was given its socket by the supervisor."""
    address, port = control.getsockname()[:2]
    return Group(BindAddress(socket.AddressFamily(control.family), address, port, ptp=0 < ptpport == port), control)


def cut_off(group: Group) -> None:
    """Let nothing new reach the sockets of a group; what waits in them can still be answered.

    A connected socket gets only what its one peer sends, and this one has none. Where the kernel refuses, requests
    that come between the last look and the closing are lost.
    """
    for member in _members(group):
        address = member.getsockname()[0]
        if address == _ANY[group.bind.family]:
            address = _LOOPBACK[group.bind.family]
        with contextlib.suppress(OSError):
            member.connect((address, _DISCARD_PORT))


def close_group(group: Group) -> None:
    """Close our copies; those of other processes stay open."""
    _close(group)


def _members(group: Group) -> list[socket.socket]:
    return [*([group.control] if group.control is not None else []), *group.workers]


def _close(group: Group) -> None:
    for member in reversed(_members(group)):
        member.close()


def _empty(group: Group) -> None:
    """Forget what reached control's socket in the moment before packets were steered past it."""
    if not group.workers or group.control is None:
        return
    # Bounded: a sender faster than this loop must not hold up the start.
    for _ in range(_LEFTOVERS_MAX):
        try:
            group.control.recv(1)
        except BlockingIOError:
            return
