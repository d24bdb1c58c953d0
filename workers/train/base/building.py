"""From a configuration to everything a run needs: processes, loader, networks, schedules, callbacks."""

import time
from pathlib import Path
from typing import Any

import torch

from workers.train._towhee import Callback
from workers.train.base import distributed
from workers.train.base.callbacks import Hooks, Logs
from workers.train.base.checkpoint import Loaded
from workers.train.base.ema import Ema
from workers.train.base.encoding import decode
from workers.train.base.guarding import Guarding
from workers.train.base.metrics import make_metric
from workers.train.base.networks import Network, attach_schedules, by_name, make_optimizer, optimizer_options
from workers.train.base.pauses import Pauses
from workers.train.base.setup import make_callbacks, make_device, make_pauses
from workers.train.base.stopping import make_watch
from workers.train.base.tally import Tally
from workers.train.rng import seed_all


class Building(Guarding):
    """`_build` makes a run out of the configuration, or puts it back out of a checkpoint."""

    def _build(self) -> None:
        configs, options = self.configs, self.options
        seed_all(configs.seed)
        self.processes = distributed.join_processes(make_device(configs, self.processes))
        self.device = make_device(configs, self.processes)
        self.model.to(self.device)
        if self.processes.total > 1:
            distributed.share_start(self.model)
            # Dropout and the like differ between processes; the weights were shared before.
            seed_all(configs.seed + self.processes.rank)
        self.loader = self.get_train_dataloader()
        num_batches = self.loader.num_batches()
        num_steps = self._num_steps(num_batches)
        self._create_loss()
        self._create_metric()
        self._build_networks(num_steps)
        self.watch = make_watch(
            configs, self.watched_metric(), self.warmup_steps() + options.early_stopping_waits
        )
        self._pauses: Pauses = make_pauses(
            configs,
            options,
            batches_per_step=self.batches_per_step(),
            last_step=options.max_steps,
            processes=self.processes,
        )
        self.logs = Logs(self._fresh_logs)
        self.logs.update({"global_step": self.global_step, "epoch": self.epoch, "eval_global_step": 0})
        self._evaluated_at = -1
        self._restore()
        self._next_pause = self.micro_step + 1
        self._began = time.monotonic()
        self._build_callbacks(
            num_steps, None if num_batches is None else num_batches // self.batches_per_step()
        )

    def _build_networks(self, num_steps: int | None) -> None:
        options = self.options
        self.scaler = None
        self._autocasts = options.precision != "float32"
        if options.precision == "float16":
            self.scaler = torch.amp.GradScaler(self.device.type)
        self.networks_by_name = {}
        for name, module in self.networks().items():
            if self.override_optimizer and not self.networks_by_name:
                optimizer = self.optimizer
            else:
                wanted = optimizer_options(self.configs, options, name)
                optimizer = make_optimizer(wanted, self.parameter_groups(name, module), name)
            network = Network(name, module, optimizer, clip=by_name(options.grad_clip, name))
            decay = by_name(options.ema, name)
            network.ema = None if decay is None else Ema(module, decay)
            network.num_processes = self.processes.total
            network.updates_per_step = self.updates_per_step(name)
            self.networks_by_name[name] = network
        attach_schedules(self.networks_by_name.values(), self.configs, options, num_steps)
        main = next(iter(self.networks_by_name.values()))
        self.optimizer, self.lr_scheduler = main.optimizer, main.schedule
        if options.compile is not None:
            # In place: parameters keep their names, and it works for every network of several.
            for network in self.networks_by_name.values():
                network.module.compile(backend=options.compile)

    def _build_callbacks(self, num_steps: int | None, steps_in_epoch: int | None) -> None:
        self._own_callbacks = (
            make_callbacks(self.configs, self.report, num_steps=num_steps, steps_in_epoch=steps_in_epoch)
            if self.processes.is_main
            else []
        )
        callbacks: list[Callback] = [*self.callbacks.callbacks, *self._own_callbacks]
        for callback in callbacks:
            callback.set_model(self.model)
            callback.set_optimizer(self.optimizer)
            callback.set_trainercontrol(self.trainercontrol)
        self.hooks = Hooks(callbacks)

    def _create_metric(self) -> None:
        self.metric = make_metric(self.configs.metric)
        self.tally = Tally(self.metric, stop_when_not_finite=self.options.stop_when_not_finite)
        self.loss_metric = self.tally

    def _num_steps(self, num_batches: int | None) -> int | None:
        if self.options.max_steps is not None:
            return self.options.max_steps
        return (
            None if num_batches is None else num_batches * self.configs.epoch_num // self.batches_per_step()
        )

    def _in_memory(self) -> Any:  # noqa: ANN401
        """This trainer's state as if it had been saved and loaded: a second `train` goes on from it."""
        snapshot = self._snapshot()
        return Loaded(Path(), snapshot.model, decode(snapshot.state, snapshot.training))
