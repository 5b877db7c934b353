"""The timestamp map: the right transmit time for the right client, once."""

from __future__ import annotations

import mmap
import os
import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ntpd_fast._tsmap import TimestampMap, TimestampMapReader, init_map, map_size

SECOND = 1 << 32
MILLISECOND = SECOND // 1000
NOW = 3_900_000_000 * SECOND
DAEMON, KERNEL, HARDWARE = range(3)
ALICE, MALLORY = 0x1230, 0x4560
CHANGING = 28  # where the map's header says that its writer is at work


def memory_of(pairs: int, seed: int = 7) -> mmap.mmap:
    memory = mmap.mmap(-1, map_size(pairs))
    init_map(memory, pairs, seed)
    return memory


def new(pairs: int = 64) -> TimestampMap:
    return TimestampMap(memory_of(pairs))


def assert_tx(found: tuple[int, int] | None, tx: int, source: int) -> None:
    """Transmit times are kept to the nanosecond: 4.3 units of NTP64."""
    assert found is not None
    assert abs(found[0] - tx) <= 3
    assert found[1] == source


def test_what_was_saved_is_found_once() -> None:
    saved = new()
    saved.save(NOW | 1, NOW + MILLISECOND, DAEMON, ALICE, 0)
    assert_tx(saved.get(NOW | 1, ALICE), NOW + MILLISECOND, DAEMON)
    assert_tx(saved.take(NOW | 1, ALICE), NOW + MILLISECOND, DAEMON)
    assert saved.take(NOW | 1, ALICE) is None


def test_nothing_is_found_for_another_time() -> None:
    saved = new()
    saved.save(NOW, NOW + 5, DAEMON, ALICE, 0)
    for rx in (0, 1, NOW - 1, NOW + 1, NOW + SECOND, NOW ^ (1 << 63)):
        assert saved.get(rx, ALICE) is None


def test_another_client_neither_gets_it_nor_uses_it_up() -> None:
    saved = new()
    saved.save(NOW, NOW + MILLISECOND, DAEMON, ALICE, 0)
    assert saved.take(NOW, MALLORY) is None
    assert_tx(saved.take(NOW, ALICE), NOW + MILLISECOND, DAEMON)


def test_clients_behind_one_address_get_their_own() -> None:
    saved = new()
    for i in range(10):
        saved.save(NOW + 2 * i, NOW + 2 * i + (i + 1) * MILLISECOND, DAEMON, ALICE, 0)
    for i in reversed(range(10)):
        assert_tx(saved.take(NOW + 2 * i, ALICE), NOW + 2 * i + (i + 1) * MILLISECOND, DAEMON)


def test_a_duplicate_receive_time_serves_nobody() -> None:
    saved = new()
    saved.save(NOW, NOW + 5, DAEMON, ALICE, 0)
    saved.save(NOW, NOW + 900, DAEMON, ALICE, 0)
    assert saved.get(NOW, ALICE) is None
    saved.save(NOW, NOW + 1300, DAEMON, ALICE, 0)
    assert saved.get(NOW, ALICE) is None
    assert saved.held()[0] == 1


def test_receive_time_zero_is_not_kept() -> None:
    saved = new()
    saved.save(0, 5, DAEMON, ALICE, 0)
    assert saved.get(0, ALICE) is None
    assert saved.held() == (0, 0.0)


@pytest.mark.parametrize(
    ("difference", "kept"),
    [
        (-2 * SECOND, True),
        (-2 * SECOND - 1, False),
        (2 * SECOND - 1, True),
        (2 * SECOND, False),
        (1 << 62, False),
        (-(1 << 62), False),
    ],
)
def test_transmit_times_are_kept_within_two_seconds(difference: int, kept: bool) -> None:
    saved = new()
    saved.save(NOW, (NOW + difference) % 2**64, DAEMON, ALICE, 0)
    if kept:
        assert_tx(saved.get(NOW, ALICE), NOW + difference, DAEMON)
    else:
        assert saved.get(NOW, ALICE) is None


