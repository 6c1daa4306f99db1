"""What a worker trains with: exact steps, with and without hard negatives, validation scores and exact resumes."""

import io
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from data.payload.duplicates import duplicate_ids
from data.payload.store import open_payload
from data.windows.table import build_windows
from models.cpu import fused
from models.spec.loss import LossConfig
from models.spec.optim import OptimConfig
from models.training.negatives import ArticleNegatives
from orchestrator.config.experiment import resolve_variant
from orchestrator.config.sections import TrainingConfig
from orchestrator.trials.learner import COMPILE_FROM_STEPS, SHARES, GatherTable, Learner, compiles, reciprocal_ranks


def learner(
    payload_folder: Path,
    *,
    model: str = "mamba_s",
    dropout: float = 0.2,
    article_negatives: int = 0,
    recall: float = 0.0,
    compile: bool = False,
    precision: str = "float32",
    device: str = "cpu",
    residual: str = "last_mean",
    direct_lr_scale: float = 1.0,
    **layers: int,
) -> tuple[Learner, np.ndarray]:
    payload = open_payload(payload_folder)
    rows = build_windows(payload.article_index, payload.chunk_index, 5, 7).rows
    loss = LossConfig(article_negatives=article_negatives, recall=recall, recall_chunks=50)
    optimizer = OptimConfig(direct_lr_scale=direct_lr_scale)
    training = TrainingConfig(batch_size=32, loss=loss, optimizer=optimizer, precision=precision, compile=compile)
    sizes = {} if model == "amn" else {"d_state": 8, "head_dim": 16}
    variant = resolve_variant(
        model, {"d_model": 16, "dropout": dropout, "residual": residual, **sizes, **layers}, training
    )
    assert variant is not None
    table = GatherTable(payload.vectors, duplicate_ids(payload.vectors), payload.article_index, torch.device(device))
    negatives = ArticleNegatives(payload.article_index, article_negatives)
    last_chunk = np.zeros((5, table.dim, table.dim), np.float32), np.zeros((5, table.dim), np.float32)
    last_chunk[0][0] = np.eye(table.dim)
    made = Learner(
        variant,
        table,
        negatives,
        context_length=5,
        total_steps=20,
        seed=1,
        rank=0,
        num_workers=1,
        line=last_chunk,
        chunks=np.unique(rows),
    )
    return made, rows


def test_the_reciprocal_rank_counts_candidates_that_score_higher():
    # Targets at 0, 90 and 180 degrees. The first prediction is nearest to its own target (rank 1); the second points at
    # 180 degrees, so its target at 90 degrees comes second; the third points at 0 degrees: its target comes last.
    target = torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]])
    pred = torch.tensor([[1.0, 0.0], [-0.8, 0.6], [1.0, 0.0]])
    np.testing.assert_allclose(reciprocal_ranks(pred, target, torch.tensor([0, 1, 2])), [1, 1 / 2, 1 / 3])


def test_an_exact_duplicate_of_the_target_is_one_candidate():
    target = torch.tensor([[0.0, 1.0], [1.0, 0.0], [1.0, 0.0]])
    pred = torch.tensor([[1.0, 0.0], [1.0, 0.0], [1.0, 0.0]])
    # The two equal targets count once, so the first target is second, not third.
    np.testing.assert_allclose(reciprocal_ranks(pred, target, torch.tensor([0, 1, 1])), [1 / 2, 1, 1])


def test_a_prediction_that_is_no_number_has_no_rank():
    target = torch.tensor([[0.0, 1.0], [1.0, 0.0]])
    pred = torch.tensor([[torch.nan, 0.0], [1.0, 0.0]])
    np.testing.assert_allclose(reciprocal_ranks(pred, target, torch.tensor([0, 1])), [0, 1])


@pytest.mark.parametrize(
    "options", [{}, {"article_negatives": 4}, {"recall": 1.0}, {"direct_chunks": 2, "direct_lr_scale": 2.5}]
)
def test_a_resumed_learner_takes_the_same_step_bit_for_bit(rotation_payload, options):
    whole, rows = learner(rotation_payload, **options)
    whole.start_epoch(1)
    whole.step(rows[:32])
    state = torch.load(saved(whole.state()), weights_only=True)
    whole.start_epoch(2)
    expected = whole.step(rows[32:64])

    resumed, _ = learner(rotation_payload, **options)
    resumed.load_state(state)
    resumed.start_epoch(2)
    assert resumed.step(rows[32:64]) == expected
    for left, right in zip(whole.model.parameters(), resumed.model.parameters(), strict=True):
        assert torch.equal(left, right)


