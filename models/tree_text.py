"""A LightGBM model as text in, nothing or an error out: whether its trees can be walked at all.

LightGBM's own reader trusts its input, and a cut or altered text ends the process or reads past an array. So an
artifact's trees are read here first: every child, feature and length, before LightGBM sees them.
"""

from __future__ import annotations

from collections.abc import Iterator

from models.errors import ArtifactError

# One number a node, and one a leaf; LightGBM's names.
_PER_NODE = ("split_feature", "split_gain", "threshold", "decision_type", "left_child", "right_child")
_CATEGORICAL = 1


def check_tree_text(text: str, *, width: int) -> None:
    """Refuses a text whose trees are not whole numeric trees over features 0 to `width - 1`.

    Raises:
        ArtifactError: without saying more of the text than which tree it is.
    """
    number = 0
    try:
        for number, tree in enumerate(_trees(text)):
            if not _sound(_fields(tree), width):
                raise ArtifactError(_refusal(number))
    except (ValueError, KeyError, IndexError) as error:
        raise ArtifactError(_refusal(number)) from error


def _refusal(number: int) -> str:
    return (
        f"trees must be LightGBM's text of whole numeric trees, got another at tree {number}; fetch the artifact again"
    )


def _trees(text: str) -> Iterator[str]:
    """Every tree's part of the text; ValueError where the stated sizes do not lead to the trees' end."""
    begin = text.index("\nTree=0\n") + 1
    (sizes,) = (line for line in text[:begin].splitlines() if line.startswith("tree_sizes="))
    for number, size in enumerate(map(int, sizes.removeprefix("tree_sizes=").split())):
        tree = text[begin : begin + size]
        if size < 1 or not tree.startswith(f"Tree={number}\n"):
            raise ValueError(number)
        yield tree
        begin += size
    if not text[begin:].startswith("end of trees\n"):
        raise ValueError(begin)


def _fields(tree: str) -> dict[str, str]:
    return dict(line.split("=", 1) for line in tree.splitlines() if line)


def _sound(fields: dict[str, str], width: int) -> bool:
    leaves = int(fields["num_leaves"])
    values = [float(value) for value in fields["leaf_value"].split()]
    if leaves < 1 or len(values) != leaves or int(fields["num_cat"]) != 0 or int(fields.get("is_linear", "0")) != 0:
        return False
    nodes = leaves - 1
    if nodes == 0:
        return True
    columns = {name: fields[name].split() for name in _PER_NODE}
    if any(len(column) != nodes for column in columns.values()):
        return False
    features = [int(value) for value in columns["split_feature"]]
    kinds = [int(value) for value in columns["decision_type"]]
    thresholds = [float(value) for value in columns["threshold"]]
    children = [int(value) for side in ("left_child", "right_child") for value in columns[side]]
    # Every node but the root, and every leaf (written as -1 - leaf), has one parent: a walk from the root ends.
    return (
        len(thresholds) == nodes
        and all(0 <= feature < width for feature in features)
        and not any(kind & _CATEGORICAL for kind in kinds)
        and sorted(children) == [*range(-leaves, 0), *range(1, nodes)]
    )
