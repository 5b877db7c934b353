"""uvloop without the standard library's TLS: for the program, and for nobody else."""

import subprocess
import sys

import pytest

# What a loop is there for, then what has been loaded for it.
TRY = """
import sys
from types import ModuleType
from ntpd_fast.system.eventloop import load_without_tls
BEFORE
print(load_without_tls(STAND_IN))
import socket, uvloop
loop = uvloop.new_event_loop()
ours, theirs = socket.socketpair()
loop.add_reader(ours, loop.stop)
loop.call_later(0.01, theirs.send, b"x")
loop.run_forever()
loop.close()
print("_ssl" in sys.modules, "_hashlib" in sys.modules)
import ssl
print(ssl.create_default_context().check_hostname)
"""


@pytest.mark.parametrize(
    ("before", "stand_in", "said"),
    [
        ("", "None", ["True", "False False", "True"]),
        # somebody wants TLS: it stays what it is
        ("import ssl", "None", ["False", "True False", "True"]),
        ("import asyncio", "None", ["False", "True False", "True"]),
        # a uvloop that is content with less than we know
        ("", "ModuleType('ssl')", ["False", "True False", "True"]),
    ],
    ids=["first", "after-ssl", "after-asyncio", "not-enough"],
)
def test_uvloop_turns_and_tls_is_loaded_only_for_those_who_ask(before, stand_in, said):
    code = TRY.replace("BEFORE", before).replace("STAND_IN", stand_in)
    run = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True, timeout=60)
    assert run.stdout.splitlines() == said, run.stderr


def test_the_daemon_has_one_crypto_library():
    """`secrets`, `hashlib` and `ssl` each load libcrypto; the GnuTLS that is there anyway does the same."""
    code = "import sys; from ntpd_fast.cli import start, daemon; print([m for m in FORBIDDEN if m in sys.modules])"
    code = code.replace("daemon;", "daemon; import ntpd_fast.control.rest;").replace(
        "from ntpd_fast.cli", "from ntpd_fast.system.eventloop import *; load_without_tls(); from ntpd_fast.cli"
    )
    code = code.replace("FORBIDDEN", repr(["ssl", "_ssl", "_hashlib", "hashlib", "secrets", "hmac"]))
    run = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True, timeout=60)
    assert run.stdout.strip() == "[]", run.stderr
