"""A network namespace of the comparison's own: nothing else listens or sends there, and any address can be a
client.

Inside it an IPv6 prefix is routed to the machine itself (AnyIP), so one machine plays as many IPv6 clients
as it likes, and the receive queue of its loopback device can be told on which core received packets are
processed.
"""

import ctypes
import errno
import ipaddress
import os
import socket
from pathlib import Path

CLONE_NEWNS = 0x00020000
CLONE_NEWUSER = 0x10000000
CLONE_NEWNET = 0x40000000
MS_REC = 0x4000
MS_PRIVATE = 0x40000
RT_TABLE_LOCAL = 255

# Clients' addresses: unique local, invented.
IPV6_PREFIX = ipaddress.IPv6Network("fd6e:7470:6661::/48")


def _check(result: int, what: str) -> None:
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, f"{what}: {os.strerror(code)}")


def private_network() -> None:
    """Move the calling thread, and what it starts, into namespaces of its own (network and mounts) with
    loopback up.

    As an ordinary user also into a user namespace, where the machine allows that. PermissionError when it
    does not.
    """
    from pyroute2 import IPRoute

    libc = ctypes.CDLL(None, use_errno=True)
    user, group = os.geteuid(), os.getegid()
    flags = CLONE_NEWNET | CLONE_NEWNS | (CLONE_NEWUSER if user else 0)
    _check(libc.unshare(flags), "no network namespace")
    if user:
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"0 {user} 1")
        Path("/proc/self/gid_map").write_text(f"0 {group} 1")
    _check(libc.mount(b"none", b"/", None, MS_REC | MS_PRIVATE, None), "mounts stay shared")
    # sysfs shows the devices of the namespace it was mounted in
    _check(libc.mount(b"sysfs", b"/sys", b"sysfs", 0, None), "no sysfs for the namespace")
    with IPRoute() as route:
        (loopback,) = route.link_lookup(ifname="lo")
        route.link("set", index=loopback, state="up")
        route.route(
            "add",
            dst=str(IPV6_PREFIX),
            family=socket.AF_INET6,
            oif=loopback,
            type="local",
            table=RT_TABLE_LOCAL,
        )


def steer_receive_processing(core: int | None) -> None:
    """Process what loopback receives on `core`; None: where it was sent, as is the default."""
    mask = 0 if core is None else 1 << core
    Path("/sys/class/net/lo/queues/rx-0/rps_cpus").write_text(f"{mask:x}")


def free_port(kind: socket.SocketKind = socket.SOCK_DGRAM) -> int:
    """A port nobody uses on loopback now, for IPv4 and (where there is one) IPv6."""
    for _ in range(100):
        with socket.socket(socket.AF_INET, kind) as first:
            first.bind(("127.0.0.1", 0))
            port: int = first.getsockname()[1]
            try:
                with socket.socket(socket.AF_INET6, kind) as second:
                    second.bind(("::1", port))
            except OSError as error:
                if error.errno == errno.EADDRINUSE:
                    continue
            return port
    raise OSError(errno.EADDRINUSE, "no free port")
