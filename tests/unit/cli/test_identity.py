"""Names and default paths."""

import pytest

from ntpd_fast.cli.identity import identify

OWN, CHRONY = "/run/ntpd-fast/", "/run/chrony/"


@pytest.mark.parametrize(
    ("argv0", "given", "files", "name", "config", "run"),
    [
        ("/x/ntpd-fast", None, {"/etc/ntpd-fast.conf", "/etc/chrony.conf"}, "ntpd-fast", "/etc/ntpd-fast.conf", OWN),
        ("ntpd-fast", None, {"/etc/chrony.conf"}, "ntpd-fast", "/etc/chrony.conf", CHRONY),
        ("ntpd-fast", None, {"/etc/chrony/chrony.conf"}, "ntpd-fast", "/etc/chrony/chrony.conf", CHRONY),
        ("ntpd-fast", None, set(), "ntpd-fast", "/etc/ntpd-fast.conf", OWN),
        ("ntpd-fast", "/x.conf", {"/etc/chrony.conf"}, "ntpd-fast", "/x.conf", OWN),
        ("ntpd-fast", "/etc/chrony.conf", set(), "ntpd-fast", "/etc/chrony.conf", CHRONY),
        ("/usr/sbin/chronyd", None, {"/etc/ntpd-fast.conf", "/etc/chrony.conf"}, "chronyd", "/etc/chrony.conf", CHRONY),
        ("chronyd", None, {"/etc/chrony/chrony.conf"}, "chronyd", "/etc/chrony/chrony.conf", CHRONY),
        ("chronyd", None, {"/etc/ntpd-fast.conf"}, "chronyd", "/etc/chrony.conf", CHRONY),
        ("chronyd", "/x.conf", set(), "chronyd", "/x.conf", CHRONY),
        ("", None, set(), "ntpd-fast", "/etc/ntpd-fast.conf", OWN),
    ],
)  # fmt: skip
def test_identity(argv0, given, files, name, config, run):
    identity = identify(argv0, given, files.__contains__)
    assert (identity.name, identity.config_file) == (name, config)
    assert identity.pidfile.startswith(run)
    # where stock chronyc looks
    assert identity.command_socket == f"{run}chronyd.sock"
