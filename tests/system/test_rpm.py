"""The packages, built from the tree and really installed in a machine of their own, with systemd.

What an admin does after `dnf install`, and what must be true then: the service starts confined, answers, rotates,
restarts and goes without a trace. The clock of this machine is out of reach (`machine.py`), so the units run with -x.
"""

import re
import subprocess

import pytest

from tests.system.machine import Machine
from tests.system.packages import DATABASE, ROOT, RPM, STOCK_CHRONYC, install, leave_the_clock_alone

pytestmark = pytest.mark.timeout(600)

SPEC = ROOT / "packaging" / "rpm" / "ntpd-fast.spec"
UNITS = ("ntpd-fast.service", "ntpd-fast-restricted.service", "ntpd-fast-serve.service", "ntpd-fast-wait.service")
ASK = """\
import socket, sys
client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
client.settimeout(5)
client.connect((sys.argv[1], int(sys.argv[2])))
client.send(bytes([0x23]) + bytes(47))
answer = client.recv(1024)
print(answer[0] >> 6, answer[1])
"""


def answer(machine: Machine, port: int = 123) -> tuple[int, int]:
    """Leap indicator and stratum of an answer."""
    leap, stratum = machine.run("/usr/bin/python3", "-c", ASK, "127.0.0.1", str(port)).split()
    return int(leap), int(stratum)


def verify(machine: Machine, *names: str) -> str:
    return machine.try_run(*RPM, "-V", "--nodeps", *names).stdout


def test_rpmlint_has_nothing_to_say(packages):
    done = subprocess.run(
        ["rpmlint", "--config", SPEC.with_name("rpmlint.toml"), "--rpmlintrc", SPEC.with_suffix(".rpmlintrc"), SPEC,
         *packages.values()],
        capture_output=True, text=True, timeout=120, check=False,
    )
    lines = [line for line in done.stdout.splitlines() if re.search(r": [EW]: ", line)]
    assert lines == []
    assert "3 packages and 1 specfiles checked" in done.stdout


def test_every_program_has_a_manual_page(packages):
    for path in packages.values():
        files = subprocess.run(["rpm", "-qpl", path], capture_output=True, text=True, check=True).stdout.split()
        programs = {match[1] for file in files if (match := re.fullmatch(r"/usr/s?bin/(.+)", file))}
        pages = {match[1] for file in files if (match := re.fullmatch(r"/usr/share/man/man[18]/(.+)\.[18]\.gz", file))}
        assert programs == pages, path.name


def test_install_run_verify_erase(machine, packages):
    before = machine.changes()
    assert install(machine, packages, "ntpd-fast") == ""
    assert machine.ask("getent", "passwd", "ntpd-fast").split(":")[5:] == ["/var/lib/ntpd-fast", "/sbin/nologin"]
    assert verify(machine, "ntpd-fast") == ""
    for path, owner in (
        ("/var/lib/ntpd-fast", "ntpd-fast ntpd-fast 750"),
        ("/var/log/ntpd-fast", "ntpd-fast ntpd-fast 750"),
        ("/etc/ntpd-fast.keys", "root ntpd-fast 640"),
        ("/etc/ntpd-fast.conf", "root root 644"),
        ("/run/ntpd-fast", "ntpd-fast ntpd-fast 750"),
    ):
        assert machine.ask("stat", "-c", "%U %G %a", path) == owner, path

    # as an admin starts it by hand: from root, in the background, with the default configuration
    machine.shell("printf 'allow\\nlocal stratum 9\\n' >>/etc/ntpd-fast.conf; /usr/sbin/ntpd-fast -x")
    pid = machine.read("/run/ntpd-fast/ntpd-fast.pid").strip()
    status = machine.read(f"/proc/{pid}/status")
    uid = machine.ask("id", "-u", "ntpd-fast")
    assert re.search(rf"^Uid:\t{uid}\t{uid}\t{uid}\t{uid}$", status, re.MULTILINE)
    assert answer(machine) == (0, 9)
    assert "7F7F0101" in machine.run("ntpc-fast", "tracking")
    assert "7F7F0101" in machine.run(STOCK_CHRONYC, "-h", "/run/ntpd-fast/chronyd.sock", "tracking")
    assert machine.run("ntpc-fast", "shutdown") == "200 OK\n"
    machine.wait_for(f"! [ -d /proc/{pid} ]", "the end of the daemon")

    assert verify(machine, "ntpd-fast") == ""
    machine.run(*RPM, "-e", "ntpd-fast")
    assert machine.ask("getent", "passwd", "ntpd-fast") != ""
    users = {f"/etc/{name}{old}" for name in ("passwd", "group", "shadow", "gshadow") for old in ("", "-")}
    # what the admin had written is kept, as rpm keeps any changed configuration
    expected = users | {"/etc/.pwd.lock", "/etc/ntpd-fast.conf.rpmsave"}
    left = {path for path in machine.changes() - before if not path.startswith((DATABASE, "/var/log/journal"))}
    # directories that belong to packages this machine does not have, the deepest first
    empty = sorted(left - expected, reverse=True)
    strange = {path for path in empty if machine.try_run("rmdir", path).returncode != 0}
    assert strange == set()
    assert not any("ntpd-fast" in path for path in left - expected)


