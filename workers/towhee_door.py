"""The one door to Towhee: the only module of the project that imports it.

Towhee runs ``pip install`` when a module it wants is missing, asks a hub on the internet for every operator
it doesn't know, keeps downloaded code in the home folder and runs it. Behind this door none of that happens:
while Towhee is imported and while a pipeline is built, starting a process or opening a connection is refused,
and its loaders know only operators that were registered here and the pipelines that ship with it.

A pipeline is called with a whole batch as *one* value. Towhee's own ``batch()`` calls the operator once an
item; a list that is one value reaches the operator as it is, so that a model sees a real batch.
"""

import contextvars
import importlib
import importlib.machinery
import importlib.util
import logging
import os
import stat
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any, NoReturn, TypeVar

import numpy as np

T = TypeVar("T")

#: Our operators are registered as ``<NAMESPACE>/<name>``; Towhee's own are ``towhee/<name>``.
NAMESPACE = "hosted"
#: A folder that nobody can create or plant code in, unlike the default ``~/.towhee``.
_NO_HOME = Path(os.devnull) / "towhee"
_TRAINER = "towhee.trainer"
#: Set while Towhee's code runs that might install or download something.
_refusing: contextvars.ContextVar[bool] = contextvars.ContextVar("refusing", default=False)

_PROCESS_EVENTS = frozenset(
    {"subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.spawn", "pty.spawn"}
)
_NETWORK_EVENTS = frozenset({"socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "socket.sendto"})
_INSTALLERS = frozenset({"pip", "ensurepip"})


class TowheeError(Exception):
    """The root of what can go wrong behind the door."""


class RunTimeInstallRefused(TowheeError):
    """Towhee tried to start a process or an installer; what it wants has to be installed beforehand."""


class NetworkRefused(TowheeError):
    """Towhee tried to reach its hub; operators have to be registered beforehand."""


class PipelineNotBuilt(TowheeError):
    """Towhee could not build a pipeline."""


class PipelineFailed(TowheeError):
    """An operator failed while a pipeline ran."""


class HomeNotPrivate(TowheeError):
    """The folder for Towhee's files belongs to, or can be written by, somebody else."""


@contextmanager
def refusing_installs() -> Iterator[None]:
    """Refuse, in this context only, to start processes, open connections or import an installer.

    Raises:
        RunTimeInstallRefused, NetworkRefused: from within, where it is tried.
    """
    _ensure_audit_hook()
    token = _refusing.set(True)
    try:
        yield
    finally:
        _refusing.reset(token)


@cache
def _ensure_audit_hook() -> None:
    # An audit hook sees every way of starting a process (PEP 578), also those in code not yet imported, and
    # asks a context variable, so that other threads of this process go on undisturbed. It can't be removed,
    # hence once for a process.
    sys.addaudithook(_audit)


def _audit(event: str, args: tuple[object, ...]) -> None:
    if event in _PROCESS_EVENTS:
        if _refusing.get():
            raise RunTimeInstallRefused(f"refused to start a process behind the Towhee door: {args[0]!r}")
    elif event in _NETWORK_EVENTS:
        if _refusing.get():
            raise NetworkRefused(f"refused a connection behind the Towhee door: {event}")
    elif event == "import" and args[0] in _INSTALLERS and _refusing.get():
        raise RunTimeInstallRefused(f"refused to import {args[0]!r} behind the Towhee door")


def load_trainer_base() -> ModuleType:
    """The module ``towhee.trainer.trainer``, without what it does not need.

    Its package's ``__init__`` asks a ``pip`` on the path to install torch, torchvision and torchmetrics
    0.7.0; it is skipped. Its metrics module is nothing but a list of torchmetrics' names; an empty one takes
    its place, since our metrics run on the device. NumPy 2 has no ``Inf``, which its early stopping asks for.
    """
    found = sys.modules.get(f"{_TRAINER}.trainer")
    if found is not None:
        return found
    with refusing_installs():
        return _import_trainer()


def _import_trainer() -> ModuleType:
    towhee = importlib.import_module("towhee")
    folder = Path(str(towhee.__file__)).parent / "trainer"
    spec = importlib.machinery.ModuleSpec(_TRAINER, None, is_package=True)
    spec.submodule_search_locations = [str(folder)]
    package = importlib.util.module_from_spec(spec)
    sys.modules[_TRAINER] = package
    vars(towhee)["trainer"] = package  # what an import would have set
    sys.modules[f"{_TRAINER}.metrics"] = _metrics_module()
    trainer = importlib.import_module(f"{_TRAINER}.trainer")
    sys.modules[f"{_TRAINER}.callback"].np = _NumpyWithInf("numpy")  # type: ignore[attr-defined]
    return trainer


class _NumpyWithInf(ModuleType):
    """NumPy as one Towhee module sees it; NumPy itself is left alone."""

    Inf = np.inf

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401  whatever NumPy has there
        return getattr(np, name)


def _metrics_module() -> ModuleType:
    def get_metric_by_name(metric_name: str, *_: object, **__: object) -> object:
        raise LookupError(f"Towhee's metric {metric_name!r} needs torchmetrics 0.7.0, which is not used here")

    module = ModuleType(f"{_TRAINER}.metrics")
    module.get_metric_by_name = get_metric_by_name  # type: ignore[attr-defined]
    return module


class TowheePipeline:
    """A built pipeline with one input and one output column."""

    def __init__(self, name: str, pipeline: Any) -> None:  # noqa: ANN401  Towhee has no types
        self.name = name
        self._pipeline = pipeline

    def __call__(self, batch: Sequence[object]) -> object:
        """Run the batch as one value and return what the last operator returned for it.

        Raises:
            PipelineFailed: an operator raised. Towhee keeps no more of the cause than its text.
        """
        try:
            row: list[object] | None = self._pipeline(batch).get()
        except RuntimeError as error:
            raise PipelineFailed(f"pipeline {self.name} failed: {error}") from error
        if not row:
            raise PipelineFailed(f"pipeline {self.name} returned nothing")
        return row[0]

    def close(self) -> None:
        """End the pipeline's thread. Towhee itself never does."""
        self._pipeline._thread_pool.shutdown(wait=False)  # noqa: SLF001  there is no public way


class TowheeDoor:
    """Towhee, imported and disarmed. Use `open`."""

    def __init__(self, towhee: ModuleType) -> None:
        self._towhee = towhee

    @classmethod
    def open(cls, home: Path | None = None) -> "TowheeDoor":
        """Import Towhee with ``home`` as its folder; by default it has none: it can't read or keep anything.

        Raises:
            HomeNotPrivate: somebody else could put code there.
            RunTimeInstallRefused: a package that Towhee needs is not installed.
        """
        # Towhee needs pkg_resources; the dependencies keep a setuptools that still has it.
        warnings.filterwarnings("ignore", message="pkg_resources is deprecated")
        os.environ["TOWHEE_HOME"] = str(_NO_HOME if home is None else _private_folder(home))
        with refusing_installs():
            towhee = importlib.import_module("towhee")
            _disarm()
        # At INFO it writes a line for each node of each call.
        logging.getLogger("towhee").setLevel(logging.WARNING)
        return cls(towhee)

    def register(self, name: str, call: Callable[[Any], object], *, namespace: str = NAMESPACE) -> None:
        """Make ``call`` known to Towhee as the operator ``namespace/name``.

        Towhee creates one operator for each pipeline and shares it between calls, so ``call`` must be
        thread-safe. It sees a whole batch at once.
        """
        operator = importlib.import_module("towhee.operator")

        class Registered(operator.NNOperator):  # type: ignore[misc, name-defined]  # untyped base
            def __call__(self, batch: Any) -> object:  # noqa: ANN401  whatever the pipeline carries
                return call(batch)

        self._towhee.register(name=f"{namespace}/{name}")(Registered)

    def chain(self, name: str, operators: Sequence[str]) -> TowheePipeline:
        """Build a pipeline that maps its batch through registered operators, one after the other.

        Raises:
            PipelineNotBuilt: an operator is unknown or could not be created.
        """

        def build() -> object:
            pipeline = self._towhee.pipe.input("batch")
            for operator in operators:
                pipeline = pipeline.map("batch", "batch", self._operator(operator))
            return pipeline.output("batch")

        return self._built(name, build)

    def named(self, name: str, *, operator: str, config: Mapping[str, object]) -> TowheePipeline:
        """Build a pipeline that ships with Towhee, with an operator of ours in the place of the hub's.

        Args:
            name: as ``AutoPipes`` knows it.
            operator: a registered operator, for the pipeline's ``customize_embedding_op``.
            config: further fields of the pipeline's ``AutoConfig``.

        Raises:
            PipelineNotBuilt: the pipeline is unknown or wants something that is not here.
        """

        def build() -> object:
            filled = self._towhee.AutoConfig.load_config(name)
            for field, value in config.items():
                setattr(filled, field, value)
            filled.customize_embedding_op = self._operator(operator)
            return self._towhee.AutoPipes.pipeline(name, config=filled)

        return self._built(name, build)

    def _operator(self, name: str) -> object:
        return getattr(getattr(self._towhee.ops, NAMESPACE), name.replace("-", "_"))()

    def _built(self, name: str, build: Callable[[], Any]) -> TowheePipeline:
        built = _in_fresh_context(name, build)
        runtime = importlib.import_module("towhee.runtime.runtime_pipeline")
        # One thread: a single row walks through the nodes in order, more threads would only hand it around,
        # and each thread that enters torch costs a team of OpenMP threads of its own.
        single = runtime.RuntimePipeline(built.dag_repr, max_workers=1)
        _in_fresh_context(name, single.preload)
        built._thread_pool.shutdown(wait=False)  # noqa: SLF001  there is no public way
        return TowheePipeline(name, single)


def _in_fresh_context(name: str, build: Callable[[], T]) -> T:
    """Run ``build`` in a context of its own: Towhee leaves names set in the context when a build fails."""

    def guarded() -> T:
        with refusing_installs():
            return build()

    try:
        built = contextvars.Context().run(guarded)
    except (RuntimeError, AttributeError, ValueError, NetworkRefused) as error:
        raise PipelineNotBuilt(f"Towhee could not build {name}: {error}") from error
    if built is None:
        raise PipelineNotBuilt(f"Towhee knows no pipeline {name}")
    return built


def _disarm() -> None:
    """Take the ways to the hub and to pip out of Towhee's loaders, for calls as well as for builds."""

    def no_hub(*args: object, **named: object) -> NoReturn:
        wanted = args[0] if args else named.get("operator")
        raise NetworkRefused(f"{wanted} is not registered here, and Towhee's hub is not asked")

    def no_install(package: str) -> NoReturn:
        raise RunTimeInstallRefused(f"Towhee wants to install {package!r}; install it beforehand")

    importlib.import_module("towhee.runtime.operator_manager.operator_loader").get_operator = no_hub  # type: ignore[attr-defined]
    importlib.import_module("towhee.runtime.pipeline_loader").get_pipeline = no_hub  # type: ignore[attr-defined]
    importlib.import_module("towhee.utils.dependency_control").prompt_install = no_install  # type: ignore[attr-defined]


def _private_folder(folder: Path) -> Path:
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o022:
        raise HomeNotPrivate(f"{folder} must be a folder that only this user can write to")
    return folder
