"""What would hurt a fit on a cluster, in plain words."""

from dparallel.checkup.checking import check
from dparallel.checkup.report import Finding, Report

__all__ = ["Finding", "Report", "check"]
