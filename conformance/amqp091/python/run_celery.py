"""Runs every scenario of Celery and kombu against one server."""
import logging

import celery_scenarios  # noqa: F401
import harness

if __name__ == "__main__":
    logging.disable(logging.CRITICAL)
    harness.main()
