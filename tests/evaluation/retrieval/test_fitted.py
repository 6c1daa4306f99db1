"""Closed-form baselines: each finds the rule of a small world, by hand or beside a slow twin."""

import time
from dataclasses import replace

import numpy as np
import pytest

from data.payload.duplicates import duplicate_ids
from data.windows.novelty import NOVEL_BELOW, max_train_cosine
from evaluation.measures.metrics import hits, ranks
from evaluation.retrieval.baselines import BASELINES, FITTED, fit_baseline
from evaluation.retrieval.fitted import choice, nearest
from evaluation.retrieval.fitted import ridge as ridge_module
from evaluation.retrieval.fitted.choice import TrainingData, in_order, simplest
from evaluation.retrieval.fitted.ewm import FittedEwm, fit_ewm, lag_weights
from evaluation.retrieval.fitted.nearest import fit_nearest
from evaluation.retrieval.fitted.ridge import FittedRidge, fit_ridge, fit_whitened_ridge, lag_groups

ALL = (*BASELINES, *FITTED)
LENGTH, CHUNKS = 3, 8


def unit(vectors):
    return (vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)).astype(np.float32)


def windows_of(articles):
    """Every run of LENGTH + 1 chunks of articles of CHUNKS chunks each."""
    start = np.concatenate([np.arange(CHUNKS - LENGTH) + CHUNKS * article for article in articles])
    return (start[:, None] + np.arange(LENGTH + 1)).astype(np.int32)


def world(next_chunk, num_articles=60, dim=8, seed=0, dtype=np.float32):
    """Articles that begin with random chunks and go on by a rule on the chunks so far; the last fifth validates."""
    rng = np.random.default_rng(seed)
    articles = np.empty((num_articles, CHUNKS, dim), np.float32)
    for article in articles:
        for place in range(CHUNKS):
            drawn = unit(rng.standard_normal(dim))
            article[place] = drawn if place < LENGTH else unit(next_chunk(article[:place], drawn))
    split = num_articles * 4 // 5
    train, val = windows_of(range(split)), windows_of(range(split, num_articles))
    return TrainingData(articles.reshape(-1, dim).astype(dtype), train, val, np.ones(len(val), bool))


def drift(before, noise):
    return before[-1] + 0.5 * before[-2] + 0.5 * noise


def hit_rate(predict, data, windows, k=5):
    """R@k by an exact search of everything."""
    vectors = np.asarray(data.vectors, np.float32)
    found = np.argsort(-(predict(vectors[windows[:, :-1]]) @ vectors.T), axis=1, kind="stable")[:, :k]
    return hits(ranks(found, windows[:, -1], duplicate_ids(data.vectors)), k).mean()


def test_the_score_falls_to_a_half_at_rank_five():
    angles = np.deg2rad([0, 10, 20, 30, 40, 50])
    vectors = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    data = TrainingData(vectors, np.array([[0, 1]]), np.array([[0, 0], [0, 4]]), np.ones(2, bool))
    # From row 0 the targets rank first and fifth.
    assert data.score(lambda context: context[:, -1]) == pytest.approx((1 / (1 + 1 / 25) + 1 / 2) / 2)


@pytest.mark.parametrize(("num_novel", "num_queries"), [(choice.MIN_NOVEL, choice.MIN_NOVEL), (99, 150)])
def test_novel_validation_windows_choose_where_there_are_enough(num_novel, num_queries):
    rows = np.arange(150, dtype=np.int32)[:, None].repeat(2, axis=1)
    data = TrainingData(np.ones((150, 1), np.float32), rows, rows, np.arange(150) < num_novel)
    assert len(data.queries) == num_queries


@pytest.mark.parametrize(("limit", "value"), [("NUM_QUERIES", 3), ("MOST_PRODUCTS", 3 * 101)])
def test_choosing_windows_are_spread_evenly(limit, value, monkeypatch):
    monkeypatch.setattr(choice, limit, value)
    rows = np.arange(101, dtype=np.int32)[:, None].repeat(2, axis=1)
    data = TrainingData(np.ones((101, 1), np.float32), rows, rows, np.ones(101, bool))
    assert data.queries[:, 0].tolist() == [0, 50, 100]


@pytest.mark.parametrize("name", ["train", "val"])
def test_without_windows_there_is_no_fit(name):
    tables = {"train": np.zeros((1, 2), np.int32), "val": np.zeros((1, 2), np.int32)}
    tables[name] = tables[name][:0]
    with pytest.raises(ValueError, match=f"baselines: expected windows in {name}, got none"):
        TrainingData(np.ones((1, 1), np.float32), val_novel=np.ones(len(tables["val"]), bool), **tables)


