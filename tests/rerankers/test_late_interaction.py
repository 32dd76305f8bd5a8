"""Late interaction: what is packed is what is scored, and the score is the formula's."""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from memory_plugin.embedders.local import LocalEmbedder
from memory_plugin.errors import InvalidInputError, RerankError
from memory_plugin.models import runtime
from memory_plugin.protocols import LateInteraction
from memory_plugin.rerankers.late_interaction import MaxSim
from memory_plugin.types import TokenVectors

MAXSIM: LateInteraction = MaxSim()


def made_up(seed: int, count: int, *, vocabulary: int = runtime.VOCABULARY) -> TokenVectors:
    """Random unit vectors under random ids."""
    random = np.random.default_rng(seed)
    vectors = random.normal(size=(count, runtime.DIMENSION)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return TokenVectors(random.integers(1_000, vocabulary, count).astype(np.uint32), vectors)


def with_ids(tokens: TokenVectors, ids: Sequence[int]) -> TokenVectors:
    return TokenVectors(np.array(ids, np.uint32), tokens.vectors)


def naive(query: TokenVectors, passages: Sequence[TokenVectors]) -> list[float]:
    """The formula, word for word, on the unpacked tokens."""
    statistics = runtime.statistics()
    words = [
        (int(i), v - statistics.mean)
        for i, v in zip(query.ids, query.vectors, strict=True)
        if i not in (runtime.CLS, runtime.SEP)
    ]
    weights = []
    for word, _ in words:
        frequency = sum(word in passage.ids for passage in passages)
        idf = math.log(1 + (len(passages) - frequency + 0.5) / (frequency + 0.5))
        weights.append(math.sqrt(idf * float(statistics.idf[word])))
    scores = []
    for passage in passages:
        signs = np.where(passage.vectors > statistics.mean, 1.0, -1.0) / math.sqrt(runtime.DIMENSION)
        best = [max(float(vector @ sign) for sign in signs) for _, vector in words]
        scores.append(sum(w * b for w, b in zip(weights, best, strict=True)) / sum(weights))
    return scores


# ── packing ───────────────────────────────────────────────────────────────────────────────────────


@settings(deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 80))
def test_packing_keeps_ids_and_signs(seed: int, count: int) -> None:
    tokens = made_up(seed, count)
    packed = MAXSIM.pack(tokens)
    assert len(packed) == 3 + 50 * count
    assert struct.unpack_from("<BH", packed) == (1, count)
    assert struct.unpack_from(f"<{count}H", packed, 3) == tuple(tokens.ids.tolist())
    bits = np.unpackbits(np.frombuffer(packed, np.uint8, offset=3 + 2 * count)).reshape(count, runtime.DIMENSION)
    assert (bits == (tokens.vectors > runtime.statistics().mean)).all()


def test_packing_takes_any_layout_and_width_of_ids() -> None:
    tokens = made_up(1, 9)
    strided = TokenVectors(tokens.ids.astype(np.int64)[::2], np.asfortranarray(tokens.vectors)[::2])  # type: ignore[arg-type]
    dense = TokenVectors(tokens.ids[::2].copy(), tokens.vectors[::2].copy())
    assert MAXSIM.pack(strided) == MAXSIM.pack(dense)


def test_the_most_tokens_fit_and_one_more_does_not() -> None:
    ids, vectors = np.zeros(65_536, np.uint32), np.zeros((65_536, runtime.DIMENSION), np.float32)
    assert len(MAXSIM.pack(TokenVectors(ids[1:], vectors[1:]))) == 3 + 50 * 65_535
    with pytest.raises(InvalidInputError, match="1 to 65535 tokens, not 65536"):
        MAXSIM.pack(TokenVectors(ids, vectors))


def test_no_tokens_cannot_be_packed() -> None:
    with pytest.raises(InvalidInputError, match="not 0"):
        MAXSIM.pack(made_up(0, 0))


def damage() -> list[TokenVectors]:
    good = made_up(2, 3)
    nan = good.vectors.copy()
    nan[1, 7] = np.nan
    return [
        TokenVectors(good.ids, good.vectors[:2]),
        TokenVectors(good.ids, good.vectors[:, :383]),
        TokenVectors(good.ids, good.vectors[0]),
        TokenVectors(good.ids[:, None], good.vectors),
        TokenVectors(good.ids, nan),
    ]


