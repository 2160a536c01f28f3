"""Text to count words of: random words whose frequencies follow Zipf's law."""

from __future__ import annotations

from pathlib import Path

import numpy as np

N_WORDS, EXPONENT = 200_000, 1.05
WORDS_PER_LINE, LINES_PER_DOCUMENT, LINES_AT_ONCE = 12, 5_000, 50_000


def write_text(path: Path, size_bytes: int, seed: int) -> None:
    """Write lines of a document's number and 12 words, until the file is about so large.

    Parameters
    ----------
    path : Path
    size_bytes : int, 3 % more or less are written
    seed : int

    Notes
    -----
    200,000 words of 2 to 10 letters, short ones first; the i-th has a share of about i ** -1.05. A document has 5,000
    lines.
    """
    random = np.random.default_rng(seed)
    words = draw_words(random)
    shares = np.cumsum(np.arange(1, N_WORDS + 1, dtype=float) ** -EXPONENT)
    n_lines = written = 0
    with open(path, "w", encoding="utf-8") as file:
        while written < size_bytes:
            line_bytes = written / n_lines if n_lines else 120
            n_now = min(LINES_AT_ONCE, int((size_bytes - written) / line_bytes) + 1)
            drawn = words[np.searchsorted(shares, random.random((n_now, WORDS_PER_LINE)) * shares[-1])].tolist()
            names = (str(number // LINES_PER_DOCUMENT) for number in range(n_lines, n_lines + n_now))
            written += file.write("".join(f"{name} {' '.join(line)}\n" for name, line in zip(names, drawn)))
            n_lines += n_now


def draw_words(random: np.random.Generator) -> np.ndarray:
    """Return different random words, as an array of str objects."""
    found: dict[str, None] = {}
    while len(found) < N_WORDS:
        letters = random.integers(97, 123, size=(N_WORDS, 10), dtype=np.uint8)
        for row in letters:
            length = 2 + min(8, len(found).bit_length() // 2)
            found[row[:length].tobytes().decode()] = None
            if len(found) == N_WORDS:
                break
    return np.array(list(found), dtype=object)