def test_a_gradient_that_is_not_finite_leaves_the_weights_alone(rotation_payload):
    made, rows = learner(rotation_payload)
    made.start_epoch(1)
    with torch.no_grad():
        next(made.model.parameters()).fill_(float("nan"))
    before = [parameter.clone() for parameter in made.model.parameters()]
    assert not np.isfinite(made.step(rows[:32])["grad_norm"])
    assert made.steps == 0
    for left, right in zip(before, made.model.parameters(), strict=True):
        assert torch.equal(torch.nan_to_num(left), torch.nan_to_num(right))


@pytest.mark.filterwarnings("ignore:Dynamo detected a call to a `functools.lru_cache`")
@pytest.mark.parametrize(
    ("model", "layers", "graphs"),
    [
        ("mamba_s", {"ssm_layers": 3}, 3),
        ("mamba_sandwich", {"ssm_layers": 2, "attention_layers": 2}, 4),
        ("mamba_h", {"num_groups": 2, "ssm_per_group": 1}, 4),
        ("amn", {}, 2),
        ("amn", {"recall": 1}, 2),
    ],
)
def test_each_kind_of_layer_head_and_loss_are_compiled_once_and_take_the_same_steps(
    rotation_payload, model, layers, graphs, monkeypatch
):
    """The composed form, as on a GPU: traced whole; the traced operations run here one by one, without a compiler."""
    monkeypatch.setattr(fused, "MAX_LENGTH", 0)
    from torch._dynamo.testing import CompileCounterWithBackend  # torch's compiler takes seconds to import

    counted = CompileCounterWithBackend("aot_eager")
    compile = torch.compile
    monkeypatch.setattr(torch, "compile", lambda function, **_: compile(function, backend=counted, fullgraph=True))

    def steps(*, compiled: bool) -> list[float]:
        made, rows = learner(rotation_payload, model=model, dropout=0.0, compile=compiled, **layers)
        made.start_epoch(1)
        losses = [made.step(rows[start : start + 32])["loss"] for start in (0, 32, 64)]
        made.predict(rows[:40])  # of another size: it must not compile anything
        return losses

    torch.compiler.reset()
    np.testing.assert_allclose(steps(compiled=True), steps(compiled=False), rtol=1e-5)
    assert counted.frame_count == graphs


@pytest.mark.parametrize(
    ("wanted", "on_gpu", "steps", "toolchain", "compiled"),
    [
        ("auto", True, COMPILE_FROM_STEPS, True, True),
        ("auto", True, COMPILE_FROM_STEPS - 1, True, False),
        ("auto", True, COMPILE_FROM_STEPS, False, False),
        ("auto", False, COMPILE_FROM_STEPS, True, False),
        (False, True, COMPILE_FROM_STEPS, True, False),
        (True, True, 1, True, True),
    ],
)
def test_auto_compiles_a_long_training_on_a_gpu_with_a_compiler(  # noqa: PLR0917
    monkeypatch, wanted, on_gpu, steps, toolchain, compiled
):
    monkeypatch.setattr("orchestrator.trials.learner.can_compile", lambda: toolchain)
    assert compiles(TrainingConfig(compile=wanted), steps, recorded=on_gpu) is compiled


@pytest.mark.filterwarnings("ignore:training.precision")
@pytest.mark.parametrize("native", [False, True])
def test_auto_trains_in_bfloat16_where_that_is_native_and_says_so(rotation_payload, monkeypatch, native):
    monkeypatch.setattr("models.training.precision.multiplies_bfloat16", lambda device: native)
    steps = {}
    for precision in ("auto", "bfloat16", "float32"):
        made, rows = learner(rotation_payload, precision=precision)
        made.start_epoch(1)
        steps[precision] = made.precision, made.step(rows[:32])["loss"]
    assert steps["auto"] == steps["bfloat16" if native else "float32"]
    assert steps["float32"] != steps["bfloat16"]


def test_validation_reports_loss_cosine_and_reciprocal_rank_of_novel_windows_and_of_all(rotation_payload):
    made, rows = learner(rotation_payload)
    novel = np.arange(48) < 12
    scores = made.validate(rows[:48], novel)
    assert set(scores) == {"val_loss", "val_cosine", "val_mrr", "val_mrr_all", "val_soft_r@5", "val_soft_r@50"}
    assert -1.0 <= scores["val_cosine"] <= 1.0
    assert 0.0 < scores["val_mrr_all"] <= 1.0
    others = made.validate(rows[:48], ~novel)["val_mrr"]
    assert scores["val_mrr_all"] == pytest.approx((12 * scores["val_mrr"] + 36 * others) / 48)
    # Where no window is novel the score is over all, so that an epoch can still be chosen.
    assert made.validate(rows[:48], np.zeros(48, bool))["val_mrr"] == pytest.approx(scores["val_mrr_all"])


