"""Forms of numbers: what is one, what is left of the word, and what happens beyond 32 bits."""

import math

import pytest

from ntpd_fast.config.words import (
    NotANumber,
    Scanner,
    hex_prefix,
    int_prefix,
    real_prefix,
    strict_int,
    u32_prefix,
)


@pytest.mark.parametrize(("word", "value"), [("0", 0), ("002", 2), ("+7", 7), ("-7", -7), ("9" * 40, int("9" * 40))])
def test_strict_int(word: str, value: int) -> None:
    assert strict_int(word) == value


@pytest.mark.parametrize("word", ["", "+", "-", "1.5", "0x10", "1k", "1_0", " 1", "1 ", "1\n", "x", "１", "--1", "1e3"])
def test_strict_int_takes_only_whole_decimal_words(word: str) -> None:
    with pytest.raises(NotANumber):
        strict_int(word)


@pytest.mark.parametrize(
    ("word", "value", "rest"),
    [
        ("5", 5, ""),
        ("5x", 5, "x"),
        ("-5.5", -5, ".5"),
        ("+011123", 11123, ""),
        ("99999999999", 2**31 - 1, ""),
        ("-99999999999", -(2**31), ""),
        ("1_0", 1, "_0"),
        ("1１", 1, "１"),
    ],
)
def test_int_prefix(word: str, value: int, rest: str) -> None:
    assert int_prefix(word) == (value, rest)


@pytest.mark.parametrize("word", ["", "x5", "+", "- 1", "１", ".5"])
def test_int_prefix_needs_a_digit(word: str) -> None:
    with pytest.raises(NotANumber):
        int_prefix(word)


def test_u32_prefix() -> None:
    assert u32_prefix("4294967295x") == (2**32 - 1, "x")
    for word in ("4294967296", "-1", "", "x"):
        with pytest.raises(NotANumber):
            u32_prefix(word)


@pytest.mark.parametrize(
    ("word", "value", "rest"), [("F323", 0xF323, ""), ("0x10a", 0x10A, ""), ("f32g", 0xF32, "g"), ("10A", 0x10A, "")]
)
def test_hex_prefix(word: str, value: int, rest: str) -> None:
    assert hex_prefix(word) == (value, rest)


def test_hex_prefix_needs_a_digit() -> None:
    for word in ("", "g", "-"):
        with pytest.raises(NotANumber):
            hex_prefix(word)


@pytest.mark.parametrize(
    ("word", "value", "rest"),
    [
        ("1.5e0", 1.5, ""),
        (".5", 0.5, ""),
        ("5.", 5.0, ""),
        ("+500", 500.0, ""),
        ("-5e-5", -5e-5, ""),
        ("0x1p1", 2.0, ""),
        ("0X.8", 0.5, ""),
        ("0x1p99999", math.inf, ""),
        ("1e99999", math.inf, ""),
        ("1e-99999", 0.0, ""),
        ("inf", math.inf, ""),
        ("-INFINITY", -math.inf, ""),
        ("infx", math.inf, "x"),
        ("1e-3junk", 1e-3, "junk"),
        ("1ex", 1.0, "x"),
        ("1e+", 1.0, ""),
        ("0x1p", 1.0, ""),
        ("1.2.3", 1.2, ".3"),
        ("1_0", 1.0, "_0"),
    ],
)
def test_real_prefix(word: str, value: float, rest: str) -> None:
    assert real_prefix(word) == (value, rest)


def test_real_prefix_knows_nan() -> None:
    value, rest = real_prefix("nanometre")
    assert math.isnan(value)
    assert rest == "ometre"


@pytest.mark.parametrize("word", ["", "x", ".", "+", "-.", "0x", "0xg", "infi", "e5", "１"])
def test_real_prefix_needs_a_number(word: str) -> None:
    with pytest.raises(NotANumber):
        real_prefix(word)


def test_scanner_makes_the_rest_of_a_word_the_next_word() -> None:
    scanner = Scanner(["5iburst", "1.5", "F323", "7", "9"])
    assert scanner.int_value() == 5
    assert scanner.word() == "iburst"
    assert scanner.real_value() == 1.5
    assert scanner.hex_value() == 0xF323
    assert scanner.u32_value() == 7
    assert scanner.more()
    assert scanner.long_value() == 9
    assert not scanner.more()
    assert scanner.word() is None
    with pytest.raises(NotANumber):
        scanner.int_value()
