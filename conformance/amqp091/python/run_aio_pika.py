"""Runs every aio-pika scenario against one server."""
import logging

import aio_pika_scenarios  # noqa: F401
import harness

if __name__ == "__main__":
    # Broken connections are the point of some scenarios; the library writes each down at length.
    logging.disable(logging.CRITICAL)
    harness.main()
