"""Hooks of schemathesis: what looks like a fault in a sequence of requests, and is a call's outcome. Loaded by run_openapi.py."""
import json

import schemathesis
from schemathesis.core.failures import ServerError
from schemathesis.openapi.checks import RejectedPositiveData, UseAfterFree

# What a call may be after DELETE: whatever ended it, it has ended.
ENDED = {"succeeded", "failed", "cancelled", "expired"}


@schemathesis.hook
def filter_failure(context, failure, case, response):
    """Whether a failure counts. Two do not."""
    if isinstance(failure, UseAfterFree):
        # DELETE cancels; what came of the call can be asked for until its retention is over. An open call would be a fault.
        return not (case.operation.path.startswith("/v1/calls/{id}") and state(response) in ENDED)
    if isinstance(failure, (ServerError, RejectedPositiveData)):
        # The answer is the call's result, as its worker gave it, 5xx too. The server says so; what it does not mark is its own.
        return "ws-call-state" not in response.headers
    return True


def state(response):
    """Of the call that a response shows, as a resource or by its result."""
    if said := response.headers.get("ws-call-state"):
        return said[0]
    if "application/json" not in response.headers.get("content-type", [""])[0]:
        return None
    return json.loads(response.content).get("state")
