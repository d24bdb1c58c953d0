"""What can be typed after `towhee-api`."""

import argparse
from collections.abc import Callable
from typing import NoReturn

from deploy.errors import WrongUse

#: As the server spells them; it may have more one day, and says so itself.
TRAINERS = ("gan", "autoencoder", "rnn", "semi_supervised", "fine_tune")

EPILOG = """\
Settings are environment variables; an option wins over its variable. An empty variable counts as not set.

{settings}

Exit codes: 0 done, 2 wrong use, 1 anything else."""


class Parser(argparse.ArgumentParser):
    """A parser that answers wrong use with one line, and looks settings up only for its help."""

    settings_help: Callable[[], str] | None = None

    def error(self, message: str) -> NoReturn:
        """Refuse.

        Raises:
            WrongUse: always.
        """
        raise WrongUse(f"{message} (see {self.prog} --help)")

    def format_help(self) -> str:
        """Write the help, with the settings below it."""
        if self.settings_help is not None:
            self.epilog = EPILOG.format(settings=self.settings_help())
        return super().format_help()


def build_parser(settings_help: Callable[[], str]) -> Parser:
    """Build the parser; each command sets ``module`` to the name of its module in `deploy.commands`."""
    parser = Parser(
        prog="towhee-api",
        description="Hosted API for Towhee: any piece of data in, a vector out.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.settings_help = settings_help
    verbs = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    up = verbs.add_parser("up", help="run everything on this machine until Ctrl-C")
    up.add_argument("--data-dir", metavar="DIR", help="where everything is kept [.data]")
    up.add_argument("--port", metavar="N", help="loopback port of the server; 0 takes a free one [8000]")
    up.add_argument("--workers", metavar="N", help="embedding workers to start [1]")
    up.add_argument("--trainers", metavar="N", help="train workers to start; 0 for none [1]")
    up.set_defaults(module="up")

    serve = verbs.add_parser("serve", help="run one server process")
    _add_stack_option(serve)
    serve.add_argument("--port", metavar="N", help="port to listen on [8000]")
    serve.set_defaults(module="serve")

    work = verbs.add_parser("work", help="run one worker process")
    kinds = work.add_subparsers(title="kinds", metavar="KIND", required=True)
    embed = kinds.add_parser("embed", help="compute embeddings")
    _add_stack_option(embed)
    embed.set_defaults(module="work_embed")
    train = kinds.add_parser("train", help="train models, look at data sets, make samples")
    _add_stack_option(train)
    train.set_defaults(module="work_train")

    migrate = verbs.add_parser("migrate", help="bring the database to the newest schema")
    _add_stack_option(migrate)
    migrate.set_defaults(module="migrate")

    bus = verbs.add_parser("bus", help="streams and consumers on the bus")
    verbs_of_bus = bus.add_subparsers(title="commands", metavar="COMMAND", required=True)
    apply = verbs_of_bus.add_parser(
        "apply", help="create or change what differs from what this release needs"
    )
    _add_stack_option(apply)
    _add_pool_option(apply)
    apply.add_argument("--dry-run", action="store_true", help="only say what would change")
    apply.set_defaults(module="bus_apply")

    _add_jobs(verbs)
    _add_train(verbs)
    _add_embed(verbs)

    schema = verbs.add_parser("schema", help="print the GraphQL schema")
    schema.set_defaults(module="schema")

    doctor = verbs.add_parser(
        "doctor", help="check database, bus, streams, consumers, object store, pools and trainers"
    )
    _add_stack_option(doctor)
    _add_pool_option(doctor)
    doctor.set_defaults(module="doctor")
    return parser


def _add_jobs(verbs: "argparse._SubParsersAction[Parser]") -> None:
    jobs = verbs.add_parser("jobs", help="jobs that were given up")
    verbs_of_jobs = jobs.add_subparsers(title="commands", metavar="COMMAND", required=True, dest="verb")
    for verb, description in (
        ("dead", "list what was given up: id, time, job, code and reason"),
        ("retry", "publish it again, under a new number"),
        ("drop", "forget it"),
    ):
        command = verbs_of_jobs.add_parser(verb, help=description)
        if verb != "dead":
            command.add_argument("id", metavar="ID", help="as `towhee-api jobs dead` shows it")
        _add_stack_option(command)
        command.set_defaults(module="jobs")


def _add_train(verbs: "argparse._SubParsersAction[Parser]") -> None:
    train = verbs.add_parser("train", help="train a model on any server")
    train.add_argument("file", metavar="FILE", nargs="?", help="a file of data, to be uploaded")
    train.add_argument("--sample", metavar="NAME", help="a data set the server has, in place of FILE")
    train.add_argument(
        "--trainer",
        metavar="NAME",
        type=lambda name: name.lower().replace("-", "_"),
        choices=TRAINERS,
        help=f"which trainer: {', '.join(TRAINERS)}",
    )
    train.add_argument(
        "--set",
        dest="settings",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="what the trainer is told, such as learning_rate=1e-3; may be given again",
    )
    train.add_argument("--name", help="name of data set and model [that of the file or sample]")
    train.add_argument("--max-steps", type=int, metavar="N", help="steps in all")
    train.add_argument("--seed", type=int, metavar="N", help="the same seed gives the same model")
    train.add_argument("--watch", action="store_true", help="show how it goes, until it has ended")
    train.add_argument("--deploy", metavar="NAME", help="deploy the model as model/NAME at the end")
    train.add_argument("--follow", metavar="JOB", help="watch a training that was started before")
    train.add_argument("--cancel", metavar="JOB", help="stop a training")
    _add_server_options(train)
    train.set_defaults(module="train")


def _add_embed(verbs: "argparse._SubParsersAction[Parser]") -> None:
    embed = verbs.add_parser("embed", help="get vectors of files from any server")
    embed.add_argument("files", metavar="FILE", nargs="+", help="a text or a picture")
    embed.add_argument("--pipeline", metavar="NAME", default="auto", help="a pipeline, or model/NAME [auto]")
    embed.add_argument(
        "--output",
        metavar="PATH",
        help="where the vectors go: .npy, or a line of JSON each [standard output]",
    )
    _add_server_options(embed)
    embed.set_defaults(module="embed")


def _add_server_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--server", metavar="URL", help="the server [http://127.0.0.1:8000]")
    parser.add_argument("--key", metavar="KEY", help="API key; TOWHEE_API_KEY is seen by fewer")
    parser.add_argument("--key-file", metavar="FILE", help="file with the API key")


def _add_stack_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--data-dir",
        metavar="DIR",
        help="use the services of the `towhee-api up` that runs on this folder, for each address not set",
    )


def _add_pool_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--pool",
        dest="pools",
        action="append",
        metavar="NAME",
        help="a pool of workers that has streams; may be given again [default]",
    )
