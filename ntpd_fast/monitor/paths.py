"""Where the command sockets are: one place for the daemon, which opens them, and ntpc-fast, which looks for them."""

import os

CHRONY_RUNTIME_DIRECTORY = "/run/chrony"
RUNTIME_DIRECTORY = "/run/ntpd-fast"
# The name every tool around chrony looks for, in either directory.
SOCKET_NAME = "chronyd.sock"
_GROUP_SUFFIX = "-monitor"


def command_socket(runtime_directory: str) -> str:
    """The Unix socket that takes every command."""
    return os.path.join(runtime_directory, SOCKET_NAME)


def group_socket(socket_path: str) -> str:
    """The socket of the monitoring group, in a directory of its own beside that of the command socket."""
    directory, name = os.path.split(socket_path)
    return os.path.join(directory + _GROUP_SUFFIX, name)
