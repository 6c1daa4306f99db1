"""The sizes of the variants: one frozen dataclass each, with the original project's sizes as defaults. Torch-free.

The kinds of layers and their order belong to the variant, the sizes are configuration. See `models.spec.registry`.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import ClassVar, Literal, get_args

from data.errors import UserError
from models.spec.ranges import at_least, divides, one_of, within

LayerKind = Literal["ssm", "attention", "gated"]
Layers = tuple[LayerKind, ...]
Residual = Literal["fitted", "learned", "last_mean", "mean", "none"]
SsmStart = Literal["paper", "recall"]

SSM: Layers = ("ssm",)
ATTENTION: Layers = ("attention",)
GATED: Layers = ("gated",)

NORM_EPS = 1.0e-5
"""Added to the mean square in every norm."""


@dataclass(frozen=True, kw_only=True, slots=True)
class VariantSpec:
    """What every variant has. The name is the registry's key."""

    name: ClassVar[str] = ""

    dropout: float = 0.1
    """Share of each layer's output channels set to zero in training, the same ones at all positions of a window."""
    residual: Residual = "last_mean"
    """What the output is added to: "last_mean" half the last vector and half the mean of all so far, "mean" that mean,
    "learned" a learned mix of the two, "fitted" that of the baseline whitened_ridge, "none" nothing."""
    context_dropout: float = 0.0
    """Share of the windows whose last 1..L-1 input positions are set to zero in training."""
    span_corruption: float = 0.0
    """Share of the windows in which one input position is taken from another window in training."""
    rotation: float = 0.0
    """Share of the windows whose vectors a random rotation turns before the layers in training, and their output back:
    they learn what does not depend on directions, as to compare and to copy; no article can be remembered."""

    def __post_init__(self) -> None:
        """Check the ranges: an integer is at least 1, or 0 where that is its default. Messages begin with the field."""
        for field in fields(self):
            if field.type == "int":
                at_least(field.name, getattr(self, field.name), 0 if field.default == 0 else 1)
        within("dropout", self.dropout, 0.0, 1.0, open_high=True)
        within("context_dropout", self.context_dropout, 0.0, 1.0)
        within("span_corruption", self.span_corruption, 0.0, 1.0)
        within("rotation", self.rotation, 0.0, 1.0)
        one_of("residual", self.residual, get_args(Residual))

    def layers(self) -> Layers:
        """Return the kinds of the residual layers, first to last."""
        return ()


@dataclass(frozen=True, kw_only=True, slots=True)
class LayeredSpec(VariantSpec):
    """What every variant with layers has."""

    d_model: int = 256
    """Width of the layers."""
    direct_chunks: int = 0
    """How many of the last chunks reach the output by a linear map, too, past the layers; 0: none."""


@dataclass(frozen=True, kw_only=True, slots=True)
class AmnSpec(LayeredSpec):
    """The learned baseline: attention over the context, added to its mean."""

    name: ClassVar[str] = "amn"

    residual: Residual = "mean"
    num_heads: int = 4
    """Attention heads; divides d_model."""
    mlp_ratio: int = 3
    """Hidden units of the mixing MLP, in multiples of d_model."""

    def __post_init__(self) -> None:
        """Check the ranges."""
        VariantSpec.__post_init__(self)
        _check_heads(self.d_model, self.num_heads)


@dataclass(frozen=True, kw_only=True, slots=True)
class LinearSpec(VariantSpec):
    """The linear baseline: a linear map of the last chunks, added to the base."""

    name: ClassVar[str] = "linear"

    num_chunks: int = 5
    """How many of the last chunks it sees."""


@dataclass(frozen=True, kw_only=True, slots=True)
class MambaSpec(LayeredSpec):
    """What every Mamba variant has; letters of the Mamba-2 paper in brackets."""

    d_state: int = 128
    """State size of each channel [N]."""
    d_conv: int = 4
    """Taps of the depthwise causal convolution."""
    expand: int = 2
    """Inner width in multiples of d_model."""
    head_dim: int = 64
    """Channels that share one decay [P]; divides expand * d_model."""
    ssm_start: SsmStart = "paper"
    """How an SSM layer starts: "paper" as Mamba-2 does, "recall" as a memory that returns what followed the chunk most
    like the present one (`MambaBlock.start_as_memory`)."""

    @property
    def d_inner(self) -> int:
        """Inner width of an SSM layer."""
        return self.expand * self.d_model

    @property
    def num_ssm_heads(self) -> int:
        """Heads of an SSM layer [H]."""
        return self.d_inner // self.head_dim

    def __post_init__(self) -> None:
        """Check the ranges."""
        VariantSpec.__post_init__(self)
        inner = f"expand * d_model ({self.expand} * {self.d_model})"
        divides("d_model", self.d_inner, self.head_dim, inner, "choose another d_model or head_dim")
        one_of("ssm_start", self.ssm_start, get_args(SsmStart))
        if self.ssm_start == "recall" and self.d_conv < 2:
            raise UserError(
                f"ssm_start: expected paper where d_conv is {self.d_conv}, got recall, which looks one position back; "
                "set d_conv to 2 or more"
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class AttentionSpec(MambaSpec):
    """What a Mamba variant with local attention has."""

    num_heads: int = 4
    """Attention heads; divides d_model."""
    window: int = 8
    """Positions that attention sees, its own included."""

    def __post_init__(self) -> None:
        """Check the ranges."""
        MambaSpec.__post_init__(self)
        _check_heads(self.d_model, self.num_heads)


@dataclass(frozen=True, kw_only=True, slots=True)
class MambaSSpec(MambaSpec):
    """A plain stack of SSM layers."""

    name: ClassVar[str] = "mamba_s"

    d_model: int = 256
    d_state: int = 128
    ssm_layers: int = 8
    """Number of SSM layers."""

    def layers(self) -> Layers:
        """Return `ssm_layers` times "ssm"."""
        return SSM * self.ssm_layers


@dataclass(frozen=True, kw_only=True, slots=True)
class MambaXLSpec(MambaSSpec):
    """The plain stack, deeper and wider."""

    name: ClassVar[str] = "mamba_xl"

    d_model: int = 384
    d_state: int = 192
    ssm_layers: int = 16


@dataclass(frozen=True, kw_only=True, slots=True)
class MambaHSpec(AttentionSpec):
    """Groups of SSM layers, each followed by a local attention."""

    name: ClassVar[str] = "mamba_h"

    d_model: int = 320
    d_state: int = 128
    num_groups: int = 3
    """How often the group is repeated."""
    ssm_per_group: int = 3
    """SSM layers before each attention."""

    def layers(self) -> Layers:
        """Return the group, repeated."""
        return (SSM * self.ssm_per_group + ATTENTION) * self.num_groups


@dataclass(frozen=True, kw_only=True, slots=True)
class MambaSandwichSpec(AttentionSpec):
    """SSM layers between two slices of local attention."""

    name: ClassVar[str] = "mamba_sandwich"

    d_model: int = 320
    d_state: int = 160
    attention_layers: int = 2
    """Attention layers on each side."""
    ssm_layers: int = 8
    """SSM layers in the middle."""

    def layers(self) -> Layers:
        """Return attention, SSM, attention."""
        outer = ATTENTION * self.attention_layers
        return outer + SSM * self.ssm_layers + outer


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

    def layers(self) -> Layers:
        """Return `ssm_layers` times "gated"."""
        return GATED * self.ssm_layers


def _check_heads(d_model: int, num_heads: int) -> None:
    divides("d_model", d_model, num_heads, "d_model", f"choose a multiple of num_heads ({num_heads})")
