"""Places for sessions: fairness between networks, checked against a plain model."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ntpd_fast.server.ntske_table import SessionTable


def filled(places, prefixes):
    table = SessionTable(places)
    for i, prefix in enumerate(prefixes):
        table.add((prefix, i), prefix.encode(), float(i))
    return table


def test_the_bound():
    table = filled(2, "ab")
    assert table.full
    with pytest.raises(ValueError, match="no place"):
        table.add("more", b"c", 0.0)
    with pytest.raises(ValueError, match="without places"):
        SessionTable(0)


def test_oldest_first():
    table = filled(3, "abc")
    assert table.oldest() == (0.0, ("a", 0))
    table.remove(("a", 0))
    assert table.oldest() == (1.0, ("b", 1))


def test_the_network_with_most_sessions_gives_way():
    table = filled(6, "aababb")
    # both have three
    assert table.give_way(b"c") == ("a", 0)
    assert table.give_way(b"a") is None
    table.remove(("b", 2))
    table.add(("c", 6), b"c", 6.0)
    assert table.give_way(b"b") is None
    assert table.give_way(b"c") == ("a", 0)


def test_one_network_may_have_every_place_and_a_newcomer_from_it_none():
    table = filled(4, "aaaa")
    assert table.give_way(b"a") is None
    assert table.give_way(b"b") == ("a", 0)


def test_fewer_places_than_sessions():
    table = SessionTable(4)
    for number in range(4):
        table.add(number, b"a", float(number))
    table.resize(2)
    assert table.full
    # the place that somebody gave up would be nobody's
    assert table.give_way(b"b") is None
    table.remove(0)
    table.remove(1)
    assert table.full
    table.resize(3)
    table.add(5, b"a", 5.0)
    assert table.give_way(b"b") == 2
    with pytest.raises(ValueError, match="without places"):
        table.resize(0)


def test_nobody_gives_way_among_equals():
    assert filled(4, "abcd").give_way(b"e") is None


@given(st.integers(1, 6), st.lists(st.tuples(st.booleans(), st.integers(0, 4)), max_size=60))
@settings(deadline=None, max_examples=200)
def test_against_a_plain_model(places, actions):
    table = SessionTable(places)
    model = []
    for number, (removes, value) in enumerate(actions):
        prefix = bytes([value])
        if removes and model:
            session = model.pop(value % len(model))
            table.remove(session)
        elif len(model) < places:
            session = (number, prefix)
            model.append(session)
            table.add(session, prefix, float(number))
        else:
            counts = {p: sum(s[1] == p for s in model) for p in {s[1] for s in model}}
            victim = table.give_way(prefix)
            if max(counts.values()) <= counts.get(prefix, 0) + 1:
                assert victim is None
            else:
                assert counts[victim[1]] == max(counts.values())
                assert victim == next(s for s in model if s[1] == victim[1])
        assert len(table) == len(model)
        assert table.full == (len(model) == places)
        assert table.oldest() == ((float(model[0][0]), model[0]) if model else None)
        for p in range(5):
            assert table.count(bytes([p])) == sum(s[1] == bytes([p]) for s in model)
