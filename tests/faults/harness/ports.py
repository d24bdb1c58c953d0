"""Ports for servers that go away and come back."""

import secrets
import socket

#: Below the range that Linux takes the near ends of outgoing connections from (32768 and up): there, somebody
#: else's connection could sit on the port of a server that is down for a moment.
_FIRST, _LAST = 15_000, 32_000


def find_lasting_port() -> int:
    """Return a loopback port that is free now and that no outgoing connection will be given."""
    while True:
        port = _FIRST + secrets.randbelow(_LAST - _FIRST)
        try:
            socket.create_server(("127.0.0.1", port)).close()
        except OSError:
            continue
        return port
