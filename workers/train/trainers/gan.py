"""Generative adversarial nets.

Legend: B batch, C channels, H height, W width, Z latent.
"""

import logging
from collections.abc import Mapping
from functools import partial
from typing import Any, ClassVar, NamedTuple, cast

import torch
from torch import Tensor, nn

from workers.nets.contracts import ImageInput
from workers.nets.gan import Gan, GanConfig
from workers.nets.table import part_of
from workers.nets.validation import InvalidConfig, Problem
from workers.train.base import Step, distributed
from workers.train.base.batches import inputs_of, split_batch
from workers.train.collapse import CollapseWatch
from workers.train.configs.gan import GANOptions
from workers.train.data.differentiable import differentiable
from workers.train.data.loaders import Batch
from workers.train.export import Encoder, EncodingTrainer
from workers.train.fid import FeatureSums, Judge, fit_judge, frechet_distance
from workers.train.losses.adversarial import ADVERSARIAL, gradient_penalty, r1_penalty
from workers.train.pictures import grid_png
from workers.train.report import Samples, Warned

_log = logging.getLogger(__name__)
_GRID_COLUMNS = 8
#: A judge that the trainer fits sees at most so many pictures.
_JUDGE_ROWS = 10_000
#: How far the weights have moved at the end of the start, and the least number of steps.
_START_WAY, _START_STEPS = 0.15, 150


class Real(NamedTuple):
    """Real pictures (B, C, H, W) in 0..1, and their classes (B,) when the nets are conditional.

    ``labelled`` are further pictures with their classes, for a discriminator that learns classes as well.
    """

    x: Tensor
    classes: Tensor | None = None
    labelled: tuple[Tensor, Tensor] | None = None


class Loss(NamedTuple):
    """A loss with a graph, and scalars to show: the same ones in every step."""

    loss: Tensor
    values: Mapping[str, Tensor]


