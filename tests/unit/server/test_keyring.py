"""Server keys: rotation, the ntskeys file, keys derived from a shared secret."""

import os
import stat

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ntpd_fast._nts import KeyRing
from ntpd_fast.server.keyring import (
    CURRENT,
    KeyFileError,
    KeyManager,
    ServerKey,
    SharedSecret,
    derived_key,
    derived_keys,
    format_file,
    parse_file,
    parse_secrets,
    random_keys,
    rotated,
)
from tests.sim.machine import Machine
from tests.sim.world import EPOCH_S, World

SIV, GCM_SIV = 15, 30
WEEK_S = 604_800
SECRET = bytes(range(32))
DERIVED = (0xA2F8C04C, "6c736ffaaeeb42a932395561097262cad69c120752b266fd4f44bc478cdfa271")

FILE = b"""NKS1
12.5
0A0B0C01 000102030405060708090A0B0C0D0E0F101112131415161718191A1B1C1D1E1F 15
F0000002 000102030405060708090A0B0C0D0E0F 30
00000003 101112131415161718191A1B1C1D1E1F000102030405060708090A0B0C0D0E0F 15
12345678 202122232425262728292A2B2C2D2E2F000102030405060708090A0B0C0D0E0F 15
"""


@pytest.fixture
def machine():
    machine = Machine(World(1))
    machine.boot()
    return machine


def manager(machine, ring=None, **options):
    options = {"directory": None, "rotate_s": WEEK_S} | options
    return KeyManager(ring or KeyRing(), machine.scheduler, machine.log, lambda: machine.kernel.read() / 1e9, **options)


def test_file_of_today_and_of_chrony_4_3():
    keys, age_s = parse_file(FILE)
    assert age_s == 12.5
    assert [(k.identifier, k.algorithm) for k in keys] == [
        (0x0A0B0C01, SIV),
        (0xF0000002, GCM_SIV),
        (3, SIV),
        (0x12345678, SIV),
    ]
    assert keys[0].key == bytes(range(32))
    assert keys[1].key == bytes(range(16))
    assert format_file(keys, 12.5) == FILE
    siv_only = FILE.replace(b"000102030405060708090A0B0C0D0E0F 30", b"22" * 32 + b" 15")
    old = siv_only.replace(b"NKS1\n", b"NKS0\n15 ").replace(b" 15\n", b"\n")
    assert parse_file(old) == parse_file(siv_only)


BROKEN = {
    "empty": b"",
    "unknown version": FILE.replace(b"NKS1", b"NKS2"),
    "no age": FILE.replace(b"12.5", b"young"),
    "age nan": FILE.replace(b"12.5", b"nan"),
    "age inf": FILE.replace(b"12.5", b"inf"),
    "age negative": FILE.replace(b"12.5", b"-1.0"),
    "line missing": FILE[: FILE.rindex(b"1234")],
    "line more": FILE + b"\n",
    "no final newline": FILE[:-1],
    "truncated key": FILE.replace(b"0E0F 30", b"0E 30"),
    "odd digits": FILE.replace(b"0E0F 30", b"0E0 30"),
    "no hex": FILE.replace(b"0E0F 30", b"0E0G 30"),
    "space in the key": FILE.replace(b"0E0F 30", b"0 0F 30"),
    "key of the other algorithm": FILE.replace(b"0E0F 30", b"0E0F 15"),
    "unknown algorithm": FILE.replace(b"0E0F 30", b"0E0F 16"),
    "huge algorithm": FILE.replace(b"0E0F 30", b"0E0F 99999999999999999999"),
    "no algorithm": FILE.replace(b"0E0F 30", b"0E0F"),
    "ids do not follow": FILE.replace(b"F0000002", b"F0000003"),
    "id too long": FILE.replace(b"F0000002", b"0F0000002"),
    "id signed": FILE.replace(b"F0000002", b"-0000002"),
    "id not hex": FILE.replace(b"F0000002", b"F000_002"),
    "not ascii": FILE.replace(b"F0000002", b"F000000\xb2"),
}


@pytest.mark.parametrize("data", BROKEN.values(), ids=BROKEN.keys())
def test_a_file_that_does_not_fit_in_every_detail_is_refused(data):
    with pytest.raises(KeyFileError) as refused:
        parse_file(data)
    assert "0102" not in str(refused.value)


@given(st.binary(max_size=600))
@example(FILE)
@settings(deadline=None)
def test_any_file_parses_or_is_refused(data):
    try:
        keys, age_s = parse_file(data)
    except KeyFileError:
        return
    assert parse_file(format_file(keys, age_s))[0] == keys


