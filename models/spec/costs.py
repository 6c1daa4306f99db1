"""Numbers of parameters and of operations, computed from the spec alone: planning needs no model and no torch.

Letters: D vector dim, L context length, d d_model, G GRU hidden.
"""

from __future__ import annotations

from models.spec.imported import ImportedSpec
from models.spec.specs import AmnSpec, LayeredSpec, LayerKind, LinearSpec, MambaGRSpec, MambaSpec, VariantSpec

AMN_LAYERS = 3
"""AMN's attention and MLP hold about as much for a step as three layers of a Mamba variant."""
UNKNOWN_LAYERS = 24
"""Of a model of somebody else, which says nothing of its layers."""


def num_parameters(spec: VariantSpec | ImportedSpec, dim: int) -> int:
    """Return the number of trainable values of the model that `spec` describes for D = `dim`."""
    if isinstance(spec, ImportedSpec):
        return spec.counts(dim).parameters
    mix = 2 if spec.residual == "learned" else 0
    if isinstance(spec, LinearSpec):
        return spec.num_chunks * dim * dim + mix
    assert isinstance(spec, LayeredSpec)
    head = spec.d_model * dim + spec.direct_chunks * dim * dim + mix
    if isinstance(spec, AmnSpec):
        return _amn_weights(spec, dim) + head
    assert isinstance(spec, MambaSpec)
    embed = dim * spec.d_model + spec.d_model
    return embed + sum(_layer_parameters(spec, kind) for kind in spec.layers()) + head


def flops_per_window(spec: VariantSpec | ImportedSpec, dim: int, context_length: int) -> int:
    """Return the operations (2 per multiply-add) of the matrix products of one forward pass over one window.

    Elementwise work and the convolution do not count.
    """
    if isinstance(spec, ImportedSpec):
        return spec.counts(dim).flops
    L = context_length
    means = L * L * dim  # a prefix mean is a small matrix product
    line = L * (L + 1) // 2 * dim * dim
    base = {"none": 0, "fitted": line}.get(spec.residual, means)
    if isinstance(spec, LinearSpec):
        return 2 * (L * spec.num_chunks * dim * dim + base)
    assert isinstance(spec, LayeredSpec)
    head = L * (spec.d_model + spec.direct_chunks * dim) * dim + base
    if isinstance(spec, AmnSpec):
        macs = L * _amn_weights(spec, dim) + 2 * L * L * spec.d_model + means
    else:
        assert isinstance(spec, MambaSpec)
        macs = L * dim * spec.d_model + sum(_layer_macs(spec, kind, L) for kind in spec.layers())
    return 2 * (macs + head)


def training_flops_per_window(spec: VariantSpec | ImportedSpec, dim: int, context_length: int) -> int:
    """Return the operations of a forward and a backward pass, which costs about two forward passes, over one window."""
    turned = not isinstance(spec, ImportedSpec) and spec.rotation > 0.0
    rotation = 2 * 4 * context_length * dim * dim if turned else 0  # two products there and two back
    return 3 * (flops_per_window(spec, dim, context_length) + rotation)


def values_per_window(spec: VariantSpec | ImportedSpec, dim: int, context_length: int) -> int:
    """Return about how many values a training step holds for each window, beside the weights and those of the loss.

    16 of the inner width at each position for every layer, in both directions, and three copies of the chunks that a
    linear map of them sees. On two cores, 256 windows of 5 to 32 chunks, 256-D and 768-D, steps held 0.4 to 1.0 of it.
    """
    if isinstance(spec, ImportedSpec):
        return context_length * 16 * 2 * dim * UNKNOWN_LAYERS
    if isinstance(spec, LinearSpec):
        return context_length * (16 * dim + 3 * spec.num_chunks * dim)
    assert isinstance(spec, LayeredSpec)
    layers = AMN_LAYERS if isinstance(spec, AmnSpec) else len(spec.layers()) + 1  # and embedding and head
    width = max(dim, 2 * spec.d_model)
    return context_length * (16 * width * layers + 3 * spec.direct_chunks * dim)


def _amn_weights(spec: AmnSpec, dim: int) -> int:
    """Values in the matrices before the head: two embeddings, four projections, the mixing MLP on (attended, query)."""
    d = spec.d_model
    return 2 * dim * d + 4 * d * d + (2 * d + d) * spec.mlp_ratio * d


def _layer_parameters(spec: MambaSpec, kind: LayerKind) -> int:
    d = spec.d_model
    if kind == "attention":
        return 4 * d * d
    conv = (spec.d_inner + 2 * spec.d_state) * (spec.d_conv + 1)
    per_head = 3 * spec.num_ssm_heads  # A, D, dt bias
    block = _ssm_weights(spec) + conv + per_head + spec.d_inner  # and the gated norm
    return block + _gate_parameters(spec, kind)


def _ssm_weights(spec: MambaSpec) -> int:
    """Values of in_proj (z, x, B, C, dt) and out_proj."""
    return spec.d_model * (2 * spec.d_inner + 2 * spec.d_state + spec.num_ssm_heads) + spec.d_inner * spec.d_model


def _gate_parameters(spec: MambaSpec, kind: LayerKind) -> int:
    if kind != "gated":
        return 0
    assert isinstance(spec, MambaGRSpec)
    G, d = spec.gru_hidden, spec.d_model
    return 3 * G * (d + G) + 2 * 3 * G + G * d + d  # the GRU and its two biases, the gate


def _layer_macs(spec: MambaSpec, kind: LayerKind, L: int) -> int:
    d = spec.d_model
    if kind == "attention":
        return L * 4 * d * d + 2 * L * L * d
    dual = L * L * spec.d_state + L * L * spec.d_inner
    gate = 0
    if isinstance(spec, MambaGRSpec):
        gate = L * (3 * spec.gru_hidden * (d + spec.gru_hidden) + spec.gru_hidden * d)
    return L * _ssm_weights(spec) + dual + gate
