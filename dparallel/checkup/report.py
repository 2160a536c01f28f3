"""What a check found: findings in plain words, the worst first."""

from __future__ import annotations

import html
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

SEVERITIES = ("error", "warning", "note")  # the worst first
_COLOURS = {"error": "#b3261e", "warning": "#9a6700", "note": "#57606a"}


@dataclass(frozen=True)
class Finding:
    """One thing that hurts.

    Parameters
    ----------
    severity : "error" where a fit will fail, "warning" where it will be slow or at risk, "note" for what helps to know
    topic : str, one word: client, workers, versions, threads, memory, nannies, replicas or chunks
    found : str, what was found
    harm : str, why that hurts
    remedy : str, what to do
    """

    severity: str
    topic: str
    found: str
    harm: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.severity.upper()} ({self.topic}): {self.found}\n  Why: {self.harm}\n  Do:  {self.remedy}"


class Report:
    """What a check found. It is true where nothing but notes was found.

    Parameters
    ----------
    summary : str, what was looked at
    findings : of Finding

    Attributes
    ----------
    findings : tuple of Finding, the worst first
    """

    def __init__(self, summary: str, findings: Iterable[Finding]):
        self.summary = summary
        self.findings = tuple(sorted(findings, key=lambda finding: SEVERITIES.index(finding.severity)))

    @property
    def ok(self) -> bool:
        """Whether nothing but notes was found."""
        return all(finding.severity == "note" for finding in self.findings)

    def __bool__(self) -> bool:
        return self.ok

    def __len__(self) -> int:
        return len(self.findings)

    def __iter__(self) -> Iterator[Finding]:
        return iter(self.findings)

    def __str__(self) -> str:
        head = f"{self.summary} {self._verdict()}"
        return "\n".join([head, *map(str, self.findings)])

    __repr__ = __str__

    def _verdict(self) -> str:
        counts = [
            f"{n} {severity}{'s' if n > 1 else ''}"
            for severity in SEVERITIES
            if (n := sum(finding.severity == severity for finding in self.findings))
        ]
        return f"Found: {', '.join(counts)}." if counts else "Nothing would hurt."

    def _repr_html_(self) -> str:
        rows = "".join(
            f'<tr style="text-align: left; vertical-align: top"><td style="color: {_COLOURS[finding.severity]}">'
            f"<b>{finding.severity}</b><br>{finding.topic}</td>"
            f"<td>{html.escape(finding.found)}</td><td>{html.escape(finding.harm)}</td>"
            f"<td>{html.escape(finding.remedy)}</td></tr>"
            for finding in self.findings
        )
        head = f"<p>{html.escape(self.summary)} {self._verdict()}</p>"
        if not rows:
            return head
        titles = "".join(f"<th>{title}</th>" for title in ("", "Found", "Why it hurts", "What to do"))
        return f"{head}<table><thead><tr>{titles}</tr></thead>{rows}</table>"


def gigabytes(n_bytes: float) -> str:
    """A number of bytes in words."""
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if n_bytes >= size:
            return f"{n_bytes / size:.3g} {unit}"
    return f"{n_bytes:.0f} bytes"


def listed(names: Iterable[str], most: int = 3) -> str:
    """Some names in words, and how many more there are."""
    given = sorted(names)
    more = f" and {len(given) - most} more" if len(given) > most else ""
    return ", ".join(given[:most]) + more
