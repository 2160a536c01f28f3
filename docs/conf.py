"""How Sphinx builds this documentation: `tox -e docs`. Nothing is fetched while building."""

import importlib.metadata
import os

os.environ.setdefault("MPLBACKEND", "Agg")

project = "dparallel"
author = "dparallel developers"
copyright = "2026, dparallel developers"
release = version = importlib.metadata.version("dparallel")

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "myst_parser",  # benchmarks.md is Markdown
    "numpydoc",
    "sphinx_gallery.gen_gallery",
]
templates_path = ["_templates"]
exclude_patterns = ["_build", "images", "auto_examples/*.ipynb", "auto_examples/*.py", "auto_examples/*.codeobj.json"]
suppress_warnings = ["config.cache"]  # the gallery's settings hold functions
nitpicky = True
nitpick_ignore_regex = [
    ("py:obj", r"sklearn\..*"),  # their pages are not here, and nothing is fetched
    ("py:obj", r"[a-z_]+"),  # fitted attributes, and abstract properties: the class's own page lists them
]

html_theme = "pydata_sphinx_theme"
html_title = "dparallel"
html_static_path = ["_static"]
html_css_files = ["style.css"]
html_theme_options = {
    "navbar_align": "left",
    "navbar_end": ["theme-switcher"],
    "show_toc_level": 2,
    "header_links_before_dropdown": 9,
}
html_show_sourcelink = False
WITHOUT_SIDEBAR = ("index", "install", "migrating")  # pages that have no others beside them
html_sidebars = {name: [] for name in WITHOUT_SIDEBAR}

autosummary_generate = True
toc_object_entries_show_parents = "hide"
autodoc_typehints = "none"  # the docstrings say shapes and dtypes too
numpydoc_show_class_members = False  # the class template lists them
numpydoc_xref_param_type = False

READING_ORDER = (
    "quickstart",
    "kmeans_cluster",
    "kmeans_out_of_core",
    "kmeans_grid_search",
    "tree_plot",
    "tree_categorical_cluster",
    "wider_than_a_worker",
    "async_sgd_worker_killed",
    "async_sgd_pipeline",
    "averaging_interval",
    "stream",
    "search_on_dask",
    "save_and_serve",
    "parameter_store_softmax",
    "matrix_factorisation",
    "seeing_a_fit",
    "word_count",
    "own_algorithm",
    "own_estimator",
)


class ReadingOrder:
    """The order of examples in the gallery; those that it does not name come last."""

    def __init__(self, folder):
        self.folder = folder

    def __call__(self, filename):
        name = filename.removesuffix(".py")
        return (READING_ORDER.index(name) if name in READING_ORDER else len(READING_ORDER), name)


sphinx_gallery_conf = {
    "examples_dirs": "../examples",
    "gallery_dirs": "auto_examples",
    "filename_pattern": r"\.py$",
    "within_subsection_order": ReadingOrder,
    "ignore_pattern": r"/_",
    "abort_on_example_error": False,
    "download_all_examples": False,
    "matplotlib_animations": False,
    "show_memory": False,
    "capture_repr": (),
    "remove_config_comments": True,
}
