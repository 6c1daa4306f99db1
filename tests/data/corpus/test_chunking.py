import pytest

from data.corpus.chunking import ChunkRule, chunk, split_paragraphs


def test_paragraphs_are_folded_and_long_ones_cut_at_the_last_space_that_fits() -> None:
    paragraphs = ("short", "a  b\nc " + "word " * 9, "x" * 25)
    # of the second a rest "word word" of 9 characters is left out, of the third a rest of 5
    assert chunk(paragraphs, ChunkRule(min_chars=10, max_chars=20)) == (
        "a b c word word word",
        "word word word word",
        "x" * 20,
    )


def test_what_follows_the_cut_is_left_out_on_request() -> None:
    text = "Short.\n\nA paragraph over\n   two lines, long enough to keep.\n \n" + "word " * 200
    assert chunk(split_paragraphs(text), ChunkRule(min_chars=40, max_chars=600, keep_rest=False)) == (
        "A paragraph over two lines, long enough to keep.",
        ("word " * 120).strip(),  # 120 words of 5 characters, less the last space
    )


def test_a_word_of_thirty_megabytes_is_cut_at_once() -> None:
    assert len(chunk(["x" * 30_000_000], ChunkRule())) == 50_000


def test_sentences_are_split_at_their_ends_and_short_ones_joined() -> None:
    text = 'Yes. He said "Stop!" and left. Version 2.0 of e.g. this stays. "Was it late?" It was. No.'
    assert chunk([text], ChunkRule(unit="sentence", min_chars=12)) == (
        'Yes. He said "Stop!" and left.',
        "Version 2.0 of e.g. this stays.",
        '"Was it late?" It was. No.',
    )


def test_sentences_never_cross_a_paragraph() -> None:
    assert chunk(["One.", "Two words here."], ChunkRule(unit="sentence", min_chars=5)) == ("Two words here.",)


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"min_chars": 0}, "min_chars: expected at least 1"), ({"max_chars": 9}, "max_chars: expected")],
)
def test_lengths_that_leave_nothing_are_refused(changes: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ChunkRule(**changes)