@pytest.mark.parametrize(("scores", "share"), [((0.2, 0.3), 0.5), ((0.3, 0.2), 1.0), ((0.2, 0.2), 1.0)])
def test_validation_chooses_how_much_is_added_to_a_fitted_line(rotation_payload, monkeypatch, scores, share):
    made, rows = learner(rotation_payload, residual="fitted")
    assert "val_share" not in made.validate(rows[:48], np.ones(48, bool))  # the line alone, before the first step
    made.start_epoch(1)
    made.step(rows[:32])
    planted, losses, scored = iter(scores), iter((3.0, 4.0)), []
    monkeypatch.setattr(
        made, "_scores", lambda pred, *_: (scored.append(pred.numpy()), {"val_soft_r@5": next(planted)})[1]
    )
    monkeypatch.setattr(made, "loss", lambda *_, **__: SimpleNamespace(total=next(losses)))
    found = made.validate(rows[:32], np.ones(32, bool))
    loss = dict(zip(SHARES, (3.0, 4.0), strict=True))[share]
    assert found == {"val_loss": loss, "val_soft_r@5": max(scores), "val_share": share}
    np.testing.assert_array_equal(made.predict(rows[:32]), scored[SHARES.index(share)])
    for one, predictions in zip(SHARES, scored, strict=True):
        made.model.head.share.fill_(one)
        np.testing.assert_array_equal(made.predict(rows[:32]), predictions)
    assert not np.array_equal(*scored)
    made.model.head.share.fill_(0.0)
    np.testing.assert_allclose(made.predict(rows[:32]), made.table.gather(rows[:32])[0][:, -2], atol=1e-6)


def test_with_a_direct_path_validation_may_keep_nothing_of_the_layers(rotation_payload, monkeypatch):
    made, rows = learner(rotation_payload, residual="fitted", direct_chunks=2)
    made.start_epoch(1)
    made.step(rows[:32])
    planted = iter((0.2, 0.3, 0.4))
    monkeypatch.setattr(made, "_scores", lambda *_: {"val_soft_r@5": next(planted)})
    assert made.validate(rows[:32], np.ones(32, bool))["val_share"] == 0.0
    without = made.predict(rows[:32])
    made.model.head.proj.weight.data.fill_(100.0)
    np.testing.assert_array_equal(made.predict(rows[:32]), without)
    made.model.head.direct.weight.data.fill_(0.0)
    assert not np.array_equal(made.predict(rows[:32]), without)


@pytest.mark.parametrize("residual", ["last_mean", "fitted"])
def test_predictions_that_are_no_numbers_have_no_validation_score(rotation_payload, residual):
    made, rows = learner(rotation_payload, residual=residual)
    made.start_epoch(1)
    made.step(rows[:32])
    with torch.no_grad():
        next(made.model.parameters()).fill_(float("nan"))
    assert np.isnan(made.validate(rows[:48], np.ones(48, bool))["val_soft_r@5"])


def test_the_rank_that_chooses_an_epoch_is_among_all_rows_and_the_context_is_among_them():
    # Rows at 0, 30, 60 and 90 degrees. A prediction at 10 degrees: the row at 60 degrees is third, that at 0 first.
    angles = np.radians([0.0, 30.0, 60.0, 90.0])
    vectors = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    table = GatherTable(vectors, np.arange(4, dtype=np.int32), np.zeros(4, np.int32), torch.device("cpu"))
    pred = torch.tensor([[np.cos(np.radians(10.0)), np.sin(np.radians(10.0))]] * 2, dtype=torch.float32)
    np.testing.assert_array_equal(table.ranks(pred, torch.from_numpy(vectors[[2, 0]])), [3, 1])


def test_only_novel_windows_choose_an_epoch_where_there_are_enough(rotation_payload):
    made, rows = learner(rotation_payload)
    rows = np.concatenate([rows] * (1 + 250 // len(rows)))[:250]
    novel = np.arange(250) < 120
    scores, alone = made.validate(rows, novel), made.validate(rows[:120], np.ones(120, bool))
    assert scores["val_soft_r@5"] == pytest.approx(alone["val_soft_r@5"])
    assert scores["val_soft_r@5"] != pytest.approx(made.validate(rows, ~novel)["val_soft_r@5"])


def test_predictions_are_unit_rows_in_the_order_of_the_windows(rotation_payload):
    made, rows = learner(rotation_payload)
    predictions = made.predict(rows[:40], batch_size=16)
    np.testing.assert_allclose(np.linalg.norm(predictions, axis=1), 1.0, atol=1e-5)
    np.testing.assert_allclose(made.predict(rows[16:20]), predictions[16:20], atol=1e-5)


def saved(state: dict) -> io.BytesIO:
    buffer = io.BytesIO()
    torch.save(state, buffer)
    buffer.seek(0)
    return buffer
