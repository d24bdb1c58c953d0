"""Autoencoders: plain, denoising, variational, and with a codebook.

Legend: B batch, Z latent, S samples.
"""

import math
from typing import Any, ClassVar, cast

import torch
from torch import Tensor, nn

from workers.nets.autoencoder import Autoencoder, VqAutoencoder, VqOutput
from workers.nets.contracts import FeaturesInput, ImageInput, InputContract
from workers.nets.parts import Net
from workers.nets.table import part_of
from workers.nets.validation import InvalidConfig, Problem
from workers.train.base import Step
from workers.train.base.batches import inputs_of
from workers.train.configs.autoencoder import AutoencoderOptions
from workers.train.data.loaders import Batch
from workers.train.export import Encoder, EncodingTrainer
from workers.train.losses.reconstruction import (
    RECONSTRUCTIONS,
    importance_bound,
    kl_to_standard_normal,
    log_normal,
)
from workers.train.pictures import grid_png
from workers.train.report import Samples

_PICTURE_AXES = 4


class AutoencoderTrainer(EncodingTrainer):
    """Trains a net of `workers.nets.autoencoder`; targets in the batches are not looked at.

    Logged beside the loss: ``reconstruction`` (a row's loss), ``mse`` (a number's), ``kl`` and ``neg_elbo``
    in nats of a variational one, ``perplexity`` (how many codes are in use) of a codebook, ``neg_iwae`` in
    evaluations on request.
    """

    options_type: ClassVar = AutoencoderOptions
    options: AutoencoderOptions

    def __init__(
        self,
        model: nn.Module | None = None,
        *arguments: Any,  # noqa: ANN401  as BaseTrainer's
        **keywords: Any,  # noqa: ANN401
    ) -> None:
        super().__init__(model, *arguments, **keywords)
        kind, variational = self.options.kind, getattr(self.model, "variational", False)
        if (kind == "vq_vae") != isinstance(self.model, VqAutoencoder):
            raise InvalidConfig(
                [Problem(("options", "kind"), f"{kind} does not fit a {type(self.model).__name__}")]
            )
        if self.options.is_variational != variational:
            raise InvalidConfig(
                [Problem(("net", "variational"), f"is {variational}, which does not fit {kind}")]
            )
        self._reconstruction = RECONSTRUCTIONS[self.options.reconstruction]
        self._shown: Tensor | None = None

    def forward_step(self, model: nn.Module, batch: Batch) -> Step:
        """Rebuild the inputs."""
        x: Tensor = inputs_of(batch)
        if self.options.kind == "vq_vae":
            return self._vq_step(model, x)
        if self.options.is_variational:
            return self._variational_step(model, x)
        given = self._noisy(x) if self.options.kind == "denoising" and model.training else x
        return self._plain_step(model(given), x)

    def _plain_step(self, out: Tensor, x: Tensor) -> Step:
        row_loss = self._reconstruction.loss(out, x).mean()
        # The mean over numbers: the loss of mse is the mean squared error whatever the size of a row.
        return Step(row_loss / x[0].numel(), values={"mse": self._mse(out, x)}, rows=len(x))

    def _variational_step(self, model: nn.Module, x: Tensor) -> Step:
        out, mu_BZ, log_var_BZ = model(x, sampled=True)
        reconstruction = self._reconstruction.loss(out, x).mean()
        kl = kl_to_standard_normal(mu_BZ, log_var_BZ).mean()
        values = {"reconstruction": reconstruction, "kl": kl, "neg_elbo": (reconstruction + kl).detach()}
        if not model.training:
            values["mse"] = self._mse(out, x)
            if self.options.importance_samples:
                values["neg_iwae"] = self.neg_iwae(x, self.options.importance_samples)
        return Step(reconstruction + self.kl_weight(training=model.training) * kl, values=values, rows=len(x))

    def _vq_step(self, model: nn.Module, x: Tensor) -> Step:
        found: VqOutput = model(x)
        loss = self._reconstruction.loss(found.reconstruction, x).mean() / x[0].numel()
        used = found.codes_BP.flatten().bincount().double()
        share = used[used > 0] / used.sum()
        perplexity = (-(share * share.log()).sum()).exp()
        values = {
            "mse": self._mse(found.reconstruction, x),
            "perplexity": perplexity,
            "commitment": found.commitment,
        }
        return Step(loss + self.options.commitment * found.commitment, values=values, rows=len(x))

    def kl_weight(self, *, training: bool = True) -> float:
        """The weight of the KL term now; an evaluation always uses the full one."""
        warmup = self.options.kl_warmup_steps
        share = min(1.0, self.global_step / warmup) if training and warmup else 1.0
        return self.options.beta * share

    def warmup_steps(self) -> int:
        """While the KL term grows, the loss can't be compared."""
        return self.options.kl_warmup_steps

    @torch.no_grad()
    def neg_iwae(self, x: Tensor, num_samples: int) -> Tensor:
        """The mean importance-weighted bound of -log p(x) (Burda et al., 2016), in nats."""
        mu_BZ, log_var_BZ = self._latent_of(x)
        weights = []
        for _ in range(num_samples):
            z_BZ = mu_BZ + torch.randn_like(mu_BZ) * (0.5 * log_var_BZ).exp()
            log_joint = log_normal(z_BZ, torch.zeros_like(z_BZ), torch.zeros_like(z_BZ))
            log_joint = log_joint - self._reconstruction.loss(self._net.decode(z_BZ), x)
            weights.append(log_joint - log_normal(z_BZ, mu_BZ, log_var_BZ))
        return importance_bound(torch.stack(weights)).mean()

    # What people look at.

    @torch.no_grad()
    def reconstruct(self, x: Tensor) -> Tensor:
        """Reconstructions in the units of x; a variational one rebuilds from the latent mean."""
        out = self.predict(x)
        return self._reconstruction.values(out.reconstruction if isinstance(out, VqOutput) else out)

    @torch.no_grad()
    def interpolate(self, start: Tensor, end: Tensor, num_steps: int = 8) -> Tensor:
        """``num_steps`` reconstructions on the straight line between the latents of two rows (1, ...)."""
        mu_start, mu_end = self._net.encode(start), self._net.encode(end)
        shares = torch.linspace(0, 1, num_steps, device=mu_start.device)[:, None]
        return self._reconstruction.values(self._net.decode(mu_start + shares * (mu_end - mu_start)))

    @torch.no_grad()
    def sample(self, num_rows: int) -> Tensor:
        """Rows decoded from the prior: a standard normal, or codes drawn by how often each is used."""
        if isinstance(self.model, VqAutoencoder):
            book = self.model.codebook
            places = self.model.grid**2
            codes = torch.multinomial(book.counts_K.clamp(min=0), num_rows * places, replacement=True)
            return self._reconstruction.values(self.model.decode_codes(codes.view(num_rows, places)))
        z_BZ = torch.randn(num_rows, self._net.latent_dim, device=self.device)
        return self._reconstruction.values(self._net.decode(z_BZ))

    def begin_evaluation(self) -> None:
        """Nothing was kept to be shown yet."""
        self._shown = None

    def evaluation_step(self, model: nn.Module, batch: Batch) -> Step:
        """One batch; the first one's rows are kept to be shown."""
        if self._shown is None:
            self._shown = inputs_of(batch)[: self.options.num_samples]
        return self.forward_step(model, batch)

    def end_evaluation(self, model: nn.Module) -> dict[str, float]:
        """Report pictures."""
        del model
        shown = self._shown
        if shown is not None and shown.dim() == _PICTURE_AXES and self.options.num_samples:
            self._show("reconstructions", torch.cat([shown, self.reconstruct(shown)]), len(shown))
            if self.options.kind != "vq_vae" and len(shown) > 1:
                self._show("interpolations", self.interpolate(shown[:1], shown[1:2], len(shown)), len(shown))
            if self.options.is_variational or self.options.kind == "vq_vae":
                self._show("prior", self.sample(len(shown)), len(shown))
        return {}

    def _show(self, name: str, x_NCHW: Tensor, columns: int) -> None:
        png = grid_png(x_NCHW, columns=columns)
        self.report(Samples(step=self.global_step, name=name, media_type="image/png", content=png))

    def encoder(self) -> Encoder:
        """The encoder alone; its embedding is the latent mean, or the chosen codes."""
        net = cast("Net", self.model)
        contract = self.input_contract or _contract_of(net)
        return Encoder(part_of(net, net.net_name.replace("autoencoder", "encoder")), contract, self.tokenizer)

    # Odds and ends.

    @property
    def _net(self) -> Autoencoder:
        return cast("Autoencoder", self.model)

    def _latent_of(self, x: Tensor) -> tuple[Tensor, Tensor]:
        latent = self._net.latent(x)
        return latent.mu_BZ, cast("Tensor", latent.log_var_BZ)

    def _mse(self, out: Tensor, x: Tensor) -> Tensor:
        return (self._reconstruction.values(out.detach()) - x).square().mean()

    def _noisy(self, x: Tensor) -> Tensor:
        level = self.options.noise_level
        if self.options.noise == "mask":
            return x * (torch.rand_like(x) >= level)
        return x + level * torch.randn_like(x)


def _contract_of(net: Net) -> InputContract:
    """What the net's config says a row is: a picture, or so many numbers."""
    config: Any = net.config
    if hasattr(config, "side"):
        return ImageInput(side=config.side, channels=config.channels)
    match config.shape:
        case (channels, height, width) if height == width:
            return ImageInput(side=height, channels=channels)
    return FeaturesInput(num_features=math.prod(config.shape))