@given(st.integers(0, len(FILE) - 1), st.integers(0, 255))
@settings(deadline=None, max_examples=500)
def test_any_changed_byte_parses_or_is_refused(position, value):
    data = FILE[:position] + bytes([value]) + FILE[position + 1 :]
    try:
        keys, _ = parse_file(data)
    except KeyFileError:
        return
    KeyRing().publish([(k.identifier, k.algorithm, k.key) for k in keys], keys[CURRENT].identifier)


def test_keys_are_not_shown():
    assert "0102" not in repr(ServerKey(1, SIV, bytes(range(32)))) + repr(SharedSecret(bytes(range(32))))


def test_rotation_keeps_two_old_keys_and_writes_one_ahead():
    keys = random_keys()
    assert [k.identifier % 4 for k in keys] == [1, 2, 3, 0]
    assert len({k.key for k in keys}) == 4
    after = rotated(keys)
    assert after[:3] == keys[1:]
    assert after[3].identifier % 4 == 1
    assert after[3].key not in {k.key for k in keys}
    old = (*keys[:3], ServerKey(0, GCM_SIV, bytes(16)))
    assert rotated(old)[3].algorithm == GCM_SIV


def test_rotation_saves_and_cookies_live_two_rotations(machine, tmp_path):
    ring = KeyRing()
    manager(machine, ring, directory=str(tmp_path)).start()
    path = tmp_path / "ntskeys"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    cookie = ring.make_cookie(SIV, bytes(32), bytes(32))
    before = path.read_bytes()
    machine.world.run(WEEK_S - 1)
    assert path.read_bytes() == before
    machine.world.run(2)
    after = path.read_bytes()
    assert after.split()[4:8] != before.split()[4:8]
    assert parse_file(after)[0][:3] == parse_file(before)[0][1:]
    assert ring.open_cookie(cookie) is not None
    machine.world.run(WEEK_S)
    assert ring.open_cookie(cookie) is not None
    machine.world.run(WEEK_S)
    assert ring.open_cookie(cookie) is None
    assert [p.name for p in tmp_path.iterdir()] == ["ntskeys"]


def test_keys_survive_a_restart_and_go_on_ageing(machine, tmp_path):
    first = manager(machine, directory=str(tmp_path))
    first.start()
    machine.world.run(1000)
    first.save()
    first.stop()
    os.utime(tmp_path / "ntskeys", (0, machine.kernel.read() / 1e9))
    assert (tmp_path / "ntskeys").read_text().split("\n")[1] == "1000.0"
    machine.world.run(500)
    second = manager(machine, directory=str(tmp_path))
    second.start()
    assert second.keys == first.keys
    assert machine.lines("Loaded server NTS keys")
    machine.world.run(WEEK_S - 1501)
    assert second.rotations == 0
    machine.world.run(2)
    assert second.rotations == 1


@pytest.mark.parametrize(("written", "expected"), [(EPOCH_S + WEEK_S, 0), (0, 1)])
def test_a_wrong_clock_makes_keys_neither_younger_nor_rotates_twice(machine, tmp_path, written, expected):
    (tmp_path / "ntskeys").write_bytes(FILE)
    (tmp_path / "ntskeys").chmod(0o600)
    os.utime(tmp_path / "ntskeys", (written, written))
    keys = manager(machine, directory=str(tmp_path))
    keys.start()
    machine.world.run(1)
    assert keys.rotations == expected


def test_a_bad_file_is_told_and_replaced(machine, tmp_path):
    (tmp_path / "ntskeys").write_bytes(FILE[:-3])
    keys = manager(machine, directory=str(tmp_path))
    keys.start()
    assert len(machine.lines("Could not load server NTS keys")) == 1
    assert parse_file((tmp_path / "ntskeys").read_bytes())[0] == keys.keys


@pytest.mark.parametrize("kind", ["directory", "pipe", "long"])
def test_what_is_no_plain_small_file_is_told(machine, tmp_path, kind):
    path = tmp_path / "ntskeys"
    if kind == "directory":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    else:
        path.write_bytes(FILE + bytes(2000))
    manager(machine, directory=str(tmp_path)).start()
    assert len(machine.lines("Could not load server NTS keys")) == 1


def test_a_directory_that_cannot_be_written_is_told(machine, tmp_path):
    keys = manager(machine, directory=str(tmp_path / "missing"))
    keys.start()
    assert machine.lines("Could not save server NTS keys")
    assert len(keys.keys) == 4


def test_no_directory_is_told(machine):
    manager(machine).start()
    assert machine.lines() == ["No ntsdumpdir to save server keys"]


