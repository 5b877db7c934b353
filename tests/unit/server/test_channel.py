"""Messages between the supervisor and its children."""

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
