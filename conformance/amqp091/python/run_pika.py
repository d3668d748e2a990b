"""Runs every pika scenario against one server."""
import harness
import pika_calls  # noqa: F401
import pika_connection  # noqa: F401
import pika_consumers  # noqa: F401
import pika_errors  # noqa: F401
import pika_exchanges  # noqa: F401
import pika_hosts  # noqa: F401
import pika_journeys  # noqa: F401
import pika_limits  # noqa: F401
import pika_management  # noqa: F401
import pika_order  # noqa: F401
import pika_patterns  # noqa: F401
import pika_prefetch  # noqa: F401
import pika_queues  # noqa: F401
import pika_routes  # noqa: F401
import pika_redrive  # noqa: F401
import pika_translation  # noqa: F401
import pika_tutorials  # noqa: F401

if __name__ == "__main__":
    harness.main()