@pytest.mark.parametrize("tokens", damage(), ids=["fewer vectors", "dimension", "one vector", "2-d ids", "nan"])
def test_tokens_of_another_shape_are_refused(tokens: TokenVectors) -> None:
    for use in (MAXSIM.pack, lambda t: MAXSIM.score(t, [MAXSIM.pack(made_up(0, 1))])):
        with pytest.raises(InvalidInputError, match="token vector"):
            use(tokens)


# ── scoring ───────────────────────────────────────────────────────────────────────────────────────


@settings(deadline=None)
@given(
    seed=st.integers(0, 2**32),
    words=st.integers(1, 12),
    lengths=st.lists(st.integers(1, 40), min_size=1, max_size=8),
    vocabulary=st.sampled_from([1_005, runtime.VOCABULARY]),
)
def test_scores_are_those_of_the_formula(seed: int, words: int, lengths: list[int], vocabulary: int) -> None:
    query = made_up(seed, words, vocabulary=vocabulary)
    passages = [made_up(seed + i, n, vocabulary=vocabulary) for i, n in enumerate(lengths, 1)]
    scores = MAXSIM.score(query, [MAXSIM.pack(passage) for passage in passages])
    assert scores.dtype == np.float32
    assert scores.shape == (len(passages),)
    assert scores == pytest.approx(naive(query, passages), abs=1e-6)


def test_the_table_adds_up_what_the_bits_say_exactly() -> None:
    """With a one-hot query each score is ±1/√384 less the mean's share: one wrong bit would show."""
    statistics = runtime.statistics()
    passage = made_up(5, 1)
    signs = np.where(passage.vectors[0] > statistics.mean, 1, -1)
    for dimension in range(runtime.DIMENSION):
        vector = statistics.mean.copy()
        vector[dimension] += 1
        query = TokenVectors(np.array([2_000], np.uint32), vector[None])
        (score,) = MAXSIM.score(query, [MAXSIM.pack(passage)])
        assert score == pytest.approx(signs[dimension] / math.sqrt(runtime.DIMENSION), abs=1e-6)


@settings(deadline=None)
@given(st.permutations(range(9)))
def test_the_order_of_candidates_changes_no_bit(order: list[int]) -> None:
    packed = [MAXSIM.pack(made_up(i, 3 + 7 * i)) for i in range(9)]
    query = made_up(99, 5)
    scores = MAXSIM.score(query, packed)
    assert MAXSIM.score(query, [packed[i] for i in order]).tobytes() == scores[order].tobytes()


def test_special_tokens_of_a_query_are_ignored() -> None:
    query = made_up(3, 5)
    inner = TokenVectors(query.ids[1:-1], query.vectors[1:-1])
    marked = with_ids(query, [runtime.CLS, *inner.ids.tolist(), runtime.SEP])
    packed = [MAXSIM.pack(made_up(i, 6)) for i in range(4)]
    assert (MAXSIM.score(marked, packed) == MAXSIM.score(inner, packed)).all()


def test_a_word_that_few_candidates_have_weighs_more() -> None:
    rare, common, other = 5_000, 5_001, 5_002
    base = made_up(8, 2)
    query = with_ids(base, [rare, common])
    # Two passages that match one query vector each, perfectly; the rest only shows which id is common.
    has_rare, has_common = (TokenVectors(np.array([i], np.uint32), base.vectors[[k]]) for k, i in enumerate(query.ids))
    filler = [with_ids(made_up(i, 1), [common]) for i in range(20, 30)]
    scores = MAXSIM.score(query, [MAXSIM.pack(p) for p in [has_rare, has_common, *filler]])
    neutral = [with_ids(f, [other]) for f in filler]
    before = MAXSIM.score(query, [MAXSIM.pack(p) for p in [has_rare, has_common, *neutral]])
    assert scores[0] - scores[1] > before[0] - before[1] + 0.05


def test_nothing_to_score() -> None:
    assert MAXSIM.score(made_up(0, 3), []).shape == (0,)
    empty = MAXSIM.score(made_up(0, 0), [MAXSIM.pack(made_up(1, 4))] * 2)
    assert empty.tolist() == [0, 0]
    special = with_ids(made_up(0, 2), [runtime.CLS, runtime.SEP])
    assert MAXSIM.score(special, [MAXSIM.pack(made_up(1, 4))]).tolist() == [0]


