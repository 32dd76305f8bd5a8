"""docs/sealed-format.md once more, straight from the page: shares no code with the library.

    python tests/crypto/reference.py > tests/crypto/vectors.json

was run once, when version 1 was frozen.  The vectors are never made again for a version that exists;
a test asserts that this file still gives them.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import math
import struct
import uuid
from typing import Any

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

ROOT = bytes(range(32))
KEY_ID = bytes.fromhex("a1b2c3d4")
STORE = "store-2c9d"
SUBJECT = "5f0e8e2a0b7c4d19a3f6c8d2e4b19077"
POINT = "0a1b2c3d-4e5f-8a6b-9c7d-8e9fa0b1c2d3"


def frame(*parts: bytes) -> bytes:
    return struct.pack(">I", len(parts)) + b"".join(struct.pack(">I", len(part)) + part for part in parts)


def hkdf(key: bytes, info: bytes, salt: bytes = bytes(32), length: int = 32) -> bytes:
    extracted = hmac.digest(salt, key, "sha256")
    stream, block = b"", b""
    for counter in range(1, -(-length // 32) + 1):
        block = hmac.digest(extracted, block + info + bytes([counter]), "sha256")
        stream += block
    return stream[:length]


def sub_key(root: bytes, purpose: str) -> bytes:
    return hkdf(root, b"memory-plugin/v1/" + purpose.encode())


def padded_length(length: int) -> int:
    if length <= 1024:
        return math.ceil(length / 64) * 64
    exponent = math.floor(math.log2(length))
    step = 1 << exponent - (math.floor(math.log2(exponent)) + 1)
    return math.ceil(length / step) * step


def seal(
    root: bytes,
    key_id: bytes,
    store: str,
    subject: str,
    point: str,
    field: str,
    plaintext: bytes,
    salt: bytes,
    schema: int = 1,
) -> str:
    header = b"\x01\x01" + key_id
    derived = hmac.digest(sub_key(root, "record"), header + salt, "sha512")
    padded = struct.pack(">I", len(plaintext)) + plaintext
    padded += bytes(padded_length(len(padded)) - len(padded))
    names = [text.encode("utf-8", "surrogatepass") for text in (store, subject, point, field)]
    associated = frame(b"\x01", b"\x01", key_id, *names, struct.pack(">I", schema))
    ciphertext = AESGCM(derived[:32]).encrypt(bytes(12), padded, associated)
    return base64.b64encode(header + salt + derived[32:] + ciphertext).decode()


def term_id(root: bytes, term: str) -> int:
    hasher = hashlib.blake2s(key=sub_key(root, "term"), person=b"mp-term1")
    hasher.update(term.encode("utf-8", "surrogatepass"))
    number: int = struct.unpack("<I", hasher.digest()[:4])[0]
    return number


def tag(root: bytes, label: str, *values: str) -> str:
    data = frame(b"tag", *(text.encode("utf-8", "surrogatepass") for text in (label, *values)))
    return hmac.digest(sub_key(root, "filter"), data, "sha256")[:8].hex()


def subject_tag(root: bytes, name: str) -> str:
    return hmac.digest(sub_key(root, "filter"), frame(b"subject", name.encode()), "sha256")[:16].hex()


def point_id(root: bytes, *parts: str) -> str:
    number = int.from_bytes(hmac.digest(sub_key(root, "id"), frame(*(part.encode() for part in parts)), "sha256")[:16])
    number = number & ~(0xF << 76) | 0x8 << 76
    number = number & ~(0x3 << 62) | 0x2 << 62
    return str(uuid.UUID(int=number))


def rotation(root: bytes, dimension: int) -> list[list[float]]:
    """Q by plain Gram-Schmidt, row lists in and out: slow, and independent of LAPACK."""
    count = dimension**2 + dimension**2 % 2
    data = b"memory-plugin/v1/rotation" + sub_key(root, "vector") + struct.pack(">I", dimension)
    numbers = struct.unpack(f"<{count}Q", hashlib.shake_256(data).digest(8 * count))
    normal: list[float] = []
    for first, second in zip(numbers[::2], numbers[1::2], strict=True):
        radius = math.sqrt(-2 * math.log(((first >> 11) + 1) * 2.0**-53))
        angle = 2 * math.pi * ((second >> 11) * 2.0**-53)
        normal += [radius * math.cos(angle), radius * math.sin(angle)]
    columns = [[normal[row * dimension + column] for row in range(dimension)] for column in range(dimension)]
    done: list[list[float]] = []
    for column in columns:
        rest = column
        for _ in range(2):
            for other in done:
                along = _dot(rest, other)
                rest = [x - along * y for x, y in zip(rest, other, strict=True)]
        length = math.sqrt(_dot(rest, rest))
        done.append([x / length for x in rest])
    return [list(row) for row in zip(*done, strict=True)]


def _dot(left: list[float], right: list[float]) -> float:
    return math.fsum(x * y for x, y in zip(left, right, strict=True))


def wrap(kek: bytes, nonce: bytes, material: bytes, subject: str, key_id: bytes, use: str) -> bytes:
    context = frame(b"memory-plugin/v1/wrap", STORE.encode(), subject.encode(), key_id, use.encode())
    return nonce + AESGCM(kek).encrypt(nonce, material, context)


def key_file(kek: bytes, *, owned: bool) -> dict[str, Any]:
    """A store's key, a subject's key, and a subject with a retired key behind its newest."""

    def entry(subject: str, key_id: bytes, material: bytes, use: str) -> dict[str, str]:
        nonce = hashlib.sha256(subject.encode() + key_id).digest()[:12]
        wrapped = wrap(kek, nonce, material, subject, key_id, use)
        return {"id": key_id.hex(), "use": use, "wrapped": base64.b64encode(wrapped).decode()}

    index = b"".join(sub_key(ROOT, purpose) for purpose in ("term", "filter", "vector", "id"))
    kek_entry = {"id": hkdf(kek, b"memory-plugin/v1/kek-id")[:8].hex()}
    if owned:
        kek_entry["key"] = base64.b64encode(kek).decode()
    return {
        "format": "memory_plugin key ring",
        "version": 1,
        "store": STORE,
        "kek": kek_entry,
        "subjects": {
            "": [entry("", b"\x00\x00\x00\x01", bytes([7]) * 32, "full")],
            SUBJECT: [entry(SUBJECT, KEY_ID, ROOT, "full")],
            "rotated": [
                entry("rotated", b"\x00\x00\x00\x02", bytes([9]) * 32, "full"),
                entry("rotated", KEY_ID, index, "index"),
            ],
        },
    }


def envelopes() -> list[dict[str, Any]]:
    base: dict[str, Any] = {
        "root": ROOT.hex(),
        "key_id": KEY_ID.hex(),
        "store": STORE,
        "subject": SUBJECT,
        "point": POINT,
        "field": "e",
        "plaintext": b"Alice moved to Lisbon in May.".hex(),
    }
    lengths = (0, 1, 59, 60, 61, 123, 124, 125, 1019, 1020, 1021, 1084, 1085, 2044, 2045, 4096, 6000)
    texts = ("Žluťoučký kůň", "記憶は暗号化される", "🧠🔑 emoji", "e\u0301 is not é", "line\nbreak\tand \0 zero")
    cases: list[dict[str, Any]] = [{"why": "a short text"}]
    cases += [{"why": f"{size} bytes", "plaintext": (bytes(range(256)) * 256)[:size].hex()} for size in lengths]
    cases += [{"why": "unicode", "plaintext": text.encode().hex()} for text in texts]
    cases += [
        {"why": "zeros are not padding", "plaintext": bytes(60).hex()},
        {"why": "all bits set", "plaintext": (b"\xff" * 64).hex()},
        {"why": "another root", "root": (b"\xff" * 32).hex()},
        {"why": "another key id", "key_id": "00000000"},
        {"why": "another store", "store": "store-2c9e"},
        {"why": "another subject", "subject": "5f0e8e2a0b7c4d19a3f6c8d2e4b19078"},
        {"why": "the store itself", "subject": ""},
        {"why": "another point", "point": "0a1b2c3d-4e5f-8a6b-9c7d-8e9fa0b1c2d4"},
        {"why": "another field", "field": "v"},
        {"why": "unicode names", "store": "Läden/1", "field": "\udc80 поле"},
        {"why": "borders of names move", "subject": SUBJECT + "0", "point": POINT[1:]},
        {"why": "another schema", "schema": 2},
    ]
    made = []
    for number, changes in enumerate(cases):
        case = base | {"schema": 1} | changes | {"salt": hashlib.sha256(b"salt %d" % number).digest()[:24].hex()}
        case["sealed"] = seal(
            bytes.fromhex(case["root"]),
            bytes.fromhex(case["key_id"]),
            case["store"],
            case["subject"],
            case["point"],
            case["field"],
            bytes.fromhex(case["plaintext"]),
            bytes.fromhex(case["salt"]),
            case["schema"],
        )
        made.append(case)
    return made


def vectors() -> dict[str, Any]:
    words = ("memory", "Memory", "", "ключ", "naïve", "nai\u0308ve", "order_id_4711", "\ud800", "記憶")
    tags = (("topic", "travel"), ("topic",), ("topic", ""), ("top", "ictravel"), ("topic", "tra", "vel"), ("", "ü"))
    points = (("alice", "notes.md", "0"), ("alicenotes.md", "0"), ("",), ())
    kek = bytes(range(100, 132))
    return {
        "format": "memory_plugin sealed format, version 1",
        "sub_keys": {purpose: sub_key(ROOT, purpose).hex() for purpose in ("record", "term", "filter", "vector", "id")},
        "envelopes": envelopes(),
        "terms": [[word, term_id(ROOT, word)] for word in words],
        "tags": [[list(texts), tag(ROOT, *texts)] for texts in tags],
        "subject_tags": [[name, subject_tag(ROOT, name)] for name in ("alice", "Alice", "", "Łukasz")],
        "point_ids": [[list(parts), point_id(ROOT, *parts)] for parts in points],
        "rotations": {str(d): rotation(ROOT, d) for d in (1, 2, 3, 8)},
        "rotation_50_row_49": rotation(ROOT, 50)[49],
        "kek": kek.hex(),
        "key_file_owned": key_file(kek, owned=True),
        "key_file_given": key_file(kek, owned=False),
    }


if __name__ == "__main__":
    print(json.dumps(vectors(), indent=1))
