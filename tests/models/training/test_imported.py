"""Models of somebody else: what is checked before anything trains, and how a checkpoint names one."""

import sys
from pathlib import Path

import pytest
import torch

from data.errors import UserError
from models.blocks.build import build_model
from models.spec.costs import flops_per_window, num_parameters
from models.spec.imported import Counts, ImportedSpec, file_to_ship, load_object, name_of
from models.training.checkpoint import load_model, save_model
from models.training.imported import count_models

MODULE = """
import torch
from torch import nn

class Sound(nn.Module):
    def __init__(self, dim, hidden=8):
        super().__init__()
        self.into, self.out = nn.Linear(dim, hidden), nn.Linear(hidden, dim)
    def forward(self, context):
        return nn.functional.normalize(self.out(self.into(context).relu()), dim=-1)

class Long(Sound):
    def forward(self, context):
        return self.out(self.into(context))

class LastOnly(Sound):
    def forward(self, context):
        return super().forward(context)[:, -1]

class Ahead(Sound):
    def forward(self, context):
        return super().forward(context.flip(1))

class Raises(Sound):
    def forward(self, context):
        raise ValueError("no such thing")

class Nothing(nn.Module):
    def __init__(self, dim):
        super().__init__()
    def forward(self, context):
        return context

class Undefined(Sound):
    def forward(self, context):
        return super().forward(context) * float("nan")

def function(dim):
    return nn.Identity()
"""


@pytest.fixture(autouse=True)
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "others_models.py"
    path.write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "others_models", raising=False)
    return path


def count(name: str, **sizes: object) -> Counts:
    return count_models({"mine": ImportedSpec(path=f"others_models:{name}", sizes=sizes)}, dim=12, length=5)["mine"]


def test_a_sound_model_is_counted() -> None:
    # Two layers of 12 x 6 with biases; 2 operations for each of the 2 x 5 x 72 products of a window.
    assert count("Sound", hidden=6) == Counts(parameters=72 + 6 + 72 + 12, flops=2 * 2 * 5 * 72)
    spec = ImportedSpec(path="others_models:Sound", sizes={"hidden": 6})
    spec.count(12, Counts(162, 1440))
    assert (num_parameters(spec, 12), flops_per_window(spec, 12, 5)) == (162, 1440)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("Long", r"variants.mine.model: expected predictions of norm 1, got norms from .* end forward with"),
        ("LastOnly", r"variants.mine.model: expected predictions of shape \(4, 5, 12\), got \(4, 12\); one vector"),
        ("Ahead", r"variants.mine.model: expected position 0 to see no later one, got a prediction that changes by"),
        ("Raises", r"variants.mine.model: expected a map of \(4, 5, 12\), got ValueError \(no such thing\); correct"),
        ("Nothing", r"variants.mine.model: expected a model with weights to train, got none; make it a baseline"),
        ("Undefined", r"variants.mine.model: expected predictions of norm 1, got norms from nan to nan"),
        ("function", r"variants.mine.model: expected a class of torch modules, got others_models:function"),
        ("Missing", r"variants.mine.model: expected Missing in others_models, got a module without it"),
    ],
)
def test_a_model_that_would_not_do_is_refused_with_the_reason(name: str, said: str) -> None:
    with pytest.raises(UserError, match=said):
        count(name)


def test_sizes_that_the_model_does_not_know_are_refused() -> None:
    with pytest.raises(UserError, match=r"variants.mine.model: expected .* built with \(dim, \*\*sizes\), got .*width"):
        count("Sound", width=3)


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("no_such_module_here:Model", r"here: expected a module that can be imported, got ModuleNotFoundError"),
        ("others_models:", r"here: expected package.module:name, got 'others_models:'"),
        ("os; rm:x", r"here: expected package.module:name"),
    ],
)
def test_an_import_path_that_leads_nowhere_is_refused(path: str, said: str) -> None:
    with pytest.raises(UserError, match=said):
        load_object("here", path)


def test_a_checkpoint_with_a_model_of_somebody_else_is_opened_only_when_it_is_trusted(tmp_path: Path) -> None:
    spec = ImportedSpec(path="others_models:Sound", sizes={"hidden": 6})
    model, file = build_model(spec, 12).eval(), tmp_path / "best.pt"
    save_model(file, model, epoch=1, metrics={}, provenance={})
    with pytest.raises(UserError, match=r"expected a model of this project, got one that imports others_models:Sound"):
        load_model(file)
    loaded = load_model(file, trusted=["others_models:Sound"])
    context = torch.nn.functional.normalize(torch.randn(2, 5, 12), dim=-1)
    assert torch.equal(loaded.model(context), model(context))
    assert torch.allclose(loaded.model(context).norm(dim=-1), torch.ones(2, 5))


def test_what_is_shipped_is_the_whole_package_or_the_file(module: Path) -> None:
    assert file_to_ship("others_models:Sound") == str(module)
    assert Path(file_to_ship("evaluation.measures.metrics:hits")).name == "evaluation"
    assert (name_of("a.b:ndcg"), name_of("ridge")) == ("ndcg", "ridge")