def test_the_mean_counts_each_chunk_of_a_training_window_once():
    vectors = np.array([[1, 0], [0, 1], [5, 5]], np.float16)
    data = TrainingData(vectors, np.array([[0, 1], [0, 0], [0, 0]]), np.array([[2, 2]]), np.ones(1, bool))
    assert data.train_mean.tolist() == [0.5, 0.5]


def test_ewm_weighs_by_lag_and_takes_its_share_of_the_mean_away():
    np.testing.assert_allclose(lag_weights(3, 0.5), [1 / 7, 2 / 7, 4 / 7], rtol=1e-6)
    context = np.array([[[1, 0], [0, 1]]], np.float32)
    ewm = FittedEwm(0.5, 0.5, np.array([0, 1], np.float32), 0.0)
    # (1/3, 2/3) - (0, 1/2) = (1/3, 1/6)
    np.testing.assert_allclose(ewm.predict(context), [[2 / 5**0.5, 1 / 5**0.5]], rtol=1e-6)


def test_ewm_that_vanishes_falls_back_to_the_last_chunk():
    context = np.array([[[1, 0], [0, 1]]], np.float32)
    ewm = FittedEwm(0.5, 1.0, lag_weights(2, 0.5), 0.0)
    assert ewm.predict(context).tolist() == [[0, 1]]


@pytest.mark.parametrize(
    ("next_chunk", "decay"),
    [(lambda before, noise: before[-1] + 0.4 * noise, 0.3), (lambda before, _: before[-3:].mean(axis=0), 0.9)],
)
def test_validation_chooses_the_decay_of_the_world(next_chunk, decay):
    assert fit_ewm(world(next_chunk)).decay == decay


def test_ridge_finds_a_rotation_that_no_mean_can_follow():
    rotation = np.linalg.qr(np.random.default_rng(1).standard_normal((8, 8)))[0].astype(np.float32)
    data = world(lambda before, _: rotation @ before[-1])
    assert hit_rate(fit_ridge(data).predict, data, data.val, k=1) > 0.95
    assert hit_rate(fit_ewm(data).predict, data, data.val, k=1) < 0.3


def test_ridge_equals_its_slow_twin():
    data = world(drift)
    ridge = fit_ridge(data)
    vectors = np.asarray(data.vectors, np.float64)
    features = vectors[data.train[:, :-1]].reshape(len(data.train), -1)
    rest = vectors[data.train[:, -1]] - np.einsum(
        "l,wld->wd", lag_weights(LENGTH, ridge.base.decay), features.reshape(-1, LENGTH, 8)
    )
    centred = features - features.mean(axis=0)
    shrink = ridge.penalty * np.square(centred).sum() / centred.shape[1]
    # Ridge as least squares with further rows of zeros to predict.
    rows = np.concatenate([centred, shrink**0.5 * np.eye(centred.shape[1])])
    correction = np.linalg.lstsq(rows, np.concatenate([rest, np.zeros((centred.shape[1], 8))]), rcond=None)[0]
    expected = (
        (vectors[data.val[:, :-1]] * lag_weights(LENGTH, ridge.base.decay)[:, None]).sum(axis=1)
        - ridge.base.share * data.train_mean
        + (vectors[data.val[:, :-1]].reshape(len(data.val), -1) - features.mean(axis=0)) @ correction
    )
    np.testing.assert_allclose(ridge.predict(data.context(data.val)), unit(expected), atol=1e-5)
    flat = data.context(data.val).reshape(len(data.val), -1)
    np.testing.assert_allclose(unit(flat @ ridge.weights + ridge.bias), unit(expected), atol=1e-5)


def test_ridge_is_never_behind_ewm_on_validation():
    data = world(lambda before, noise: before[-3:].mean(axis=0) + 0.3 * noise)
    assert fit_ridge(data).score >= fit_ewm(data).score - 1e-3