def test_readable_keys_are_told(machine, tmp_path):
    (tmp_path / "ntskeys").write_bytes(FILE)
    (tmp_path / "ntskeys").chmod(0o644)
    manager(machine, directory=str(tmp_path)).start()
    assert machine.lines("can be read by others")


def test_a_link_in_place_of_the_temporary_file_is_not_followed(machine, tmp_path):
    victim = tmp_path / "victim"
    victim.write_text("precious")
    (tmp_path / "ntskeys.tmp").symlink_to(victim)
    manager(machine, directory=str(tmp_path)).start()
    assert victim.read_text() == "precious"
    assert parse_file((tmp_path / "ntskeys").read_bytes())


def test_keys_managed_outside(machine, tmp_path):
    path = tmp_path / "ntskeys"
    keys = manager(machine, directory=str(tmp_path), rotate_s=0)
    keys.start()
    assert machine.lines("Could not load server NTS keys")
    assert not path.exists()
    path.write_bytes(FILE)
    keys.rekey()
    assert keys.keys == parse_file(FILE)[0]
    machine.world.run(10 * WEEK_S)
    keys.save()
    assert path.read_bytes() == FILE
    path.write_bytes(FILE[:-5])
    keys.rekey()
    assert keys.keys == parse_file(FILE)[0]


def test_rekey_leaves_keys_of_our_own_alone(machine, tmp_path):
    keys = manager(machine, directory=str(tmp_path))
    keys.start()
    before = keys.keys
    (tmp_path / "ntskeys").write_bytes(FILE)
    keys.rekey()
    assert keys.keys == before


def test_derived_keys_are_a_function_of_secret_period_and_length():
    secrets = (SharedSecret(SECRET),)
    # fixed values: members of a group may run different releases
    key = derived_key(secrets, 2800, WEEK_S)
    assert (key.identifier, key.key.hex()) == DERIVED
    assert key.identifier % 4 == 2800 % 4
    others = [
        derived_key(secrets, 2801, WEEK_S),
        derived_key(secrets, 2800, WEEK_S + 1),
        derived_key((SharedSecret(SECRET[::-1]),), 2800, WEEK_S),
    ]
    assert len({k.key for k in [key, *others]}) == 4


def test_members_agree_and_turn_over_together(tmp_path):
    """Two servers whose clocks differ by 4 s accept each other's cookies at every moment, switches included."""
    path = tmp_path / "secret"
    path.write_text(SECRET.hex() + "\n")
    path.chmod(0o640)
    world = World(2, epoch_s=EPOCH_S // 100 * 100)
    rings = []
    for offset_s in (0.0, 4.0):
        machine = Machine(world, f"node{offset_s}", offset_s=offset_s)
        machine.boot()
        rings.append(KeyRing())
        manager(machine, rings[-1], rotate_s=100, shared_file=str(path)).start()
    seen = set()
    for _ in range(150):
        world.run(2)
        for mine, other in (rings, rings[::-1]):
            cookie = mine.make_cookie(SIV, bytes(32), bytes(32))
            seen.add(cookie[:4])
            assert other.open_cookie(cookie) is not None
    assert len(seen) == 4


def test_a_stepped_clock_changes_derived_keys(machine, tmp_path):
    path = tmp_path / "secret"
    path.write_text(SECRET.hex())
    path.chmod(0o600)
    keys = manager(machine, shared_file=str(path))
    keys.start()
    assert keys.keys == derived_keys((SharedSecret(SECRET),), EPOCH_S, WEEK_S)
    machine.clock.step(machine.world.now_ns, 100 * WEEK_S * 10**9)
    machine.world.run(11)
    assert keys.keys == derived_keys((SharedSecret(SECRET),), EPOCH_S + 100 * WEEK_S, WEEK_S)


def test_a_clock_before_the_epoch_has_keys():
    assert len(derived_keys((SharedSecret(SECRET),), -5.0, WEEK_S)) == 4


def test_a_new_secret_begins_with_a_period():
    secrets = parse_secrets(b"# group\n" + SECRET.hex().encode() + b"\n" + SECRET[::-1].hex().encode() + b" 1500\n")
    old, new = (SharedSecret(SECRET),), (SharedSecret(SECRET[::-1]),)
    keys = derived_keys(secrets, 1450, 100)
    assert keys == (
        derived_key(old, 12, 100),
        derived_key(old, 13, 100),
        derived_key(old, 14, 100),
        derived_key(new, 15, 100),
    )
    assert derived_keys(secrets, 1600, 100)[1:] == tuple(derived_key(new, p, 100) for p in (15, 16, 17))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"# nothing\n",
        b"00" * 31,
        b"xy" * 32,
        b"00" * 32 + b" soon",
        b"00" * 32 + b" -1",
        b"00" * 32 + b" 1 2",
        b"00" * 32 + b"\n" + b"11" * 32,
        b"00" * 32 + b" 9\n" + b"11" * 32 + b" 8",
        b"\xff" * 64,
        b"".join(b"%064x %d\n" % (i, i) for i in range(17)),
    ],
)
def test_a_secret_file_that_does_not_fit_is_refused(data):
    with pytest.raises(KeyFileError):
        parse_secrets(data)


