"""Every way of writing a command: ntpc-fast sends what Debian's chronyc sends, and says what it says."""

import os
import shutil
import socket
import struct
import subprocess
import threading
from collections.abc import Iterator

import pytest

from ntpd_fast.cli.ntpc.connection import Answer, Endpoint
from ntpd_fast.cli.ntpc.options import parse
from ntpd_fast.monitor.codec.commands import COMMANDS, Number, Status
from ntpd_fast.monitor.codec.layout import Layout, Message
from ntpd_fast.monitor.codec.packet import decode_reply, decode_reply_header, encode_request
from tests.unit.cli.ntpc.scripted import Run

CHRONYC = shutil.which("chronyc")
# Newer than Debian's 4.3: refused by our daemon stand-in, so that ntpc-fast falls back to what 4.3 knows.
NEWER = {Number.MODIFY_SELECTOPTS, Number.MODIFY_OFFSET, Number.LOCAL3}
# Of the commands whose reply is not NULL: type and length.
REPLY_TYPES = {Number.SETTIME: (17, 40), Number.N_SOURCES: (2, 32), Number.TRACKING: (5, 104)}

LINES = """
accheck | accheck 1.2.3.4 | accheck ::1 | accheck 1.2.3.4 5 | accheck ID#1 | accheck localhost | accheck 1.2.3
cmdaccheck 1.2 | accheck 256.1.1.1
allow | allow all | allow 10 | allow 10. | allow .10 | allow 10.1 | allow 10.1.2 | allow 10.1.2.3 | allow 10/8
allow 10/33 | allow 10.1.2.3/33 | allow 10.1.2.3/-1 | allow 10.1.2.3/ | allow 10.1.2.3/x | allow 10.1.2.3/8x
allow 256 | allow 10.256 | allow ::1 | allow ::/0 | allow ::/129 | allow ::/-1 | allow localhost | allow localhost/8
allow all 10 | allow all all | allow all 10/8 x | allow 10 11 | allow ALL | allow ID#1 | deny 1.2.3.4.5 | allow 0/0
cmdallow 10.1/16 | cmddeny all | allow 10x | allow 010 | allow -10 | allow 1e1 | allow 10.1.2.3/08 | allow 10/ 8
burst | burst 1 | burst 1/ | burst 1/2 | burst 1/2 127.0.0.1 | burst 1/2 127.0.0.1 more | burst 1 /2 | burst 1/ 2
burst 1x/2 | burst 1/2x | burst -1/-2 | burst 1/2 127.0.0.0/8 | burst 1/2 255.0.0.0/127.0.0.0 | burst 0x1/2
burst 99999999999/1
offline | online | offline 127.0.0.1 | offline 127.0.0.1/8 | offline 127.0.0.1/0 | offline 127.0.0.1/32
offline 127.0.0.1/33 | offline 127.0.0.1/-1 | offline 127.0.0.1/x | offline 127.0.0.1/8x | offline ::1/64
offline 255.0.0.0/127.0.0.1 | offline 255.0.0.0/::1 | offline ::1/128 | offline ::1/129 | offline ::1 | offline ID#1
offline ID#0000000002 | offline ID#x | offline ID# | offline localhost | offline localhost/8 | offline 127.0.0.1 2
offline 127.0.0.1/8 2 | offline / | offline 8/ | offline ID#1/8 | offline 10/8 | offline ffff::/fe80::1
delete | delete 127.0.0.1 | delete 127.0.0.1 x | delete ID#3 | delete 127.1
maxdelay | maxdelay 127.0.0.1 | maxdelay 127.0.0.1 x | maxdelay 127.0.0.1 0.5 | maxdelay 127.0.0.1 0.5x
maxdelay 127.0.0.1 .5 | maxdelay 127.0.0.1 5. | maxdelay 127.0.0.1 1e-3 | maxdelay 127.0.0.1 -1
maxdelay 127.0.0.1 1 2 | maxdelay 127.0.0.1 inf | maxdelay 127.0.0.1 0x10 | maxdelay 127.0.0.1 1e
maxdelay 127.0.0.1 1e400 | maxdelay 127.0.0.1 +1 | maxdelayratio 127.0.0.1 2 | maxdelaydevratio 127.0.0.1 2
minpoll 127.0.0.1 | minpoll 127.0.0.1 4 | minpoll 127.0.0.1 4.7 | minpoll 127.0.0.1 x | minpoll 127.0.0.1 -4x
minpoll ID#1 3 | maxpoll 127.0.0.1 99999999999 | maxpoll 127.0.0.1 0x10 | minstratum 127.0.0.1 3 | minpoll 4
polltarget 127.0.0.1 12
maxupdateskew | maxupdateskew x | maxupdateskew 1 | maxupdateskew 1 2 | reselectdist | reselectdist 0.1
dfreq | dfreq x | dfreq 1 | doffset | doffset 1x | dfreq inf
makestep | makestep x | makestep 1 | makestep 1 2 | makestep 1 x | makestep 0.5 -1 | makestep 1 2 3 | makestep 1,2
makestep 1 2.5
manual | manual on | manual off | manual reset | manual on x | manual ON | manual onx | manual delete
manual delete x | manual delete 1 | manual delete 1x | manual delete1 | manual deletex 1 | manual delete 1 2
manual delete -1
local | local off | local off x | local stratum | local stratum 5 | local stratum 0 | local stratum 16
local stratum x | local stratum 5x | local orphan | local distance | local distance 0.5 | local distance x | local foo
local orphan stratum 3 distance 2 | local STRATUM 4 | local OFF | local Orphan | local stratum 3 4
local stratum 5.5 | local distance -1
reload | reload sources | reload sources x | reload source | reset | reset sources | reset x
smoothtime | smoothtime reset | smoothtime activate | smoothtime x | smoothtime reset x
dns | dns -n | dns +n | dns -4 | dns -6 | dns -46 | dns x | dns -n x
retries | retries 0 | retries 30 | retries 31 | retries -1 | retries x | retries 3x
timeout | timeout 99 | timeout 100 | timeout x | timeout 1000x
cyclelogs | cyclelogs x | dump | rekey | refresh | reselect | reselect x y | onoffline | trimrtc | writertc | shutdown
add | add server | add server 127.0.0.1 | add SERVER 127.0.0.1 | add foo 127.0.0.1 | add peer 127.0.0.1 port 99
add pool 127.0.0.1 maxsources 3 | add server 127.0.0.1 extfield F323 | add server 127.0.0.1 extfield f323
add server 127.0.0.1 iburst IBURST prefer noselect trust require xleave burst nts copy auto_offline offline
add server 127.0.0.1 key 5 minpoll -2 maxpoll 3 presend 9 minstratum 2 polltarget 9 minsamples 3 maxsamples 5
add server 127.0.0.1 version 3 filter 6 certset 4 ntsport 99 maxdelay 1 maxdelayratio 2 maxdelaydevratio 3
add server 127.0.0.1 maxdelayquant 0.5 mindelay 0.1 asymmetry 0.2 offset -0.5
add server localhost | add server ::1 | add server ID#1 | add server 127.0.0.1 key 0 | add server 127.0.0.1 minpoll x
add server 127.0.0.1 port | add server 127.0.0.1 foo | add server 127.0.0.1 minpoll 3x | add server 127.0.0.1 port 5 x
authhash | authhash md5 | password x | foo | Tracking | track | quit | exit | exit now | ! foo | # foo | ; foo | % foo
reselect;x | sources x | sourcename | sourcename 127.0.0.1 x | ntpdata x y | clients -p | clients -p x
waitsync 1 | waitsync 1 x | waitsync 1 0 0 0.1 | waitsync 1x
settime foo | settime 2015-11-21 | serverstatsx | keygen 1 FOO | keygen x | keygen 1 SHA1 x | keygen 1 2 3 4
selectdata -x foo | sourcestats foo
"""
COMMAND_LINES = [line.strip() for line in LINES.replace("\n", "|").split("|") if line.strip()]

