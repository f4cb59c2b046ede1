"""A model to and from a directory: JSON and safetensors, every file under a digest, no pickle anywhere.

manifest.json          sha256 and size of every other file; its own digest names the version
bundle.json            the model's facts (`models.bundle.Bundle`)
weights.safetensors    the networks' parameters, each name after its member's number, as in `0.head.weight`
trees-0.txt, ...       boosted trees in LightGBM's text format, where the model has them as members: text by text,
                       member by member
golden.json            synthetic stays with their scores, checked at every load
tokenizer.json         the notes' tokenizer, where the model reads notes
card.md, card.json     the model card, where it was given
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError

from models.bundle import SCHEMA_VERSION, Bundle, check_schema
from models.ensemble import Ensemble, Member, MemberSpec
from models.errors import ArtifactError, ConfigError
from models.golden import check_golden, golden_stays, with_scores
from models.network import RecurrentNetwork
from models.notes import NoteTokenizer
from models.record import from_plain, to_plain
from models.scorer import Scorer
from models.task import TargetKind
from models.trees import TreeMember

MANIFEST, BUNDLE, WEIGHTS, GOLDEN, TOKENIZER, CARD = (
    "manifest.json",
    "bundle.json",
    "weights.safetensors",
    "golden.json",
    "tokenizer.json",
    "card.md",
)
TREES = "trees-{}.txt"


def save_artifact(
    folder: Path,
    bundle: Bundle,
    network: Ensemble,
    tokenizer: NoteTokenizer | None = None,
    *,
    documents: Mapping[str, str] | None = None,
) -> str:
    """Writes the model to `folder` and returns its digest, `sha256:<hex>`.

    The folder appears whole or not at all: it is written beside itself and renamed.

    Args:
        folder: must not exist yet.
        bundle: the model's facts.
        network: its members' parameters and trees are stored as they are, on the CPU.
        tokenizer: needed exactly if the bundle reads notes.
        documents: further text files by name, such as the model card.

    Raises:
        ArtifactError: if the folder exists, or the tokenizer does not go with the bundle.
    """
    if folder.exists():
        raise ArtifactError(f"folder must not exist yet, got {folder.name!r} which does; choose another name")
    if (tokenizer is None) != (bundle.notes is None):
        raise ArtifactError("tokenizer must be given exactly if the bundle reads notes; give both or none")
    partial = folder.with_name(folder.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    _write_members(partial, network)
    _write_json(partial / BUNDLE, to_plain(bundle))
    if tokenizer is not None:
        (partial / TOKENIZER).write_text(tokenizer.to_json(), encoding="utf-8")
    for name, text in (documents or {}).items():
        (partial / name).write_text(text, encoding="utf-8")
    # The golden scores come from what was written, and must be the given model's, so that saving proves loading.
    golden = with_scores(golden_stays(bundle), _read_scorer(partial, device="cpu", digest=""))
    check_golden(golden, Scorer(bundle, network, tokenizer))
    _write_json(partial / GOLDEN, golden)
    files = {p.name: {"sha256": _sha256(p), "bytes": p.stat().st_size} for p in sorted(partial.iterdir())}
    _write_json(partial / MANIFEST, {"schema_version": SCHEMA_VERSION, "files": files})
    partial.rename(folder)
    return artifact_digest(folder)


def load_artifact(folder: Path, *, device: str = "cpu", expected_digest: str | None = None) -> Scorer:
    """Reads and verifies a model.

    Args:
        folder: a folder that `save_artifact` wrote.
        device: where the network shall run, `cpu` or `cuda`.
        expected_digest: the digest that the registry states; None takes the folder's own.

    Raises:
        ArtifactError: if a file is missing, surplus or altered, the schema is another one, or the golden
            scores do not hold.
    """
    verify_digests(folder, expected_digest=expected_digest)
    scorer = _read_scorer(folder, device=device, digest=artifact_digest(folder))
    check_golden(_read_json(folder / GOLDEN), scorer)
    return scorer


def artifact_digest(folder: Path) -> str:
    """Digest of an artifact: that of its manifest, which holds those of its files."""
    if not (folder / MANIFEST).is_file():
        raise ArtifactError(f"artifact must hold {MANIFEST}, got a folder without it; fetch the artifact again")
    return "sha256:" + _sha256(folder / MANIFEST)


def verify_digests(folder: Path, *, expected_digest: str | None = None) -> None:
    """Refuses a folder whose files are not the ones that the manifest, and the registry, name.

    Raises:
        ArtifactError: with the name of the first file that does not hold.
    """
    digest = artifact_digest(folder)
    if expected_digest is not None and digest != expected_digest:
        raise ArtifactError(f"digest must be {expected_digest}, got {digest}; fetch the artifact again")
    manifest = _read_json(folder / MANIFEST)
    check_schema(manifest.get("schema_version"))
    files = manifest.get("files", {})
    present = {p.name for p in folder.iterdir()} - {MANIFEST}
    if present != set(files):
        odd = ", ".join(sorted(present ^ set(files)))
        raise ArtifactError(
            f"artifact must hold exactly the manifest's files, got a difference in {odd}; fetch it again"
        )
    for name, facts in files.items():
        if _sha256(folder / name) != facts["sha256"]:
            raise ArtifactError(f"{name} must have the manifest's sha256, got another; fetch the artifact again")


def read_bundle(folder: Path) -> Bundle:
    """The facts of an artifact, without its weights.

    Raises:
        ArtifactError: if they do not fit this release's schema.
    """
    plain = _read_json(folder / BUNDLE)
    # First of all: another schema has other keys, and of those the remedy says nothing.
    check_schema(plain.get("schema_version", SCHEMA_VERSION) if isinstance(plain, dict) else None)
    try:
        return from_plain(Bundle, plain, where=BUNDLE)
    except ConfigError as error:
        raise ArtifactError(f"{BUNDLE} must fit this release's schema: {error}") from error


def _read_scorer(folder: Path, *, device: str, digest: str) -> Scorer:
    bundle = read_bundle(folder)
    tokenizer = None
    if bundle.notes is not None:
        tokenizer = NoteTokenizer.from_json((folder / TOKENIZER).read_text(encoding="utf-8"))
    members: list[Member] = []
    for spec in bundle.members:
        trees = sum(isinstance(member, TreeMember) for member in members)
        members.append(_read_member(folder, spec, bundle, tokenizer, trees=trees))
    network = Ensemble(members, [spec.weight for spec in bundle.members])
    try:
        weights = safetensors.torch.load_file(folder / WEIGHTS)
        network.members.load_state_dict(weights, strict=True)
    except (SafetensorError, RuntimeError) as error:
        raise ArtifactError(f"{WEIGHTS} must hold the networks' parameters; fetch the artifact again") from error
    if not all(bool(torch.isfinite(t).all()) for t in weights.values()):
        raise ArtifactError(f"{WEIGHTS} must hold finite numbers, got others; train again")
    card = (folder / CARD).read_text(encoding="utf-8") if (folder / CARD).is_file() else ""
    return Scorer(bundle, network, tokenizer, digest=digest, card=card, device=device)


def _read_member(
    folder: Path, spec: MemberSpec, bundle: Bundle, tokenizer: NoteTokenizer | None, *, trees: int
) -> Member:
    """One member, before which so many of boosted trees come."""
    width, outputs = bundle.encoding.width, bundle.task.outputs
    if spec.network is None:
        models = 1 if bundle.task.kind is TargetKind.MULTICLASS else outputs
        paths = [folder / TREES.format(trees * models + k) for k in range(models)]
        try:
            texts = [path.read_text(encoding="utf-8") for path in paths]
        except (OSError, UnicodeDecodeError) as error:
            raise ArtifactError(f"artifact must hold {paths[0].name}, got no such text; fetch it again") from error
        return TreeMember(texts, width=width, outputs=outputs)
    return RecurrentNetwork(
        spec.network,
        width=width,
        outputs=outputs,
        notes=bundle.notes,
        vocabulary_size=tokenizer.vocabulary_size if tokenizer is not None else 0,
        layout=bundle.encoding.layout,
    )


def _write_members(folder: Path, network: Ensemble) -> None:
    weights = {name: t.detach().cpu().contiguous() for name, t in network.members.state_dict().items()}
    safetensors.torch.save_file(weights, folder / WEIGHTS)
    texts = [text for member in network if isinstance(member, TreeMember) for text in member.texts]
    for k, text in enumerate(texts):
        (folder / TREES.format(k)).write_text(text, encoding="utf-8")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, ensure_ascii=False, allow_nan=False, indent=1, sort_keys=True), encoding="utf-8")


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ArtifactError(f"{path.name} must be a readable JSON file, got none; fetch the artifact again") from error
