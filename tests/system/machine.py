"""A machine to install packages in: a copy of this one in memory, with systemd, gone when the test is.

Needs root. Nothing in it can change the clock of the real machine (`machine.sh` says how).
"""

import os
import subprocess
import time
from pathlib import Path

BOOT_S = 120.0
COMMAND_S = 120.0
# Nothing of whoever runs the tests gets in.
ENVIRONMENT = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8"}
SCRIPT = Path(__file__).with_name("machine.sh")
# What enters a machine from outside brings its own capabilities: not these.
ENTER = (
    "setpriv", "--bounding-set=-sys_time,-sys_boot,-sys_module,-sys_rawio", "--inh-caps=-all", "nsenter", "-a", "-t",
)


def _cgroup_root() -> Path | None:
    for line in Path("/proc/self/mounts").read_text().splitlines():
        _, where, kind, *_ = line.split()
        if kind == "cgroup2":
            return Path(where)
    return None


class Machine:
    """Up after construction; `close` ends everything in it. `directory`: an empty one, with a name of its own."""

    def __init__(self, directory: Path) -> None:
        assert os.geteuid() == 0, "the tests that install packages need root"
        self._complaints = directory.with_suffix(".log")
        self._own_mount: Path | None = None
        root = _cgroup_root()
        if root is None:
            # nobody has mounted it here: we do, for as long as the machine is there
            root = self._own_mount = directory.with_suffix(".cgroup")
            root.mkdir()
            subprocess.run(["mount", "-t", "cgroup2", "cgroup2", str(root)], env=ENVIRONMENT, check=True)
        # others may be running the same test on this machine
        self._cgroup = root / f"{directory.name}-{os.getpid()}"
        self._cgroup.mkdir()
        with self._complaints.open("w") as complaints:
            self._starter = subprocess.Popen(
                ["sh", str(SCRIPT), str(directory), str(self._cgroup)],
                stdin=subprocess.DEVNULL, stdout=complaints, stderr=complaints, env=ENVIRONMENT, cwd="/",
            )
        deadline = time.monotonic() + BOOT_S
        self.init = 0
        try:
            while self.ask("systemctl", "is-system-running") not in ("running", "degraded"):
                assert self._starter.poll() is None, f"did not start: {self._complaints.read_text()}"
                assert time.monotonic() < deadline, f"the machine does not come up: {self.ask('systemctl', '--failed')}"
                time.sleep(0.05)
        except BaseException:
            self.close()
            raise

    def _enter(self) -> list[str]:
        self.init = self.init or self._find_init()
        return [*ENTER, str(self.init)] if self.init else ["false"]

    def _find_init(self) -> int:
        """The first process of the new namespace, 0 while there is none (the starter has had other children)."""
        try:
            children = Path(f"/proc/{self._starter.pid}/task/{self._starter.pid}/children").read_text().split()
            for child in children:
                if "\t1\n" in Path(f"/proc/{child}/status").read_text().partition("NSpid:")[2].splitlines(True)[0]:
                    return int(child)
        except (FileNotFoundError, ProcessLookupError):
            pass
        return 0

    def try_run(self, *words: str, text: str | None = None, **environment: str) -> subprocess.CompletedProcess[str]:
        """A command in the machine, whatever comes of it."""
        return subprocess.run(
            [*self._enter(), *words], input=text or "", capture_output=True, text=True, timeout=COMMAND_S, check=False,
            env=ENVIRONMENT | environment, cwd="/",
        )

    def ask(self, *words: str, **environment: str) -> str:
        """What a command prints on stdout, however it ends."""
        return self.try_run(*words, **environment).stdout.strip()

    def run(self, *words: str, text: str | None = None, **environment: str) -> str:
        """What a command that must succeed prints on stdout."""
        done = self.try_run(*words, text=text, **environment)
        assert done.returncode == 0, (words, done.returncode, done.stdout, done.stderr, self.journal())
        return done.stdout

    def shell(self, script: str) -> str:
        """The same for a piece of shell."""
        return self.run("sh", "-euc", script)

    def journal(self, *words: str) -> str:
        return self.ask("journalctl", "--no-pager", "-o", "cat", *words)

    def write(self, path: str, text: str) -> None:
        self.put(path, text.encode())

    def put(self, path: str, content: bytes) -> None:
        """Make a file, and the directory it is in."""
        write = 'mkdir -p "$(dirname "$1")" && cat >"$1"'
        subprocess.run(
            [*self._enter(), "sh", "-c", write, "sh", path], input=content, timeout=COMMAND_S, check=True,
            env=ENVIRONMENT, cwd="/",
        )

    def read(self, path: str) -> str:
        return self.run("cat", path)

    def wait_for(self, script: str, what: str) -> None:
        """Until a piece of shell succeeds."""
        deadline = time.monotonic() + BOOT_S
        while self.try_run("sh", "-c", script).returncode != 0:
            assert time.monotonic() < deadline, f"waited in vain: {what}: {self.journal()}"
            time.sleep(0.1)

    def changes(self) -> set[str]:
        """Everything on the root file system that is not as on this machine: paths, `- PATH` for what is gone."""
        listing = self.run("find", "/mnt", "-mindepth", "1", "-printf", "%y %l %P\n")
        found = set()
        for line in listing.splitlines():
            kind, *_, path = line.split(" ")
            if kind == "c":
                found.add(f"- /{path}")
            elif kind != "d" or not os.path.isdir(f"/{path}"):
                found.add(f"/{path}")
        return found

    def close(self) -> None:
        """Everything in it ends with its first process, and that with the starter; then the cgroup is empty."""
        self._starter.kill()
        self._starter.wait(BOOT_S)
        deadline = time.monotonic() + BOOT_S
        while self._cgroup.exists():
            try:
                for directory, _, _ in os.walk(self._cgroup, topdown=False):
                    os.rmdir(directory)
            except OSError:
                assert time.monotonic() < deadline, f"{self._cgroup} does not empty"
                time.sleep(0.02)
        if self._own_mount is not None:
            subprocess.run(["umount", "-l", str(self._own_mount)], env=ENVIRONMENT, check=True)

    def __enter__(self) -> "Machine":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
