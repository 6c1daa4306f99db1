from pathlib import Path

import numpy as np
import pytest
import wordllama

from data.corpus.embedders import embed_wordllama, normalise, wordllama_id

TEXTS = ["Return the mean of an array along an axis.", "The mean of the array is returned.", "Fish swim in the sea."]


def test_vectors_are_unit_float32_and_similar_texts_are_near() -> None:
    vectors = embed_wordllama(TEXTS)
    assert (vectors.shape, vectors.dtype) == ((3, 256), np.float32)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1.0, atol=1e-6)
    assert vectors[0] @ vectors[1] > vectors[0] @ vectors[2] + 0.2


def test_a_text_has_the_same_vector_alone_and_in_a_batch() -> None:
    np.testing.assert_array_equal(embed_wordllama(TEXTS)[1], embed_wordllama(TEXTS[1:2])[0])


@pytest.mark.skipif("0.4" not in wordllama_id(), reason="older ones do not find their files")
def test_vectors_equal_those_of_the_library() -> None:
    folder = Path(wordllama.__file__).parent  # the one where it looks for the tokenizer does not exist
    library = wordllama.WordLlama.load(cache_dir=folder, disable_download=True)
    np.testing.assert_allclose(embed_wordllama(TEXTS), library.embed(TEXTS, norm=True), atol=1e-6)


def test_a_text_without_a_token_is_refused() -> None:
    with pytest.raises(ValueError, match=r"texts\[1\]: expected at least one token, got ''"):
        embed_wordllama(["a text", ""])


def test_normalise_divides_by_the_norm() -> None:
    np.testing.assert_allclose(normalise(np.array([[3.0, 4.0]], np.float32)), [[0.6, 0.8]], atol=1e-7)


def test_the_identity_names_the_version() -> None:
    assert wordllama_id().startswith("wordllama 0.")
