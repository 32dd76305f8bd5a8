"""A key ring in one file (docs/sealed-format.md, section 9), and the word for none."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

from memory_plugin.crypto import keyfile
from memory_plugin.crypto.encoding import frame, utf8
from memory_plugin.crypto.kek import Kek, LocalKek
from memory_plugin.crypto.keyfile import KeyFile, Stamp, Use, WrappedKey
from memory_plugin.crypto.keys import KEY_BYTES, KEY_ID_BYTES, PLAINTEXT, RetiredKey, RootKey, Secret
from memory_plugin.errors import InvalidInputError, KeyServiceError, UnknownKeyError, translate
from memory_plugin.protocols import SubjectKey

__all__ = ["PLAINTEXT", "FileKeyRing"]


class FileKeyRing(Secret):
    """Keys of one store's subjects in one JSON file of mode 0600; a ``KeyRing``.

    Several threads and processes may use one file.  Every change rewrites it (1.7 MB at 10,000
    subjects, some tenths of a second): it suits thousands of subjects; for more, implement ``KeyRing``
    over a database.  It needs ``flock``, so a POSIX system and a local disk.

    Without ``kek`` the file holds its own key-encryption key: a copy of the store's directory is then
    worth nothing without this file, and a copy of both is readable.  With ``kek`` the file holds
    wrapped keys only.

    Args:
        path: The file; it and its missing directories (0700) are made with the first key.
        store_id: The store's id, which every wrapped key is bound to.
        kek: What wraps the keys, where the file shall not hold it.
    """

    __slots__ = ("_content", "_kek", "_known", "_path", "_stamp", "_store", "_thread_lock")

    def __init__(self, path: str | os.PathLike[str], *, store_id: str, kek: Kek | None = None) -> None:
        # Through links, because replacing a link would leave the file that it points to behind.
        self._path = Path(path).expanduser().resolve()
        self._store = store_id
        self._kek = kek
        self._thread_lock = threading.RLock()
        self._content: KeyFile | None = None
        self._stamp: Stamp | None = None
        self._known: dict[str, tuple[RootKey | RetiredKey, ...]] = {}

    def __repr__(self) -> str:
        return f"<FileKeyRing {self._path}>"

    @property
    def location(self) -> str:
        """Where the keys are, and what wraps them."""
        kek = "which also holds their KEK" if self._kek is None else f"wrapped by KEK {self._kek.id}"
        return f"{self._path} ({kek})"

    @property
    def owns_kek(self) -> bool:
        """Whether the file holds what opens it."""
        return self._kek is None

    def keys(self, subject: str, /, *, create: bool) -> Sequence[SubjectKey]:
        """The subject's keys, the one that seals first; none when there are none and not ``create``.

        Costs one look at the file's date when nothing changed: ask again rather than keep the answer.

        Raises:
            KeyServiceError: The file is unreadable, open to others, of another store or KEK, or gone.
        """
        with self._guarded():
            known = self._look_up(subject)
            if known or not create:
                return known
            with self._writing():
                return self._look_up(subject) or self._prepend(subject, ())

    def rotate(self, subject: str, /) -> SubjectKey:
        """Add a key that seals from now on; the older ones still open.

        Raises:
            UnknownKeyError: The subject has no key.
            KeyServiceError: As for ``keys``.
        """
        with self._guarded(), self._writing():
            return self._prepend(subject, self._existing(subject))[0]

    def retire(self, subject: str, /) -> int:
        """Destroy what opens envelopes in all keys but the newest; how many keys lost it.

        The oldest key keeps its index sub-keys.  Call it when every envelope names the newest key and
        no process works with keys it looked up before ``rotate``: what those still seal is lost.

        Raises:
            UnknownKeyError: The subject has no key.
            KeyServiceError: As for ``keys``.
        """
        with self._guarded(), self._writing():
            newest, *older = self._existing(subject)
            if not older:
                return 0
            oldest = older[-1]
            kept = oldest if isinstance(oldest, RetiredKey) else RetiredKey.of(oldest)
            self._store_keys(subject, (newest, kept))
            return sum(isinstance(key, RootKey) for key in older)

    def destroy(self, subject: str, /) -> int:
        """Destroy every key of the subject; how many there were.

        A KEK that the file owns is replaced as well, and the other keys wrapped under the new one.
        Older copies of the file still open the subject, with the KEK that they hold or were made
        under: delete them, or where the KEK is given, ``rewrap`` and destroy the old KEK.

        Raises:
            KeyServiceError: As for ``keys``.
        """
        with self._guarded():
            # Nothing of the subject is unwrapped: this works while a KMS is out of reach.
            content = self._refresh()
            if content is None:
                return 0
            with self._writing():
                content = self._refresh() or content
                subjects = dict(content.subjects)
                gone = subjects.pop(subject, ())
                if gone:
                    content = replace(content, subjects=subjects)
                    self._write(content if content.owned is None else self._rewrapped(content, None))
                return len(gone)

    def discard(self) -> None:
        """Remove the file of a store that could not be made; a file that has keys of data subjects stays.

        Only for a store id that was made up in this process: then nothing was ever sealed under its key.
        """
        with self._guarded():
            if not self._path.exists():
                return
            with keyfile.locked(self._path):
                content, _ = keyfile.load(self._path)
                if content.store == self._store and set(content.subjects) <= {""}:
                    self._path.unlink()
                    self._content, self._stamp, self._known = None, None, {}

    def rewrap(self, new_kek: Kek | None = None) -> int:
        """Wrap every key under another KEK; no envelope changes.

        Other rings on the file need the new KEK from then on.

        Args:
            new_kek: None: a fresh one that the file owns.

        Returns:
            How many subjects there are.

        Raises:
            KeyServiceError: As for ``keys``; nothing was changed.
        """
        with self._guarded(), self._writing():
            content = self._refresh()
            if content is not None:
                self._write(self._rewrapped(content, new_kek))
            self._kek = new_kek
            return len(content.subjects) if content else 0

    # ── the file ──────────────────────────────────────────────────────────────────────────────────

    @contextmanager
    def _guarded(self) -> Iterator[None]:
        with self._thread_lock, translate(KeyServiceError, provider=str(self._path)):
            yield

    @contextmanager
    def _writing(self) -> Iterator[None]:
        with keyfile.locked(self._path):
            # Who changes the file reads it first, whatever its stamp says.
            self._stamp = None
            yield

    def _refresh(self) -> KeyFile | None:
        """What the file says now; None before there is one."""
        seen = keyfile.stamp(self._path)
        if seen is None and self._content is not None:
            raise self._failure("is gone: restore it from a backup; without it the store cannot be read")
        if seen is not None and seen != self._stamp:
            content, stamp = keyfile.load(self._path)
            self._check(content)
            self._adopt(content, stamp)
        return self._content

    def _check(self, content: KeyFile) -> None:
        if content.store != self._store:
            raise self._failure(f"belongs to store {content.store!r}, not {self._store!r}")
        if content.owned is not None and self._kek is not None:
            raise self._failure("holds its own KEK: open it without kek=, then call rewrap(kek)")
        if content.owned is None and self._kek is None:
            raise self._failure(f"is wrapped by KEK {content.kek_id!r}: give it as kek=")
        if self._kek is not None and content.kek_id != self._kek.id:
            raise self._failure(f"is wrapped by KEK {content.kek_id!r}, not by {self._kek.id!r}")

    def _adopt(self, content: KeyFile, seen: Stamp | None) -> None:
        # What did not change stays unwrapped: a service is asked once a key, not once a change.
        before = self._content.subjects if self._content else {}
        self._known = {
            subject: keys
            for subject, keys in self._known.items()
            if before.get(subject, ()) == content.subjects.get(subject)
        }
        self._content, self._stamp = content, seen

    def _write(self, content: KeyFile) -> None:
        keyfile.save(self._path, content)
        self._adopt(content, None)

    def _failure(self, what: str) -> KeyServiceError:
        return KeyServiceError(f"{self._path} {what}", provider=str(self._path))

    # ── the keys in it ────────────────────────────────────────────────────────────────────────────

    def _look_up(self, subject: str) -> tuple[RootKey | RetiredKey, ...]:
        content = self._refresh()
        if content is None or subject not in content.subjects:
            return ()
        if subject not in self._known:
            kek = self._wraps_with(content)
            self._known[subject] = tuple(self._unwrap(kek, subject, key) for key in content.subjects[subject])
        return self._known[subject]

    def _existing(self, subject: str) -> tuple[RootKey | RetiredKey, ...]:
        keys = self._look_up(subject)
        if not keys:
            raise UnknownKeyError(f"subject {subject!r} has no key: never made, or destroyed")
        return keys

    def _prepend(self, subject: str, keys: tuple[RootKey | RetiredKey, ...]) -> tuple[RootKey | RetiredKey, ...]:
        taken = {key.id for key in keys}
        key_id = os.urandom(KEY_ID_BYTES)
        while key_id in taken:
            key_id = os.urandom(KEY_ID_BYTES)
        return self._store_keys(subject, (RootKey(key_id, os.urandom(KEY_BYTES)), *keys))

    def _store_keys(self, subject: str, keys: tuple[RootKey | RetiredKey, ...]) -> tuple[RootKey | RetiredKey, ...]:
        content = self._content or self._empty()
        kek = self._wraps_with(content)
        wrapped = tuple(self._wrap(kek, subject, key) for key in keys)
        self._write(replace(content, subjects={**content.subjects, subject: wrapped}))
        self._known[subject] = keys
        return keys

    def _empty(self) -> KeyFile:
        if self._kek is not None:
            return KeyFile(self._store, self._kek.id, None, {})
        owned = LocalKek.generate()
        return KeyFile(self._store, owned.id, owned, {})

    def _wraps_with(self, content: KeyFile) -> Kek:
        kek = self._kek or content.owned
        assert kek is not None, "_check refuses a file without a KEK"
        return kek

    def _rewrapped(self, content: KeyFile, new_kek: Kek | None) -> KeyFile:
        old = self._wraps_with(content)
        owned = LocalKek.generate() if new_kek is None else None
        new = new_kek or owned
        assert new is not None
        subjects = {
            subject: tuple(self._wrap(new, subject, self._unwrap(old, subject, key)) for key in keys)
            for subject, keys in content.subjects.items()
        }
        return KeyFile(self._store, new.id, owned, subjects)

    def _wrap(self, kek: Kek, subject: str, key: RootKey | RetiredKey) -> WrappedKey:
        use: Use = "full" if isinstance(key, RootKey) else "index"
        return WrappedKey(key.id, use, kek.wrap(key.material(), self._context(subject, key.id, use)))

    def _unwrap(self, kek: Kek, subject: str, key: WrappedKey) -> RootKey | RetiredKey:
        kind = RootKey if key.use == "full" else RetiredKey
        # Raised below and not in a handler: chained, the cause's frames would show the key to whoever logs locals.
        with suppress(InvalidInputError):
            return kind(key.id, kek.unwrap(key.wrapped, self._context(subject, key.id, key.use)))
        raise self._failure(f"gave key {key.id.hex()} of subject {subject!r} with a wrong length from KEK {kek.id!r}")

    def _context(self, subject: str, key_id: bytes, use: Use) -> bytes:
        return frame(b"memory-plugin/v1/wrap", utf8(self._store), utf8(subject), key_id, use.encode())
