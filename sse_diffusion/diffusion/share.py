"""One process's part of a batch: data parallelism and gradient accumulation that leave the loss as it is."""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True)
class Share:
    r"""Crystals ``part``, ``part + parts``, ... of a batch of which every process holds all rows.

    The loss of a share is scaled so that the mean over the shares is the loss of the batch, whatever the weights,

        L = sum_i w_i l_i / sum_i w_i = 1/P sum_p L_p,    L_p = P sum_{i in p} w_i l_i / sum_i w_i

    and averaging gradients over processes (DDP) and over accumulated parts (Lightning) gives the gradient of L.

    Attributes:
        size: crystals in the batch.
        part: number of this share.
        parts: how many shares there are.
    """

    size: int
    part: int = 0
    parts: int = 1

    @property
    def rows(self) -> slice:
        """Rows of this share; a share beyond the last crystal computes the first one, with weight zero (:meth:`mean`)."""
        return slice(self.part, None, self.parts) if self.part < self.size else slice(0, 1)

    def mean(self, value: Float[Tensor, " r"], weight: Float[Tensor, " b"]) -> Float[Tensor, ""]:
        """L_p of the values of this share under the weights of the whole batch; zero when all weights are."""
        scale = self.parts if self.part < self.size else 0
        return scale * (value * weight[self.rows]).sum() / weight.sum().clamp_min(1.0)
