"""Towhee's trainer classes with types, as the door of `workers.towhee_door` gives them."""

from typing import TYPE_CHECKING, Any

from workers.towhee_door import load_trainer_base

if TYPE_CHECKING:
    from torch import nn, optim

    Batch = Any

    class Callback:
        """Towhee's callback: hooks that do nothing."""

        model: nn.Module
        optimizer: optim.Optimizer
        trainercontrol: "TrainerControl"

        def set_model(self, model: nn.Module) -> None: ...
        def set_optimizer(self, optimizer: optim.Optimizer) -> None: ...
        def set_trainercontrol(self, trainercontrol: "TrainerControl") -> None: ...
        def on_batch_begin(self, batch: Batch, logs: dict[str, Any]) -> None: ...
        def on_batch_end(self, batch: Batch, logs: dict[str, Any]) -> None: ...
        def on_epoch_begin(self, epochs: int, logs: dict[str, Any]) -> None: ...
        def on_epoch_end(self, epochs: int, logs: dict[str, Any]) -> None: ...
        def on_train_begin(self, logs: dict[str, Any]) -> None: ...
        def on_train_end(self, logs: dict[str, Any]) -> None: ...
        def on_train_batch_begin(self, batch: Batch, logs: dict[str, Any]) -> None: ...
        def on_train_batch_end(self, batch: Batch, logs: dict[str, Any]) -> None: ...
        def on_eval_batch_begin(self, batch: Batch, logs: dict[str, Any]) -> None: ...
        def on_eval_batch_end(self, batch: Batch, logs: dict[str, Any]) -> None: ...
        def on_eval_begin(self, logs: dict[str, Any]) -> None: ...
        def on_eval_end(self, logs: dict[str, Any]) -> None: ...

    class CallbackList:
        """Towhee's list of callbacks."""

        callbacks: list[Callback]

        def add_callback(self, callback: Callback, singleton: bool = True) -> None: ...

    class TrainerControl:
        """What a callback may ask the trainer for."""

        should_training_stop: bool
        should_epoch_stop: bool
        should_save: bool
        should_evaluate: bool
        should_log: bool

    class TrainingConfig:
        """Towhee's training configuration, a dataclass of 25 fields."""

        output_dir: str
        overwrite_output_dir: bool
        eval_strategy: str | None
        eval_steps: int | None
        batch_size: int
        eval_batch_size: int
        train_batch_size: int
        seed: int
        epoch_num: int
        dataloader_pin_memory: bool
        dataloader_drop_last: bool
        dataloader_num_workers: int
        lr: float
        metric: Any
        print_steps: int | None
        load_best_model_at_end: bool | None
        early_stopping: Any
        model_checkpoint: Any
        tensorboard: Any
        loss: Any
        optimizer: Any
        lr_scheduler_type: Any
        warmup_ratio: float
        warmup_steps: int
        device_str: str | None
        device: Any
        freeze_bn: bool

        def __init__(self, **fields: object) -> None: ...
        def to_dict(self) -> dict[str, Any]: ...

    class ModelCard:
        """Towhee's model card."""

        model_name: str | None
        training_summary: dict[str, Any] | None
        training_config: TrainingConfig | None

        def __init__(self, **fields: object) -> None: ...

    class TowheeDataSet:
        """Towhee's wrapper of a dataset."""

        dataset: Any

    class Trainer:
        """Towhee's trainer; what our base reads or overrides."""

        configs: TrainingConfig
        model: nn.Module
        model_card: Any
        train_dataset: Any
        eval_dataset: Any
        train_dataloader: Any
        eval_dataloader: Any
        optimizer: Any
        override_optimizer: bool
        lr_scheduler: Any
        loss: Any
        override_loss: bool
        loss_value: float
        metric: Any
        metric_value: float
        lr_value: float
        loss_metric: Any
        epoch: int
        callbacks: CallbackList
        trainercontrol: TrainerControl

        def __init__(self, *arguments: object) -> None: ...
        def add_callback(self, callback: Callback, singleton: bool = True) -> None: ...

else:
    _module = load_trainer_base()
    Trainer = _module.Trainer
    Callback = _module.Callback
    CallbackList = _module.CallbackList
    TrainerControl = _module.TrainerControl
    TrainingConfig = _module.TrainingConfig
    ModelCard = _module.ModelCard
    TowheeDataSet = _module.TowheeDataSet

__all__ = [
    "Callback",
    "CallbackList",
    "ModelCard",
    "TowheeDataSet",
    "Trainer",
    "TrainerControl",
    "TrainingConfig",
    "load_trainer_base",
]
