"""One webhook: every change of a repository or discussion is POSTed to a URL, in order, with a shared secret.

Payloads have the shape of the Hub's (version 3), so `huggingface_hub.WebhookPayload` reads them. Delivery is one
background thread; a receiver that fails is logged and missed, the request that caused the event never waits.
Docs: https://huggingface.co/docs/hub/webhooks
"""

import json
import logging
import queue
import threading
import urllib.error
import urllib.request
from dataclasses import dataclass
from typing import Any

from zoo.devhub.storage.pulls import Discussion
from zoo.devhub.storage.repos import Repo, object_id

logger = logging.getLogger(__name__)
_TIMEOUT_S = 10


@dataclass(frozen=True)
class Webhook:
    """Where to send events; `secret` arrives as the header X-Webhook-Secret."""

    url: str
    secret: str


class Sender:
    """Delivers payloads one after another until `close`."""

    def __init__(self, webhook: Webhook):
        self._webhook = webhook
        self._queue: queue.Queue[dict[str, Any] | None] = queue.Queue()
        self._thread = threading.Thread(target=self._deliver, name="hub-webhook", daemon=True)
        self._thread.start()

    def send(self, payload: dict[str, Any]) -> None:
        self._queue.put(payload | {"webhook": {"id": object_id("webhook", self._webhook.url), "version": 3}})

    def close(self) -> None:
        """Deliver what waits, then stop."""
        self._queue.put(None)
        self._thread.join(_TIMEOUT_S)

    def _deliver(self) -> None:
        while (payload := self._queue.get()) is not None:
            headers = {"Content-Type": "application/json", "X-Webhook-Secret": self._webhook.secret}
            request = urllib.request.Request(self._webhook.url, json.dumps(payload).encode(), headers)
            try:
                urllib.request.urlopen(request, timeout=_TIMEOUT_S).close()
            except (OSError, urllib.error.URLError) as error:
                logger.warning("webhook: %s event not delivered: %s", payload["event"]["scope"], error)


def payload(base_url: str, repo: Repo, scope: str, action: str, head: str | None = None) -> dict[str, Any]:
    """The part that every event has; `scope` is e.g. repo.content or discussion.comment."""
    described = {
        "type": repo.kind,
        "name": repo.id,
        "id": object_id(repo.kind, repo.id),
        "private": repo.private,
        "url": {"web": f"{base_url}/{repo.page}", "api": f"{base_url}/api/{repo.kind}s/{repo.id}"},
        "owner": {"id": object_id("user", repo.owner)},
        **({"headSha": head} if head else {}),
    }
    return {"event": {"action": action, "scope": scope}, "repo": described}


def updated_ref(ref: str, old: str | None, new: str | None) -> dict[str, Any]:
    """The part of a repo.content event: a ref that moved."""
    return {"updatedRefs": [{"ref": ref, "oldSha": old, "newSha": new}]}


def discussion_part(base_url: str, repo: Repo, discussion: Discussion) -> dict[str, Any]:
    """The part of a discussion event."""
    described = {
        "id": object_id(repo.kind, repo.id, str(discussion.num)),
        "num": discussion.num,
        "title": discussion.title,
        "status": discussion.status,
        "isPullRequest": discussion.is_pull,
        "author": {"id": object_id("user", discussion.author)},
        "url": {
            "web": f"{base_url}/{repo.page}/discussions/{discussion.num}",
            "api": f"{base_url}/api/{repo.kind}s/{repo.id}/discussions/{discussion.num}",
        },
    }
    if discussion.is_pull:
        described["changes"] = {"base": discussion.target, "mergeCommitId": discussion.merge_commit}
    return {"discussion": described}


def comment_part(base_url: str, repo: Repo, discussion: Discussion, event: dict[str, Any]) -> dict[str, Any]:
    """The part of a discussion.comment event."""
    hidden = event["data"]["hidden"]
    described = {
        "id": event["id"],
        "author": {"id": object_id("user", event["author"]["name"])},
        "hidden": hidden,
        "url": {"web": f"{base_url}/{repo.page}/discussions/{discussion.num}#{event['id']}"},
        **({} if hidden else {"content": event["data"]["latest"]["raw"]}),
    }
    return {"comment": described}
