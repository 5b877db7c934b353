"""AES-SIV-CMAC-256 and AES-128-GCM-SIV against the RFCs' vectors and against `cryptography` as an independent peer."""

import json
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCMSIV, AESSIV
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ntpd_fast._aead import Aead, key_size, nonce_size, siv_seal

VECTORS = json.loads((Path(__file__).parents[2] / "data" / "aead_vectors.json").read_text())
SIV, GCM_SIV = 15, 30


def names(vectors):
    return [v["name"] for v in vectors]


@pytest.mark.parametrize("vector", VECTORS["aes_siv_cmac_256"], ids=names(VECTORS["aes_siv_cmac_256"]))
def test_siv_vectors(vector):
    key, plain, output = (bytes.fromhex(vector[k]) for k in ("key", "plaintext", "output"))
    components = [bytes.fromhex(c) for c in vector["s2v_components"]]
    assert siv_seal(key, components, plain) == output
    if len(components) == 2:
        # the form NTS uses: AD and nonce
        assert Aead(SIV, key).seal(components[1], components[0], plain) == output
        assert Aead(SIV, key).open(components[1], components[0], output) == plain


@pytest.mark.parametrize("vector", VECTORS["aes_128_gcm_siv"], ids=names(VECTORS["aes_128_gcm_siv"]))
def test_gcm_siv_vectors(vector):
    key, nonce, ad, plain, output = (bytes.fromhex(vector[k]) for k in ("key", "nonce", "aad", "plaintext", "output"))
    assert Aead(GCM_SIV, key).seal(nonce, ad, plain) == output
    assert Aead(GCM_SIV, key).open(nonce, ad, output) == plain


def test_gcm_siv_counter_wraps_alone():
    """The 32-bit counter wraps without a carry (RFC 8452 §4). The plaintext was solved for a tag starting ffffffff."""
    key = bytes.fromhex("000102030405060708090a0b0c0d0e0f")
    nonce = bytes.fromhex("202122232425262728292a2b")
    plain = bytes.fromhex("6e8868e2c809d929d5e080da052717f27365636f6e6420626c6f636b2e2e2e217468697264")
    sealed = AESGCMSIV(key).encrypt(nonce, plain, None)
    assert sealed[-16:] == bytes.fromhex("ffffffff" + "00" * 12)
    assert Aead(GCM_SIV, key).seal(nonce, b"", plain) == sealed
    assert Aead(GCM_SIV, key).open(nonce, b"", sealed) == plain


@given(
    st.binary(min_size=32, max_size=32),
    st.binary(min_size=1, max_size=64),
    st.binary(max_size=600),
    st.binary(min_size=1, max_size=1200),
)
@settings(max_examples=300, deadline=None)
@example(bytes(32), bytes(16), b"", bytes(64))
def test_siv_agrees_with_openssl(key, nonce, ad, plain):
    sealed = AESSIV(key).encrypt(plain, [ad, nonce])
    ours = Aead(SIV, key)
    assert ours.seal(nonce, ad, plain) == sealed
    assert ours.open(nonce, ad, sealed) == plain


@given(
    st.binary(min_size=16, max_size=16),
    st.binary(min_size=12, max_size=12),
    st.binary(max_size=600),
    st.binary(max_size=1200),
)
@settings(max_examples=300, deadline=None)
def test_gcm_siv_agrees_with_openssl(key, nonce, ad, plain):
    sealed = AESGCMSIV(key).encrypt(nonce, plain, ad)
    ours = Aead(GCM_SIV, key)
    assert ours.seal(nonce, ad, plain) == sealed
    assert ours.open(nonce, ad, sealed) == plain


@pytest.mark.parametrize(("algorithm", "size", "nonce"), [(SIV, 32, 16), (GCM_SIV, 16, 12)])
def test_any_flipped_bit_is_refused(algorithm, size, nonce):
    aead = Aead(algorithm, bytes(range(size)))
    ad, plain, number = b"associated data", b"plaintext that is longer than two blocks", bytes(range(nonce))
    sealed = aead.seal(number, ad, plain)
    assert aead.open(number, ad, sealed) == plain
    for i in range(len(sealed)):
        for bit in range(8):
            assert aead.open(number, ad, sealed[:i] + bytes([sealed[i] ^ 1 << bit]) + sealed[i + 1 :]) is None
    for i in range(len(ad)):
        assert aead.open(number, ad[:i] + bytes([ad[i] ^ 1]) + ad[i + 1 :], sealed) is None
    for i in range(nonce):
        assert aead.open(number[:i] + bytes([number[i] ^ 1]) + number[i + 1 :], ad, sealed) is None
    for cut in range(len(sealed)):
        assert aead.open(number, ad, sealed[:cut]) is None


def test_limits_of_the_algorithms():
    assert (key_size(SIV), key_size(GCM_SIV), key_size(16), key_size(-1)) == (32, 16, 0, 0)
    assert (nonce_size(SIV), nonce_size(GCM_SIV)) == (16, 12)
    with pytest.raises(ValueError, match="not supported"):
        Aead(16, bytes(32))
    with pytest.raises(ValueError, match="32 bytes, not 31"):
        Aead(SIV, bytes(31))
    with pytest.raises(ValueError, match="nonce of 0 bytes"):
        Aead(SIV, bytes(32)).seal(b"", b"", b"")
    for length in (11, 13):
        with pytest.raises(ValueError, match="nonce of"):
            Aead(GCM_SIV, bytes(16)).seal(bytes(length), b"", b"")
        assert Aead(GCM_SIV, bytes(16)).open(bytes(length), b"", bytes(16)) is None
