"""An artifact in, one out that every digest vouches for and whose golden scores do not hold."""

import hashlib
import json
from pathlib import Path


def damaged(folder: Path, source: Path) -> Path:
    """An artifact whose digests hold and whose golden scores do not."""
    folder.mkdir()
    for path in source.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    golden = json.loads((folder / "golden.json").read_text())
    golden["risk"][-1][0] = 0.5 * golden["risk"][-1][0]
    content = json.dumps(golden).encode()
    (folder / "golden.json").write_bytes(content)
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["files"]["golden.json"] = {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return folder
