"""The pages of the documentation: none is lost, no target is missing, every block of Python runs or says why not."""

import re
import subprocess
import sys
import tomllib
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
PAGES = {
    path.stem: path.read_text(encoding="utf-8")
    for path in sorted(DOCS.glob("*.rst"))
    if not path.stem.startswith("sg_")  # written by the gallery
}
GENERATED = {"auto_examples/index"}
TESTED = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["pytest"]["ini_options"][
    "testpaths"
]


def toctree_entries(text):
    """The pages that the toctrees of a page name."""
    found = []
    for body in re.findall(r"^\.\. toctree::\n((?:[ ]{3}.*\n|\n)+)", text, re.MULTILINE):
        lines = [line.strip() for line in body.splitlines()]
        for line in lines:
            if line and not line.startswith(":"):
                titled = re.fullmatch(r".*<(.+)>", line)
                found.append(titled.group(1) if titled else line)
    return found


def role_targets(text, role):
    """What a role points to, without titles."""
    plain = re.sub(r"\s+", " ", text)
    for content in re.findall(rf":{role}:`([^`]+)`", plain):
        titled = re.fullmatch(r".*<(.+)>", content)
        yield titled.group(1) if titled else content


def test_every_page_is_in_one_toctree():
    entries = [entry for text in PAGES.values() for entry in toctree_entries(text)]
    pages = set(PAGES) | {path.stem for path in DOCS.glob("*.md")}
    assert sorted(entries) == sorted((pages - {"index"}) | GENERATED)


@pytest.mark.parametrize("page", PAGES)
def test_pages_images_and_files_that_are_named_exist(page):
    text = PAGES[page]
    pages = set(PAGES) | {path.stem for path in DOCS.glob("*.md")} | GENERATED
    assert set(role_targets(text, "doc")) <= pages
    files = re.findall(r"^\s*\.\. (?:image|figure|literalinclude|include):: (\S+)", text, re.MULTILINE)
    assert [name for name in files if not (DOCS / name).exists()] == []
    examples = re.findall(r"sphx_glr_auto_examples_(\w+)\.py", text)
    assert [name for name in examples if not (ROOT / "examples" / f"{name}.py").exists()] == []
    paths = re.findall(r"``((?:tests|examples|benchmarks|dparallel|docs)/[\w/.]+\.\w+)``", text)
    assert [path for path in paths if not (ROOT / path).exists()] == []


@pytest.mark.parametrize("page", PAGES)
def test_every_block_of_python_runs_or_says_why_not(page):
    text = PAGES[page]
    if re.search(r"^>>> ", text, re.MULTILINE):
        assert f"docs/{page}.rst" in TESTED, "add the page to testpaths in pyproject.toml"
    lines = text.splitlines()
    blocks = [i for i, line in enumerate(lines) if re.match(r"\s*\.\. (code-block|code|sourcecode):: python", line)]
    unexplained = [lines[i] for i in blocks if not lines[i - 2].strip().startswith(".. not run: ")]
    assert not unexplained, "make it a doctest, or put the comment '.. not run: reason' before it"


def test_every_page_with_doctests_that_is_tested_exists():
    assert all((ROOT / path).exists() for path in TESTED)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_documentation_builds_without_a_warning(tmp_path):
    for package in ("sphinx", "numpydoc", "sphinx_gallery", "pydata_sphinx_theme"):
        if not find_spec(package):
            pytest.skip(f"{package} is not installed")
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-D", "plot_gallery=0", "-b", "html"]
    copy = tmp_path / "docs"
    done = subprocess.run(
        [*command, DOCS, copy, "-d", tmp_path / "doctrees"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert missing_links(copy) == []


def missing_links(folder):
    """The links within a built site, to pages, files and anchors, that lead nowhere."""
    html = {path: path.read_text(encoding="utf-8") for path in folder.rglob("*.html") if "_static" not in path.parts}
    anchors = {path: set(re.findall(r'\b(?:id|name)="([^"]+)"', text)) for path, text in html.items()}
    missing = []
    for path, text in html.items():
        for link in set(re.findall(r'\b(?:href|src)="([^"]+)"', text)):
            if re.match(r"[a-z]+:|//", link):
                continue
            name, _, anchor = link.partition("#")
            name = name.partition("?")[0]
            target = (path.parent / name).resolve() if name else path
            wanted = anchor and target in anchors and anchor not in anchors[target]
            if not target.exists() or wanted:
                missing.append(f"{path.relative_to(folder)}: {link}")
    return sorted(missing)
