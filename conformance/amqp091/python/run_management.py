"""Runs the scenarios of every client of the management API against one server."""
import amqpstorm_scenarios  # noqa: F401
import harness
import rabbitmqadmin_scenarios  # noqa: F401

if __name__ == "__main__":
    harness.main()
