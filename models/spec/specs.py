"""The specs of the variants: one frozen dataclass each, whose defaults are the seed's sizes. Torch-free.

The kinds of layer and their order belong to the variant, sizes are configuration. See `models.spec.registry`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal, get_args

from models.spec.ranges import at_least, divides, one_of, within

LayerKind = Literal["ssm", "attention", "gated"]
Layers = tuple[LayerKind, ...]
Residual = Literal["last_mean", "mean", "learned", "none"]

NORM_EPS = 1.0e-5
"""Added to the mean square in every norm."""


@dataclass(frozen=True, kw_only=True, slots=True)
class VariantSpec:
    """What every variant has. The name is the registry's key."""

    name: ClassVar[str] = ""

    d_model: int = 256
    """Width of the layers."""
    num_heads: int = 4
    """Attention heads; divides d_model."""
    dropout: float = 0.1
    """Share of each layer's output channels zeroed while training; one mask for all positions of a window."""
    residual: Residual = "last_mean"
    """The prediction is added to: half last vector, half running mean; the mean; a learned mix of both; nothing."""
    context_dropout: float = 0.0
    """Chance, a window, that its last 1..L-1 input positions are zeroed while training."""
    span_corruption: float = 0.0
    """Chance, a window, that one input position is replaced by another window's while training."""

    def __post_init__(self) -> None:
        """Check the ranges; messages begin with the field's name."""
        at_least("d_model", self.d_model, 1)
        at_least("num_heads", self.num_heads, 1)
        within("dropout", self.dropout, 0.0, 1.0, open_high=True)
        within("context_dropout", self.context_dropout, 0.0, 1.0)
        within("span_corruption", self.span_corruption, 0.0, 1.0)
        one_of("residual", self.residual, get_args(Residual))

    def layers(self) -> Layers:
        """Return the kinds of the residual layers, first to last."""
        return ()


@dataclass(frozen=True, kw_only=True, slots=True)
class AmnSpec(VariantSpec):
    """The learned baseline: attention over the context, residual on its mean."""

    name: ClassVar[str] = "amn"

    d_model: int = 256
    residual: Residual = "mean"
    mlp_ratio: int = 3
    """Hidden units of the mixing MLP, in multiples of d_model."""

    def __post_init__(self) -> None:
        """Check the ranges; messages begin with the field's name."""
        VariantSpec.__post_init__(self)
        at_least("mlp_ratio", self.mlp_ratio, 1)
        _check_attention_heads(self)


@dataclass(frozen=True, kw_only=True, slots=True)
class MambaSpec(VariantSpec):
    """What every Mamba variant has; letters of the Mamba-2 paper in brackets."""

    d_state: int = 128
    """State size of each channel [N]."""
    d_conv: int = 4
    """Taps of the depthwise causal convolution."""
    expand: int = 2
    """Inner width in multiples of d_model."""
    head_dim: int = 64
    """Channels that share one decay [P]; divides expand * d_model."""

    @property
    def d_inner(self) -> int:
        """Inner width of an SSM layer."""
        return self.expand * self.d_model

    @property
    def num_ssm_heads(self) -> int:
        """Heads of an SSM layer [H]."""
        return self.d_inner // self.head_dim

    def __post_init__(self) -> None:
        """Check the ranges; messages begin with the field's name."""
        VariantSpec.__post_init__(self)
        for field in ("d_state", "d_conv", "expand", "head_dim"):
            at_least(field, getattr(self, field), 1)
        divides(
            "d_model",
            self.d_inner,
            self.head_dim,
            f"expand * d_model ({self.expand} * {self.d_model})",
            "choose another d_model or head_dim",
        )
        if "attention" in self.layers():
            _check_attention_heads(self)


@dataclass(frozen=True, kw_only=True, slots=True)
class MambaSSpec(MambaSpec):
    """A plain stack of SSM layers."""

    name: ClassVar[str] = "mamba_s"

    d_model: int = 256
    d_state: int = 128
    ssm_layers: int = 8
    """Number of SSM layers."""

    def __post_init__(self) -> None:
        """Check the ranges; messages begin with the field's name."""
        at_least("ssm_layers", self.ssm_layers, 1)
        MambaSpec.__post_init__(self)

    def layers(self) -> Layers:
        """Return `ssm_layers` times "ssm"."""
        ssm: Layers = ("ssm",)
        return ssm * self.ssm_layers


@dataclass(frozen=True, kw_only=True, slots=True)
class MambaXLSpec(MambaSSpec):
    """The plain stack, deeper and wider."""

    name: ClassVar[str] = "mamba_xl"

    d_model: int = 384
    d_state: int = 192
    ssm_layers: int = 16


@dataclass(frozen=True, kw_only=True, slots=True)
class MambaHSpec(MambaSpec):
    """A hybrid: groups of SSM layers, each closed by a local attention."""

    name: ClassVar[str] = "mamba_h"

    d_model: int = 320
    d_state: int = 128
    num_groups: int = 3
    """How often the group is repeated."""
    ssm_per_group: int = 3
    """SSM layers before each attention."""
    window: int = 8
    """Positions that attention sees, its own included."""

    def __post_init__(self) -> None:
        """Check the ranges; messages begin with the field's name."""
        for field in ("num_groups", "ssm_per_group", "window"):
            at_least(field, getattr(self, field), 1)
        MambaSpec.__post_init__(self)

    def layers(self) -> Layers:
        """Return the group, repeated."""
        ssm: Layers = ("ssm",)
        attention: Layers = ("attention",)
        return (ssm * self.ssm_per_group + attention) * self.num_groups


@dataclass(frozen=True, kw_only=True, slots=True)
class MambaSandwichSpec(MambaSpec):
    """SSM layers between two slices of local attention."""

    name: ClassVar[str] = "mamba_sandwich"

    d_model: int = 320
    d_state: int = 160
    attention_layers: int = 2
    """Attention layers on each side."""
    ssm_layers: int = 8
    """SSM layers in the middle."""
    window: int = 8
    """Positions that attention sees, its own included."""

    def __post_init__(self) -> None:
        """Check the ranges; messages begin with the field's name."""
        for field in ("attention_layers", "ssm_layers", "window"):
            at_least(field, getattr(self, field), 1)
        MambaSpec.__post_init__(self)

    def layers(self) -> Layers:
        """Return attention, SSM, attention."""
        ssm: Layers = ("ssm",)
        attention: Layers = ("attention",)
        outer = attention * self.attention_layers
        return outer + ssm * self.ssm_layers + outer


@dataclass(frozen=True, kw_only=True, slots=True)
class MambaGRSpec(MambaSpec):
    """SSM layers, each behind a gate that a GRU computes."""

    name: ClassVar[str] = "mamba_gr"

    d_model: int = 288
    d_state: int = 144
    ssm_layers: int = 10
    """Number of gated SSM layers."""
    gru_hidden: int = 256
    """Hidden units of each gate's GRU."""

    def __post_init__(self) -> None:
        """Check the ranges; messages begin with the field's name."""
        at_least("ssm_layers", self.ssm_layers, 1)
        at_least("gru_hidden", self.gru_hidden, 1)
        MambaSpec.__post_init__(self)

    def layers(self) -> Layers:
        """Return `ssm_layers` times "gated"."""
        gated: Layers = ("gated",)
        return gated * self.ssm_layers


def _check_attention_heads(spec: VariantSpec) -> None:
    divides("d_model", spec.d_model, spec.num_heads, "d_model", f"choose a multiple of num_heads ({spec.num_heads})")
