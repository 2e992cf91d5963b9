"""Focus-aware masked attention: tokens in focus attend to tokens in focus, tokens out of focus to the others.

The dense mask is never built. Tokens are sorted by label, and each label is one segment of plain attention: exact, for
f² + (1-f)² of the work at a share f in focus. An empty segment costs nothing.
"""

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention as attention


class HostCounts:
    """Counts of several resolutions, which come to the host together: it waits for the device once."""

    def __init__(self, counts: Tensor) -> None:
        self._counts = counts

    @cached_property
    def rows(self) -> list[list[int]]:
        """The counts of all samples, for each resolution."""
        found: list[list[int]] = self._counts.tolist()
        return found


@dataclass(frozen=True, eq=False)
class Regions:
    """The focus-aware mask of every sample at one resolution as two segments of sorted tokens, shared by its layers.

    All of it stays on the device, so that a forward pass never waits for it there, but for `in_focus` and `single`.
    """

    order: Tensor
    """int64 [B, N]: token indices, those in focus first, each part in its original order."""
    inverse: Tensor
    """int64 [B, N]: the sorted position of each token."""
    counts: Tensor
    """int64 [B]: tokens in focus, per sample."""
    on_host: "tuple[HostCounts, int] | None" = None
    """Where `counts` come to the host with those of other resolutions, and which of them they are."""

    @classmethod
    def from_labels(cls, labels: Tensor) -> "Regions":
        """Sort the tokens by `labels`, bool [B, N], True in focus."""
        order = torch.argsort(~labels, dim=1, stable=True)
        return cls(order, torch.argsort(order, dim=1), labels.sum(1))

    @property
    def tokens(self) -> int:
        """The number of tokens, N."""
        return self.order.shape[1]

    @cached_property
    def in_focus(self) -> tuple[int, ...]:
        """Tokens in focus, per sample, on the host."""
        if self.on_host is not None:
            shared, number = self.on_host
            return tuple(shared.rows[number])
        return tuple(self.counts.tolist())

    @property
    def single(self) -> bool:
        """Whether every sample has one label only, so that attention needs no segments. On the host."""
        return all(count in (0, self.tokens) for count in self.in_focus)

    @cached_property
    def segment_ends(self) -> Tensor:
        """int32 [2B+1]: the bounds of all segments of the sorted batch, concatenated, from 0 to B·N."""
        first = torch.arange(len(self.order), device=self.order.device) * self.tokens
        ends = torch.stack([first + self.counts, first + self.tokens], dim=1).flatten()
        return torch.nn.functional.pad(ends, (1, 0)).to(torch.int32)

    @cached_property
    def sorted_rows(self) -> Tensor:
        """int64 [B·N]: `order` as rows of the concatenated batch."""
        return self._rows(self.order)

    @cached_property
    def original_rows(self) -> Tensor:
        """int64 [B·N]: `inverse` as rows of the concatenated sorted batch."""
        return self._rows(self.inverse)

    def _rows(self, index: Tensor) -> Tensor:
        return (index + torch.arange(len(index), device=index.device)[:, None] * self.tokens).flatten()


def focus_mask(defocus: Tensor, threshold: float) -> Tensor:
    """Mark what is in focus: bool of a defocus map's shape, True where its value is at most `threshold`."""
    return defocus <= threshold


