"""Publish a finished run: the model to a repository of its own, its log as one pull request to a log data set.

`plan` lists every file and commit and touches no network; `publish` carries it out with the client it is given. Each
step looks at what the Hub has and does only what is missing, so a publication that was cut off is finished by doing
it again. The log names the commit with the weights; a second commit links the card to the pull request.
"""

import re
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
from huggingface_hub import CommitOperationAdd, HfApi, get_token
from huggingface_hub.errors import HFValidationError, RevisionNotFoundError
from huggingface_hub.utils._validators import validate_repo_id

from leaderboard.errors import P2Error
from leaderboard.logs import submit
from leaderboard.logs.contract import CLM, write_log
from leaderboard.logs.hub_errors import Patience
from leaderboard.logs.submit import Pull
from leaderboard.words import address
from zoo.publish.card import KEY, Numbers, numbers, render
from zoo.publish.diff import Content, as_bytes, git_sha, hashes, missing, size_of
from zoo.publish.licences import Licence, check_name, licence_of, travelling
from zoo.run.finished import FinishedRun, read_run, refuse_tokens

CARD = "README.md"
YOU = "<your Hub name>"


@dataclass(frozen=True)
class Plan:
    """What a publication consists of. `files` are all but the card, by their path in the repository."""

    run: FinishedRun
    repo: str
    logs: str | None
    private: bool
    licence: Licence
    claimed: Numbers
    files: Mapping[str, Content]

    def card(self, pull: str | None = None) -> bytes:
        return render(self.run, self.repo, self.licence, self.claimed, pull).encode()

    @property
    def message(self) -> str:
        return f"Publish run {self.run.run_id}"

    def log_path(self, contributor: str) -> str:
        return submit.log_path(contributor, self.run.run_id)

    def as_dict(self, there: "Standing | None" = None) -> dict[str, Any]:
        """Every commit with its files and their sizes in bytes, and which of them the Hub has as they are.

        The card's size is without the link to come.
        """
        there = there or Standing()
        sizes = {CARD: len(self.card())} | {name: size_of(content) for name, content in self.files.items()}
        model = {"repo": self.repo, "type": "model", "message": self.message, "private": self.private}
        commits: list[dict[str, Any]] = [model | {"files": sizes, "published": sorted(there.model)}]
        if self.logs:
            log = {
                "repo": self.logs,
                "type": "dataset",
                "message": submit.title(self.run.columns),
                "pull_request": True,
            }
            size = size_of(self.run.path / "log.parquet")
            path = self.log_path(there.user or YOU)
            commits.append(log | {"files": {path: size}, "published": [path] if there.pull else []})
            link = {"repo": self.repo, "type": "model", "message": "Link the log's pull request"}
            commits.append(link | {"files": {CARD: len(self.card())}, "published": [CARD] if there.linked else []})
        return {"model": self.repo, "logs": self.logs, "licence": self.licence.title, "commits": commits}


@dataclass(frozen=True)
class Standing:
    """What the Hub has of a plan: files of the model as they are, the log's pull request, a card that links to it.

    `user` is who is signed in; without one nothing is known, and `why` says so.
    """

    user: str | None = None
    model: frozenset[str] = field(default_factory=frozenset)
    pull: Pull | None = None
    linked: bool = False
    why: str = ""


@dataclass(frozen=True)
class Published:
    """Where things are. `revision` is the commit with the weights, `pull` the address of the log's pull request."""

    model: str
    url: str
    revision: str
    contributor: str
    log: str | None = None
    pull: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """JSON form."""
        return asdict(self)


