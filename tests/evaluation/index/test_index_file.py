"""An index that another program built: accepted when it is one of this payload, and every planted fault is named."""

from pathlib import Path

import faiss
import numpy as np
import pytest

from data.payload.store import write_payload
from data.preflight.run import blocking
from evaluation.config import IndexConfig
from evaluation.index.file import main, open_index_file
from evaluation.index.search import SearchIndex
from evaluation.retrieval.corpus import QuerySet
from evaluation.service.actor import Evaluator
from evaluation.service.index_check import check_index_file

NUM, DIM = 600, 16
IP, L2 = faiss.METRIC_INNER_PRODUCT, faiss.METRIC_L2


def unit(num=NUM, dim=DIM, seed=0):
    vectors = np.random.default_rng(seed).standard_normal((num, dim)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


VECTORS = unit()
VECTORS[7] = VECTORS[6]  # an exact copy: either row answers for the other


def save(file, vectors, spec="IVF8,Flat", metric=IP, ids=None):
    index = faiss.index_factory(vectors.shape[1], spec, metric)
    index.train(vectors)
    if ids is None:
        index.add(vectors)
    else:
        index.add_with_ids(vectors, ids)
    faiss.write_index(index, str(file))
    return IndexConfig(file=str(file), nprobe=4)


def lines(config, vectors=VECTORS, waive=()):
    return [check.line() for check in blocking(open_index_file(vectors, config, waive)[1])]


@pytest.fixture
def file(tmp_path, monkeypatch):
    """The same short name in every message."""
    monkeypatch.chdir(tmp_path)
    return Path("x.faiss")


@pytest.mark.parametrize(
    ("spec", "kind"),
    [
        ("Flat", "flat"),
        ("IVF8,Flat", "ivf_flat"),
        ("IVF8,SQ8", "ivf_sq8"),
        ("IVF8,PQ8x4fs", "ivf_pq"),
        ("IVF8,PQ8x4fs,RFlat", "ivf_pq"),
        ("OPQ8,IVF8,PQ8x4", "ivf_pq"),
        ("HNSW16", "hnsw"),
        ("IDMap,IVF8,Flat", "ivf_flat"),
    ],
)
def test_an_index_of_the_payload_passes_whatever_its_kind(file, spec, kind):
    ids = np.arange(NUM) if spec.startswith("IDMap") else None
    index, checks = open_index_file(VECTORS, save(file, VECTORS, spec, ids=ids))
    assert [check.name for check in checks] == [
        "index_file",
        "index_dimension",
        "index_metric",
        "index_rows",
        "index_vectors",
    ]
    assert blocking(checks) == []
    assert index.config.kind == kind
    assert index.describe()["file"] == "x.faiss"


def test_a_payload_in_float16_matches_an_index_in_float32(file):
    half = VECTORS.astype(np.float16)
    assert lines(save(file, VECTORS), half) == []


def test_cells_are_the_files_and_nprobe_the_configurations(file):
    index, _ = open_index_file(VECTORS, save(file, VECTORS))
    assert (index.config.nlist, index.config.nprobe, index.faiss_index.nprobe) == (8, 4, 4)
    wide, _ = open_index_file(VECTORS, IndexConfig(file="x.faiss", nprobe=64, nlist=2048))
    assert (wide.config.nlist, wide.config.nprobe) == (8, 8)


ANOTHER = (
    "it was built from another payload; name the one built from these vectors, "
    "or leave index.file out and an index is built"
)


ROTATION = np.linalg.qr(np.random.default_rng(2).standard_normal((DIM, DIM)))[0].astype(np.float32)
NOT_FOUND = f"vectors: expected >= 0.99, got 0 (share of 256 payload rows found under their own number); {ANOTHER}"


@pytest.mark.parametrize(
    ("vectors", "metric", "line"),
    [
        (unit(seed=1), IP, NOT_FOUND),
        (VECTORS @ ROTATION, IP, NOT_FOUND),
        (unit(dim=8), IP, f"dimension: expected == 16, got 8 (dimension of the index, limit the payload's); {ANOTHER}"),
        (VECTORS[:500], IP, f"rows: expected == 600, got 500 (rows of the index, limit the payload's); {ANOTHER}"),
        (
            VECTORS,
            L2,
            "metric: expected == 1, got 0 (its metric is L2, the payload's inner product); "
            "build it with faiss.METRIC_INNER_PRODUCT, or leave index.file out and an index is built",
        ),
    ],
    ids=["another payload", "a rotated space", "another dimension", "fewer rows", "the L2 metric"],
)
def test_an_index_that_does_not_fit_fails_the_check_that_says_why(file, vectors, metric, line):
    assert lines(save(file, vectors, metric=metric)) == [f"preflight.index_{line}"]


def unreadable(what):
    return [
        f"preflight.index_file: expected == 1, got 0 (x.faiss {what}); "
        "copy the file again, or leave index.file out and an index is built"
    ]


def test_a_file_that_is_no_index(file):
    file.write_text("hello, this is text")
    assert lines(IndexConfig(file="x.faiss")) == unreadable("is no whole FAISS index")


@pytest.mark.parametrize("spec", ["Flat", "IVF8,Flat", "HNSW16"])
@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.999])
def test_a_truncated_index(file, spec, share):
    config = save(file, VECTORS, spec)
    content = file.read_bytes()
    file.write_bytes(content[: int(share * len(content))])
    assert lines(config) == unreadable("is no whole FAISS index")


