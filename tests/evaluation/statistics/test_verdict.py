"""Decisions on planted rows."""

import re

import numpy as np
import pytest

from evaluation.measures.metrics import DECISION_METRIC
from evaluation.statistics.outcomes import Queries
from evaluation.statistics.verdict import decide as decide_fully

ALL = Queries.independent(2000)
GATE = {"rule": "r@5 >= 0.40", "value": 0.5, "limit": 0.4, "passed": True}
FAILED = {"rule": "contain@50 >= 0.60", "value": 0.55, "limit": 0.6, "passed": False}
NOT_READY = FAILED | {"stage": "ready"}


def row(name, **other):
    plain = {"variant": name, "kind": "variant", "status": "FINISHED", "reason": "", "gates": [GATE]}
    return plain | {"params": 2_000_000, "answer_p95_ms": 5.0, "ci": {"answer_p95_ms": [4.9, 5.1]}} | other


def baseline(name, **other):
    return row(name, kind="baseline", gates=[], **other)


AMN, RIDGE = baseline("amn"), baseline("ridge")


@pytest.fixture
def decide(planted):
    """From rows and the true share of hits of those that were evaluated."""

    def decided(rows, shares, queries=ALL, **options):
        outcomes = {name: planted(share, seed, len(queries)) for seed, (name, share) in enumerate(shares.items())}
        return decide_fully(rows, outcomes, queries, **{"names": (DECISION_METRIC,), "num_resamples": 200} | options)

    return decided


@pytest.mark.parametrize(
    ("share", "gates", "word", "why"),
    [
        (0.6, [GATE], "PRODUCTION READY", "1 of 1 final gates passed; novel R@5 6"),
        (0.4, [GATE], "TIE", "detectable 4."),
        (0.2, [GATE], "BEHIND", "difference -19"),
        (0.6, [], "PRODUCTION READY", "no final gates; novel R@5"),
        (0.6, [GATE, NOT_READY], "TIE", "ahead but not ready: contain@50 >= 0.60: got 0.55"),
        (0.2, [GATE, NOT_READY], "BEHIND", "difference -19"),
        (0.9, [GATE, FAILED], "REJECT", "contain@50 >= 0.60: got 0.55"),
        (0.9, [FAILED | {"value": None}], "REJECT", "contain@50 >= 0.60: got nothing"),
        (0.9, [FAILED | {"value": float("nan")}], "REJECT", "contain@50 >= 0.60: got nothing"),
    ],
)
def test_a_verdict_follows_from_gates_and_reference(decide, share, gates, word, why):
    decision = decide([row("mamba_s", gates=gates), RIDGE, AMN], {"mamba_s": share, "ridge": 0.4, "amn": 0.3})
    found = decision.verdicts["mamba_s"]
    assert (found.word, decision.reference) == (word, "ridge")
    assert why in found.why
    assert word == "REJECT" or "against ridge" in found.why
    assert decision.best == ("mamba_s" if word in ("PRODUCTION READY", "TIE") else None)
    assert decision.tie_group == ({} if word == "REJECT" else {"mamba_s": 1})


def test_of_equal_baselines_the_smallest_is_the_reference(planted):
    rows = [row("mamba_s"), AMN, baseline("ridge", params=0), baseline("mean", params=0)]
    outcomes = {"mamba_s": planted(0.4, 0, len(ALL)), "mean": planted(0.2, 2, len(ALL))}
    outcomes |= dict.fromkeys(("amn", "ridge"), planted(0.3, 1, len(ALL)))
    decision = decide_fully(rows, outcomes, ALL, names=(DECISION_METRIC,), num_resamples=200)
    assert decision.reference == "ridge"


def test_a_named_reference_is_taken_and_a_row_without_outcomes_is_none(decide):
    rows, shares = [row("mamba_s"), RIDGE, AMN], {"mamba_s": 0.4, "ridge": 0.5, "amn": 0.2}
    assert decide(rows, shares).verdicts["mamba_s"].word == "BEHIND"
    assert decide(rows, shares, reference="amn").verdicts["mamba_s"].word == "PRODUCTION READY"
    for nothing in (
        decide(rows, shares, reference="lost"),
        decide(rows, shares, reference=None),
        decide(rows[:1], {"mamba_s": 0.4}),
    ):
        assert (nothing.verdicts["mamba_s"].word, nothing.reference) == ("TIE", None)
        assert "there is no baseline to hold it against" in nothing.headline


@pytest.mark.parametrize(
    ("reference", "word", "headline"),
    [
        (0.4, "PRODUCTION READY", "mamba_s is the best variant, above the given 40.0 % (novel R@5 "),
        (0.5, "TIE", "mamba_s is the best variant; it cannot be told from the given 50.0 % (novel R@5 "),
        (0.6, "BEHIND", "mamba_s was nearest; every variant is behind the given 60.0 %"),
    ],
)
def test_a_given_number_is_held_against_the_variants_own_interval(decide, reference, word, headline):
    decision = decide([row("mamba_s")], {"mamba_s": 0.5}, reference=reference)
    assert decision.verdicts["mamba_s"].word == word
    assert decision.headline.startswith(headline)


