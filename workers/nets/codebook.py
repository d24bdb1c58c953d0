"""A codebook learnt by a running average (van den Oord et al., 2017, appendix A.1).

Legend: B batch, C channels (the code's dimension), H height, W width, N = B * H * W places, K codes, P = H *
W.
"""

import torch
import torch.distributed as dist
import torch.nn.functional as F  # noqa: N812  torch's own abbreviation
from torch import Tensor, nn

#: A code chosen less often than this share of what is fair is put where a place of the batch is.
_DEAD_BELOW = 0.05


class Codebook(nn.Module):
    """Each place takes the nearest code; in training mode codes move to the mean of their places.

    The first training batch sets the codes to places of its own, and codes that nobody chooses any more are
    set anew, so that few are dead. With several processes all sums are over all of them, and codes stay the
    same everywhere.
    """

    codes_KC: Tensor
    counts_K: Tensor
    sums_KC: Tensor
    num_updates: Tensor

    def __init__(self, num_codes: int, code_dim: int, decay: float) -> None:
        super().__init__()
        self.decay = decay
        self.register_buffer("codes_KC", torch.randn(num_codes, code_dim))
        self.register_buffer("counts_K", torch.ones(num_codes))
        self.register_buffer("sums_KC", self.codes_KC.clone())
        self.register_buffer("num_updates", torch.zeros((), dtype=torch.long))

    def forward(self, z_BCHW: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Codes in the shape of ``z``, with its gradient; the commitment loss; the codes' numbers (B, P)."""
        batch, channels, height, width = z_BCHW.shape
        z_NC = z_BCHW.permute(0, 2, 3, 1).reshape(-1, channels)
        if self.training and torch.is_grad_enabled():
            self._start(z_NC.detach())
        distances_NK = (
            self.codes_KC.square().sum(1) - 2 * z_NC @ self.codes_KC.T
        )  # without |z|^2, equal for all
        numbers_N = distances_NK.argmin(1)
        quantised = self.codes_KC[numbers_N].view(batch, height, width, channels).permute(0, 3, 1, 2)
        commitment = F.mse_loss(z_BCHW, quantised.detach())
        if self.training and torch.is_grad_enabled():
            self._follow(z_NC.detach(), numbers_N)
        return z_BCHW + (quantised - z_BCHW).detach(), commitment, numbers_N.view(batch, -1)

    def lookup(self, numbers: Tensor) -> Tensor:
        """The codes of these numbers, one more axis at the end."""
        return self.codes_KC[numbers]

    @torch.no_grad()
    def _start(self, z_NC: Tensor) -> None:
        if int(self.num_updates):
            return
        self.codes_KC.copy_(self._drawn(z_NC, len(self.codes_KC)))
        self.counts_K.fill_(len(z_NC) / len(self.counts_K))
        self.sums_KC.copy_(self.codes_KC * self.counts_K[:, None])

    @torch.no_grad()
    def _follow(self, z_NC: Tensor, numbers_N: Tensor) -> None:
        chosen_NK = F.one_hot(numbers_N, len(self.codes_KC)).to(z_NC)
        counts, sums = chosen_NK.sum(0), chosen_NK.T @ z_NC
        if dist.is_available() and dist.is_initialized():
            dist.all_reduce(counts)
            dist.all_reduce(sums)
        self.num_updates += 1
        # The encoder moves fast at first, and so must the codes.
        share = 1 - torch.clamp((1 + self.num_updates) / (10 + self.num_updates), max=self.decay)
        self.counts_K.lerp_(counts, share)
        self.sums_KC.lerp_(sums, share)
        fair = self.counts_K.mean()
        dead_K = self.counts_K < _DEAD_BELOW * fair
        num_dead = int(dead_K.sum())
        if num_dead:
            self.sums_KC[dead_K] = self._drawn(z_NC, num_dead) * fair
            self.counts_K[dead_K] = fair
        self.codes_KC.copy_(self.sums_KC / self.counts_K.clamp(min=1e-5)[:, None])

    def _drawn(self, z_NC: Tensor, count: int) -> Tensor:
        """Places of the batch, drawn at random; the same ones in every process."""
        drawn = z_NC[torch.randint(len(z_NC), (count,), device=z_NC.device)]
        if dist.is_available() and dist.is_initialized():
            dist.broadcast(drawn, 0)
        return drawn
