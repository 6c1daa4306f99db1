import pytest

from data.config import DataConfig


def test_the_default_is_the_docstring_corpus_with_five_chunks_of_context() -> None:
    config = DataConfig()
    assert config.drops_repeats and not DataConfig(source="payload", payload="x").drops_repeats
    assert (config.source, config.context_length, config.min_article_chunks) == ("docstrings", 5, 7)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"source": "wiki"}, "source: expected docstrings or payload, got 'wiki'"),
        ({"source": "payload"}, "payload: expected a folder with source: payload, got none"),
        ({"payload": "x"}, "payload: expected none with source: docstrings, got 'x'"),
        ({"train": "x"}, "train: expected none with source: docstrings, got 'x'"),
        (
            {"source": "payload", "payload": "p", "train": "t", "eval": "e"},
            "val: expected a file beside train and eval, got none",
        ),
        ({"repeats": "all"}, "repeats: expected drop or keep, got 'all'"),
        (
            {"source": "payload", "payload": "p", "train": "t", "val": "v", "eval": "e", "repeats": "drop"},
            "repeats: expected keep with sequence files, got drop",
        ),
        ({"packages": ()}, "packages: expected at least one"),
        ({"min_chars": 0}, "min_chars: expected at least 1, got 0"),
        ({"max_chars": 39}, "max_chars: expected at least min_chars = 40, got 39"),
        ({"context_length": 0}, "context_length: expected at least 1, got 0"),
        ({"min_article_chunks": 5}, "min_article_chunks: expected more than context_length = 5, got 5"),
        ({"train_share": 0.0}, "train_share: expected above 0 up to 1, got 0.0"),
        ({"train_share": 1.5}, "train_share: expected above 0 up to 1, got 1.5"),
        ({"val_share": 0.0}, "val_share: expected a share between 0 and 1, got 0.0"),
        ({"test_share": float("nan")}, "test_share: expected a share between 0 and 1, got nan"),
        ({"val_share": 0.5, "test_share": 0.5}, "test_share: expected val_share + test_share below 1, got 1"),
    ],
)
def test_a_value_no_run_could_use_is_refused_in_one_line_that_begins_with_its_name(
    changes: dict[str, object], message: str
) -> None:
    with pytest.raises(ValueError) as caught:
        DataConfig(**changes)  # type: ignore[arg-type]
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)
    assert ";" in str(caught.value)
