"""
A decision tree that scikit-learn can draw
==========================================

``ParallelDecisionTree`` learns to tell malignant from benign tumours (scikit-learn's breast cancer data). What it has
grown is a tree of scikit-learn's own class, so everything made for those works on it: ``plot_tree``, ``export_text``,
pruning, and a plain ``DecisionTreeClassifier`` to be taken where dparallel is not installed.

At the end there is a picture, if matplotlib is installed.
"""

import tempfile
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from sklearn.datasets import load_breast_cancer
from sklearn.model_selection import train_test_split
from sklearn.tree import DecisionTreeClassifier, export_text, plot_tree

from dparallel import ParallelDecisionTree


def main():
    data = load_breast_cancer(as_frame=True)
    labels = data.target_names[data.target]
    rows, held_out, y, truth = train_test_split(data.data, labels, test_size=0.25, random_state=0)
    model = ParallelDecisionTree(max_depth=3, min_samples_leaf=5).fit(rows, y)
    theirs = DecisionTreeClassifier(max_depth=3, min_samples_leaf=5, random_state=0).fit(rows, y)
    print(f"{len(rows)} rows x {rows.shape[1]}, {model.tree_.node_count} nodes in {model.n_rounds_} rounds")
    print(f"held out: {model.score(held_out, truth):.4f} right, scikit-learn {theirs.score(held_out, truth):.4f}")
    print("\nlevel  nodes split  impurity afterwards")
    for record in model.history_:
        print(f"{record.round:5}  {record.n_splits:11}  {record.objective:.4f}")

    print("\n" + export_text(model, feature_names=list(rows.columns)))
    for i in np.argsort(-model.feature_importances_)[:3]:
        print(f"{rows.columns[i]}: {model.feature_importances_[i]:.3f} of the decrease in impurity")

    path = model.cost_complexity_pruning_path(rows, y)
    print(f"\npruning removes the leaves at alpha = {', '.join(f'{alpha:.4f}' for alpha in path.ccp_alphas[1:])}")
    plain = model.to_sklearn()
    assert (plain.predict(held_out) == model.predict(held_out)).all()
    print(f"to_sklearn() gives a {type(plain).__name__} that predicts the same")
    draw(model, rows.columns)


def draw(model, names):
    """Draw the tree with scikit-learn's own function."""
    if not find_spec("matplotlib"):
        print("No picture: matplotlib is not installed.")
        return
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(11, 6), layout="constrained")
    plot_tree(model, feature_names=list(names), class_names=list(model.classes_), filled=True, rounded=True, ax=axes)
    path = Path(tempfile.gettempdir()) / "dparallel-tree.png"
    figure.savefig(path, dpi=110)
    print(f"picture: {path}")


if __name__ == "__main__":
    main()
