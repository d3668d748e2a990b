"""Ports for servers that come back to the port they had."""
import random
import socket

# Below those that systems give to clients (Linux ip_local_port_range, 32768 and up): nobody is given one while its server is down.
PORTS = range(20000, 32768)


def free_port() -> int:
    """A port of this machine that nobody listens at."""
    while True:
        port = random.SystemRandom().choice(PORTS)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
                return port
            except OSError:
                pass