def regions_by_size(focus: Tensor, latent_size: tuple[int, int], levels: int) -> dict[tuple[int, int], Regions]:
    """Build the focus-aware mask, as segments, at the latent resolution and at each of `levels` - 1 halvings of it.

    `focus`: bool [B, 1, H, W] at picture size. A token takes the label of its top-left pixel.
    """
    height, width = latent_size
    sizes = [(height >> level, width >> level) for level in range(levels)]
    found = {}
    for h, w in sizes:
        labels = focus[:, 0, :: focus.shape[2] // h, :: focus.shape[3] // w]
        found[h, w] = Regions.from_labels(labels.flatten(1))
    if not found:
        return {}
    shared = HostCounts(torch.stack([regions.counts for regions in found.values()]))
    return {size: replace(regions, on_host=(shared, k)) for k, (size, regions) in enumerate(found.items())}


class VarlenKernel(Protocol):
    """The calling convention of `torch.nn.attention.varlen.varlen_attn`."""

    def __call__(
        self, query: Tensor, key: Tensor, value: Tensor, cu_seq_q: Tensor, cu_seq_k: Tensor, max_q: int, max_k: int
    ) -> Tensor:
        """Attend within segments of [tokens, heads, d] that end at the cumulative lengths, of at most max tokens."""
        ...


def segmented_attention(query: Tensor, key: Tensor, value: Tensor, regions: Regions) -> Tensor:
    """Compute softmax(q kᵀ/√d + M) v where M masks pairs of different labels. All tensors [B, heads, N, d]."""
    kernel = varlen_kernel(query)
    if kernel is not None:  # without a look at the regions, for which the host would have to wait
        return varlen_attention(query, key, value, regions, kernel)
    if regions.single:
        return attention(query, key, value)
    each = zip(query.chunk(len(query)), key.chunk(len(query)), value.chunk(len(query)), strict=True)
    return torch.cat([_two_segments(q, k, v, regions, index) for index, (q, k, v) in enumerate(each)])


def _two_segments(query: Tensor, key: Tensor, value: Tensor, regions: Regions, index: int) -> Tensor:
    """Attention of one sample, [1, heads, N, d], within its two segments."""
    count, order = regions.in_focus[index], regions.order[index]
    if count in (0, regions.tokens):
        return attention(query, key, value)
    query, key, value = query[:, :, order], key[:, :, order], value[:, :, order]
    inside = attention(query[:, :, :count], key[:, :, :count], value[:, :, :count])
    outside = attention(query[:, :, count:], key[:, :, count:], value[:, :, count:])
    return torch.cat([inside, outside], dim=2)[:, :, regions.inverse[index]]


def varlen_attention(query: Tensor, key: Tensor, value: Tensor, regions: Regions, kernel: VarlenKernel) -> Tensor:
    """Attention of all samples and both labels as 2B segments of one kernel call. Tensors [B, heads, N, d]."""
    batch, heads, tokens, dim = query.shape

    def sort(part: Tensor) -> Tensor:  # -> [B·N, heads, d]; whole rows: an index for each element costs as much again
        rows = part.transpose(1, 2).reshape(batch * tokens, heads * dim)
        return rows.index_select(0, regions.sorted_rows).view(batch * tokens, heads, dim)

    ends = regions.segment_ends
    out = kernel(sort(query), sort(key), sort(value), ends, ends, tokens, tokens).reshape(batch * tokens, heads * dim)
    return out.index_select(0, regions.original_rows).view(batch, tokens, heads, dim).transpose(1, 2)


def varlen_kernel(query: Tensor) -> VarlenKernel | None:
    """torch's variable-length flash attention where this torch, GPU and tensors [.., d] suit it.

    Flash attention takes half precision, a head of up to 256 channels in multiples of 8, and a GPU from Ampere on (a
    T4 or an RTX 20 has none).
    """
    if not query.is_cuda or query.dtype not in (torch.float16, torch.bfloat16):
        return None
    if query.shape[-1] % 8 or query.shape[-1] > 256 or torch.cuda.get_device_capability(query.device) < (8, 0):
        return None
    try:
        from torch.nn.attention.varlen import varlen_attn
    except ImportError:  # torch before 2.10; `_two_segments` gives the same numbers
        return None
    return varlen_attn  # type: ignore[return-value]  # its further arguments have defaults


class FocusAttention(nn.Module):
    """The attention processor that carries the bokeh LoRA.

    Path 1 is the layer's own attention. Path 2 adds the LoRA to q, k, v, attends within the regions, and reaches the
    output through the output LoRA alone.
    """

    def __init__(self, dim: int, rank: int, alpha: float) -> None:
        super().__init__()
        self.scale = alpha / rank
        self.to_q_lora = _low_rank(dim, rank)
        self.to_k_lora = _low_rank(dim, rank)
        self.to_v_lora = _low_rank(dim, rank)
        self.to_out_lora = _low_rank(dim, rank)

    def __call__(self, attn: Any, hidden_states: Tensor, *_: Any, regions: Regions | None = None, **__: Any) -> Tensor:
        """`attn` is diffusers' Attention, `hidden_states` [B, N, C]; `regions` None means one region."""
        query, key, value = attn.to_q(hidden_states), attn.to_k(hidden_states), attn.to_v(hidden_states)
        plain = attend(attn, query, key, value, None)
        masked = attend(
            attn,
            query + self.scale * self.to_q_lora(hidden_states),
            key + self.scale * self.to_k_lora(hidden_states),
            value + self.scale * self.to_v_lora(hidden_states),
            regions,
        )
        out = attn.to_out[0](plain) + self.scale * self.to_out_lora(masked)
        return attn.to_out[1](out)


def attend(attn: Any, query: Tensor, key: Tensor, value: Tensor, regions: Regions | None) -> Tensor:
    """Multi-head attention of [B, N, C] tensors, within `regions` if given."""
    dtype = value.dtype
    if attn.upcast_attention or attn.upcast_softmax:
        query, key, value = query.float(), key.float(), value.float()
    batch, tokens, width = query.shape
    q, k, v = (part.view(batch, tokens, attn.heads, -1).transpose(1, 2) for part in (query, key, value))
    out = attention(q, k, v) if regions is None else segmented_attention(q, k, v, regions)
    return out.transpose(1, 2).reshape(batch, tokens, width).to(dtype)


def _low_rank(dim: int, rank: int) -> nn.Sequential:
    """Build dim -> rank -> dim without bias; the second layer starts at zero, so that the pair has no effect yet."""
    pair = nn.Sequential(nn.Linear(dim, rank, bias=False), nn.Linear(rank, dim, bias=False))
    nn.init.zeros_(pair[1].weight)  # type: ignore[arg-type]
    return pair