def test_whitening_divides_each_direction_by_a_power_of_its_variance():
    base = FittedEwm(0.5, 0.0, np.zeros(2, np.float32), 0.0)
    ridge = FittedRidge(np.eye(2, dtype=np.float32), np.zeros(2, np.float32), base, 1.0, 1, 0.0)
    context = np.array([[[0.6, 0.8]]], np.float32)
    # Variances 1.6 and 0.4 with mean 1: (0.6 / 1.6, 0.8 / 0.4) = (3, 16) / 8
    full = ridge_module._whitened(ridge, 1.0, np.array([1.6, 0.4]), np.eye(2))
    np.testing.assert_allclose(full.predict(context), [[3 / 265**0.5, 16 / 265**0.5]], rtol=1e-6)
    # Half the power: 0.6 / 1.6^0.5 to 0.8 / 0.4^0.5 as 3 to 8
    half = ridge_module._whitened(ridge, 0.5, np.array([1.6, 0.4]), np.eye(2))
    np.testing.assert_allclose(half.predict(context), [[3 / 73**0.5, 8 / 73**0.5]], rtol=1e-6)
    # A direction that does not vary counts as one with a hundredth of the mean: (0.6 / 2, 0.8 / 0.01) = (3, 800) / 10
    flat = ridge_module._whitened(ridge, 1.0, np.array([2.0, 0.0]), np.eye(2))
    np.testing.assert_allclose(flat.predict(context), unit(np.array([[3.0, 800.0]])), rtol=1e-6)


def test_the_covariance_counts_each_chunk_of_a_training_window_once(monkeypatch):
    monkeypatch.setattr(choice, "BLOCK_BYTES", 1)  # a block a row
    vectors = np.array([[1, 0], [0, 1], [0, 0], [9, 9]], np.float16)
    data = TrainingData(vectors, np.array([[0, 1], [1, 2], [0, 1]]), np.array([[3, 3]]), np.ones(1, bool))
    # Mean (1/3, 1/3): variances (4 + 1 + 1) / 27, products (-2 - 2 + 1) / 27
    np.testing.assert_allclose(ridge_module._covariance(data), np.array([[6, -3], [-3, 6]]) / 27, atol=1e-6)


def loud_and_quiet(before, noise):
    """Two loud coordinates that follow the last chunk roughly, and six quiet ones that follow it exactly."""
    loud = 0.8 * before[-1][:2] + 0.6 * noise[:2]
    return np.concatenate([1.5 * loud / np.linalg.norm(loud), np.roll(before[-1][2:], 1)])


def test_whitening_finds_what_loud_directions_hide():
    data = world(loud_and_quiet, num_articles=300)
    plain, whitened = fit_ridge(data), fit_whitened_ridge(data)
    assert whitened.chosen["power"] > 0
    assert hit_rate(whitened.predict, data, data.val) > hit_rate(plain.predict, data, data.val) + 0.1


def test_nothing_is_whitened_where_one_article_alone_speaks_for_it():
    data = world(loud_and_quiet)
    data = replace(data, val_articles=np.zeros(len(data.val), np.int32))
    assert fit_whitened_ridge(data).chosen == {**fit_ridge(data).chosen, "power": 0.0}


def test_the_simplest_setting_within_one_standard_error_of_the_best_is_chosen():
    best = np.array([0.4, 0.6, 0.5, 0.9])
    # Behind by 0.05 and 0.35 in two articles: a mean of 0.2 with a standard error of 0.15. The other one: 0.12, 0.15.
    far, near = best - [0.05, 0.05, 0.35, 0.35], best - [-0.03, -0.03, 0.27, 0.27]
    articles = np.array([3, 3, 7, 7], np.int32)
    assert simplest([far, near, best], articles) == 1
    assert simplest([far, best], articles) == 1
    assert simplest([best, near], articles) == 0


def test_from_one_article_the_simplest_setting_is_chosen():
    assert simplest([np.zeros(2), np.ones(2)], np.array([5, 5], np.int32)) == 0


def test_lags_are_grouped_when_there_are_too_many_unknowns(monkeypatch):
    assert lag_groups(3, 9).tolist() == np.eye(3)[::-1].tolist()
    assert (lag_groups(32, 7) > 0).sum(axis=1).tolist() == [1, 1, 1, 3, 4, 8, 14]
    np.testing.assert_allclose(lag_groups(4, 2), [[0, 0, 0, 1], [1 / 3, 1 / 3, 1 / 3, 0]], rtol=1e-6)
    np.testing.assert_allclose(lag_groups(3, 1), [[1 / 3, 1 / 3, 1 / 3]], rtol=1e-6)

    monkeypatch.setattr("evaluation.retrieval.fitted.ridge.MOST_UNKNOWNS", 16)
    rotation = np.linalg.qr(np.random.default_rng(1).standard_normal((8, 8)))[0].astype(np.float32)
    data = world(lambda before, _: rotation @ before[-1])
    ridge = fit_ridge(data)
    assert (ridge.chosen["lag_groups"], ridge.weights.shape) == (2, (LENGTH * 8, 8))
    assert hit_rate(ridge.predict, data, data.val, k=1) > 0.95  # the last chunk is a group of its own