def test_an_index_of_a_kind_that_is_not_searched_here(file):
    expected = "holds an IndexPQ, none of flat, ivf_flat, ivf_sq8, ivf_pq, hnsw"
    assert lines(save(file, VECTORS, "PQ8x4")) == unreadable(expected)


def test_an_index_that_was_filled_in_another_order(file):
    order = np.random.default_rng(3).permutation(NUM)
    (line,) = lines(save(file, VECTORS[order]))
    assert line.endswith(
        "256 are there under another one); number the index's rows by article_index and chunk_index, "
        "or as the file the payload was built from"
    )


ORDER = np.random.default_rng(3).permutation(NUM).astype(np.int32)


@pytest.mark.parametrize("spec", ["Flat", "IVF8,Flat", "IVF8,PQ8x4fs"])
def test_an_index_that_is_numbered_as_the_file_the_payload_came_from(file, spec):
    # Payload row r stood at ORDER[r] in the file, and so it does in the index.
    before = np.empty_like(VECTORS)
    before[ORDER] = VECTORS
    index, checks = open_index_file(VECTORS, save(file, before, spec), source_rows=ORDER)
    assert blocking(checks) == []
    assert checks[-1].detail.endswith("under their own number, which is that in the file the payload came from")
    assert index.describe()["numbered_as"] == "source file"
    _, found = index.search(VECTORS[:50], 3)
    assert np.mean(found[:, 0] == np.arange(50)) > (0.9 if spec != "IVF8,PQ8x4fs" else 0.3)


def test_a_numbering_that_fits_neither_way_is_named_as_before(file):
    config = save(file, VECTORS[np.random.default_rng(4).permutation(NUM)])
    index, checks = open_index_file(VECTORS, config, source_rows=ORDER)
    assert [check.line() for check in blocking(checks)] == lines(config)
    assert "numbered_as" not in index.describe()


def test_too_few_neighbours_and_foreign_numbers_are_row_minus_one_in_any_numbering(file):
    config = save(file, VECTORS, "IDMap,IVF8,Flat", ids=np.where(np.arange(NUM) < 5, NUM + 7, np.arange(NUM)))
    opened, _ = open_index_file(VECTORS, config)
    index = SearchIndex(opened.faiss_index, opened.config, 0.0, source_rows=ORDER)
    _, found = index.with_breadth(nprobe=1).search(VECTORS[:1], NUM)
    assert found.min() == -1
    assert found.max() < NUM
    assert found[0, 0] == -1  # row 0 is its own nearest neighbour, under a number that is none


def test_ids_that_are_not_row_numbers(file):
    (line,) = lines(save(file, VECTORS, "IDMap,Flat", ids=np.arange(NUM) + 1000))
    assert line.startswith("preflight.index_vectors: expected >= 0.99, got 0 (")


def test_nan_in_the_payload_fails_closed(file):
    config = save(file, VECTORS)
    assert lines(config, np.full_like(VECTORS, np.nan))[0].startswith(
        "preflight.index_vectors: expected >= 0.99, got 0"
    )


def test_a_failed_check_is_waived_by_name(file):
    config = save(file, VECTORS, metric=L2)
    index, checks = open_index_file(VECTORS, config, waive=["index_metric"])
    assert index is not None
    assert {check.name: check.verdict for check in checks}["index_metric"] == "waived"


@pytest.fixture
def payload(tmp_path):
    return write_payload(
        tmp_path / "payload",
        vectors=VECTORS,
        article_index=np.repeat(np.arange(60, dtype=np.int32), 10),
        chunk_index=np.tile(np.arange(10, dtype=np.int32), 60),
        embedder="planted",
    ).path


QUERIES = [QuerySet("smoke", np.arange(6, dtype=np.int32)[None])]


def test_the_evaluator_searches_the_file_and_builds_nothing(file, payload):
    ready = Evaluator(str(payload), save(file, VECTORS), QUERIES).ready()
    assert ready["index_builds"] == 0
    described = ready["index"]
    assert (described["kind"], described["nlist"], described["nprobe"]) == ("ivf_flat", 8, 4)
    assert (described["chosen_by"], described["file"]) == ("file", "x.faiss")
    assert 0.5 < described["fidelity"] < 1.0


def test_the_evaluator_refuses_an_index_of_another_payload(file, payload):
    with pytest.raises(ValueError, match=r"preflight\.index_vectors: expected >= 0\.99, got 0"):
        Evaluator(str(payload), save(file, unit(seed=1)), QUERIES)


def test_a_file_that_cannot_be_searched_is_left_aside_when_that_is_waived(file, payload):
    file.write_text("hello")
    config = IndexConfig(file="x.faiss", kind="flat")
    ready = Evaluator(str(payload), config, QUERIES, waive=["index_file"]).ready()
    assert (ready["index"]["kind"], ready["index_builds"]) == ("flat", 1)
    assert "file" not in ready["index"]


def test_the_checks_are_the_same_from_another_process(file, payload):
    config = save(file, unit(seed=1))
    assert (
        check_index_file(config, payload, ["index_vectors"]) == open_index_file(VECTORS, config, ["index_vectors"])[1]
    )


def test_the_command_line_shows_the_checks(file, payload, capsys):
    save(file, VECTORS)
    assert main(["x.faiss", "--payload", str(payload)]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 5
    assert main(["none.faiss", "--payload", str(payload)]) == 2
    assert capsys.readouterr().err == "none.faiss: expected a FAISS index, got no file; check the path\n"