def test_a_member_without_its_secret_does_not_start(machine, tmp_path):
    path = tmp_path / "secret"
    with pytest.raises(FileNotFoundError):
        manager(machine, shared_file=str(path)).start()
    path.write_text(SECRET.hex())
    path.chmod(0o644)
    with pytest.raises(KeyFileError, match="everybody"):
        manager(machine, shared_file=str(path)).start()
    with pytest.raises(ValueError, match="period"):
        manager(machine, shared_file=str(path), rotate_s=0)


def test_rekey_reads_the_secret_again_and_keeps_the_old_one_when_it_cannot(machine, tmp_path):
    path = tmp_path / "secret"
    path.write_text(SECRET.hex())
    path.chmod(0o600)
    keys = manager(machine, shared_file=str(path), directory=str(tmp_path))
    keys.start()
    before = keys.keys
    path.write_text("nonsense")
    keys.rekey()
    assert keys.keys == before
    assert machine.lines("Could not read")
    path.write_text(SECRET[::-1].hex())
    keys.rekey()
    assert keys.keys == derived_keys((SharedSecret(SECRET[::-1]),), EPOCH_S, WEEK_S)
    keys.save()
    assert not (tmp_path / "ntskeys").exists()


def test_another_period_gives_the_current_key_another_end(machine, tmp_path):
    keys = manager(machine, directory=str(tmp_path))
    keys.start()
    before = keys.keys
    machine.world.run(WEEK_S / 2)
    settings = {"directory": str(tmp_path), "rotate_s": WEEK_S, "shared_file": None}
    keys.follow(**settings)
    keys.follow(**settings | {"rotate_s": WEEK_S * 3 // 4})
    assert keys.keys == before
    machine.world.run(WEEK_S / 4 - 10)
    assert keys.keys == before
    machine.world.run(20)
    assert keys.keys[:3] == before[1:]
    # a period that is over already
    machine.world.run(WEEK_S / 4)
    keys.follow(**settings | {"rotate_s": WEEK_S // 8})
    machine.world.run(1)
    assert keys.rotations == 2


def test_another_directory_gets_the_keys(machine, tmp_path):
    first, second = tmp_path / "first", tmp_path / "second"
    first.mkdir()
    second.mkdir()
    keys = manager(machine, directory=str(first))
    keys.start()
    keys.follow(directory=str(second), rotate_s=WEEK_S, shared_file=None)
    assert parse_file((second / "ntskeys").read_bytes())[0] == keys.keys
    # kept by somebody else from now on
    (second / "ntskeys").write_bytes(FILE)
    keys.follow(directory=str(second), rotate_s=0, shared_file=None)
    assert keys.keys == parse_file(FILE)[0]
    machine.world.run(2 * WEEK_S)
    assert (second / "ntskeys").read_bytes() == FILE
    keys.follow(directory=None, rotate_s=WEEK_S, shared_file=None)
    assert keys.keys == parse_file(FILE)[0]


def test_into_a_group_and_out_of_it(machine, tmp_path):
    path = tmp_path / "secret"
    keys = manager(machine, directory=str(tmp_path))
    keys.start()
    own = keys.keys
    settings = {"directory": str(tmp_path), "rotate_s": WEEK_S, "shared_file": str(path)}
    with pytest.raises(ValueError, match="period"):
        keys.follow(**settings | {"rotate_s": 0})
    keys.follow(**settings)
    assert keys.keys == own
    assert machine.lines(f"Could not read {path}, NTS server keys stay as they are : No such file or directory")
    path.write_text(SECRET.hex())
    path.chmod(0o600)
    keys.follow(**settings)
    derived = derived_keys((SharedSecret(SECRET),), EPOCH_S, WEEK_S)
    assert keys.keys == derived
    keys.follow(**settings | {"shared_file": None})
    assert keys.keys == derived
    machine.world.run(WEEK_S)
    assert keys.keys[:3] == derived[1:]
    assert parse_file((tmp_path / "ntskeys").read_bytes())[0] == keys.keys