def test_service_starts_confined_answers_and_ends(machine, packages):
    install(machine, packages, "ntpd-fast")
    leave_the_clock_alone(machine, "ntpd-fast.service", "ntpd-fast-restricted.service")
    assert machine.run("systemd-analyze", "verify", "--man=no", *UNITS, "ntpd-fast.socket") == ""
    machine.write("/etc/sysconfig/ntpd-fast", 'OPTIONS="-x -F 2"\n')
    machine.write("/etc/ntpd-fast.conf", "allow\nlocal stratum 9\n"
                                         "driftfile /var/lib/ntpd-fast/drift\nkeyfile /etc/ntpd-fast.keys\n")
    machine.run("systemctl", "enable", "--now", "ntpd-fast")
    assert answer(machine) == (0, 9)
    main = machine.ask("systemctl", "show", "-P", "MainPID", "ntpd-fast")
    for pid in [main, *machine.read(f"/proc/{main}/task/{main}/children").split()]:
        status = dict(line.split(":\t", 1) for line in machine.read(f"/proc/{pid}/status").splitlines())
        assert status["Uid"].split() == [machine.ask("id", "-u", "ntpd-fast")] * 4
        assert status["NoNewPrivs"] == "1"
        assert int(status["CapBnd"], 16) & ~(1 << 10) == 0, "nothing beyond CAP_NET_BIND_SERVICE"
    machine.run("systemctl", "restart", "ntpd-fast")
    assert answer(machine) == (0, 9)
    machine.run("systemctl", "disable", "--now", "ntpd-fast")
    log = machine.journal("-u", "ntpd-fast")
    assert "Could not" not in log
    assert "failed" not in log.lower()
    # what the unit forbids takes nothing that the daemon wants
    assert "not permitted" not in log
    assert log.count("ntpd-fast exiting") == 2
    # the variant for clients has neither the port nor the devices
    machine.run("systemctl", "start", "ntpd-fast-restricted")
    assert "7F7F0101" in machine.run("ntpc-fast", "tracking")
    machine.run("systemctl", "stop", "ntpd-fast-restricted")


def test_the_wait_for_the_clock_ends_and_logs_are_rotated(machine, packages):
    install(machine, packages, "ntpd-fast")
    leave_the_clock_alone(machine, "ntpd-fast.service")
    machine.write("/etc/sysconfig/ntpd-fast", "OPTIONS=-x\n")
    machine.write("/etc/upstream.conf", "port 11124\nallow\nlocal stratum 1\ncmdport 0\nbindcmdaddress /\npidfile /\n")
    machine.write("/etc/ntpd-fast.conf", "server 127.0.0.1 port 11124 minpoll -2 maxpoll -2\n"
                                         "logdir /var/log/ntpd-fast\nlog measurements\n")
    machine.write("/etc/logrotate.conf", "rotate 4\ncreate\ninclude /etc/logrotate.d/ntpd-fast\n")
    machine.run("/usr/sbin/ntpd-fast", "-x", "-u", "root", "-f", "/etc/upstream.conf")
    machine.run("systemctl", "start", "ntpd-fast", "ntpd-fast-wait")
    assert machine.ask("systemctl", "is-active", "ntpd-fast-wait", "time-sync.target") == "active\nactive"
    assert "Leap status     : Normal" in machine.run("ntpc-fast", "tracking")
    log = "/var/log/ntpd-fast/measurements.log"
    machine.wait_for(f"test -s {log}", "a measurement to be logged")
    machine.run("logrotate", "--force", "/etc/logrotate.conf")
    machine.wait_for(f"test -s {log}", "a measurement to be logged in the next file")
    assert machine.ask("stat", "-c", "%U %a", f"{log}.1", log) == "ntpd-fast 600\nntpd-fast 600"
    assert "Could not" not in machine.journal("-u", "ntpd-fast")