def test_an_unknown_transmit_time_is_not_found_but_known_as_duplicate() -> None:
    saved = new()
    saved.save(NOW, 0, DAEMON, ALICE, 0)
    assert saved.get(NOW, ALICE) is None
    saved.save(NOW, NOW + 5, DAEMON, ALICE, 0)
    assert saved.get(NOW, ALICE) is None


@settings(deadline=None)
@given(st.integers(0, 2**64 - 1), st.integers(-2 * SECOND, 2 * SECOND - 1))
def test_any_era_and_any_sign(rx: int, difference: int) -> None:
    saved = new(1)
    tx = (rx + difference) % 2**64
    saved.save(rx, tx, HARDWARE, ALICE, 0)
    found = saved.get(rx, ALICE)
    if rx == 0 or tx == 0:
        assert found is None
    else:
        assert found is not None
        assert min((found[0] - tx) % 2**64, (tx - found[0]) % 2**64) <= 3


@pytest.mark.parametrize("capacity", [1, 2, 3, 4, 5, 64, 100])
def test_a_full_map_replaces_old_pairs_in_turn(capacity: int) -> None:
    """A pair that is not used lives until at least as many newer ones were saved as the map has places."""
    memory = memory_of(capacity)
    saved = TimestampMap(memory)
    total = 5 * capacity
    for i in range(1, total + 1):
        saved.save(NOW + i * MILLISECOND, NOW + i * MILLISECOND + 500, DAEMON, ALICE, 0)
        assert saved.get(NOW + i * MILLISECOND, ALICE) is not None
        assert saved.held()[0] == min(i, capacity)
        for j in range(max(1, i - capacity + 1), i + 1):
            assert saved.get(NOW + j * MILLISECOND, ALICE) is not None
    assert TimestampMapReader(memory).replaced == total - capacity
    assert saved.held()[1] == pytest.approx((capacity - 1) * 0.001, abs=1e-6)


def test_a_used_pair_gives_its_place_back() -> None:
    """However often clients ask, each needs one place: fast ones take nothing from slow ones."""
    memory = memory_of(8)
    saved = TimestampMap(memory)
    saved.save(NOW, NOW + 5, DAEMON, MALLORY, 0)
    last = dict.fromkeys(range(7), 0)
    now = NOW
    for turn in range(100):
        for client in last:
            now += MILLISECOND
            assert (saved.take(last[client], ALICE) is not None) == (turn > 0)
            saved.save(now, now + 5, DAEMON, ALICE, 0)
            last[client] = now
    assert TimestampMapReader(memory).replaced == 0
    assert saved.held()[0] == 8
    assert_tx(saved.take(NOW, MALLORY), NOW + 5, DAEMON)


def test_pairs_nobody_comes_back_for_make_room_for_those_in_use() -> None:
    saved = new(64)
    for i in range(64):
        saved.save(NOW + i + 1, NOW + i + 9, DAEMON, MALLORY, 0)
    last = [0] * 16
    now = NOW + SECOND
    for turn in range(20):
        for client in range(16):
            now += MILLISECOND
            # the abandoned pairs are older than any in use
            assert (saved.take(last[client], ALICE) is not None) == (turn > 0)
            saved.save(now, now + 5, DAEMON, ALICE, 0)
            last[client] = now


def test_late_transmit_time_replaces_the_daemons() -> None:
    saved = new()
    saved.save(NOW, NOW + 1000, DAEMON, ALICE, 3)
    assert saved.update(NOW, NOW + MILLISECOND, KERNEL, 3, 0)
    assert_tx(saved.get(NOW, ALICE), NOW + MILLISECOND, KERNEL)
    assert saved.update(NOW, NOW + 2 * MILLISECOND, HARDWARE, 3, 0)
    assert_tx(saved.get(NOW, ALICE), NOW + 2 * MILLISECOND, HARDWARE)


