"""Places for sessions: fairness between networks, checked against a plain model."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ntpd_fast._ketable import SessionTable

A, B, C, D, E = range(1000, 1005)


def filled(places, *prefixes):
    """A table whose places are taken in their order."""
    table = SessionTable(places)
    assert [table.add(prefix, float(i)) for i, prefix in enumerate(prefixes)] == list(range(len(prefixes)))
    return table


def test_the_bound():
    table = filled(2, A, B)
    assert table.full
    with pytest.raises(ValueError, match="no place"):
        table.add(C, 0.0)
    for places in (0, -1, 1 << 30):
        with pytest.raises(ValueError, match="places"):
            SessionTable(places)


def test_only_taken_places_can_be_given_up():
    table = filled(3, A)
    for place in (-1, 1, 3, 2**31 - 1):
        with pytest.raises(ValueError, match="nobody"):
            table.remove(place)
    table.remove(0)
    with pytest.raises(ValueError, match="nobody"):
        table.remove(0)


def test_oldest_first():
    table = filled(3, A, B, C)
    assert table.oldest() == (0.0, 0)
    table.remove(0)
    assert table.oldest() == (1.0, 1)
    # its place is taken again, by the newest
    assert table.add(A, 3.0) == 0
    assert table.oldest() == (1.0, 1)


def test_the_network_with_most_sessions_gives_way():
    table = filled(6, A, A, B, A, B, B)
    # both have three
    assert table.give_way(C) == 0
    assert table.give_way(A) is None
    table.remove(2)
    table.add(C, 6.0)
    assert table.give_way(B) is None
    assert table.give_way(C) == 0


def test_one_network_may_have_every_place_and_a_newcomer_from_it_none():
    table = filled(4, A, A, A, A)
    assert table.give_way(A) is None
    assert table.give_way(B) == 0


def test_fewer_places_than_sessions():
    table = filled(4, A, A, A, A)
    table.resize(2)
    assert table.full
    # the place that somebody gave up would be nobody's
    assert table.give_way(B) is None
    table.remove(0)
    table.remove(1)
    assert table.full
    table.resize(3)
    table.add(A, 5.0)
    assert table.give_way(B) == 2
    with pytest.raises(ValueError, match="without places"):
        table.resize(0)


def test_more_places_under_those_that_are_taken():
    table = filled(3, A, B, A)
    table.resize(1000)
    assert not table.full
    places = [table.add(prefix, 3.0) for prefix in range(997)]
    assert table.full
    assert sorted(places) == list(range(3, 1000))
    assert (table.count(A), table.count(B), table.count(5), table.count(C)) == (2, 1, 1, 0)
    assert table.oldest() == (0.0, 0)
    assert table.give_way(C) == 0


def test_nobody_gives_way_among_equals():
    assert filled(4, A, B, C, D).give_way(E) is None


@given(
    st.integers(1, 6),
    st.lists(st.tuples(st.sampled_from(["add", "remove", "resize"]), st.integers(0, 4)), max_size=80),
)
@settings(deadline=None, max_examples=300)
def test_against_a_plain_model(places, actions):
    table = SessionTable(places)
    model = []  # (place, prefix, since), oldest first
    for number, (action, value) in enumerate(actions):
        if action == "resize":
            places = value + 1
            table.resize(places)
        elif action == "remove" and model:
            place, _, _ = model.pop(value % len(model))
            table.remove(place)
        elif len(model) < places:
            place = table.add(value, float(number))
            assert place not in {taken for taken, _, _ in model}
            model.append((place, value, float(number)))
        else:
            counts = {p: sum(prefix == p for _, prefix, _ in model) for _, p, _ in model}
            victim = table.give_way(value)
            if len(model) > places or max(counts.values()) <= counts.get(value, 0) + 1:
                assert victim is None
            else:
                network = next(prefix for place, prefix, _ in model if place == victim)
                assert counts[network] == max(counts.values())
                assert victim == next(place for place, prefix, _ in model if prefix == network)
        assert len(table) == len(model)
        assert table.full == (len(model) >= places)
        assert table.oldest() == ((model[0][2], model[0][0]) if model else None)
        for p in range(5):
            assert table.count(p) == sum(prefix == p for _, prefix, _ in model)
