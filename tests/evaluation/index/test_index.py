"""The index against brute force."""

import numpy as np
import pytest

from evaluation.config import IndexConfig
from evaluation.index.build import build_index
from evaluation.index.fidelity import disturb, fidelity, overlap
from evaluation.index.kinds import auto_nlist, centroids_of, resolve
from evaluation.index.search import build_kind


@pytest.fixture(scope="module")
def queries(unit):
    return unit(np.random.default_rng(1).standard_normal((20, 16)))


def brute_force(vectors, queries, k):
    return np.argsort(-(queries @ vectors.T), axis=1, kind="stable")[:, :k]


EXACT = [IndexConfig(kind="flat"), IndexConfig(kind="ivf_flat", nlist=8, nprobe=8)]
CODED = [
    IndexConfig(kind="ivf_sq8", nlist=8, nprobe=8),
    IndexConfig(kind="ivf_pq", nlist=8, nprobe=8, k_factor=8),
    IndexConfig(kind="hnsw", hnsw_ef=200),
]


@pytest.mark.parametrize("config", EXACT, ids=lambda config: config.kind)
def test_an_index_that_reads_every_row_agrees_with_brute_force(vectors, queries, config):
    scores, rows = build_index(vectors, config).search(queries, 50)
    np.testing.assert_array_equal(rows, brute_force(vectors, queries, 50))
    np.testing.assert_allclose(scores, np.take_along_axis(queries @ vectors.T, rows, 1), atol=1e-6)


@pytest.mark.parametrize("config", CODED, ids=lambda config: config.kind)
def test_coded_and_graph_indexes_find_nearly_all_of_the_exact_neighbours(vectors, queries, config):
    index = build_index(vectors, config)
    assert fidelity(index, vectors, queries) > 0.9
    assert index.describe()["fidelity"] > 0.9
    np.testing.assert_array_equal(index.search(vectors[:20], 1)[1][:, 0], np.arange(20))


def test_product_codes_need_a_dimension_divisible_by_four(vectors, unit):
    with pytest.raises(ValueError, match="expected a dimension divisible by 4 for ivf_pq, got 15; choose ivf_sq8"):
        build_index(unit(vectors[:, :15]), IndexConfig(kind="ivf_pq"))


def test_breadth_of_a_built_index_can_be_changed(vectors, queries):
    index = build_index(vectors, IndexConfig(kind="ivf_pq", nlist=16, nprobe=1, k_factor=1))
    narrow = fidelity(index, vectors, queries)
    wide = fidelity(index.with_breadth(nprobe=16, k_factor=8), vectors, queries)
    assert wide > narrow + 0.2
    assert (index.describe()["nprobe"], index.describe()["k_factor"]) == (16, 8)


def test_fewer_rows_than_k_are_padded_with_minus_one(vectors):
    _, rows = build_index(vectors[:3], IndexConfig(kind="flat")).search(vectors[:1], 5)
    assert sorted(rows[0]) == [-1, -1, 0, 1, 2]


def test_float16_vectors_are_searched_as_float32(vectors, queries):
    _, rows = build_index(vectors.astype(np.float16), IndexConfig(kind="flat")).search(queries, 1)
    np.testing.assert_array_equal(rows, brute_force(vectors, queries, 1))


def test_the_seed_places_the_cells(vectors):
    first, again, other = (
        centroids_of(build_kind(vectors, IndexConfig(kind="ivf_flat", nlist=16, seed=seed)).faiss_index)
        for seed in (3, 3, 4)
    )
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


def test_the_cells_of_one_kind_serve_another(vectors):
    given = centroids_of(build_kind(vectors, IndexConfig(kind="ivf_flat", nlist=16, seed=3)).faiss_index)
    index = build_kind(vectors, IndexConfig(kind="ivf_pq", nlist=16, seed=4), given)
    np.testing.assert_array_equal(centroids_of(index.faiss_index), given)
    assert centroids_of(build_kind(vectors, IndexConfig(kind="flat")).faiss_index) is None


@pytest.mark.parametrize(("num_rows", "nlist"), [(584_545, 2_048), (26_500, 512), (100, 2), (1, 1)])
def test_nlist_follows_from_the_corpus(num_rows, nlist):
    assert auto_nlist(num_rows) == nlist


def test_nprobe_never_exceeds_nlist():
    resolved = resolve(IndexConfig(kind="ivf_flat", nlist=8, nprobe=64), 1_000)
    assert (resolved.nlist, resolved.nprobe) == (8, 8)


def test_auto_is_flat_on_a_small_corpus_and_says_that_it_chose(vectors):
    description = build_index(vectors, IndexConfig(kind="auto")).describe()
    assert (description["kind"], description["chosen_by"]) == ("flat", "auto")


def test_a_description_names_what_the_protocol_line_needs(vectors):
    description = build_index(vectors, IndexConfig(kind="ivf_flat", nlist=8, nprobe=4)).describe()
    assert description | {"build_s": 0} == {
        "kind": "ivf_flat",
        "nlist": 8,
        "nprobe": 4,
        "chosen_by": "configuration",
        "n": 600,
        "dim": 16,
        "build_s": 0,
        "fidelity": description["fidelity"],
        "fidelity_disturbed": description["fidelity_disturbed"],
    }


def test_fidelity_of_flat_is_one_and_of_one_cell_in_sixteen_is_less(vectors, queries):
    assert fidelity(build_index(vectors, IndexConfig(kind="flat")), vectors, queries) == 1.0
    narrow = build_index(vectors, IndexConfig(kind="ivf_flat", nlist=16, nprobe=1))
    assert 0.05 < fidelity(narrow, vectors, queries) < 0.9


def test_disturbed_rows_have_norm_one_and_the_wanted_cosine(vectors):
    turned = disturb(vectors, seed=0)
    np.testing.assert_allclose(np.linalg.norm(turned, axis=1), 1.0, atol=1e-5)
    cosine = np.einsum("nd,nd->n", turned, vectors)
    assert abs(cosine.mean() - 0.5) < 0.05
    np.testing.assert_array_equal(turned, disturb(vectors, seed=0))


@pytest.mark.parametrize(("found", "share"), [([[2, 9], [4, 3]], 3 / 4), ([[1, -1], [-1, -1]], 1 / 4)])
def test_overlap_is_a_share_of_the_exact_rows_and_does_not_count_padding(found, share):
    assert overlap(np.array([[1, 2], [3, 4]]), np.array(found)) == share


def test_an_empty_corpus_is_refused():
    with pytest.raises(ValueError, match="index: expected vectors"):
        build_index(np.zeros((0, 4), np.float32), IndexConfig())


@pytest.mark.parametrize(
    ("field", "value"),
    [("kind", "ivf"), ("nlist", 0), ("nprobe", 0), ("k_factor", 0), ("min_fidelity", 1.1), ("seed", -1)],
)
def test_wrong_settings_are_refused_by_their_name(field, value):
    with pytest.raises(ValueError, match=f"^{field}: expected .*got .*; "):
        IndexConfig(**{field: value})
