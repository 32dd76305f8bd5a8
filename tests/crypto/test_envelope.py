"""Nothing that was changed is accepted, and every refusal is one of ours."""

from __future__ import annotations

import os
import random
from collections import Counter

import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import given, settings
from hypothesis import strategies as st

from memory_plugin.crypto import envelope
from memory_plugin.crypto.encoding import frame, from_text, to_text, utf8
from memory_plugin.crypto.envelope import OVERHEAD, Place, bucket, pad, unpad
from memory_plugin.crypto.keys import Mac
from memory_plugin.errors import (
    DecryptionError,
    InvalidInputError,
    SealError,
    UnknownKeyError,
    UnsealedPayloadError,
    WrongKeyError,
)
from tests.crypto.helpers import POINT, finish, new_sealer, raw, start_python

PLACE = Place("store", "subject", POINT, "e")


SEALER = new_sealer()


def refusal(data: bytes) -> type[Exception]:
    """The error that opening raises; fails where something is accepted."""
    try:
        SEALER.open(POINT, "e", to_text(data))
    except SealError as error:
        return type(error)
    raise AssertionError("accepted")


@given(st.binary(max_size=5000))
def test_round_trip(plaintext: bytes) -> None:
    sealed = SEALER.seal(POINT, "e", plaintext)
    assert SEALER.open(POINT, "e", sealed) == plaintext
    assert len(raw(sealed)) == OVERHEAD + bucket(4 + len(plaintext))


