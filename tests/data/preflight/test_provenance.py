"""What windows, their files and an index say of the vectors they were made from, held against the payload."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from data.payload.store import Payload
from data.preflight.provenance import check_provenance, provenance_of_index, provenance_of_windows, same_embedder
from data.windows.table import Splits, WindowProvenance, build_windows, save_windows, split_by_article
from tests.data.helpers import MakePayload

MakeWindows = Callable[..., None]


@pytest.fixture
def payload(make_payload: MakePayload) -> Payload:
    return make_payload([6] * 60, embedder="gtr-t5-base")


@pytest.fixture
def keep_windows(payload: Payload) -> MakeWindows:
    """Keep windows with the payload whose training file said `said`."""

    def keep(said: dict[str, str], *, realigned: bool = False, origin: Any = "files") -> None:
        splits: Splits = split_by_article(
            build_windows(payload.article_index, payload.chunk_index, 2, 3), 0.2, 0.2, seed=1
        )
        facts = {"file": "train.npz", "provenance": said, "realigned": realigned}
        provenance = WindowProvenance(
            payload_sha256=payload.provenance.sha256,
            context_length=2,
            min_article_chunks=0,
            origin=origin,
            alignment={"train": facts},
        )
        save_windows(payload.path / "windows", splits, provenance)

    return keep


def test_parts_that_say_the_same_are_named(payload: Payload, keep_windows: MakeWindows) -> None:
    keep_windows({"embedder": "sentence-transformers/GTR-T5-base", "metric": "ip"})
    (check,) = check_provenance(payload, provenance_of_windows(payload))
    assert check.verdict == "pass"
    assert check.detail == "compared: windows (sha256), train.npz (embedder, metric)"


def test_a_part_that_says_nothing_is_named_as_such(payload: Payload, keep_windows: MakeWindows) -> None:
    keep_windows({})
    (check,) = check_provenance(payload, provenance_of_windows(payload))
    assert check.detail == "compared: windows (sha256), train.npz (says nothing)"


@pytest.mark.parametrize(
    ("build", "passed"),
    [("payload584k@sha256:12ab", True), ("payload584k@sha256:34cd", False), ("payload584k", True)],
)
def test_the_build_that_a_file_names_is_compared_with_the_file_of_the_payload(
    make_payload: MakePayload, build: str, passed: bool
) -> None:
    payload = make_payload([6] * 6, source={"file_sha256": "12ab" * 16})
    (check,) = check_provenance(payload, {"train.npz": {"payload_build_id": build}})
    assert check.passed is passed


@pytest.mark.parametrize(
    ("said", "differing"),
    [
        ({"embedder": "bge-small"}, "train.npz.embedder is bge-small, payload.embedder is gtr-t5-base"),
        ({"norm": "none"}, "train.npz.norm is none, payload.norm is l2_once"),
        ({"metric": "l2"}, "train.npz.metric is l2, payload.metric is ip"),
    ],
)
def test_a_file_of_other_vectors_stops_the_launch(
    payload: Payload, keep_windows: MakeWindows, said: dict[str, str], differing: str
) -> None:
    keep_windows(said)
    (check,) = check_provenance(payload, provenance_of_windows(payload))
    assert check.line() == (
        f"preflight.provenance: expected == 0, got 1 ({differing}); "
        "build payload, windows and index from one embedding of one corpus"
    )


def test_a_file_whose_vectors_were_replaced_has_no_say(payload: Payload, keep_windows: MakeWindows) -> None:
    keep_windows({"embedder": "bge-small"}, realigned=True)
    assert set(provenance_of_windows(payload)) == {"windows"}


def test_windows_cut_from_the_payload_say_nothing(payload: Payload, keep_windows: MakeWindows) -> None:
    assert provenance_of_windows(payload) == {}
    keep_windows({}, origin="payload")
    assert provenance_of_windows(payload) == {}


@pytest.mark.parametrize(
    ("beside", "said"),
    [
        ({"payload_sha256": "ab", "embedder": "e", "notes": {}}, {"index": {"sha256": "ab", "embedder": "e"}}),
        ({"metric": "METRIC_L2"}, {"index": {}}),
        (["payload_sha256"], {"index": {}}),
    ],
)
def test_what_stands_beside_an_index_is_read(beside: Any, said: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "corpus.json").write_text(json.dumps(beside))
    assert provenance_of_index(tmp_path / "corpus.faiss") == said


def test_nothing_beside_an_index_is_no_fault(tmp_path: Path) -> None:
    assert provenance_of_index(tmp_path / "corpus.faiss") == {}
    (tmp_path / "corpus.json").write_text("{")
    assert provenance_of_index(tmp_path / "corpus.faiss") == {}


@pytest.mark.parametrize(
    ("first", "second", "same"),
    [
        ("gtr-t5-base", "org/GTR-T5-base", True),
        ("sentence-transformers/gtr-t5-base", "GTR-T5-base-768", True),
        ("GTR_T5_base", "gtr-t5-base", True),
        ("unknown", "bge-small", True),
        ("gtr-t5-base", "bge-small", False),
        ("nomic-embed-256", "nomic-embed-768", False),
        ("gtr-t5-base", "gtr-t5-large", False),
    ],
)
def test_an_embedder_has_one_name_with_or_without_organisation_and_dimension(
    first: str, second: str, same: bool
) -> None:
    assert same_embedder(first, second) is same