GOOD = struct.pack("<BH2H", 1, 2, 5_000, 5_001) + bytes(96)


@pytest.mark.parametrize(
    "packed",
    [b"", b"\x01", GOOD[:-1], GOOD + b"\x00", b"\x02" + GOOD[1:], b"\x01\x03\x00" + GOOD[3:], b"\x01\x00\x00"],
    ids=["empty", "header", "short", "long", "version", "count", "no tokens"],
)
def test_malformed_bytes_are_named(packed: bytes) -> None:
    assert MAXSIM.score(made_up(0, 1), [GOOD]).shape == (1,)
    with pytest.raises(InvalidInputError, match=r"passages\[1\] \(\d+ bytes\) is not what MaxSim 1 packs"):
        MAXSIM.score(made_up(0, 1), [GOOD, packed])


def test_malformed_bytes_are_noticed_under_an_empty_query() -> None:
    with pytest.raises(InvalidInputError, match="passages"):
        MAXSIM.score(made_up(0, 0), [b"nonsense"])


@settings(deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_are_scored_or_refused(packed: bytes) -> None:
    try:
        scores = MAXSIM.score(made_up(0, 2), [packed])
    except InvalidInputError:
        return
    assert np.isfinite(scores).all()


def test_an_id_outside_the_vocabulary_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="30522"):
        MAXSIM.score(with_ids(made_up(0, 1), [runtime.VOCABULARY]), [GOOD])


# ── another model's token vectors ─────────────────────────────────────────────────────────────────


class Elsewhere:
    """Token vectors of one word a token; a vocabulary that 16 bits may or may not hold."""

    encoder = "elsewhere@1"
    special_tokens = (0, 2)
    leaves_machine = False

    def __init__(self, dimension: int, vocabulary: int) -> None:
        self.token_dimension, self.vocabulary = dimension, vocabulary

    def token_vectors(self, texts: Sequence[str], /) -> list[TokenVectors]:
        return [self.of([0, *(3 + zlib.crc32(word.encode()) % 60_000 for word in text.split()), 2]) for text in texts]

    def of(self, ids: Sequence[int]) -> TokenVectors:
        rows = [np.random.default_rng(one).normal(size=self.token_dimension) for one in ids]
        vectors = np.array(rows, np.float32).reshape(len(ids), self.token_dimension)
        return TokenVectors(np.array(ids, np.uint32), vectors / np.linalg.norm(vectors, axis=1, keepdims=True))


@pytest.mark.parametrize(("vocabulary", "version", "width"), [(65_536, 1, 2), (65_537, 2, 4), (250_002, 2, 4)])
def test_ids_take_the_room_that_the_vocabulary_needs(vocabulary: int, version: int, width: int) -> None:
    source = Elsewhere(64, vocabulary)
    tokens = source.of([0, 7, vocabulary - 1, 2])
    packed = MaxSim(source).pack(tokens)
    assert len(packed) == 3 + 4 * (width + 8)
    assert struct.unpack_from("<BH", packed) == (version, 4)
    assert np.frombuffer(packed, f"<u{width}", 4, 3).tolist() == tokens.ids.tolist()
    bits = np.unpackbits(np.frombuffer(packed, np.uint8, offset=3 + 4 * width)).reshape(4, 64)
    assert (bits == (tokens.vectors > 0)).all()


@settings(deadline=None)
@given(st.integers(0, 2**32), st.lists(st.integers(1, 20), min_size=1, max_size=6))
def test_without_statistics_the_mean_is_zero_and_weights_come_from_the_candidates(
    seed: int, lengths: list[int]
) -> None:
    random = np.random.default_rng(seed)
    source = Elsewhere(128, 250_002)
    query = source.of([0, *random.integers(3, 12, 4).tolist(), 2])
    passages = [source.of([0, *random.integers(3, 12, n).tolist(), 2]) for n in lengths]
    late: LateInteraction = MaxSim(source)
    found = late.score(query, [late.pack(passage) for passage in passages])
    words = query.ids[1:-1].tolist()
    rare = [len(passages) - sum(word in passage.ids for passage in passages) for word in words]
    idf = [math.log(1 + (r + 0.5) / (len(passages) - r + 0.5)) for r in rare]
    for score, passage in zip(found, passages, strict=True):
        signs = np.where(passage.vectors > 0, 1.0, -1.0) / math.sqrt(128)
        best = (query.vectors[1:-1] @ signs.T).max(axis=1)
        assert score == pytest.approx(sum(w * b for w, b in zip(idf, best, strict=True)) / sum(idf), abs=1e-6)