def plan(
    run_dir: Path,
    to: str,
    logs: str | None = None,
    *,
    private: bool = False,
    licence: str | None = None,
    name: str | None = None,
) -> Plan:
    """Check a run folder and list what would be published under namespace `to`. Touches no network.

    Raises P2Error or RunFailed for anything that is missing, refused by the licence, or no name of the Hub's.
    """
    run = read_run(Path(run_dir))
    if run.pretrained and logs:
        raise P2Error(
            f"--logs: {run_dir} holds a pretrained base model, and log data sets are of pruned models; drop it."
        )
    terms = licence_of(run.columns["base_model"], run.columns["base_revision"], licence)
    name = name or default_name(run, terms)
    check_name(name, terms)
    repo = f"{to}/{name}"
    for flag, repo_id in (("--to", repo), ("--logs", logs)):
        _check_id(repo_id, flag)
    claimed = numbers(run, logs)
    files: dict[str, Content] = {path.name: path for path in run.model_files()}
    files |= travelling(terms, run.model) | {
        "recipe.yaml": run.recipe_yaml.encode(),
        "curve.png": run.path / "curve.png",
    }
    planned = Plan(run, repo, logs, private, terms, claimed, dict(sorted(files.items())))
    refuse_tokens(_texts(planned))
    return planned


def default_name(run: FinishedRun, licence: Licence) -> str:
    """E.g. Llama-3.2-1B-depth-0.25: base, method, rate, after the prefix that the licence asks for.

    What else tells the runs of one sweep apart follows: noise, an objective other than the next token, a seed.
    """
    base = run.columns["base_model"].split("/")[-1].removeprefix("Meta-")
    if run.pretrained:
        return base
    method = run.columns["method"].replace(":", "of").replace("+", "-")
    asked = run.columns["rate_requested"]
    name = f"{base}-{method}-{run.columns['rate'] if asked is None else asked:.2f}"
    train, noise = run.recipe.train, run.recipe.data.train.noise
    name += f"-noise-{noise:g}" if noise else ""
    aim = re.sub(r"[^A-Za-z0-9.]+", "-", train.objective_words).strip("-")
    name += f"-{aim}" if aim != CLM else ""
    name += f"-seed{train.seed}" if train.seed else ""
    return name if name.startswith(licence.prefix) else f"{licence.prefix}-{name}"


def look(api: HfApi, planned: Plan) -> Standing:
    """What the Hub has of a plan, asked once; nothing is changed there."""
    if not isinstance(api.token, str) and get_token() is None:
        return Standing(why="not signed in")
    try:
        return Patience(attempts=1)("publish", lambda: _look(api, planned))
    except P2Error as error:
        return Standing(why=str(error))


def _look(api: HfApi, planned: Plan) -> Standing:
    user, pull, has, card = str(api.whoami()["name"]), None, frozenset[str](), None
    if planned.logs is not None:
        pull = submit.find(api, planned.logs, user, planned.run.run_id, look_only=True)
    if api.repo_exists(planned.repo):
        info = api.model_info(planned.repo, files_metadata=True)
        has, card = frozenset(planned.files) - frozenset(missing(info, planned.files)), hashes(info).get(CARD)
    linked = pull is not None and card == git_sha(planned.card(pull.url))
    if linked or card == git_sha(planned.card()):
        has |= {CARD}
    return Standing(user, has, pull, linked)


def publish(api: HfApi, planned: Plan, patience: Patience | None = None) -> Published:
    """Carry out a plan; what the Hub already has is left as it is.

    Raises P2Error for what the Hub refuses, RunFailed for what failed after all tries and may be run again.
    """
    insist = patience or Patience()
    refuse_tokens(_texts(planned), api.token if isinstance(api.token, str) else get_token())
    user = insist("publish: signing in", lambda: str(api.whoami()["name"]))
    logs, run_id = planned.logs, planned.run.run_id
    about = f"publish: log data set {logs}"
    pull = insist(about, lambda: submit.find(api, logs, user, run_id)) if logs else None
    revision = insist(f"publish: model {planned.repo}", lambda: _model(api, planned, pull))
    url = f"{address(api.endpoint)}/{planned.repo}"
    if logs is None:
        return Published(planned.repo, url, revision, user)
    pull, revision = insist(about, lambda: _log(api, planned, user, revision))
    insist(f"publish: card of {planned.repo}", lambda: _link(api, planned, pull))
    return Published(planned.repo, url, revision, user, planned.log_path(user), pull.url)