@pytest.mark.parametrize("block_bytes", [1, choice.BLOCK_BYTES])
def test_the_look_up_finds_what_a_double_loop_finds(block_bytes, monkeypatch):
    monkeypatch.setattr(choice, "BLOCK_BYTES", block_bytes)
    monkeypatch.setattr(nearest, "_QUERIES", 5)
    data = world(drift, num_articles=20)
    near = [
        [
            sum(0.5**lag * (data.vectors[one[-2 - lag]] @ data.vectors[other[-2 - lag]]) for lag in range(LENGTH))
            for other in data.train
        ]
        for one in data.val
    ]
    look_up = fit_nearest(data)
    assert look_up.nearest(data.context(data.val)).tolist() == np.argmax(near, axis=1).tolist()
    followers = data.vectors[data.train[np.argmax(near, axis=1), -1]]
    np.testing.assert_array_equal(look_up.predict(data.context(data.val)), followers)


def test_of_equally_near_contexts_the_first_is_taken(monkeypatch):
    monkeypatch.setattr(choice, "BLOCK_BYTES", 1)
    vectors = np.eye(4, dtype=np.float32)
    data = TrainingData(vectors, np.array([[0, 1], [2, 3], [2, 0]]), np.array([[2, 1]]), np.ones(1, bool))
    assert fit_nearest(data).nearest(data.context(data.val)).tolist() == [1]


@pytest.mark.parametrize("name", ALL)
def test_every_baseline_gives_unit_rows_and_the_same_ones_again(name, tmp_path):
    data = world(drift, dtype=np.float16)
    np.save(tmp_path / "vectors.npy", data.vectors)
    mapped = TrainingData(np.load(tmp_path / "vectors.npy", mmap_mode="r"), data.train, data.val, data.val_novel)
    first, second = (fit_baseline(name, one).predict(data.context(data.val)) for one in (data, mapped))
    assert first.dtype == np.float32 and first.shape == (len(data.val), 8)
    np.testing.assert_allclose(np.linalg.norm(first, axis=1), 1.0, atol=1e-3)
    np.testing.assert_array_equal(first, second)
    assert fit_baseline(name, data).chosen == fit_baseline(name, mapped).chosen


@pytest.mark.parametrize("fit", [fit_ewm, fit_ridge, fit_whitened_ridge, fit_nearest])
def test_a_fit_does_not_depend_on_the_number_of_threads(fit, monkeypatch):
    monkeypatch.setattr("evaluation.retrieval.fitted.choice.BLOCK_BYTES", 4_096)  # many blocks
    data = world(drift)
    context = data.context(data.val)
    alone, together = fit(data).predict(context), fit(replace(data, threads=5)).predict(context)
    np.testing.assert_array_equal(alone, together)


def test_results_come_in_order_whatever_ends_first():
    def slow_then_fast(number: int) -> int:
        time.sleep(0.05 if number == 0 else 0.0)
        return number

    assert list(in_order(slow_then_fast, range(20), 4)) == list(range(20))


def test_of_pure_boilerplate_the_look_up_wins_and_nothing_is_novel():
    rng = np.random.default_rng(0)
    boilerplate = unit(rng.standard_normal((60, 8)))
    templates = [rng.permutation(60)[:CHUNKS] for _ in range(12)]  # an order that only memory can know
    chunks = np.concatenate([templates[number] for number in rng.integers(12, size=80)])
    train, val, test = (windows_of(part) for part in (range(50), range(50, 60), range(60, 80)))
    vectors = boilerplate[chunks]

    def novel(windows):
        return max_train_cosine(vectors, windows[:, -1], train) < NOVEL_BELOW

    assert not novel(test).any()
    data = TrainingData(vectors, train, val, novel(val))
    rates = {name: hit_rate(fit_baseline(name, data).predict, data, test) for name in ALL}
    assert rates.pop("nearest_context") > 0.95
    assert max(rates.values()) < 0.8


@pytest.mark.parametrize("fit", [fit_ridge, fit_whitened_ridge])
def test_ridge_by_position_is_ridge_where_the_mean_chunk_stands_for_what_is_missing(fit):
    data = world(drift)
    ridge = fit(data)
    weights, biases = ridge.by_position()
    context = data.context(data.val[:20])
    for length in (1, 2, 3):
        lags = context[:, LENGTH - length :][:, ::-1]  # the last chunk first
        found = unit(np.einsum("qli,lij->qj", lags, weights[:length]) + biases[length - 1])
        filled = context.copy()
        filled[:, : LENGTH - length] = data.train_mean
        np.testing.assert_allclose(found, ridge.predict(filled), atol=1e-5)