def test_100_000_flipped_bits() -> None:
    rng = random.Random(1)
    sealed = [bytearray(raw(SEALER.seal(POINT, "e", os.urandom(size)))) for size in (0, 29, 60, 61, 200)]
    seen: Counter[type[Exception]] = Counter()
    for _ in range(100_000):
        data = rng.choice(sealed)
        bit = rng.randrange(8 * len(data))
        data[bit // 8] ^= 1 << bit % 8
        seen[refusal(bytes(data))] += 1
        data[bit // 8] ^= 1 << bit % 8
    assert seen.total() == 100_000
    assert set(seen) == {UnsealedPayloadError, UnknownKeyError, WrongKeyError, DecryptionError}


@pytest.mark.parametrize(
    ("byte", "error"),
    [
        (0, UnsealedPayloadError),
        (1, DecryptionError),
        (2, UnknownKeyError),
        (5, UnknownKeyError),
        (6, WrongKeyError),
        (29, WrongKeyError),
        (30, WrongKeyError),
        (61, WrongKeyError),
        (62, DecryptionError),
        (-1, DecryptionError),
    ],
)
def test_each_part_has_its_error(byte: int, error: type[Exception]) -> None:
    data = bytearray(raw(SEALER.seal(POINT, "e", b"text")))
    data[byte] ^= 0x80
    assert refusal(bytes(data)) is error


def test_all_truncations_and_extensions() -> None:
    for size in (0, 60, 61, 1021, 3000):
        data = raw(SEALER.seal(POINT, "e", os.urandom(size)))
        for length in range(len(data)):
            assert issubclass(refusal(data[:length]), DecryptionError if length else UnsealedPayloadError)
        for more in range(1, 33):
            for tail in (bytes(more), b"\xff" * more, os.urandom(more)):
                assert refusal(data + tail) is DecryptionError
                assert issubclass(refusal(tail + data), SealError)


def test_every_part_of_another_envelope() -> None:
    first, second = (raw(SEALER.seal(POINT, "e", text)) for text in (b"first", b"second"))
    borders = (0, 2, 6, 30, 62, len(first) - 16, len(first))
    for start in range(len(borders)):
        for end in range(start + 1, len(borders)):
            mixed = first[: borders[start]] + second[borders[start] : borders[end]] + first[borders[end] :]
            if mixed not in (first, second):
                assert issubclass(refusal(mixed), DecryptionError)


@pytest.mark.parametrize("data", [b"", b"\x01", b"\x02" * 200, b"\x00" * 200, b"\x01\x02" + bytes(200), b"\x01" * 141])
def test_what_is_no_envelope(data: bytes) -> None:
    assert refusal(data) in (UnsealedPayloadError, DecryptionError)


def test_random_bytes() -> None:
    rng = random.Random(2)
    for _ in range(20_000):
        refusal(b"\x01\x01" * rng.randrange(2) + rng.randbytes(rng.randrange(300)))


def test_salamander() -> None:
    """One ciphertext, two keys, two memories: GCM alone accepts it, the envelope does not."""
    sealers = [new_sealer(), new_sealer()]
    salt = os.urandom(24)
    records = [next(iter(sealer._records.values())) for sealer in sealers]
    ids = [sealer.newest for sealer in sealers]
    # Under two keys chosen so that both would be asked: the same id in the envelope's header.
    derived = [mac.of(envelope.header(ids[0]) + salt) for mac in records]
    associated = envelope.associated_data(ids[0], PLACE)
    body = _valid_under_both(derived[0][:32], derived[1][:32], associated)
    plain = [AESGCM(keys[:32]).decrypt(bytes(12), body, associated) for keys in derived]
    assert plain[0] != plain[1]
    for committed in (0, 1):
        parts = envelope.Envelope(ids[0], salt, derived[committed][32:], body)
        with pytest.raises(WrongKeyError):
            envelope.open_sealed(records[1 - committed], parts, PLACE)
        # Its own key gets past the commitment and the tag, to a padding that chance did not make.
        with pytest.raises(DecryptionError, match="padded"):
            envelope.open_sealed(records[committed], parts, PLACE)


def _valid_under_both(first: bytes, second: bytes, associated: bytes) -> bytes:
    """A ciphertext of 128 bytes with one GCM tag for two keys (Dodis et al., CRYPTO 2018).

    GHASH is linear over GF(2^128): one block is chosen so that both tags are equal.
    """

    def block(key: bytes, data: bytes) -> int:
        encryptor = Cipher(algorithms.AES(key), modes.ECB()).encryptor()
        return int.from_bytes(encryptor.update(data))

    hashes = [block(key, bytes(16)) for key in (first, second)]
    masks = [block(key, bytes(12) + b"\0\0\0\1") for key in (first, second)]
    padded = associated + bytes(-len(associated) % 16)
    blocks = [int.from_bytes(os.urandom(16)) for _ in range(8)]
    lengths = (8 * len(associated)) << 64 | 8 * 128
    blocks[0] = 0
    tags = []
    for key_hash, mask in zip(hashes, masks, strict=True):
        state = 0
        for item in [int.from_bytes(padded[i : i + 16]) for i in range(0, len(padded), 16)] + blocks + [lengths]:
            state = _multiply(state ^ item, key_hash)
        tags.append(state ^ mask)
    # Block 0 is followed by seven others and the lengths: it enters the tag times H^9.
    factor = _power(hashes[0], 9) ^ _power(hashes[1], 9)
    blocks[0] = _multiply(tags[0] ^ tags[1], _power(factor, 2**128 - 2))
    tag = tags[0] ^ _multiply(blocks[0], _power(hashes[0], 9))
    return b"".join(item.to_bytes(16) for item in [*blocks, tag])


def _multiply(x: int, y: int) -> int:
    product = 0
    for bit in range(127, -1, -1):
        if x >> bit & 1:
            product ^= y
        y = y >> 1 ^ (0xE1 << 120 if y & 1 else 0)
    return product


def _power(x: int, exponent: int) -> int:
    result = 1 << 127
    while exponent:
        if exponent & 1:
            result = _multiply(result, x)
        x = _multiply(x, x)
        exponent >>= 1
    return result


@given(st.lists(st.binary(max_size=6), max_size=5), st.lists(st.binary(max_size=6), max_size=5))
def test_frame_is_injective(left: list[bytes], right: list[bytes]) -> None:
    assert (frame(*left) == frame(*right)) == (left == right)


names = st.text(st.characters(), max_size=5)
places = st.builds(Place, names, names, names, names, st.integers(0, 2**32 - 1))


@settings(max_examples=1000)
@given(st.binary(min_size=4, max_size=4), places, st.binary(min_size=4, max_size=4), places)
def test_associated_data_is_injective(first: bytes, place: Place, second: bytes, other: Place) -> None:
    same = (first, place) == (second, other)
    assert (envelope.associated_data(first, place) == envelope.associated_data(second, other)) == same


@settings(max_examples=500)
@given(st.data())
def test_borders_between_names_count(data: st.DataObject) -> None:
    """The same characters cut elsewhere: what a join with a separator gets wrong."""
    text = data.draw(st.text("ab|/\0", min_size=1, max_size=12))
    cuts = st.lists(st.integers(0, len(text)), min_size=3, max_size=3).map(sorted)

    def cut(at: list[int]) -> Place:
        return Place(text[: at[0]], text[at[0] : at[1]], text[at[1] : at[2]], text[at[2] :])

    one, two = cut(data.draw(cuts)), cut(data.draw(cuts))
    assert (envelope.associated_data(b"abcd", one) == envelope.associated_data(b"abcd", two)) == (one == two)


@given(st.text(st.characters()), st.text(st.characters()))
def test_texts_are_told_apart(left: str, right: str) -> None:
    assert (utf8(left) == utf8(right)) == (left == right)


def test_a_name_must_be_text() -> None:
    with pytest.raises(InvalidInputError, match="expected a text, not int"):
        utf8(7)  # type: ignore[arg-type]


@given(st.binary(max_size=3000))
def test_padding(plaintext: bytes) -> None:
    padded = pad(plaintext)
    assert unpad(padded) == plaintext
    assert len(padded) == bucket(4 + len(plaintext))


def test_buckets() -> None:
    assert [bucket(n) for n in (1, 4, 64, 65, 128, 1024, 1025, 1089, 2048, 2049, 65536, 65537)] == (
        [64, 64, 64, 128, 128, 1024, 1088, 1152, 2048, 2176, 65536, 67584]
    )
    previous = 64
    for n in range(1, 70_000):
        size = bucket(n)
        assert size >= max(n, previous)
        assert bucket(size) == size
        assert size <= n * 1.0625 + 63
        previous = size


def test_padding_has_one_form() -> None:
    good = pad(b"x" * 70)
    bad = [
        good + bytes(64),  # a longer bucket
        good[:64],  # cut
        good[:-1] + b"\1",  # not zero
        bytes([0, 0, 0, 71]) + good[4:-1] + b"\1",
        b"\xff" * 4 + good[4:],
        bytes([0, 0, 0, 10]) + good[4:],  # what follows is not zero
        bytes(128),  # empty, in too large a bucket
        b"",
        b"\0\0",
    ]
    for padded in bad:
        with pytest.raises(DecryptionError, match="padded"):
            unpad(padded)


def test_bad_padding_inside_a_valid_envelope() -> None:
    mac = Mac(bytes(32), "sha512")
    salt = bytes(24)
    derived = mac.of(envelope.header(b"abcd") + salt)
    body = AESGCM(derived[:32]).encrypt(bytes(12), b"\xff" * 64, envelope.associated_data(b"abcd", PLACE))
    with pytest.raises(DecryptionError, match="padded"):
        envelope.open_sealed(mac, envelope.Envelope(b"abcd", salt, derived[32:], body), PLACE)


def test_too_long_to_seal() -> None:
    with pytest.raises(InvalidInputError, match="too many to seal"):
        SEALER.seal(POINT, "e", bytes(envelope.MAX_PLAINTEXT + 1))


@given(st.binary(max_size=200))
def test_text_form(data: bytes) -> None:
    assert from_text(to_text(data)) == data


def test_text_form_is_the_only_one() -> None:
    text = to_text(b"\x01\x01\x01\x01")
    assert text == "AQEBAQ=="
    others = [
        "AQEBAR==",
        "AQEBAQ=",
        "AQEBAQ",
        "AQEBAQ===",
        " AQEBAQ==",
        "AQEB\nAQ==",
        "AQEBAQ==\n",
        "AQE-AQ==",
        "ÄQEBAQ==",
    ]
    assert [from_text(other) for other in others] == [None] * len(others)
    assert from_text("AQEBAQF=") is None
    assert from_text("") == b""


def test_no_changed_character_of_the_text_is_accepted() -> None:
    sealed = SEALER.seal(POINT, "e", b"some text")
    for at, old in enumerate(sealed):
        for new in "Aa0+/= \n-_\0é":
            if new != old:
                with pytest.raises(SealError):
                    SEALER.open(POINT, "e", sealed[:at] + new + sealed[at + 1 :])


SALTS = """
import os, sys
from memory_plugin.crypto.encoding import from_text
from memory_plugin.crypto.keys import RootKey
from memory_plugin.crypto.sealer import SubjectSealer
sealer = SubjectSealer("store", "subject", [RootKey(b"abcd", bytes(32))])
for _ in range(int(sys.argv[1])):
    print(from_text(sealer.seal("point", "e", b""))[6:30].hex())
"""


def test_salts_are_unique_here_and_among_processes() -> None:
    children = [start_python(SALTS, "5000") for _ in range(4)]
    salts = [raw(SEALER.seal(POINT, "e", b""))[6:30].hex() for _ in range(100_000)]
    for child in children:
        salts += finish(child).split()
    assert len(salts) == 120_000
    assert len(set(salts)) == 120_000


FORK = """
import os
from memory_plugin.crypto.encoding import from_text
from memory_plugin.crypto.keys import RootKey
from memory_plugin.crypto.sealer import SubjectSealer
sealer = SubjectSealer("store", "subject", [RootKey(b"abcd", bytes(32))])
sealer.seal("point", "e", b"")
child = os.fork()
salts = [from_text(sealer.seal("point", "e", b""))[6:30].hex() for _ in range(500)]
os.write(1, ("\\n".join(salts) + "\\n").encode())
child and os.waitpid(child, 0)
os._exit(0)
"""


def test_salts_are_unique_after_a_fork() -> None:
    salts = finish(start_python(FORK)).split()
    assert len(salts) == len(set(salts)) == 1000
