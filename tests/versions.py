"""Comparisons with scikit-learn where it has changed what it does: they hold from a version on."""

import pytest
import sklearn

SKLEARN = tuple(map(int, sklearn.__version__.split(".")[:2]))


def before(major, minor):
    """Whether the installed scikit-learn is older than a version."""
    return (major, minor) > SKLEARN


def since(major, minor, what):
    """A marker for a test of what scikit-learn does since a version."""
    return pytest.mark.skipif(before(major, minor), reason=f"scikit-learn {major}.{minor} has changed {what}")
