"""The port a server listens on."""

import socket

from deploy.errors import WrongUse


def bind(host: str, port: int) -> socket.socket:
    """Take the port, before anything slow is done.

    Raises:
        WrongUse: it is taken, not allowed, or the host is none of this machine's.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host.strip("[]"), port))
    except OSError as error:
        listener.close()
        raise WrongUse(
            f"can't listen on {host}:{port} ({error.strerror}): choose another port with --port or "
            "TOWHEE_API_PORT, or stop what uses it"
        ) from error
    return listener
