"""Which server do aiormq's tests use? Its source archive leaves out the module with these fixtures."""
import pytest
from yarl import URL

from tests.docker_client import DockerClient


@pytest.fixture(scope="session")
def rabbitmq_container():
    return DockerClient().run("aiormq", ["5672/tcp", "5671/tcp"])


@pytest.fixture
def amqp_direct_url(rabbitmq_container):
    return URL.build(scheme="amqp", user="guest", password="guest", path="//", host=rabbitmq_container.host,
                     port=rabbitmq_container.ports["5672/tcp"])
