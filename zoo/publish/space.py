"""Put the leaderboard's web page on the Hub as a Space: `plan` lists everything, `deploy` carries it out.

A Space does not install p2zoo: it gets the folders `space/` and `leaderboard/` (the seed runs in it), an `app.py`, and
requirements without PyTorch. Done again it changes only what differs; files that a new version lacks are deleted.
Docs: https://huggingface.co/docs/hub/spaces-config-reference
"""

import ast
import importlib.metadata
import importlib.util
import sys
import tomllib
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, Volume
from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils._validators import validate_repo_id
from packaging.requirements import Requirement

import leaderboard
from leaderboard.errors import P2Error
from leaderboard.logs.hub_errors import Patience, link
from leaderboard.words import address
from zoo.publish.diff import Content, hashes, missing, size_of

FOLDERS = ("space", "leaderboard")
MOUNT = "/logs"
LOGS, MOUNTED, SECRET = "P2ZOO_LOGS", "P2ZOO_MOUNTED_LOGS", "P2ZOO_WEBHOOK_SECRET"
APP = '''"""The p2zoo leaderboard on a Hugging Face Space; written by `p2zoo space deploy`."""

from space.__main__ import main

main([])
'''


@dataclass(frozen=True)
class Plan:
    """What a deployment consists of: files by their path in the Space, and its settings."""

    space: str
    logs: str
    private: bool
    files: Mapping[str, Content]
    variables: Mapping[str, str]
    secrets: Mapping[str, str] = field(repr=False)

    @property
    def volume(self) -> Volume:
        """The log data set, mounted where the Space finds it when the Hub does not answer."""
        return Volume(type="dataset", source=self.logs, mount_path=MOUNT, read_only=True)

    def as_dict(self) -> dict[str, Any]:
        """What would be sent, file sizes in bytes; of secrets the names."""
        return {
            "space": self.space,
            "private": self.private,
            "files": {name: size_of(content) for name, content in self.files.items()},
            "variables": dict(self.variables),
            "secrets": list(self.secrets),
            "volumes": [self.volume.to_dict()],
        }


@dataclass(frozen=True)
class Deployed:
    """`changed` are the files of the new commit, none where the Space had all; `notes` what the Hub would not do."""

    url: str
    revision: str
    changed: tuple[str, ...]
    notes: tuple[str, ...]


def plan(space: str, logs: str, private: bool = False, secret: str | None = None) -> Plan:
    """Everything that a Space `owner/name` over the log data set `logs` needs. Touches no network.

    Raises P2Error where a name is none of the Hub's, or the extra `space` is not installed.
    """
    for what, name in (("space", space), ("--logs", logs)):
        _check_name(what, name)
    files: dict[str, Content] = {}
    for folder in FOLDERS:
        root = package_folder(folder)
        files |= {f"{folder}/{p.relative_to(root).as_posix()}": p for p in sorted(root.rglob("*")) if _ships(p)}
    files |= {
        "README.md": readme(space, logs).encode(),
        "app.py": APP.encode(),
        "requirements.txt": "".join(f"{line}\n" for line in requirements(files)).encode(),
    }
    variables = {LOGS: logs, MOUNTED: MOUNT}
    return Plan(space, logs, private, files, variables, {SECRET: secret} if secret else {})


def deploy(api: HfApi, planned: Plan, patience: Patience | None = None) -> Deployed:
    """Carry out a plan: settings first, so that the first start has them, then one commit where files differ.

    Raises P2Error for what the Hub refuses, RunFailed for what failed after all tries and may be run again.
    """
    insist, name = patience or Patience(), planned.space
    options = {"repo_type": "space", "space_sdk": "gradio", "private": planned.private or None, "exist_ok": True}
    insist(f"space deploy: creating {name}", lambda: api.create_repo(name, **options))  # type: ignore[arg-type]
    insist(f"space deploy: settings of {name}", lambda: _settings(api, planned))
    notes = []
    try:
        insist(f"space deploy: mounting {planned.logs}", lambda: _mount(api, planned))
    except P2Error as error:
        notes.append(f"{error} The Space reads {planned.logs} from the Hub all the same.")
    changed, revision = insist(f"space deploy: files of {name}", lambda: _commit(api, planned))
    return Deployed(f"{address(api.endpoint)}/spaces/{name}", revision, tuple(changed), tuple(notes))


def _settings(api: HfApi, planned: Plan) -> None:
    there = api.get_space_variables(planned.space)
    for key, value in planned.variables.items():
        if key not in there or there[key].value != value:  # every change restarts the Space
            api.add_space_variable(planned.space, key, value)
    for key, value in planned.secrets.items():
        api.add_space_secret(planned.space, key, value)


def _mount(api: HfApi, planned: Plan) -> None:
    there = api.get_space_runtime(planned.space).volumes or []
    if not any((v.source, v.mount_path) == (planned.logs, MOUNT) for v in there):
        others = [v for v in there if v.mount_path != MOUNT]
        api.set_space_volumes(planned.space, [*others, planned.volume])