def test_a_pruned_variant_is_rejected_with_its_reason(decide):
    decision = decide([row("mamba_s", status="PRUNED", reason="r@5 at epoch 4"), AMN], {"amn": 0.3})
    found = decision.verdicts["mamba_s"]
    assert (found.word, found.why) == ("REJECT", "PRUNED: r@5 at epoch 4")
    assert decision.headline == "No variant survived; amn is the best row"
    assert (decision.best, decision.leader, decision.tie_group) == (None, "amn", {})


def test_nothing_at_all_survived(decide):
    decision = decide([row("mamba_s", status="FAILED")], {})
    assert (decision.headline, decision.leader) == ("No variant survived", None)


def test_without_novel_queries_nothing_is_best(decide):
    decision = decide([row("mamba_s"), AMN], {"mamba_s": 0.9, "amn": 0.1}, Queries(None, np.zeros(400, bool)))
    assert (decision.best, decision.verdicts["mamba_s"].word, decision.leader) == (None, "REJECT", None)
    assert decision.headline == "No query is novel, so nothing can be called best"
    assert decision.warnings[0].startswith("0 novel queries")


A, B = row("a"), row("b")
LOST = row("lost", status="PRUNED")


@pytest.mark.parametrize(
    ("rows", "shares", "headline"),
    [
        ([A, RIDGE], {"a": 0.5, "ridge": 0.3}, r"a is the best variant, ahead of ridge by \d+\.\d points \(1\d.* to "),
        ([A, RIDGE], {"a": 0.4, "ridge": 0.4}, r"a .* variant; it cannot be told from ridge \(novel R@5 .* against "),
        (
            [row("a", gates=[NOT_READY]), RIDGE],
            {"a": 0.5, "ridge": 0.3},
            r"a .* ahead of ridge .* of novel R@5, but not ready: contain@50 >= 0.60: got 0.55",
        ),
        ([A, B, RIDGE], {"a": 0.2, "b": 0.1, "ridge": 0.4}, "ridge is the best row; every variant is behind it"),
        ([A, LOST, RIDGE], {"a": 0.2, "ridge": 0.4}, "ridge is the best row; every variant that survived is behind it"),
        ([row("a", gates=[FAILED]), RIDGE], {"a": 0.5, "ridge": 0.4}, "a failed a final gate and was nearest; nothing"),
        (
            [row("a", gates=[FAILED]), B, RIDGE],
            {"a": 0.5, "b": 0.1, "ridge": 0.4},
            "Nothing is best: a failed a final gate, b is behind ridge",
        ),
    ],
)
def test_the_headline_is_true(decide, rows, shares, headline):
    assert re.match(headline, decide(rows, shares).headline)


def test_when_a_lesser_baseline_is_the_reference_the_best_row_is_named_too(decide):
    decision = decide([A, RIDGE, AMN], {"a": 0.2, "ridge": 0.5, "amn": 0.4}, reference="amn")
    assert decision.headline == "ridge is the best row; every variant is behind amn"


def test_the_best_is_ready_before_it_is_tied(decide):
    # b hits more often, but a gate of readiness holds it back.
    decision = decide([A, row("b", gates=[NOT_READY]), RIDGE], {"a": 0.5, "b": 0.6, "ridge": 0.3})
    assert (decision.best, decision.leader) == ("a", "b")


def test_a_planted_winner_is_best_however_slow_and_large_it_is(decide):
    rows = [row("slow", answer_p95_ms=9.0, ci={}, params=9_000_000), row("fast", answer_p95_ms=0.1, ci={}, params=1)]
    decision = decide(rows, {"slow": 0.5, "fast": 0.3})
    assert (decision.best, decision.tie_group) == ("slow", {"slow": 1, "fast": 2})
    assert "Tied" not in decision.headline


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"answer_p95_ms": 9.0, "ci": {"answer_p95_ms": [8.9, 9.1]}}, {"params": 3_000_000}),  # slower, smaller
        ({}, {"params": None}),  # not counted counts as largest
        ({}, {"answer_p95_ms": 9.0, "ci": {"answer_p95_ms": [8.9, 9.1]}}),  # as small, faster
        ({}, {"answer_p95_ms": None, "ci": {}}),  # not timed counts as slowest
    ],
)
def test_among_ties_the_smaller_then_the_faster_is_best_and_the_rule_is_printed(decide, one, other):
    decision = decide([row("other", **other), row("one", **one)], {"other": 0.40, "one": 0.40})
    assert decision.best == "one"
    assert "Tied with other; among ties fewer parameters" in decision.headline