@pytest.mark.parametrize(
    ("later", "accepted"),
    [
        (0, True),
        (SECOND, True),
        (SECOND + 10, False),
        (-MILLISECOND, True),
        (-MILLISECOND - 10, False),
        (-SECOND, False),
    ],
)
def test_late_transmit_time_lies_from_a_millisecond_before_to_a_second_after(later: int, accepted: bool) -> None:
    """Before: what was known when it was sent can have been a forecast."""
    saved = new()
    daemon = NOW + MILLISECOND * 5
    saved.save(NOW, daemon, DAEMON, ALICE, 0)
    assert saved.update(NOW, daemon + later, KERNEL, 0, 0) is accepted
    assert_tx(saved.get(NOW, ALICE), daemon + later if accepted else daemon, KERNEL if accepted else DAEMON)


def test_late_transmit_time_of_an_unknown_or_unsaved_answer_is_refused() -> None:
    saved = new()
    assert not saved.update(NOW, NOW + 5, KERNEL, 0, 0)
    saved.save(NOW, 0, DAEMON, ALICE, 0)
    assert not saved.update(NOW, NOW + 5, KERNEL, 0, 0)


def test_late_transmit_time_after_one_adjustment_is_read_on_the_old_clock() -> None:
    """The clock was put back by 10 ms between receiving and sending: the stamp is 10 ms too small."""
    saved = new()
    saved.save(NOW, NOW + MILLISECOND, DAEMON, ALICE, 0xFFFF)
    stamp = NOW + MILLISECOND * 2 - MILLISECOND * 10
    assert saved.update(NOW, stamp, KERNEL, 0, 10_000_000)
    found = saved.get(NOW, ALICE)
    assert found is not None
    assert abs(found[0] - (NOW + 2 * MILLISECOND)) < 10 * 5


def test_late_transmit_time_after_two_adjustments_is_refused() -> None:
    saved = new()
    saved.save(NOW, NOW + MILLISECOND, DAEMON, ALICE, 5)
    assert not saved.update(NOW, NOW + 2 * MILLISECOND, KERNEL, 7, 0)
    assert not saved.update(NOW, NOW + 2 * MILLISECOND, KERNEL, 4, 0)
    assert_tx(saved.get(NOW, ALICE), NOW + MILLISECOND, DAEMON)


@pytest.mark.parametrize("doffset_ns", [2_000_000_000, -2_000_000_000, 2**63 - 1, -(2**63)])
def test_absurd_adjustments_are_refused(doffset_ns: int) -> None:
    saved = new()
    saved.save(NOW, NOW + MILLISECOND, DAEMON, ALICE, 5)
    assert not saved.update(NOW, NOW + 2 * MILLISECOND, KERNEL, 6, doffset_ns)


def test_a_late_transmit_time_does_not_revive_a_used_pair() -> None:
    saved = new()
    saved.save(NOW, NOW + 5, DAEMON, ALICE, 0)
    saved.take(NOW, ALICE)
    saved.update(NOW, NOW + 50, KERNEL, 0, 0)
    assert saved.get(NOW, ALICE) is None


def test_unknown_step_forgets_everything() -> None:
    saved = new(4)
    for i in range(1, 7):
        saved.save(NOW + i, NOW + i + 5, DAEMON, ALICE, 0)
    saved.clear()
    assert saved.held() == (0, 0.0)
    assert all(saved.get(NOW + i, ALICE) is None for i in range(7))
    saved.save(NOW + 3, NOW + 8, DAEMON, ALICE, 0)
    assert_tx(saved.get(NOW + 3, ALICE), NOW + 8, DAEMON)


def test_small_disorder_loses_nothing() -> None:
    saved = new(200)
    order = [i ^ 5 for i in range(160)]
    for i in order:
        saved.save(NOW + (i + 1) * MILLISECOND, NOW + (i + 2) * MILLISECOND, DAEMON, ALICE, 0)
    for i in order:
        assert_tx(saved.take(NOW + (i + 1) * MILLISECOND, ALICE), NOW + (i + 2) * MILLISECOND, DAEMON)