def _commit(api: HfApi, planned: Plan) -> tuple[list[str], str]:
    """The names of the files that were sent or deleted, and the commit."""
    info = api.space_info(planned.space, files_metadata=True)
    new = missing(info, planned.files)
    old = [
        name for name in hashes(info) if name.startswith(tuple(f"{f}/" for f in FOLDERS)) and name not in planned.files
    ]
    if not new and not old:
        return [], str(info.sha)
    sent = [CommitOperationAdd(name, planned.files[name]) for name in new]
    gone = [CommitOperationDelete(name) for name in old]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "It seems that you are about to commit a data file")  # the seed runs
        done = api.create_commit(
            planned.space,
            [*sent, *gone],
            commit_message="p2zoo space deploy",
            repo_type="space",
            parent_commit=info.sha,
        )
    return new + old, done.oid


def readme(space: str, logs: str) -> str:
    """The Space's README.md: its configuration, and what it is."""
    head = yaml.safe_dump(front_matter(logs), sort_keys=False, allow_unicode=True)
    return (
        f"---\n{head}---\n\n# p2zoo\n\nHow many post-training tokens does a pruned LLM need? The laws, the curves and "
        f"the budgets of the run logs in [{logs}]({link(f'datasets/{logs}')}). "
        "For programs: space/README.md.\n"
    )


def front_matter(logs: str) -> dict[str, Any]:
    """The Space's configuration. `write-discussions` lets a visitor who signs in open a pull request."""
    return {
        "title": "p2zoo",
        "emoji": "✂️",
        "colorFrom": "red",
        "colorTo": "gray",
        "sdk": "gradio",
        "sdk_version": importlib.metadata.version("gradio"),
        "python_version": f"{sys.version_info.major}.{sys.version_info.minor}",
        "app_file": "app.py",
        "pinned": False,
        "license": "apache-2.0",
        "short_description": "How many tokens does a pruned LLM need?",
        "hf_oauth": True,
        "hf_oauth_scopes": ["write-discussions"],
        "datasets": [logs],
        "tags": [
            "leaderboard",
            "arxiv:2411.10272",
            "submission:semiautomatic",
            "test:public",
            "judge:auto",
            "modality:text",
            "eval:performance",
            "pruning",
            "scaling-laws",
        ],
    }


def requirements(files: Mapping[str, Content]) -> list[str]:
    """p2zoo's own requirements, of the base those that the shipped modules import, and the extra `space` whole."""
    used = {name for path in files.values() if isinstance(path, Path) for name in _imports(path)}
    base, extra = declared()
    return sorted([r for r in base if Requirement(r).name.replace("-", "_") in used] + extra)


def declared() -> tuple[list[str], list[str]]:
    """Requirements of the base and of the extra `space`: of the checkout, or of the installed package."""
    pyproject = Path(leaderboard.__file__).parents[1] / "pyproject.toml"
    if pyproject.is_file():
        project = tomllib.loads(pyproject.read_text(encoding="utf-8"))["project"]
        return project["dependencies"], project["optional-dependencies"]["space"]
    every = [Requirement(line) for line in importlib.metadata.requires("p2zoo") or []]
    base = [_bare(r) for r in every if r.marker is None]
    return base, [_bare(r) for r in every if r.marker and not r.marker.evaluate({"extra": ""}) and _of_space(r)]


def _of_space(requirement: Requirement) -> bool:
    return requirement.marker is not None and requirement.marker.evaluate({"extra": "space"})


def _bare(requirement: Requirement) -> str:
    extras = f"[{','.join(sorted(requirement.extras))}]" if requirement.extras else ""
    return f"{requirement.name}{extras}{requirement.specifier}"


def package_folder(name: str) -> Path:
    """Where a package stands, without importing it."""
    found = importlib.util.find_spec(name)
    if found is None or not found.submodule_search_locations:
        raise P2Error(f"space: the package {name!r} is not installed; pip install 'p2zoo[space]'.")
    return Path(next(iter(found.submodule_search_locations)))


def _ships(path: Path) -> bool:
    """Whether the Space needs the file: no leftovers of Python, and no pictures for the README."""
    return path.is_file() and path.suffix not in (".pyc", ".pyi", ".png") and not path.name.startswith(".")


def _imports(path: Path) -> set[str]:
    """Top-level packages that a Python file imports anywhere."""
    if path.suffix != ".py":
        return set()
    nodes = list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
    plain = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    others = {node.module for node in nodes if isinstance(node, ast.ImportFrom) and node.module}
    return {name.split(".")[0] for name in plain | others}


def _check_name(what: str, name: str) -> None:
    try:
        validate_repo_id(name)
    except HFValidationError as error:
        raise P2Error(f"space deploy: {what} {name!r} is no name of the Hub's: {error}") from error
    if name.count("/") != 1:
        raise P2Error(f"space deploy: {what} is {name!r}; an owner and a name are expected, such as org/p2zoo.")