def test_serve_only_service_without_any_capability(machine, packages):
    install(machine, packages, "ntpd-fast")
    machine.shell("printf 'allow\\nlocal stratum 9\\nport 11123\\n' >>/etc/ntpd-fast-serve.conf")
    machine.write("/etc/systemd/system/ntpd-fast-serve.service.d/test.conf",
                  "[Service]\nAmbientCapabilities=\nCapabilityBoundingSet=\nPrivateUsers=yes\n")
    machine.run("systemctl", "daemon-reload")
    machine.run("systemctl", "start", "ntpd-fast-serve")
    assert answer(machine, 11123) == (0, 9)
    main = machine.ask("systemctl", "show", "-P", "MainPID", "ntpd-fast-serve")
    assert "not permitted" not in machine.journal("-u", "ntpd-fast-serve")
    capabilities = re.findall(r"^Cap(?:Prm|Eff|Bnd|Amb):\t(\w+)$", machine.read(f"/proc/{main}/status"), re.MULTILINE)
    assert capabilities == ["0" * 16] * 4


def test_socket_unit_keeps_the_sockets_over_a_restart(machine, packages):
    install(machine, packages, "ntpd-fast")
    leave_the_clock_alone(machine, "ntpd-fast.service")
    machine.write("/etc/sysconfig/ntpd-fast", "OPTIONS=-x\n")
    machine.write("/etc/ntpd-fast.conf", "allow\nlocal stratum 9\n")
    machine.run("systemctl", "start", "ntpd-fast.socket")
    # the first request starts the service; it is not answered if that takes longer than a request may wait
    machine.try_run("/usr/bin/python3", "-c", ASK, "127.0.0.1", "123")
    machine.wait_for("systemctl is-active -q ntpd-fast", "the service to be started by its socket")
    assert answer(machine) == (0, 9)
    machine.run("systemctl", "restart", "ntpd-fast.service")
    assert answer(machine) == (0, 9)
    assert "Ignored" not in machine.journal("-u", "ntpd-fast")


def test_takes_the_place_of_chrony_and_gives_it_back(machine, packages):
    machine.shell(
        "groupadd -r chrony; useradd -r -g chrony -d /var/lib/chrony -s /sbin/nologin chrony;"
        "install -d -o chrony -g chrony -m 750 /var/lib/chrony;"
        "echo '12.500000 0.250000' >/var/lib/chrony/drift; echo state >/var/lib/chrony/192.0.2.1.nts;"
        "chown chrony:chrony /var/lib/chrony/drift; chmod 600 /var/lib/chrony/192.0.2.1.nts;"
        "printf 'driftfile /var/lib/chrony/drift\\nallow\\nlocal stratum 8\\nkeyfile /etc/chrony.keys\\n'"
        " >/etc/chrony.conf;"
        "echo '1 SHA1 HEX:0102030405060708090a0b0c0d0e0f1011121314' >/etc/chrony.keys;"
        "chown root:chrony /etc/chrony.keys; chmod 640 /etc/chrony.keys"
    )
    install(machine, packages, "ntpd-fast", "ntpd-fast-chrony")
    # nobody's configuration was replaced, and no second one appeared
    assert "local stratum 8" in machine.read("/etc/chrony.conf")
    assert machine.try_run("test", "-e", "/etc/ntpd-fast.conf").returncode != 0
    assert machine.ask("stat", "-c", "%U", "/var/lib/chrony/192.0.2.1.nts") == "chrony"
    leave_the_clock_alone(machine, "chronyd.service")
    assert machine.run("systemd-analyze", "verify", "--man=no", "chronyd.service", "chronyd-restricted.service",
                       "chrony-wait.service") == ""
    machine.write("/etc/sysconfig/chronyd", 'OPTIONS="-x"\n')
    machine.run("systemctl", "enable", "--now", "chronyd")
    assert answer(machine) == (0, 8)
    assert machine.run("chronyc", "-n", "tracking").startswith("Reference ID    : 7F7F0101")
    assert machine.run(STOCK_CHRONYC, "-n", "tracking").startswith("Reference ID    : 7F7F0101")
    log = machine.journal("-u", "chronyd")
    assert "chronyd version" in log
    assert "Loaded 1 symmetric keys" in log
    assert "Could not" not in log
    machine.run("systemctl", "stop", "chronyd")
    assert "chronyd exiting" in machine.journal("-u", "chronyd")
    machine.run(*RPM, "-e", "ntpd-fast-chrony", "ntpd-fast")
    # chrony finds what it left
    assert machine.read("/var/lib/chrony/drift").split()[0] == "12.500000"
    assert machine.read("/var/lib/chrony/192.0.2.1.nts") == "state\n"
    assert machine.ask("stat", "-c", "%U %G %a", "/var/lib/chrony") == "chrony chrony 750"
    assert machine.ask("getent", "passwd", "chrony") != ""


