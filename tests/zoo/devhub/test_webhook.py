"""Events as a receiver sees them: a real HTTP server on loopback, payloads read by the client's own model."""

import json
import queue
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from huggingface_hub import HfApi, WebhookPayload

from zoo.devhub import serve
from zoo.devhub.webhook import Webhook

KIND = {"repo_type": "dataset"}
USERS = {"owner": "hf_owner_token", "ann": "hf_ann_token"}


class Receiver(ThreadingHTTPServer):
    """Keeps what arrives; answers 500 to the first delivery, which must not stop the next."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.received: queue.Queue[tuple[str | None, WebhookPayload]] = queue.Queue()
        self.answers = iter([500])

    def next(self) -> WebhookPayload:
        secret, payload = self.received.get(timeout=10)
        assert secret == "s3cret"
        return payload


class _Handler(BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.received.put((self.headers["X-Webhook-Secret"], WebhookPayload(**body)))
        self.send_response(next(self.server.answers, 200))
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Quiet."""


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join(60)


def test_every_change_arrives_in_order_with_the_secret(receiver: Receiver, tmp_path: Path):
    hook = Webhook(f"http://127.0.0.1:{receiver.server_port}/hook", "s3cret")
    with serve(tmp_path, USERS, hook) as url:
        owner, ann = (HfApi(endpoint=url, token=USERS[name]) for name in ("owner", "ann"))
        owner.create_repo("owner/logs", **KIND)
        created = receiver.next()
        assert (created.event.scope, created.event.action) == ("repo", "create")
        assert (created.repo.name, created.repo.type, created.repo.private) == ("owner/logs", "dataset", False)
        assert created.repo.url.api == f"{url}/api/datasets/owner/logs"

        first = owner.upload_file(path_or_fileobj=b"1", path_in_repo="a", repo_id="owner/logs", **KIND)
        content = receiver.next()
        assert content.event.scope == "repo.content"
        assert [(ref.ref, ref.newSha) for ref in content.updatedRefs or []] == [("refs/heads/main", first.oid)]

        ann.upload_file(path_or_fileobj=b"2", path_in_repo="b", repo_id="owner/logs", create_pr=True, **KIND)
        opened, pushed = receiver.next(), receiver.next()
        assert (opened.event.scope, opened.event.action) == ("discussion", "create")
        assert opened.discussion
        assert (opened.discussion.num, opened.discussion.isPullRequest, opened.discussion.status) == (1, True, "open")
        assert opened.discussion.changes
        assert opened.discussion.changes.base == "refs/heads/main"
        assert [ref.ref for ref in pushed.updatedRefs or []] == ["refs/pr/1"]

        ann.comment_discussion("owner/logs", 1, "Please merge.", **KIND)
        commented = receiver.next()
        assert (commented.event.scope, commented.event.action) == ("discussion.comment", "create")
        assert commented.comment
        assert commented.comment.content == "Please merge."

        owner.merge_pull_request("owner/logs", 1, **KIND)
        merged, moved = receiver.next(), receiver.next()
        assert merged.discussion
        assert (merged.event.action, merged.discussion.status) == ("update", "merged")
        assert [(ref.ref, ref.oldSha) for ref in moved.updatedRefs or []] == [("refs/heads/main", first.oid)]

        owner.update_repo_settings("owner/logs", private=True, **KIND)
        owner.delete_repo("owner/logs", **KIND)
        assert [receiver.next().event.scope, receiver.next().event.action] == ["repo.config", "delete"]


def test_reading_and_refused_requests_send_nothing(receiver: Receiver, tmp_path: Path):
    hook = Webhook(f"http://127.0.0.1:{receiver.server_port}/hook", "s3cret")
    with serve(tmp_path, USERS, hook) as url:
        owner = HfApi(endpoint=url, token=USERS["owner"])
        owner.create_repo("owner/logs", **KIND)
        owner.create_repo("owner/logs", exist_ok=True, **KIND)
        owner.dataset_info("owner/logs")
    receiver.next()
    assert receiver.received.empty()


def test_an_absent_receiver_harms_nobody(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    with serve(tmp_path, USERS, Webhook("http://127.0.0.1:9/", "s3cret")) as url:
        HfApi(endpoint=url, token=USERS["owner"]).create_repo("owner/logs")
    assert "repo event not delivered" in caplog.text
    assert "s3cret" not in caplog.text
