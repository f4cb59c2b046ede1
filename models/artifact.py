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

from collections.abc import Mapping
from pathlib import Path

import safetensors.torch
import torch
from safetensors import SafetensorError

from models.artifact_folder import artifact_digest, read_json, sealed_folder, verify_digests, write_json
from models.bundle import SCHEMA_VERSION, Bundle, check_schema
from models.ensemble import Ensemble, Member, MemberSpec
from models.errors import ArtifactError, ConfigError
from models.golden import check_golden, golden_stays, with_scores
from models.network import RecurrentNetwork
from models.note_reader import NoteReader, reader_from_json
from models.record import from_plain, to_plain
from models.scorer import Scorer
from models.task import TargetKind
from models.trees import TreeMember

BUNDLE, WEIGHTS, GOLDEN, TOKENIZER, CARD = (
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
    tokenizer: NoteReader | None = None,
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
    if (tokenizer is None) != (bundle.notes is None):
        raise ArtifactError("tokenizer must be given exactly if the bundle reads notes; give both or none")
    with sealed_folder(folder) as partial:
        _write_members(partial, network)
        write_json(partial / BUNDLE, to_plain(bundle))
        if tokenizer is not None:
            (partial / TOKENIZER).write_text(tokenizer.to_json(), encoding="utf-8")
        for name, text in (documents or {}).items():
            (partial / name).write_text(text, encoding="utf-8")
        # The golden scores come from what was written, and must be the given model's, so that saving proves loading.
        golden = with_scores(golden_stays(bundle), _read_scorer(partial, device="cpu", digest=""))
        check_golden(golden, Scorer(bundle, network, tokenizer))
        write_json(partial / GOLDEN, golden)
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
    check_golden(read_json(folder / GOLDEN), scorer)
    return scorer


def read_bundle(folder: Path) -> Bundle:
    """The facts of an artifact, without its weights.

    Raises:
        ArtifactError: if they do not fit this release's schema.
    """
    plain = read_json(folder / BUNDLE)
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
        tokenizer = reader_from_json((folder / TOKENIZER).read_text(encoding="utf-8"))
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


def _read_member(folder: Path, spec: MemberSpec, bundle: Bundle, tokenizer: NoteReader | None, *, trees: int) -> Member:
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
