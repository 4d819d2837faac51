"""The check's comment on a pull request: one table, one comment, whatever strangers wrote into their files.

Every text that comes from a submission stands in a code span of plain printable ASCII: no markup, link, mention or
HTML begins inside one, and nothing in it can end one.
"""

from typing import TYPE_CHECKING

from leaderboard.logs.findings import UNUSUAL, Finding
from zoo.review.pull_request import ADDED, CHANGED

if TYPE_CHECKING:
    from huggingface_hub import HfApi

    from zoo.review.check import Verdict
    from zoo.review.effects import Effect

MARK = "<!-- p2zoo check -->"
LONGEST = 120  # characters of a stranger's text
MOST_ROWS = 60
_UNSAFE = {"`": "'", "|": "/", "\\": "/", "<": "(", ">": ")", "&": "+", "@": " at "}


def put(api: "HfApi", verdict: "Verdict") -> bool:
    """Say the verdict on the pull request; the one comment is edited, and left alone where it says so already."""
    from huggingface_hub import DiscussionComment

    s = verdict.submission
    text, me = render(verdict), str(api.whoami()["name"])
    details = api.get_discussion_details(s.dataset, s.num, repo_type="dataset")
    for event in details.events:
        if not isinstance(event, DiscussionComment) or event.author != me or event.hidden:
            continue
        if not event.content.startswith(MARK):
            continue
        if event.content.strip() == text.strip():
            return False
        api.edit_discussion_comment(s.dataset, s.num, event.id, text, repo_type="dataset")
        return True
    api.comment_discussion(s.dataset, s.num, text, repo_type="dataset")
    return True


def render(verdict: "Verdict") -> str:
    """The comment in Markdown."""
    s = verdict.submission
    rows = [("pull request", _finding(f)) for f in verdict.findings]
    for change, report in zip(s.changes, verdict.reports, strict=True):
        word = f"{change.kind}, {'ok' if report.ok else 'refused'}"
        rows.append((code(change.path), "<br>".join([word, *map(_finding, report.findings)])))
    if verdict.effects:
        rows.append(("`load_dataset`", "reads it"))
    rows += [(code(e.what), _change(e)) for e in verdict.effects]
    if len(rows) > MOST_ROWS:
        rows = [*rows[:MOST_ROWS], ("…", f"and {len(rows) - MOST_ROWS} rows more: `p2zoo check` shows them")]
    table = "\n".join(f"| {what} | {found} |" for what, found in rows)
    return f"{MARK}\n{_sentence(verdict)}\n\n| what | found |\n|---|---|\n{table}\n"


def _sentence(verdict: "Verdict") -> str:
    at = f"at `{verdict.submission.head[:12]}`"
    if not verdict.ok:
        return f"**p2zoo check: refused** {at}. Push corrections to this pull request; this comment will follow."
    if verdict.verdict == UNUSUAL:
        return f"**p2zoo check: unusual** {at}. Nothing is wrong with it by itself; it waits for a maintainer to look."
    kinds = {c.kind for c in verdict.submission.changes}
    thanks = " Thank you: a maintainer can merge it." if kinds & {ADDED, CHANGED} else ""
    return f"**p2zoo check: clean** {at}.{thanks}"


def _change(effect: "Effect") -> str:
    return code(effect.unchanged) if effect.unchanged else f"{code(effect.before)} → {code(effect.after)}"


def _finding(finding: Finding) -> str:
    """A finding in a cell; `got` and `where` are a stranger's, the rest is ours."""
    where, got = code(finding.where), code(finding.got)
    ours = f"{finding.allowed}. {finding.fix}".replace("|", "\\|").replace("<", "&lt;").replace("\n", " ")
    return f"{finding.severity} **{finding.code}**: {where} is {got}; allowed: {ours}"


def code(text: str) -> str:
    """Any text as a code span in a table cell."""
    plain = "".join(_UNSAFE.get(c, c) if c.isascii() and c.isprintable() else "?" for c in text[: LONGEST + 1])
    cut = plain[:LONGEST] + "..." if len(text) > LONGEST else plain
    return f"`{cut.strip() or '(empty)'}`"
