"""How a server answers a webhook of the Hub: the secret, the payload, and which data set an event is about.

The secret is compared in constant time, the payload bounded, and the Hub answered at once; what an event leads to is
the caller's. Docs: https://huggingface.co/docs/hub/webhooks
"""

import hmac
import json
from collections.abc import AsyncIterable, Callable, Mapping
from typing import Any

MAX_BYTES = 1_000_000  # of a payload


async def answer(
    headers: Mapping[str, str], body: AsyncIterable[bytes], secret: str | None, act: Callable[[Any], dict[str, Any]]
) -> tuple[dict[str, Any], int]:
    """The JSON to answer a POST with, and its status: 202 where `act`, given the event, says something true, else 200.

    403 for a wrong secret, or where none is set; 413 and 400 for a payload too large, or not JSON.
    """
    given = headers.get("x-webhook-secret", "")
    if not secret or not hmac.compare_digest(given.encode(), secret.encode()):
        return {"error": "wrong or no X-Webhook-Secret"}, 403
    payload = b""
    async for part in body:
        payload += part
        if len(payload) > MAX_BYTES:
            return {"error": "payload too large"}, 413
    try:
        event = json.loads(payload)
    except (ValueError, RecursionError):
        return {"error": "not JSON"}, 400
    acted = act(event)
    return acted, 202 if any(acted.values()) else 200


def is_about(event: Any, dataset: str | None) -> bool:
    """Whether an event tells of a change in this data set or its discussions."""
    try:
        repo, action = event["repo"], event["event"]["action"]
        return (repo["type"], repo["name"]) == ("dataset", dataset) and action != "delete"
    except (KeyError, TypeError):
        return False  # not an event as the Hub sends them