class GANTrainer(EncodingTrainer):
    """Trains a `workers.nets.gan.Gan` on pictures in 0..1; conditional ones need labels in the batches.

    Every batch is one pass of the discriminator; ``accumulate`` of them make one update of it, and
    ``n_critic`` updates are followed by one of the generator, which is a step.

    Logged: ``loss_d`` and ``loss_g``, whose sum is the loss, ``real_score``, ``fake_score``, ``penalty``;
    with ``fid_samples`` the evaluation adds ``fid``, ``classes_missing`` and ``class_entropy`` (bits) by the
    judge.

    A trainer of another game overrides `read_batch`, `discriminator_loss` and `generator_loss`.
    """

    options_type: ClassVar = GANOptions
    options: GANOptions

    def __init__(
        self,
        model: nn.Module | None = None,
        *arguments: Any,  # noqa: ANN401  as BaseTrainer's
        judge: Judge | None = None,
        **keywords: Any,  # noqa: ANN401
    ) -> None:
        super().__init__(model, *arguments, **keywords)
        problems = list(self.net_problems())
        if problems:
            raise InvalidConfig(problems)
        options = self.options
        self.judge = judge
        self._loss = ADVERSARIAL[options.loss]
        self._per_step = options.accumulate * options.n_critic
        self._loss_g = torch.zeros(())
        self._collapse: CollapseWatch | None = None
        self._real_sums: FeatureSums | None = None
        self._grid: tuple[Tensor, Tensor | None] | None = None

    def net_problems(self) -> list[Problem]:
        """What keeps this net from being trained as the options say."""
        net = self.model
        if not isinstance(net, Gan):
            return [Problem(("net",), f"a gan is needed, not a {type(net).__name__}")]
        problems = []
        if self.num_outputs != net.config.num_outputs:  # type: ignore[attr-defined]  # a Gan's config
            problems.append(Problem(("net", "num_outputs"), f"is {self.num_outputs} for {self.options.loss}"))
        mixes = any(isinstance(part, nn.BatchNorm1d | nn.BatchNorm2d) for part in net.discriminator.modules())
        if mixes and self.options.is_penalised:
            message = "batch makes the slope at one picture depend on the others: say spectral, layer or none"
            problems.append(Problem(("net", "discriminator_norm"), message))
        return problems

    @property
    def num_outputs(self) -> int:
        """Numbers that the discriminator has to give for a picture."""
        return 1

    def networks(self) -> Mapping[str, nn.Module]:
        """The generator's updates are the steps."""
        return {"g": self.net.generator, "d": self.net.discriminator}

    def batches_per_step(self) -> int:
        """Every update of the discriminator has batches of its own."""
        return self.options.accumulate * self.options.n_critic

    def updates_per_step(self, name: str) -> int:
        """The discriminator is updated ``n_critic`` times."""
        return self.options.n_critic if name == "d" else 1

    # The game. These three are what another game overrides.

    def read_batch(self, batch: Batch) -> Real:
        """The real pictures of a batch."""
        if not self.net.generator.num_classes:
            return Real(inputs_of(batch))
        return Real(*split_batch(batch))

    def discriminator_loss(self, model: Gan, real: Real, fake_x: Tensor) -> Loss:
        """What the discriminator has to make less; ``fake_x`` has no graph."""
        real_scores = self.score(model, real.x, real.classes)
        fake_scores = self.score(model, fake_x, real.classes)
        loss = self._loss.discriminator(real_scores, fake_scores)
        values = {"real_score": real_scores.detach().mean(), "fake_score": fake_scores.detach().mean()}
        if self.options.is_penalised and model.training:
            penalty = self._penalty(model, real, fake_x)
            values["penalty"] = penalty.detach()
            loss = loss + penalty
        return Loss(loss, values)

    def generator_loss(self, model: Gan, real: Real, fake_x: Tensor) -> Tensor:
        """What the generator has to make less; ``fake_x`` has its graph."""
        return self._loss.generator(self.score(model, fake_x, real.classes))

    # What the game is made of.

    def score(self, model: Gan, x: Tensor, classes: Tensor | None = None) -> Tensor:
        """The discriminator's scores of pictures, changed as the options say."""
        scores: Tensor = model.discriminator(differentiable(x, self.options.augment), classes)
        return scores

    def generate(self, model: Gan, num_rows: int, classes: Tensor | None = None) -> Tensor:
        """Pictures of new latents."""
        z_BZ = torch.randn(num_rows, model.generator.latent_dim, device=self.device)
        pictures: Tensor = model.generator(z_BZ, classes)
        return pictures

    def _penalty(self, model: Gan, real: Real, fake_x: Tensor) -> Tensor:
        score = partial(self.score, model, classes=real.classes)
        options = self.options
        if options.loss == "wasserstein_gp":
            shares = torch.rand(len(real.x), device=real.x.device)
            return options.gradient_penalty * gradient_penalty(score, real.x, fake_x, shares)
        update = self.micro_step // options.accumulate
        if update % options.r1_every:
            return torch.zeros((), device=real.x.device)
        return options.r1 * options.r1_every * r1_penalty(score, real.x)

    def train_step(self, model: nn.Module, batch: Batch) -> None:
        """One batch for the discriminator, and the generator's update when it is its turn."""
        gan, accumulate = cast("Gan", model), self.options.accumulate
        turn = self.micro_step + 1
        trains_g = turn % self._per_step == 0
        real = self.read_batch(batch)
        with self.autocast():
            # On the generator's turn the pictures that the discriminator learns from are used once more.
            with torch.set_grad_enabled(trains_g):
                fake_x = self.generate(gan, len(real.x), real.classes)
            loss_d, values = self.discriminator_loss(gan, real, fake_x.detach())
        self.backward(loss_d if accumulate == 1 else loss_d / accumulate)
        if turn % accumulate == 0:
            self.update_networks("d")
        if trains_g:
            self._train_generator(gan, real, fake_x)
        # Before the generator's first turn its loss is a zero that no device has made.
        loss_d, loss_g = loss_d.detach(), self._loss_g.to(loss_d.device)
        shown = {"loss_d": loss_d, "loss_g": loss_g, **values}
        self.tally.add(Step(loss_d + loss_g, values=shown, rows=len(real.x)))

    def _train_generator(self, model: Gan, real: Real, fake_x: Tensor) -> None:
        accumulate = self.options.accumulate
        learning = [parameter for parameter in model.discriminator.parameters() if parameter.requires_grad]
        # Only what flows through the discriminator is needed, not its own gradients.
        for parameter in learning:
            parameter.requires_grad = False
        for at in range(accumulate):
            with self.autocast():
                if at:
                    fake_x = self.generate(model, len(real.x), real.classes)
                loss = self.generator_loss(model, real, fake_x)
            self.backward(loss if accumulate == 1 else loss / accumulate)
        for parameter in learning:
            parameter.requires_grad = True
        self.update_networks("g")
        self._loss_g = loss.detach()
        if self.options.collapse != "ignore" and self.collapse_watch.add(real.x, fake_x):
            self._look_for_collapse()

    def _look_for_collapse(self) -> None:
        step = (self.micro_step + 1) // self._per_step
        seen = self.collapse_watch.look(step, self.processes.total)
        if seen is None:
            return
        if self.processes.is_main:
            message = (
                f"the generator has collapsed by step {step}: its pictures differ by {seen.spread:.0%} of "
                f"what real ones do, and are {seen.distance:.1f} times as far away as one average picture"
            )
            _log.warning("%s", message)
            self.report(Warned(step=step, code="collapse", message=message))
        if self.options.collapse == "stop":
            self.trainercontrol.should_training_stop = True
            self._next_pause = self.micro_step

    @property
    def collapse_watch(self) -> CollapseWatch:
        """What looks for a collapse, made at the first step."""
        if self._collapse is None:
            after = self.options.collapse_after
            rate = self.networks_by_name["g"].lr or self.configs.lr
            self._collapse = CollapseWatch(_start_steps(rate) if after is None else after)
        return self._collapse

    def extra_state(self) -> dict[str, Any]:
        """What is shown between two updates of the generator, and what the watch has seen."""
        watch = self._collapse
        seen = None if watch is None else {"after": watch.after, **watch.state_dict()}
        return {"loss_g": self._loss_g, "collapse": seen}

    def load_extra_state(self, state: Mapping[str, Any]) -> None:
        """Go on from there."""
        self._loss_g = state["loss_g"]
        if state["collapse"] is not None:
            self._collapse = CollapseWatch(state["collapse"]["after"])
            self._collapse.load_state_dict(state["collapse"])

    # Evaluation.

    def watched_metric(self) -> tuple[str, str]:
        """Losses of a game don't say which net is best."""
        return ("eval_fid", "min") if self.options.fid_samples else super().watched_metric()

    def begin_evaluation(self) -> None:
        """Draw the grid's latents first: they are the same in every evaluation."""
        generator, rows = self.net.generator, self.options.num_samples
        self._grid = None
        if rows:
            z_BZ = torch.randn(rows, generator.latent_dim, device=self.device)
            self._grid = z_BZ, self._rows_of_classes(rows)
        self._real_sums = None
        if self.options.fid_samples:
            if self.judge is None:
                self.judge = self._fitted_judge()
            self._real_sums = self.judge.sums()

    def evaluation_step(self, model: nn.Module, batch: Batch) -> Step:
        """The losses without penalties."""
        gan, real = cast("Gan", model), self.read_batch(batch)
        fake_x = self.generate(gan, len(real.x), real.classes)
        loss_d, values = self.discriminator_loss(gan, real, fake_x)
        loss_g = self.generator_loss(gan, real, fake_x)
        if self._real_sums is not None and self.judge is not None:
            self.judge.look(real.x, self._real_sums)
        shown = {"loss_d": loss_d, "loss_g": loss_g, **values}
        return Step(loss_d + loss_g, values=shown, rows=len(real.x))

    def end_evaluation(self, model: nn.Module) -> dict[str, float]:
        """Show pictures, and compare many of them with the real ones."""
        gan = cast("Gan", model)
        if self._grid is not None and self.processes.is_main:
            png = grid_png(gan(*self._grid), columns=_GRID_COLUMNS)
            self.report(Samples(step=self.global_step, name="samples", media_type="image/png", content=png))
        if self._real_sums is None or self.judge is None:
            return {}
        fake_sums = self._generated_sums(gan, self.judge)
        if self.processes.total > 1:
            for tensor in (*self._real_sums.tensors, *fake_sums.tensors):
                distributed.sum_in_place(tensor)
        return {
            "fid": frechet_distance(fake_sums, self._real_sums),
            "classes_missing": float(fake_sums.num_missing),
            "class_entropy": fake_sums.class_entropy,
        }

    def _generated_sums(self, model: Gan, judge: Judge) -> FeatureSums:
        """This process's share of the pictures that are compared."""
        sums = judge.sums()
        rows = len(range(self.processes.rank, self.options.fid_samples, self.processes.total))
        for size in _parts(rows, self.configs.eval_batch_size):
            judge.look(self.generate(model, size, self._drawn_classes(size)), sums)
        return sums

    def _fitted_judge(self) -> Judge:
        """A judge fitted to the labelled training pictures."""
        data = self.train_dataset
        wanted = "fid_samples needs a judge, or a train_dataset with labels to fit one to"
        if data is None or hasattr(data, "state_dict"):
            raise ValueError(wanted)
        found: list[tuple[Tensor, Tensor]] = []
        for batch in self.make_loader(data, self.train_plan()._replace(shuffle=False, rank=0, world_size=1)):
            try:
                x, y = split_batch(self.prepare_inputs(batch))
            except ValueError as error:
                raise ValueError(wanted) from error
            found.append((x, y))
            if len(found) * len(x) >= _JUDGE_ROWS:
                break
        x_NCHW, y_N = (torch.cat(parts) for parts in zip(*found, strict=True))
        return fit_judge(x_NCHW, y_N, num_epochs=self.options.judge_epochs, seed=self.configs.seed)

    # What people look at, and what is exported.

    @torch.no_grad()
    def sample(self, num_rows: int, classes: Tensor | None = None) -> Tensor:
        """Pictures (N, C, H, W) in 0..1, of the averaged generator; of drawn classes when none are given."""
        self._ready()
        z_BZ = torch.randn(num_rows, self.net.generator.latent_dim).to(self.device)
        classes = self._drawn_classes(num_rows) if classes is None else classes.to(self.device)
        with self._evaluating(self.model):
            pictures: Tensor = self.net(z_BZ, classes)
        return pictures

    def encoder(self) -> Encoder:
        """The discriminator; its embedding is made of the means of its maps."""
        config = cast("GanConfig", self.net.config)
        contract = self.input_contract or ImageInput(side=config.side, channels=config.channels)  # type: ignore[arg-type]
        return Encoder(part_of(self.net, "gan_encoder"), contract)

    @property
    def net(self) -> Gan:
        """The model as what it is."""
        return cast("Gan", self.model)

    def _drawn_classes(self, num_rows: int) -> Tensor | None:
        num_classes = self.net.generator.num_classes
        return torch.randint(0, num_classes, (num_rows,), device=self.device) if num_classes else None

    def _rows_of_classes(self, num_rows: int) -> Tensor | None:
        """One class after the other, a column of the grid each while there are columns."""
        num_classes = self.net.generator.num_classes
        return torch.arange(num_rows, device=self.device) % num_classes if num_classes else None


def _start_steps(rate: float) -> int:
    """Adam moves a weight by about its rate a step, so that a start takes more steps the lower the rate."""
    return max(_START_STEPS, round(_START_WAY / rate))


def _parts(total: int, most: int) -> list[int]:
    return [min(most, total - begin) for begin in range(0, total, most)]
