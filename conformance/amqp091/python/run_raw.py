"""Runs every scenario that is written in bytes against one server."""
import harness
import raw_scenarios  # noqa: F401

if __name__ == "__main__":
    harness.main()