@pytest.mark.parametrize("back", [SECOND + 1, 10 * SECOND, 1 << 62])
def test_a_backward_step_forgets_everything(back: int) -> None:
    saved = new()
    for i in range(20):
        saved.save(NOW + i * SECOND, NOW + i * SECOND + 5, DAEMON, ALICE, 0)
    now = NOW + 19 * SECOND - back
    saved.save(now, now + 90, DAEMON, ALICE, 0)
    for i in range(20):
        assert saved.get(NOW + i * SECOND, ALICE) is None or NOW + i * SECOND == now
    assert_tx(saved.get(now, ALICE), now + 90, DAEMON)
    assert saved.held() == (1, 0.0)
    # When the time comes again, it is a new exchange and no duplicate.
    saved.save(NOW + 19 * SECOND, NOW + 19 * SECOND + 90, DAEMON, ALICE, 0)
    assert_tx(saved.get(NOW + 19 * SECOND, ALICE), NOW + 19 * SECOND + 90, DAEMON)


def test_a_second_of_disorder_is_no_step() -> None:
    saved = new()
    saved.save(NOW, NOW + 5, DAEMON, ALICE, 0)
    saved.save(NOW - SECOND, NOW - SECOND + 5, DAEMON, ALICE, 0)
    assert saved.held() == (2, pytest.approx(1.0))


class Model:
    """A dictionary of what was saved: rx to tx, client and whether it is disabled."""

    def __init__(self) -> None:
        self.pairs: dict[int, list[int]] = {}

    def save(self, rx: int, tx: int, client: int) -> None:
        if rx in self.pairs:
            self.pairs[rx][2] = 1
        else:
            self.pairs[rx] = [tx, client, 0]

    def take(self, rx: int, client: int) -> int | None:
        pair = self.pairs.get(rx)
        if pair is None or pair[2] or pair[1] != client:
            return None
        return self.pairs.pop(rx)[0]


operation = st.tuples(
    st.sampled_from(["save", "take", "clear", "respawn"]), st.integers(1, 40), st.sampled_from([ALICE, MALLORY])
)


@settings(max_examples=300, deadline=None)
@given(st.integers(0, 2**64 - 1), st.lists(operation, max_size=150))
def test_against_a_dictionary(seed: int, operations: list[tuple[str, int, int]]) -> None:
    memory = memory_of(40, seed)
    saved = TimestampMap(memory)
    model = Model()
    for what, rx, client in operations:
        if what == "save":
            saved.save(NOW + rx, NOW + rx + 1000, DAEMON, client, 0)
            model.save(NOW + rx, NOW + rx + 1000, client)
        elif what == "clear" and rx == 1:
            saved.clear()
            model.pairs.clear()
        elif what == "respawn":
            struct.pack_into("=I", memory, CHANGING, 1)
            saved = TimestampMap(memory)
        else:
            found, expected = saved.take(NOW + rx, client), model.take(NOW + rx, client)
            assert (found is None) == (expected is None)
            if found is not None and expected is not None:
                assert_tx(found, expected, DAEMON)
        assert saved.held()[0] == len(model.pairs)
    assert TimestampMapReader(memory).replaced == 0


@settings(max_examples=200, deadline=None)
@given(st.integers(1, 9), st.integers(0, 2**64 - 1), st.lists(operation, max_size=150))
def test_a_small_map_never_tells_anything_wrong(
    capacity: int, seed: int, operations: list[tuple[str, int, int]]
) -> None:
    saved = TimestampMap(memory_of(capacity, seed))
    model = Model()
    for what, rx, client in operations:
        if what == "save":
            known = saved.get(NOW + rx, ALICE) or saved.get(NOW + rx, MALLORY)
            if known is None:
                # replaced, used or a duplicate: the model may know more than the map
                model.pairs.pop(NOW + rx, None)
            saved.save(NOW + rx, NOW + rx + 1000, DAEMON, client, 0)
            model.save(NOW + rx, NOW + rx + 1000, client)
        else:
            found, expected = saved.take(NOW + rx, client), model.take(NOW + rx, client)
            if found is not None:
                assert expected is not None
                assert_tx(found, expected, DAEMON)
        assert saved.held()[0] <= capacity


