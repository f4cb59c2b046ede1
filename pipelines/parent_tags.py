"""The version that a training started from in, the tags of the new run and version out."""

from __future__ import annotations

PARENT_TAG, PARENT_DIGEST_TAG = "sequela.parent", "sequela.parent_digest"


def parent_tags(address: str, digest: str) -> dict[str, str]:
    """Tags of what was made of another version.

    Args:
        address: of that version.
        digest: of its artifact.
    """
    return {PARENT_TAG: address, PARENT_DIGEST_TAG: digest}
