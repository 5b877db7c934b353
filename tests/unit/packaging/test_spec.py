"""What the package says in two places is the same in both."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

from ntpd_fast import __version__
from ntpd_fast.config import load

ROOT = Path(__file__).parents[3]
FILES = ROOT / "packaging" / "files"
SPEC = (ROOT / "packaging" / "rpm" / "ntpd-fast.spec").read_text()
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def bundled(*, for_build: bool) -> dict[str, str]:
    lines = (ROOT / "packaging" / "rpm" / "bundled.txt").read_text().splitlines()
    chosen = [line.split("#")[0].strip() for line in lines if line and ("# build" in line) == for_build]
    return dict(line.split("==") for line in chosen if line)


def version(text: str) -> tuple[int, ...]:
    return tuple(int(number) for number in text.split("."))


def test_one_version():
    assert re.search(r"^Version: +(\S+)$", SPEC, re.MULTILINE)[1] == PROJECT["version"] == __version__
    assert re.search(r"^%changelog\n.* - (\S+)-1$", SPEC, re.MULTILINE)[1] == __version__


def test_what_is_bundled_is_declared_and_new_enough():
    declared = dict(re.findall(r"^Provides: +bundled\(python3-(\w+)\) = (\S+)$", SPEC, re.MULTILINE))
    assert declared == bundled(for_build=False)
    for requirement in PROJECT["dependencies"]:
        name, minimum = requirement.split(">=")
        assert version(declared[name]) >= version(minimum)
        required = re.findall(rf"^(?:Build)?Requires: +python\S+-{name} >= (\S+)$", SPEC, re.MULTILINE)
        assert required == [minimum, minimum]


def test_unbundled_it_asks_for_what_the_distribution_has():
    def ask(what: str) -> set[str]:
        done = subprocess.run(
            ["rpmspec", "-q", what, "--without", "bundled", str(ROOT / "packaging/rpm/ntpd-fast.spec")],
            stdin=subprocess.DEVNULL, capture_output=True, text=True, check=True,
        )
        return set(done.stdout.splitlines())

    libraries = {"python3-uvloop >= 0.21", "python3-pyroute2 >= 0.7.12", "python3-cryptography >= 43"}
    assert libraries < ask("--requires")
    assert libraries | {"python3-Cython >= 3.0.11"} < ask("--buildrequires")
    assert not any("bundled" in line for line in ask("--provides"))


# What the package of a system service has, with chrony's counterpart in the package that takes its place.
ITEMS = (
    ("sysusers", "%{_sysusersdir}/ntpd-fast.conf", "%{_sysusersdir}/ntpd-fast-chrony.conf"),
    ("tmpfiles", "%{_tmpfilesdir}/ntpd-fast.conf", "%{_tmpfilesdir}/ntpd-fast-chrony.conf"),
    ("logrotate", "%{_sysconfdir}/logrotate.d/ntpd-fast", "%{_sysconfdir}/logrotate.d/chrony"),
    ("options", "%{_sysconfdir}/sysconfig/ntpd-fast", "%{_sysconfdir}/sysconfig/chronyd"),
    ("dispatcher", "%{nm_dispatcherdir}/20-ntpd-fast-onoffline", "%{nm_dispatcherdir}/20-chrony-onoffline"),
    ("DHCP sources", "%{nm_dispatcherdir}/20-ntpd-fast-dhcp", "%{nm_dispatcherdir}/20-chrony-dhcp"),
    ("DHCP directory", "%{_rundir}/ntpd-fast-dhcp", "%{_rundir}/chrony-dhcp"),
    ("wait", "%{_unitdir}/ntpd-fast-wait.service", "%{_unitdir}/chrony-wait.service"),
    ("timedated", "%{ntp_unitsdir}/50-ntpd-fast.list", "%{ntp_unitsdir}/50-chronyd.list"),
    ("completion", "%{bash_completions_dir}/ntpc-fast", "%{bash_completions_dir}/chronyc"),
    ("keys", "%{_sysconfdir}/ntpd-fast.keys", "%{_sysconfdir}/chrony.keys"),
    ("configuration", "%{_sysconfdir}/ntpd-fast.conf", "%{_sysconfdir}/chrony.conf"),
    ("state", "%{_sharedstatedir}/ntpd-fast", "%{_sharedstatedir}/chrony"),
    ("logs", "%{_localstatedir}/log/ntpd-fast", "%{_localstatedir}/log/chrony"),
    ("manual", "%{_mandir}/man8/ntpd-fast.8*", "%{_mandir}/man8/chronyd.8*"),
)


def test_the_package_has_what_a_system_service_has():
    main, chrony = (SPEC.partition(start)[2].partition("\n%files")[0] for start in ("\n%files\n", "\n%files chrony\n"))
    for what, ours, theirs in ITEMS:
        assert re.search(rf"{re.escape(ours)}$", main, re.MULTILINE), what
        assert re.search(rf"{re.escape(theirs)}$", chrony, re.MULTILINE), what
    for service in ("ntpd-fast", "ntpd-fast-nts", "ntpd-fast-monitor"):
        assert f"%{{firewalld_dir}}/{service}.xml" in main
    assert "\nConflicts:      chrony\n" in SPEC
    assert "\n%changelog\n" in SPEC


def test_every_unit_is_packaged():
    units = {path.name for path in (ROOT / "systemd").iterdir()}
    assert units == set(re.findall(r"^%\{_unitdir\}/(ntpd-fast\S+)$", SPEC, re.MULTILINE))


def test_configurations_are_valid():
    for name in ("ntpd-fast.conf", "ntpd-fast-serve.conf"):
        assert load(str(FILES / name)).warnings == ()


def test_chrony_variants_have_only_chronys_names():
    for path in [*FILES.iterdir(), *(ROOT / "systemd").glob("*.service")]:
        if "chrony" in path.name or f"put_chrony 0644 {path.name} " not in SPEC.replace("systemd/", ""):
            continue
        done = subprocess.run(
            ["sed", "-E", "-f", str(ROOT / "packaging/chrony-names.sed"), str(path)],
            capture_output=True, text=True, check=True,
        )
        lines = [line for line in done.stdout.splitlines() if not line.startswith("#")]
        own = [line for line in lines if re.search(r"/ntpd-fast|/ntpc-fast|^(User|Group)=ntpd-fast", line)]
        assert own == [], path.name


def test_completion_is_made_of_the_tables():
    done = subprocess.run(
        [sys.executable, str(ROOT / "packaging/build_completion.py")],
        capture_output=True, text=True, check=True, env={"PYTHONPATH": str(ROOT)},
    )
    assert subprocess.run(["bash", "-n"], input=done.stdout, text=True, check=False).returncode == 0
    assert "waitsync" in done.stdout
    assert "reload) _ntpd_fast_words" in done.stdout
