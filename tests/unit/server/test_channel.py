"""Messages between the supervisor and its children."""

import os

import pytest

from ntpd_fast.server.channel import MESSAGE_BYTES, Channel, ChannelClosed, Message, Verb


@pytest.fixture
def pair():
    ends = Channel.pair()
    yield ends
    for end in ends:
        end.close()


def test_every_verb_crosses(pair):
    one, other = pair
    for verb in Verb:
        one.send(verb)
        one.send(verb, "text of ä message")
        assert other.receive() == Message(verb)
        assert other.receive() == Message(verb, "text of ä message")
    assert other.receive() is None


def test_long_text_is_cut(pair):
    one, other = pair
    one.send(Verb.STATUS, "é" * MESSAGE_BYTES)
    message = other.receive()
    assert message is not None
    assert len(message.text) <= MESSAGE_BYTES


def test_sender_never_waits_and_counts_what_is_lost(pair):
    one, _ = pair
    for _ in range(100_000):
        one.send(Verb.ALIVE)
        if one.dropped:
            break
    assert one.dropped == 1


def test_end_of_the_other_side(pair):
    one, other = pair
    one.send(Verb.READY)
    one.close()
    assert other.receive() == Message(Verb.READY)
    with pytest.raises(ChannelClosed):
        other.receive()
    other.send(Verb.GO)
    assert other.dropped == 1


def test_unknown_word_is_our_bug(pair):
    one, other = pair
    one._socket.send(b"nonsense")
    with pytest.raises(ValueError, match="nonsense"):
        other.receive()


def test_descriptors_arrive_as_new_ones(pair):
    one, other = pair
    read_end, write_end = os.pipe()
    one.send(Verb.ADD, "127.0.0.1:123", [write_end])
    os.close(write_end)
    message = other.receive()
    assert (message.verb, message.text, len(message.descriptors)) == (Verb.ADD, "127.0.0.1:123", 1)
    os.write(message.descriptors[0], b"x")
    assert os.read(read_end, 1) == b"x"
    assert not os.get_inheritable(message.descriptors[0])
    os.close(message.descriptors[0])
    os.close(read_end)


def test_descriptors_of_a_child_are_closed_and_its_bug(pair):
    one, other = pair
    read_end, write_end = os.pipe()
    one.send(Verb.STATUS, "x", [write_end])
    os.close(write_end)
    with pytest.raises(ValueError, match="status"):
        other.receive()
    assert os.read(read_end, 1) == b""
    os.close(read_end)