def test_among_equals_the_highest_novel_r5_is_best(decide):
    decision = decide([A, B], {"a": 0.40, "b": 0.41})
    assert decision.best == max("ab", key=lambda name: decision.verdicts[name].why)
    assert decision.best == decision.leader


def test_the_family_is_the_variants_and_the_reference(decide):
    rows = [A, B, AMN, RIDGE, baseline("last_vector")]
    decision = decide(rows, {"a": 0.3, "b": 0.3, "amn": 0.3, "ridge": 0.4, "last_vector": 0.1})
    assert [(pair.a, pair.b) for pair in decision.pairs] == [("a", "b"), ("a", "ridge"), ("b", "ridge")]


def test_the_decision_is_written_into_the_rows(decide):
    rows = [row("mamba_s"), AMN | {}, baseline("last_vector")]
    decide(rows, {"mamba_s": 0.5, "amn": 0.3, "last_vector": 0.1}).apply(rows)
    assert (rows[0]["verdict"], rows[0]["tie_group"]) == ("PRODUCTION READY", 1)
    assert "against amn" in rows[0]["verdict_why"]
    assert not [one["variant"] for one in rows[1:] if "verdict" in one or "tie_group" in one]


STEP, CONTEXT = "Try a smaller step (training.optimizer.lr).", "Try a longer context (data.context_length)."


@pytest.mark.parametrize(
    ("rows", "shares", "advice"),
    [
        ([A, RIDGE], {"a": 0.5, "ridge": 0.3}, []),
        ([A, RIDGE], {"a": 0.2, "ridge": 0.4}, [STEP, CONTEXT]),
        ([A, RIDGE], {"a": 0.36, "ridge": 0.4}, [STEP, CONTEXT]),  # behind by less than what is detectable
        (
            [A, RIDGE],
            {"a": 0.4, "ridge": 0.4},
            ["Use more queries: these 2000 reveal a difference of 4.", STEP, CONTEXT],
        ),
        (
            [row("a", best_epoch=3, epochs=8), RIDGE],
            {"a": 0.2, "ridge": 0.4},
            ["Try a smaller step (training.optimizer.lr): a was best at epoch 3 of 8.", CONTEXT],
        ),
        ([LOST, RIDGE], {"ridge": 0.4}, [STEP, CONTEXT]),
    ],
)
def test_what_to_try_next_follows_from_the_figures(decide, rows, shares, advice):
    found = decide(rows, shares).advice
    assert [text[: len(start)] for text, start in zip(found, advice, strict=True)] == advice


def test_a_look_up_that_leads_over_all_queries_alone_shows_that_the_corpus_repeats_itself(outcomes):
    # 400 copied queries, which only the look-up answers, and 400 novel ones, which it never does.
    copied, novel = np.repeat([1, 0], 400), np.repeat([0, 1], 400)
    rows = [A, RIDGE, baseline("nearest_context")]
    found = {
        "a": outcomes(novel * (np.arange(800) % 2)),
        "ridge": outcomes(0 * novel),
        "nearest_context": outcomes(copied),
    }
    decision = decide_fully(rows, found, Queries(np.arange(800) // 8, novel > 0), num_resamples=20)
    assert decision.verdicts["a"].word == "PRODUCTION READY"
    assert decision.advice == [
        "The corpus repeats itself: nearest_context, a look-up without a model, leads over all queries (R@5 50.0 %) "
        "but not over novel ones; drop the repeats (data.repeats)."
    ]


def test_a_variant_that_is_still_its_fitted_line_is_called_so(decide):
    rows = [row("mamba_s", best_epoch=0), row("mamba_h", best_epoch=2), RIDGE]
    decision = decide(rows, {"mamba_s": 0.4, "mamba_h": 0.2, "ridge": 0.4})
    assert decision.headline.startswith(
        "mamba_s is the best variant, as the fitted line that it starts from; it cannot"
    )
    assert decision.advice[0].startswith("Training added nothing to mamba_s: best on validation before the first step")
    others = decide([row("mamba_s", best_epoch=1), RIDGE], {"mamba_s": 0.4, "ridge": 0.4})
    assert "line" not in " ".join([others.headline, *others.advice])


def test_a_variant_whose_layers_validation_left_out_is_called_a_line(decide):
    rows = [row("mamba_s", best_epoch=1, val_share=0.0), row("mamba_h", best_epoch=2, val_share=0.5), RIDGE]
    decision = decide(rows, {"mamba_s": 0.4, "mamba_h": 0.2, "ridge": 0.4})
    assert decision.headline.startswith("mamba_s is the best variant, by its direct path alone; it cannot")
    assert decision.advice[0] == (
        "The layers added nothing to mamba_s: best on validation by the direct path alone, a line."
    )
