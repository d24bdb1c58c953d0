"""Options of AutoencoderTrainer."""

from collections.abc import Iterator
from typing import Annotated, Literal

from msgspec import Meta

from workers.nets.validation import Problem
from workers.train.configs.base import Natural, TrainerOptions

NotNegative = Annotated[float, Meta(ge=0)]


class AutoencoderOptions(TrainerOptions, frozen=True):
    """What to learn.

    Attributes:
        kind: plain, denoising (Vincent et al., 2008), vae (Kingma and Welling, 2014), beta_vae (Higgins et
        al., 2017)
            or vq_vae (van den Oord et al., 2017).
        reconstruction: bce for x in 0..1, mse, unit_mse (through a sigmoid), multinomial for counts of words.
        noise, noise_level: what denoising adds: gaussian with this standard deviation, or mask, which sets
        this share to 0. beta: weight of the KL term.
        kl_warmup_steps: steps in which that weight grows from 0.
        commitment: weight of the distance between encoder and codes.
        importance_samples: samples of the IWAE bound in evaluations, 0 for none.
        num_samples: rows of the pictures that each evaluation reports, 0 for none.
    """

    kind: Literal["plain", "denoising", "vae", "beta_vae", "vq_vae"] = "plain"
    reconstruction: Literal["bce", "mse", "unit_mse", "multinomial"] = "unit_mse"
    noise: Literal["gaussian", "mask"] = "gaussian"
    noise_level: NotNegative = 0.3
    beta: NotNegative = 1.0
    kl_warmup_steps: Natural = 0
    commitment: NotNegative = 0.25
    importance_samples: Natural = 0
    num_samples: Annotated[int, Meta(ge=0, le=64)] = 8

    @property
    def is_variational(self) -> bool:
        """Whether there is a KL term."""
        return self.kind in {"vae", "beta_vae"}

    def problems(self) -> Iterator[Problem]:
        """What contradicts itself."""
        if self.kind == "vae" and self.beta != 1:
            yield Problem(("beta",), "is 1 for a vae; say beta_vae")
        if self.kl_warmup_steps and not self.is_variational:
            yield Problem(("kl_warmup_steps",), f"has no meaning for {self.kind}")
        if self.importance_samples and not self.is_variational:
            yield Problem(("importance_samples",), f"has no meaning for {self.kind}")
        if self.importance_samples and self.reconstruction in {"mse", "unit_mse"}:
            yield Problem(("importance_samples",), "needs a likelihood: bce or multinomial")
        if self.noise == "mask" and self.noise_level > 1:
            yield Problem(("noise_level",), "is a share of at most 1 for mask")