def test_services_follow_the_configuration_that_is_there(machine, packages):
    install(machine, packages, "ntpd-fast")
    show = ("systemctl", "show", "-P", "User", "ntpd-fast.service")
    # a generator that waits for systemd itself holds it up for 45 s
    reload = "timeout 30 systemctl daemon-reload"
    machine.shell(reload)
    assert machine.ask(*show) == "ntpd-fast"
    # only chrony's configuration, with and without chrony's user
    machine.shell(f"mv /etc/ntpd-fast.conf /etc/chrony.conf; {reload}")
    assert machine.ask(*show) == "ntpd-fast"
    directories = machine.ask("systemctl", "show", "-P", "StateDirectory", "ntpd-fast.service")
    assert set(directories.split()) == {"ntpd-fast", "chrony"}
    machine.shell(f"useradd -r chrony; {reload}")
    assert machine.ask(*show) == "chrony"
    assert machine.ask("systemctl", "show", "-P", "RestrictRealtime", "ntpd-fast.service") == "yes"
    machine.shell(f"echo 'sched_priority 1' >>/etc/chrony.conf; {reload}")
    assert machine.ask("systemctl", "show", "-P", "RestrictRealtime", "ntpd-fast.service") == "no"


def test_dispatcher_scripts(machine, packages):
    install(machine, packages, "ntpd-fast")
    machine.write("/etc/ntpd-fast.conf", "sourcedir /run/ntpd-fast-dhcp\nport 0\n")
    machine.run("/usr/sbin/ntpd-fast", "-x")
    scripts = "/usr/lib/NetworkManager/dispatcher.d/20-ntpd-fast"
    servers = {"DHCP4_NTP_SERVERS": "127.0.0.7 bad;name", "DHCP6_DHCP6_NTP_SERVERS": "::7"}
    machine.run(f"{scripts}-dhcp", "eth0", "up", **servers)
    assert machine.read("/run/ntpd-fast-dhcp/eth0.sources") == "server 127.0.0.7 iburst\nserver ::7 iburst\n"
    machine.wait_for("ntpc-fast -n sources | grep -q 127.0.0.7", "the source that DHCP named")
    machine.run(f"{scripts}-onoffline", "eth0", "down", **servers)
    machine.run(f"{scripts}-onoffline", "eth0", "up", **servers)
    machine.run(f"{scripts}-dhcp", "eth0", "down")
    machine.wait_for("! ntpc-fast -n sources | grep -q 127.0.0.7", "the source to go")
    machine.write("/etc/sysconfig/network", "NTPSERVERARGS='prefer minpoll 4'\n")
    machine.run(f"{scripts}-dhcp", "eth0", "dhcp4-change", **servers)
    assert machine.read("/run/ntpd-fast-dhcp/eth0.sources").startswith("server 127.0.0.7 prefer minpoll 4\n")
    machine.write("/etc/sysconfig/network", "PEERNTP=no\n")
    machine.run(f"{scripts}-dhcp", "eth0", "dhcp4-change", **servers)
    assert machine.ask("ls", "/run/ntpd-fast-dhcp") == ""
    # an interface called so that the file would be elsewhere
    machine.run(f"{scripts}-dhcp", "../x", "up", **servers)
    assert machine.try_run("test", "-e", "/run/x.sources").returncode != 0
    machine.run("ntpc-fast", "shutdown")


def test_load_generator_starts(machine, packages):
    install(machine, packages, "ntpd-fast", "ntpd-fast-loadtest")
    assert "usage" in machine.run("ntpd-fast-loadtest", "--help").lower()
    assert verify(machine, "ntpd-fast-loadtest") == ""


def test_completion_knows_commands_and_their_words(machine, packages):
    install(machine, packages, "ntpd-fast", "ntpd-fast-chrony")

    def complete(program: str, *words: str) -> set[str]:
        typed = " ".join(f"'{word}'" for word in (program, *words))
        script = (
            f". /usr/share/bash-completion/completions/{program}; COMP_WORDS=({typed}); COMP_CWORD={len(words)};"
            f"$(complete -p {program} | sed 's/.*-F \\([^ ]*\\).*/\\1/'); printf '%s\\n' \"${{COMPREPLY[@]}}\""
        )
        return set(machine.run("bash", "-c", script).split())

    assert complete("chronyc", "source") == {"sources", "sourcestats", "sourcename"}
    assert complete("ntpc-fast", "-n", "reload", "") == {"sources", "config"}
    assert "makestep" in complete("ntpd-fast", "make")