def _model(api: HfApi, planned: Plan, pull: Pull | None) -> str:
    """The commit of the model repository that has all files, made if there is none."""
    api.create_repo(planned.repo, private=planned.private, exist_ok=True)
    info = api.model_info(planned.repo, files_metadata=True)
    _refuse_other(info, planned)
    cards = {git_sha(planned.card())} | ({git_sha(planned.card(pull.url))} if pull else set())
    if missing(info, planned.files) == [] and hashes(info).get(CARD) in cards:
        return str(info.sha)
    files = {CARD: planned.card(), **planned.files}
    commit = api.create_commit(planned.repo, _additions(files), commit_message=planned.message, parent_commit=info.sha)
    return commit.oid


def _refuse_other(info: Any, planned: Plan) -> None:
    """A repository that holds something else is not overwritten."""
    ours = (info.card_data.to_dict() if info.card_data else {}).get(KEY)
    run_id = ours.get("run_id") if isinstance(ours, dict) else None
    taken = [path for path in hashes(info) if path != ".gitattributes"]
    if taken and run_id != planned.run.run_id:
        what = f"run {run_id}" if run_id else "files that are not p2zoo's"
        raise P2Error(f"publish: {planned.repo} holds {what}; give this model another name with --name.")


def _log(api: HfApi, planned: Plan, user: str, revision: str) -> tuple[Pull, str]:
    """The pull request with the log, opened or brought up to date, and the model commit that the log names."""
    assert planned.logs is not None
    run_id = planned.run.run_id
    pull = submit.find(api, planned.logs, user, run_id)
    there = submit.stands(api, planned.logs, pull, user, run_id) if pull else None
    if pull and there is not None and (named := _model_commit(api, planned, there)) is not None:
        revision = named
        if _log_table(planned, user, revision).equals(there):
            return pull, revision
    table = _log_table(planned, user, revision)
    about = (
        f"Model: [{planned.repo}]({address(api.endpoint)}/{planned.repo}) at commit "
        f"[{revision[:12]}]({address(api.endpoint)}/{planned.repo}/commit/{revision}).\n\n"
    )
    with tempfile.TemporaryDirectory(prefix="p2zoo-") as work:
        log = write_log(Path(work) / "log.parquet", table)
        return submit.send(api, planned.logs, user, log, table, pull, about), revision


def _model_commit(api: HfApi, planned: Plan, log: pa.Table) -> str | None:
    """The model commit that a log names, if it holds this very model."""
    named = log["model_revision"][0].as_py()
    if log["model_repo"][0].as_py() != planned.repo or named is None:
        return None
    try:
        info = api.model_info(planned.repo, revision=named, files_metadata=True)
    except RevisionNotFoundError:  # the repository was deleted and made again
        return None
    return named if not missing(info, planned.files) else None


def _log_table(planned: Plan, user: str, revision: str) -> pa.Table:
    return planned.run.table(contributor=user, model_repo=planned.repo, model_revision=revision)


def _link(api: HfApi, planned: Plan, pull: Pull) -> None:
    """Let the card name the pull request."""
    info = api.model_info(planned.repo, files_metadata=True)
    card = planned.card(pull.url)
    if hashes(info).get(CARD) != git_sha(card):
        message = "Link the log's pull request"
        api.create_commit(planned.repo, _additions({CARD: card}), commit_message=message, parent_commit=info.sha)


def _additions(files: Mapping[str, Content]) -> list[CommitOperationAdd]:
    return [CommitOperationAdd(name, content) for name, content in files.items()]


def _texts(planned: Plan) -> list[tuple[str, bytes]]:
    """Everything in words, which must hold no token."""
    small = {name: c for name, c in planned.files.items() if not name.endswith((".safetensors", ".png"))}
    texts = [(CARD, planned.card())] + [(name, as_bytes(content)) for name, content in small.items()]
    return [*texts, (str(planned.run.path / "log.parquet"), repr(planned.run.columns).encode())]


def _check_id(repo_id: str | None, flag: str) -> None:
    if repo_id is None:
        return
    try:
        validate_repo_id(repo_id)
    except HFValidationError as error:
        raise P2Error(f"{flag}: {repo_id!r} is no name of the Hub's: {error}") from error
    if repo_id.count("/") != 1:
        raise P2Error(f"{flag}: got {repo_id!r}, expected a namespace for --to and namespace/name for --logs.")
