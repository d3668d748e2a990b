"""How do suites that start their broker in a container find the one that runs? Put in the place of their own module.

Only the names that their conftest imports are here. Containers that a test wants for itself are not to be had.
"""
import os
from dataclasses import dataclass

import pytest


class DockerNotAvailableError(Exception):
    pass


@dataclass
class DockerHostInfo:
    container_host: str = os.environ.get("RABBITMQ_HOST", "127.0.0.1")


@dataclass
class ContainerInfo:
    id: str
    host: str
    ports: dict


def check_docker_available():
    return DockerHostInfo()


class DockerClient:
    started = 0

    def __init__(self, info=None):
        self.info = info or DockerHostInfo()

    def run(self, image, ports, environment=None):
        # The first is the suite's broker; whatever is started later is one that a test wants to break.
        DockerClient.started += 1
        if DockerClient.started > 1 or environment:
            pytest.skip(f"wants a container of its own ({image})")
        known = {f"{port}/tcp": int(os.environ.get(f"RABBITMQ_{port}_TCP") or 1) for port in (5672, 5671)}
        return ContainerInfo("the server", self.info.container_host, known)

    def kill(self, _id):
        pass

    def remove(self, _id):
        pass
