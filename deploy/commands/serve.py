"""`towhee-api serve`: one server process."""

import argparse
import logging
import os
import signal

import uvicorn

from bus.exporting import exporting_traces
from deploy.environment import load_with_options, with_stack
from deploy.errors import CommandFailed
from deploy.leaving import LeavingServer
from deploy.sockets import bind
from server.app import create_app
from server.draining import Draining
from server.settings import Settings

_BACKLOG = 2048
#: Longer than clients keep an idle connection, so that they never send on one we are closing.
_KEEP_ALIVE_S = 75


def run(arguments: argparse.Namespace) -> int:
    """Serve until SIGTERM or SIGINT, then finish what has begun.

    Raises:
        SettingsError, WrongUse: a setting or option is wrong, or the port is taken.
        CommandFailed: the application did not start.
    """
    settings = load_with_options(Settings, with_stack(arguments), {"port": arguments.port})
    logging.basicConfig(level=settings.log_level, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    with (
        exporting_traces(settings.otlp_endpoint, service="towhee-api serve"),
        bind(settings.host, settings.port) as listener,
    ):
        app = Draining(create_app(settings))
        server = LeavingServer(_configure(app, settings), app, notice_s=settings.leave_notice_s)
        # After a graceful stop uvicorn raises the signal once more, for whoever handled it before: for us it
        # is over then. One that comes before uvicorn listens to signals is not lost either.
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: setattr(server, "should_exit", True))
        try:
            server.run(sockets=[listener])
        except SystemExit as error:
            raise CommandFailed("the server did not start: the lines above say why") from error
    return os.EX_OK


def _configure(app: Draining, settings: Settings) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        loop="uvloop",
        http="httptools",
        ws="websockets-sansio",
        ws_max_size=settings.max_body_bytes,
        lifespan="on",
        log_config=None,
        access_log=False,
        # Nothing here may be told lies about the client's address by the client.
        proxy_headers=False,
        server_header=False,
        backlog=_BACKLOG,
        timeout_keep_alive=_KEEP_ALIVE_S,
        timeout_graceful_shutdown=max(1, round(settings.drain_s)),
    )
