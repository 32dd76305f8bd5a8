"""ONNX models and tokenizers out of a directory, run by onnxruntime a text at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from memory_plugin.errors import ConfigurationError, InvalidInputError
from memory_plugin.models.files import read_json
from memory_plugin.types import InputType, Matrix

if TYPE_CHECKING:
    from tokenizers import Tokenizer

T = TypeVar("T")
R = TypeVar("R")

_TYPES = {"tensor(int64)": np.int64, "tensor(int32)": np.int32, "tensor(float16)": np.float16}


class Session:
    """A loaded ONNX model; safe to use from several threads.

    Args:
        path: Its file; weights in files beside it are found by onnxruntime.
        threads: Cores that one run may use.

    Raises:
        ConfigurationError: onnxruntime cannot load it.
    """

    def __init__(self, path: Path, *, threads: int = 1) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        try:
            self._session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        except Exception as error:
            raise ConfigurationError(f"onnxruntime cannot load {path}: {error}") from error
        given = self._session.get_inputs()
        self._inputs = {one.name: _TYPES.get(one.type, np.float32) for one in given}
        lengths = [one.shape[1] for one in given if one.name == "input_ids" and len(one.shape) == 2]
        self._length = next((length for length in lengths if isinstance(length, int)), 0)
        self.outputs: dict[str, int] = {one.name: len(one.shape) for one in self._session.get_outputs()}
        """Rank by name."""

    def texts(self, ids: NDArray[np.int64], names: Sequence[str]) -> list[Any]:
        """Run it on the word pieces of one text; the named outputs.

        An export of a fixed length is given the last, special word piece again, behind a mask.
        """
        padding = max(self._length - len(ids), 0)
        given = {
            "input_ids": np.pad(ids, (0, padding), mode="edge"),
            "attention_mask": np.pad(np.ones_like(ids), (0, padding)),
            "token_type_ids": np.zeros(len(ids) + padding, np.int64),
        }
        inputs = {name: given[name][None].astype(kind) for name, kind in self._inputs.items() if name in given}
        found: list[Any] = self._session.run(list(names), inputs)
        return found

    def pixels(self, image: NDArray[np.float32], names: Sequence[str]) -> list[Any]:
        """Run it on one image, shape (3, height, width); the named outputs."""
        ((name, kind),) = self._inputs.items()
        found: list[Any] = self._session.run(list(names), {name: image[None].astype(kind)})
        return found


def each(work: Callable[[T], R], items: Sequence[T], *, workers: int) -> list[R]:
    """Work on each, ``workers`` at a time: onnxruntime lets go of the interpreter lock meanwhile."""
    if workers == 1 or len(items) < 2:
        return [work(item) for item in items]
    with ThreadPoolExecutor(min(workers, len(items)), thread_name_prefix="memory-plugin-model") as pool:
        return list(pool.map(work, items))


class Texts:
    """A tokenizer that neither pads nor cuts, with the window of the model behind it.

    Args:
        tokenizer: Changed by nobody from now on.
        window: Word pieces the model reads at most, special ones included.
        document_prefix: What the model wants before a document.
        query_prefix: And before a query.
    """

    def __init__(self, tokenizer: Tokenizer, window: int, *, document_prefix: str = "", query_prefix: str = "") -> None:
        tokenizer.no_padding()
        tokenizer.no_truncation()
        self.tokenizer = tokenizer
        self.window = window
        self._prefixes = {"document": document_prefix, "query": query_prefix}
        self._specials = len(self.pieces(""))

    @property
    def max_tokens(self) -> int:
        """Word pieces a passage may have, special ones included: what the prefix leaves of the window."""
        prefix = self._prefixes["document"]
        return self.window - (len(self.pieces(prefix)) - self._specials if prefix else 0)

    def pieces(self, text: str) -> NDArray[np.int64]:
        """Ids of its word pieces, special ones included."""
        return np.array(self.tokenizer.encode(text).ids, np.int64)

    def fitting(self, texts: Sequence[str], input_type: InputType) -> list[NDArray[np.int64]]:
        """Ids of each text behind its prefix; a query's end is cut off where it is too long.

        Raises:
            InvalidInputError: A text holds a lone surrogate, or is a document that is too long.
        """
        found = []
        for position, text in enumerate(self.prefixed(texts, input_type, check=False)):
            pieces = self.pieces(text)
            if len(pieces) > self.window:
                if input_type == "document":
                    raise _too_long(position, len(pieces), self.window)
                pieces = np.concatenate([pieces[: self.window - 1], pieces[-1:]])
            found.append(pieces)
        return found

    def prefixed(self, texts: Sequence[str], input_type: InputType, *, check: bool = True) -> list[str]:
        """Each text behind its prefix, for a library that cuts it into word pieces itself.

        Args:
            texts: Any number.
            input_type: Whose prefix.
            check: Refuse documents that are too long: their end would be lost in silence.

        Raises:
            InvalidInputError: A text holds a lone surrogate, or is a document that is too long.
        """
        require_unicode(texts)
        found = [self._prefixes[input_type] + text for text in texts]
        if check and input_type == "document":
            for position, text in enumerate(found):
                pieces = len(self.pieces(text))
                if pieces > self.window:
                    raise _too_long(position, pieces, self.window)
        return found

    def windows(self, text: str) -> Iterator[NDArray[np.int64]]:
        """Ids of a text of any length, as many as the model reads at a time, each between its special pieces."""
        require_unicode([text])
        pieces = self.pieces(self._prefixes["document"] + text)
        if len(pieces) <= self.window:
            yield pieces
            return
        inner, step = pieces[1:-1], self.window - 2
        for start in range(0, len(inner), step):
            yield np.concatenate([pieces[:1], inner[start : start + step], pieces[-1:]])


def read_tokenizer(place: Path) -> Tokenizer:
    """The tokenizer in a directory.

    Raises:
        ConfigurationError: There is none, or it cannot be read.
    """
    from tokenizers import Tokenizer

    path = place / "tokenizer.json"
    if not path.is_file():
        raise ConfigurationError(f"{place} holds no tokenizer.json: save the model's fast tokenizer there")
    try:
        return Tokenizer.from_file(str(path))
    except Exception as error:
        raise ConfigurationError(f"cannot read {path}: {error}") from error


def read_window(place: Path, tokenizer: Tokenizer, default: int) -> int:
    """Word pieces that the model in a directory reads, as its tokenizer's settings say."""
    told = read_json(place / "tokenizer_config.json").get("model_max_length")
    # What a tokenizer cuts at says what somebody once wanted, and who knows no limit writes 1e30.
    for one in (told, (tokenizer.truncation or {}).get("max_length")):
        if isinstance(one, int) and not isinstance(one, bool) and 2 < one < 2**20:
            return one
    return default


def require_unicode(texts: Sequence[str]) -> None:
    """Raise on a text that no encoding can carry.

    Raises:
        InvalidInputError: It holds half of a surrogate pair.
    """
    for position, text in enumerate(texts):
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise InvalidInputError(
                f"texts[{position}] holds a lone surrogate at offset {error.start}: clean it with"
                " text.encode('utf-8', 'replace').decode()"
            ) from error


def _too_long(position: int, pieces: int, window: int) -> InvalidInputError:
    """The error for a document whose end the model would not read."""
    return InvalidInputError(
        f"texts[{position}] has {pieces} word pieces, more than the {window} that the model reads: split it first"
    )


def unit(rows: Matrix) -> Matrix:
    """Rows of unit length; a row of zeros stays one."""
    norms = np.linalg.norm(rows, axis=-1, keepdims=True)
    return np.asarray(rows / np.where(norms > 0, norms, 1), np.float32)
