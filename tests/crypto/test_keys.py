"""Derivation, purposes, and key-encryption keys."""

from __future__ import annotations

import base64
import copy
import os

import pytest
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from memory_plugin.crypto.kek import CallbackKek, Kek, LocalKek
from memory_plugin.crypto.keys import PLAINTEXT, PURPOSES, Mac, PublicKey, RetiredKey, RootKey, hkdf
from memory_plugin.errors import ConfigurationError, InvalidInputError, KeyServiceError, UnknownKeyError
from memory_plugin.protocols import SubjectKey
from tests.crypto.helpers import new_key

# RFC 5869, appendix A: key, salt, info, output.
RFC_5869 = [
    (
        "0b" * 22,
        "000102030405060708090a0b0c",
        "f0f1f2f3f4f5f6f7f8f9",
        "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865",
    ),
    (
        bytes(range(0x50)).hex(),
        bytes(range(0x60, 0xB0)).hex(),
        bytes(range(0xB0, 0x100)).hex(),
        (
            "b11e398dc80327a1c8e7f78c596a49344f012eda2d4efad8a050cc4c19afa97c59045a99cac7827271cb41c65e590e09"
            "da3275600c2f09b8367793a9aca3db71cc30c58179ec3e87c14c01d5c1f3434f1d87"
        ),
    ),
    ("0b" * 22, "", "", "8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d9d201395faa4b61a96c8"),
]


@pytest.mark.parametrize(("key", "salt", "info", "output"), RFC_5869)
def test_rfc_5869(key: str, salt: str, info: str, output: str) -> None:
    derive = HKDF(SHA256(), len(output) // 2, bytes.fromhex(salt), bytes.fromhex(info)).derive
    assert derive(bytes.fromhex(key)).hex() == output


def test_our_use_is_its_third_case() -> None:
    key, _, _, output = RFC_5869[2]
    assert hkdf(bytes.fromhex(key), b"").hex() == output[:64]


def test_rfc_4231_case_2() -> None:
    assert Mac(b"Jefe", "sha256").of(b"what do ya want for nothing?").hex() == (
        "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
    )


def test_no_key_serves_two_purposes() -> None:
    keys: list[SubjectKey] = [new_key(), new_key()]
    derived = {key.derive(purpose) for key in keys for purpose in PURPOSES}
    assert len(derived) == 2 * len(PURPOSES) == 10
    assert {len(sub_key) for sub_key in derived} == {32}


@pytest.mark.parametrize("key", [new_key(), RetiredKey.of(new_key()), PublicKey()], ids=["root", "retired", "public"])
@pytest.mark.parametrize("purpose", ["", "Record", "audit"])
def test_there_is_no_other_purpose(key: SubjectKey, purpose: str) -> None:
    with pytest.raises(InvalidInputError, match="there are record, term, filter, vector, id"):
        key.derive(purpose)


def test_a_retired_key_opens_nothing() -> None:
    key = new_key()
    retired = RetiredKey.of(key)
    assert retired.id == key.id
    for purpose in PURPOSES[1:]:
        assert retired.derive(purpose) == key.derive(purpose)
    with pytest.raises(UnknownKeyError, match=f"key {key.id.hex()} was retired"):
        retired.derive("record")
    assert key.derive("record") not in retired.material()
    assert key.material() not in retired.material()


def test_wrong_lengths() -> None:
    for key_id, size in ((b"abc", 32), (b"abcde", 32), (b"abcd", 31), (b"abcd", 33)):
        with pytest.raises(InvalidInputError):
            RootKey(key_id, bytes(size))
    for key_id, size in ((b"abc", 128), (b"abcd", 127)):
        with pytest.raises(InvalidInputError):
            RetiredKey(key_id, bytes(size))
    with pytest.raises(InvalidInputError, match="32 bytes, not 16"):
        LocalKek(bytes(16))


def test_plaintext_is_one_word() -> None:
    assert repr(PLAINTEXT) == "PLAINTEXT"
    assert copy.deepcopy(PLAINTEXT) is PLAINTEXT
    assert PLAINTEXT.destroy("subject") == 0
    (key,) = PLAINTEXT.keys("subject", create=False)
    assert key.id == bytes(4)
    assert key.derive("term") == PublicKey().derive("term") != key.derive("filter")


@pytest.mark.parametrize("kek", [LocalKek.generate(), LocalKek(bytes(32))], ids=["generated", "zero"])
def test_wrapping(kek: LocalKek) -> None:
    wrapped = kek.wrap(b"material", b"context")
    assert kek.unwrap(wrapped, b"context") == b"material"
    assert wrapped != kek.wrap(b"material", b"context")
    changed = bytes([wrapped[0] ^ 1]) + wrapped[1:]
    refused = [(wrapped, b"Context"), (changed, b"context"), (wrapped[:-1], b"context"), (b"", b"context")]
    for data, context in [*refused, (wrapped[:20], b"context")]:
        with pytest.raises(KeyServiceError, match=f"KEK {kek.id}"):
            kek.unwrap(data, context)
    with pytest.raises(KeyServiceError):
        LocalKek.generate().unwrap(wrapped, b"context")


def test_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    key = b"\xff\xef" * 16
    for text in (base64.b64encode(key), base64.urlsafe_b64encode(key), b" " + base64.b64encode(key) + b"\n"):
        monkeypatch.setenv("MEMORY_PLUGIN_KEK", text.decode())
        assert LocalKek.from_environment().id == LocalKek(key).id
    monkeypatch.setenv("OTHER", base64.b64encode(bytes(32)).decode())
    assert LocalKek.from_environment("OTHER").id == LocalKek(bytes(32)).id


@pytest.mark.parametrize("text", ["", " ", "secret", "c2VjcmV0", base64.b64encode(bytes(31)).decode(), "é" * 44])
def test_nothing_usable_in_the_environment(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEMORY_PLUGIN_KEK", text)
    with pytest.raises(ConfigurationError, match=r"MEMORY_PLUGIN_KEK is not .*make one with") as caught:
        LocalKek.from_environment()
    assert not text.strip() or text not in str(caught.value)
    monkeypatch.delenv("MEMORY_PLUGIN_KEK")
    with pytest.raises(ConfigurationError, match="is not set"):
        LocalKek.from_environment()


def test_a_service() -> None:
    inner = LocalKek.generate()
    kek: Kek = CallbackKek(inner.wrap, inner.unwrap, "kms/key/1")
    assert kek.id == "kms/key/1"
    assert repr(kek) == "<CallbackKek kms/key/1>"
    secret = os.urandom(32)
    assert kek.unwrap(kek.wrap(secret, b"context"), b"context") == secret


def test_a_service_that_fails() -> None:
    def down(data: bytes, context: bytes) -> bytes:
        raise ConnectionError("no route")

    kek = CallbackKek(down, down, "kms/key/1")
    for call in (kek.wrap, kek.unwrap):
        with pytest.raises(KeyServiceError, match="kms/key/1: ConnectionError: no route") as caught:
            call(b"", b"")
        assert isinstance(caught.value.__cause__, ConnectionError)
        assert caught.value.provider == "kms/key/1"


def test_the_public_key_hides_nothing_and_seals_nothing() -> None:
    assert repr(PublicKey()) == "<PublicKey>"
    assert PublicKey().derive("term") == PublicKey().derive("term")
    with pytest.raises(ConfigurationError, match="no key to seal with"):
        PublicKey().derive("record")