@pytest.mark.parametrize("clients", [1000, 1_000_000])
def test_all_clients_get_interleaved_answers(clients: int) -> None:
    """With a place for every client all second and later answers are interleaved, in whatever order they ask."""
    saved = new(clients)
    last_rx = np.zeros(clients, dtype=np.uint64)
    order = np.random.default_rng(1)
    step = SECOND // 100_000
    for turn in range(4):
        answered = saved.poll_in_turn(last_rx, NOW + turn * clients * step, step)
        assert answered == (clients if turn else 0)
        order.shuffle(last_rx)


@pytest.mark.parametrize("place", range(8))
def test_what_a_writer_left_half_done_is_repaired(place: int) -> None:
    memory = memory_of(16)
    saved = TimestampMap(memory)
    for i in range(1, 9):
        saved.save(NOW + i, NOW + i + MILLISECOND, DAEMON, ALICE, 0)
    saved.take(NOW + 3, ALICE)
    # died with a pair emptied, chains and list of free places in any state
    struct.pack_into("=Q", memory, 64 + 24 * place, 0)
    for other in range(16):
        at = 64 + 24 * other + 16
        memory[at : at + 8] = os.urandom(8)
    struct.pack_into("=I", memory, CHANGING, 1)
    again = TimestampMap(memory)
    survivors = {i for i in range(1, 9) if i not in (3, place + 1)}
    assert again.held()[0] == len(survivors)
    for i in range(1, 9):
        assert (again.take(NOW + i, ALICE) is not None) == (i in survivors)
    for i in range(20, 36):
        again.save(NOW + i, NOW + i + MILLISECOND, DAEMON, ALICE, 0)
    assert all(again.take(NOW + i, ALICE) is not None for i in range(20, 36))
    assert TimestampMapReader(memory).replaced == 0


def test_no_map() -> None:
    saved = TimestampMap(None)
    saved.save(NOW, NOW + 5, DAEMON, ALICE, 0)
    assert saved.get(NOW, ALICE) is None
    assert not saved.update(NOW, NOW + 5, KERNEL, 0, 0)
    saved.clear()
    assert saved.held() == (0, 0.0)


def test_a_new_writer_goes_on_where_the_old_one_stopped() -> None:
    memory = memory_of(16)
    TimestampMap(memory).save(NOW, NOW + MILLISECOND, KERNEL, ALICE, 0)
    assert_tx(TimestampMap(memory).take(NOW, ALICE), NOW + MILLISECOND, KERNEL)
    assert TimestampMap(memory).take(NOW, ALICE) is None


@pytest.mark.parametrize(("offset", "value"), [(0, 0), (4, 9), (8, 0), (8, 17), (8, 0xFFFFFFFF)])
def test_memory_that_is_no_map_is_refused(offset: int, value: int) -> None:
    memory = memory_of(16)
    struct.pack_into("=I", memory, offset, value)
    with pytest.raises(ValueError):
        TimestampMap(memory)
    with pytest.raises(ValueError):
        TimestampMapReader(memory)


def test_sizes_are_checked() -> None:
    memory = mmap.mmap(-1, map_size(4))
    with pytest.raises(ValueError):
        init_map(memory, 0, 1)
    with pytest.raises(ValueError):
        init_map(memory, len(memory) // 24 + 1, 1)
    with pytest.raises(ValueError):
        TimestampMap(bytearray(16))


def test_a_pair_takes_24_bytes() -> None:
    assert map_size(1001) - map_size(1) == 24_000


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 30), st.lists(st.integers(0, 2**64 - 1), max_size=60))
def test_a_map_of_garbage_is_harmless(capacity: int, times: list[int]) -> None:
    """Whatever a dead writer left below the header: nothing outside is touched and saving goes on."""
    memory = memory_of(capacity)
    memory[12:32] = os.urandom(20)
    memory[64 : map_size(capacity)] = os.urandom(map_size(capacity) - 64)
    saved = TimestampMap(memory)
    for rx in times:
        saved.take(rx, ALICE)
        saved.save(rx, (rx + 100) % 2**64, DAEMON, ALICE, 0)
    assert saved.held()[0] <= capacity