def test_another_models_tokens_are_found_by_their_words_and_bear_its_name() -> None:
    late = MaxSim(Elsewhere(128, 250_002))
    assert (late.model, late.encoder, late.leaves_machine) == ("maxsim-2:elsewhere@1", "elsewhere@1", False)
    packed = [late.pack(tokens) for tokens in late.tokens(["red apples", "a green pear", "blue plums fall"])]
    assert late.score(late.tokens(["the pear"])[0], packed).argmax() == 1
    with pytest.raises(InvalidInputError, match="is not what MaxSim 2 packs"):
        late.score(late.tokens(["pear"])[0], [GOOD])
    with pytest.raises(InvalidInputError, match=r"the shape \(tokens, 128\)"):
        late.pack(made_up(0, 2))


@pytest.mark.parametrize("dimension", [0, 4, 100])
def test_dimensions_that_do_not_pack_are_refused(dimension: int) -> None:
    with pytest.raises(InvalidInputError, match="no multiple of 8"):
        _ = MaxSim(Elsewhere(dimension, 10)).model


# ── with the real model ───────────────────────────────────────────────────────────────────────────

PASSAGES = (
    "Ana: My sister moved to Porto last autumn, she rents a flat near the river.",
    "Ben: I bought a new bicycle, a red one, and rode it to the office.",
    "Ana: We should meet for lunch, maybe on Friday?",
    "Ben: The invoice number is KX-4471, they want it paid by the end of May.",
)


def rank(question: str) -> NDArray[np.intp]:
    embedder = LocalEmbedder()
    passages = embedder.embed(PASSAGES, input_type="document").tokens
    query = embedder.embed([question], input_type="query").tokens
    assert passages is not None
    assert query is not None
    return np.argsort(-MAXSIM.score(query[0], [MAXSIM.pack(tokens) for tokens in passages]))


@pytest.mark.parametrize(
    ("question", "best"),
    [
        ("In which city does Ana's sister live?", 0),
        ("How does Ben get to work?", 1),
        ("When do they want to eat together?", 2),
        ("KX-4471", 3),
    ],
)
def test_the_passage_that_answers_comes_first(question: str, best: int) -> None:
    assert rank(question)[0] == best


def test_tokens_are_those_of_the_embedder() -> None:
    expected = LocalEmbedder().embed(PASSAGES, input_type="document").tokens
    assert expected is not None
    for found, tokens in zip(MAXSIM.tokens(PASSAGES), expected, strict=True):
        assert (found.ids == tokens.ids).all()
        assert found.vectors.tobytes() == tokens.vectors.tobytes()


def test_tokens_of_long_and_empty_texts() -> None:
    long, empty, short = MAXSIM.tokens(["apple " * 600, "", "pear"])
    assert len(long.ids) == len(long.vectors) == 600 + 3 * 2, "three windows, each between its special tokens"
    assert empty.ids.tolist() == [runtime.CLS, runtime.SEP]
    assert len(short.ids) == 3
    assert MAXSIM.tokens([]) == ()
    scores = MAXSIM.score(short, [MAXSIM.pack(tokens) for tokens in (long, empty, short)])
    assert scores.argmax() == 2


def test_the_model_names_all_that_packed_tokens_depend_on() -> None:
    assert MAXSIM.model.startswith("maxsim-1:all-MiniLM-L6-v2@")
    assert runtime.SHA256["model.onnx"][:16] in MAXSIM.model
    assert runtime.SHA256["statistics.npz"][:8] in MAXSIM.model


def test_errors_are_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InvalidInputError, match="surrogate"):
        MAXSIM.tokens(["\ud800"])
    with pytest.raises(InvalidInputError, match="at least 1"):
        MaxSim(workers=0)

    def fail(*_: object) -> None:
        raise RuntimeError("broken")

    monkeypatch.setattr(runtime.MiniLM, "encode", fail)
    with pytest.raises(RerankError, match="broken"):
        MAXSIM.tokens(["a"])
