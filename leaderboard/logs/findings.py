"""What a check found, as data: a code for programs and words for people."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass, field

ERROR, UNUSUAL, WARNING = "error", "unusual", "warning"  # refused; waits for a person; a word beside
CLEAN, WRONG = "clean", "wrong"  # verdicts, with UNUSUAL between


def printable(text: str) -> str:
    """Text of strangers for a terminal: no control or direction characters."""
    return "".join(c if c.isprintable() else f"\\u{ord(c):04x}" for c in text)


@dataclass(frozen=True)
class Finding:
    """One thing wrong with a log: where, what came, what is allowed, what to do. Only errors quarantine a log."""

    code: str
    severity: str
    where: str
    got: str
    allowed: str
    fix: str

    def __str__(self) -> str:
        return printable(
            f"{self.severity} {self.code}: {self.where}: got {self.got}; allowed: {self.allowed}. {self.fix}"
        )


@dataclass(frozen=True)
class Report:
    """All findings about one file."""

    path: str
    findings: tuple[Finding, ...] = field(default=())

    @property
    def ok(self) -> bool:
        """Whether the file may be read: no error among the findings."""
        return all(f.severity != ERROR for f in self.findings)

    @property
    def verdict(self) -> str:
        """`clean`; `unusual`, which waits for a person; `wrong`."""
        return verdict_of(self.findings)

    def as_dict(self) -> dict[str, object]:
        """JSON form: path, ok, verdict, findings."""
        return {
            "path": self.path,
            "ok": self.ok,
            "verdict": self.verdict,
            "findings": [asdict(f) for f in self.findings],
        }


def verdict_of(findings: Iterable[Finding]) -> str:
    """The verdict that the worst of some findings gives."""
    severities = {finding.severity for finding in findings}
    return WRONG if ERROR in severities else UNUSUAL if UNUSUAL in severities else CLEAN