# A name that nobody has, a line of spaces: not in the list above, where they would not survive the splitting.
COMMAND_LINES += ["accheck nosuch.invalid", "allow nosuch.invalid", "delete nosuch.invalid"]
COMMAND_LINES += ["  reselect  ", "\treselect"]


def reply_to(request: bytes) -> bytes:
    """Success with an empty report, or "unknown command"."""
    number = int.from_bytes(request[4:6], "big")
    reply_type, length = REPLY_TYPES.get(Number(number), (1, 28))
    status = Status.SUCCESS
    if number in NEWER:
        status = Status.INVALID
    elif number in (Number.ACCHECK, Number.CMDACCHECK):
        status = Status.ACCESS_ALLOWED
    header = struct.pack(">BBBBHHHHHH", 6, 2, 0, 0, number, reply_type, status, 0, 0, 0) + request[8:12]
    return header.ljust(length, b"\0")


class Listener:
    """A daemon that takes everything and remembers it."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.requests: list[bytes] = []
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(path)
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            request, client = self._socket.recvfrom(1000)
            if request == b"end":
                return
            self.requests.append(request)
            self._socket.sendto(reply_to(request), client)

    def close(self) -> None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            sender.sendto(b"end", self.path)
        self._thread.join()
        self._socket.close()


class DirectConnection:
    """The same daemon without a socket."""

    endpoint = Endpoint("/direct")
    failures: tuple[()] = ()

    def __init__(self) -> None:
        self.requests: list[bytes] = []
        self.timeout_ms = 0
        self.retries = 0

    def exchange(self, number: Number, payload: Message) -> Answer:
        request = encode_request(COMMANDS[number], payload, 1)
        if number not in NEWER:
            self.requests.append(request)
        reply = reply_to(request)
        return Answer(decode_reply_header(reply), decode_reply(reply))


@pytest.fixture(scope="module")
def listener(tmp_path_factory) -> Iterator[Listener]:
    listener = Listener(str(tmp_path_factory.mktemp("chronyc") / "sock"))
    yield listener
    listener.close()


def significant(request: bytes) -> tuple[int, bytes]:
    """Command and payload, without what newer clients send more."""
    number = int.from_bytes(request[4:6], "big")
    size = Layout.of(COMMANDS[number].request).size
    if number == Number.ADD_SOURCE:
        size -= 4
    return number, request[20 : 20 + size].ljust(size, b"\0")


@pytest.mark.parametrize("line", COMMAND_LINES)
def test_same_request_text_and_exit_status(line, listener, timezone):
    timezone("UTC")
    listener.requests.clear()
    assert CHRONYC is not None, "chronyc is one of the packages the tests need"
    theirs = subprocess.run(
        [CHRONYC, "-n", "-h", listener.path, line],
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
        env={**os.environ, "TZ": "UTC"},
    )
    connection = DirectConnection()
    ours = Run(connection, parse([]))
    ours.session.numeric = True
    exit_status = 0 if ours.session.run_line(line) else 1
    assert [significant(r) for r in connection.requests] == [significant(r) for r in listener.requests]
    assert exit_status == theirs.returncode
    assert ours.stdout == theirs.stdout
    if line.startswith("add "):
        assert bool(ours.stderr) == bool(theirs.stderr)  # 4.7 has other words for it
    else:
        assert ours.stderr == theirs.stderr
