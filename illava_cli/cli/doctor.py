"""`illava doctor`: what is installed, what is missing, and the command that gets it.

Packages are really imported, because a broken install is found in no other way, and nothing that goes
wrong on the way ends the report.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.metadata
import io
import platform
import tomllib
from dataclasses import asdict, dataclass
from itertools import chain
from typing import TYPE_CHECKING, Any

import typer

from illava_cli.cli.options import Debug, Format, check_format
from illava_cli.cli.output import emit
from illava_cli.cli.render import size, table
from illava_cli.config.places import PACKAGE
from illava_cli.text import json_text, one_line

if TYPE_CHECKING:
    from packaging.specifiers import SpecifierSet

# distribution -> (module, what it is for, what to install for it)
REQUIRED = {
    "torch": ("torch", "models", "torch"),
    "transformers": ("transformers", "models", "transformers"),
    "numpy": ("numpy", "media", "numpy"),
    "pillow": ("PIL.Image", "images", "pillow"),
    "pydantic": ("pydantic", "settings", "pydantic"),
    "PyYAML": ("yaml", "settings", "pyyaml"),
    "typer": ("typer", "command line", "typer"),
    "rich": ("rich", "command line", "rich"),
}
OPTIONAL = {
    "decord": ("decord", "video", "decord"),
    "av": ("av", "video", "av"),
    "accelerate": ("accelerate", "--device-map", "'illava[multi-gpu]'"),
    "bitsandbytes": ("bitsandbytes", "--quantization", "'illava[quantization]'"),
    "flash-attn": ("flash_attn", "--attn flash_attention_2", "'illava[flash-attn]'"),
    "triton": ("triton", "scores on CUDA", "triton"),
    "sentencepiece": ("sentencepiece", "tokenizer.model files", "'illava[sentencepiece]'"),
    "pillow-heif": ("pillow_heif", "HEIC pictures", "'illava[heic]'"),
    "prompt_toolkit": ("prompt_toolkit", "line editing in chat", "'illava[chat]'"),
    "fastapi": ("fastapi", "serve", "'illava[serve]'"),
    "fastapi-offline": ("fastapi_offline", "serve", "'illava[serve]'"),
    "uvicorn": ("uvicorn", "serve", "'illava[serve]'"),
    "prometheus-client": ("prometheus_client", "serve", "'illava[serve]'"),
    "llguidance": ("llguidance", "--schema, response_format", "'illava[structured]'"),
    "llm": ("llm", "llm -m illava/NAME", "'illava[llm]'"),
    "ray": ("ray", "batch --workers ray", "'illava[ray]'"),
    "lmms-eval": ("lmms_eval.api.model", "public benchmarks", "'illava[lmms]'"),
}
UNTESTED = "untested"
DECODERS = {"decord": "decord", "av": "pyav"}  # either will do


@dataclass(frozen=True)
class Package:
    """One package: its version, whether it works, and the command that mends it where not.

    Args:
        tested: the releases that the tests were run with at both ends; empty where all will do.
        status: `ok`, `untested` (newer than these, may work), or what is wrong.
    """

    name: str
    purpose: str
    required: bool
    version: str | None
    tested: str
    status: str
    fix: str

    @property
    def works(self) -> bool:
        """Whether it can be used, for all that is known."""
        return self.status in ("ok", UNTESTED)


def doctor(format: Format = "text", debug: Debug = False) -> None:
    """Report what is installed, what is missing and how to get it.

    Exit code 1 if something required is missing or broken.
    """
    as_json = check_format(format) == "json"
    report = examine()
    emit(json_text(report) + "\n" if as_json else as_text(report))
    if not report["ok"]:
        raise typer.Exit(1)


def examine() -> dict[str, Any]:
    """Everything that `doctor` reports, as plain data."""
    from illava_cli import __version__

    packages = [check(name, required=True) for name in REQUIRED]
    packages += [check(name, required=False) for name in OPTIONAL]
    works = {package.name for package in packages if package.works}
    decoders = [decoder for name, decoder in DECODERS.items() if name in works]
    cuda = cuda_devices() if "torch" in works else []
    attention = ["sdpa", "eager"] if "torch" in works else []
    if cuda and "flash-attn" in works:
        attention.append("flash_attention_2")
    return {
        "ok": works.issuperset(REQUIRED) and bool(decoders),
        "illava": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": [asdict(package) for package in packages],
        "video_decoders": decoders,
        "attention": attention,
        "triton_scores": bool(cuda) and "triton" in works,
        "cuda": cuda,
        "processor": processor() if {"torch", "transformers"} <= works else {},
    }


def check(name: str, required: bool) -> Package:
    """One package: is it installed, of a release that was tested, and does it import?"""
    module, purpose, target = (REQUIRED if required else OPTIONAL)[name]
    specifier = tested_releases(name)
    tested = ",".join(sorted(map(str, specifier or ()), reverse=True))  # the lower bound first

    def found(version: str | None, status: str, fix: str = "") -> Package:
        return Package(name, purpose, required, version, tested, status, fix)

    try:
        version = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return found(None, "missing", f"pip install {target}")
    fits = specifier is None or specifier.contains(version, prereleases=True)
    install = f"pip install '{name}{tested}'"
    if not fits and not newer(specifier, version):
        return found(version, f"needs {tested}", install)
    status = import_status(module)
    if status != "ok":
        return found(version, status, f"pip install --force-reinstall {name}")
    return found(version, "ok") if fits else found(version, UNTESTED, install)


def import_status(module: str) -> str:
    """`ok`, or in one line why the module cannot be imported."""
    try:
        # some packages greet on import, and stdout carries the report only
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            importlib.import_module(module)
    except Exception as error:
        return f"broken: {type(error).__name__}: {one_line(error)[:120]}"
    return "ok"


def tested_releases(name: str) -> SpecifierSet | None:
    """What our own metadata asks of a package, such as `>=5.17,<5.25`; None where it asks nothing."""
    try:
        from packaging.requirements import Requirement

        ours = [Requirement(text) for text in requirements()]
    except Exception:  # no packaging where transformers is missing
        return None
    asked = [r.specifier for r in ours if r.name.lower() == name.lower() and r.specifier]
    return asked[0] if asked else None


def requirements() -> list[str]:
    """The requirements of this package and its extras; in a plain checkout those of its pyproject.toml."""
    try:
        return importlib.metadata.requires("illava") or []
    except importlib.metadata.PackageNotFoundError:
        text = (PACKAGE.parent / "pyproject.toml").read_text(encoding="utf-8")
        project = tomllib.loads(text)["project"]
        return [*project["dependencies"], *chain(*project["optional-dependencies"].values())]


def newer(specifier: SpecifierSet, version: str) -> bool:
    """Whether a release that does not fit is newer than all that do: it may work, an older one will not."""
    from packaging.specifiers import SpecifierSet

    lower = SpecifierSet(",".join(str(s) for s in specifier if s.operator != "<"))
    return lower.contains(version, prereleases=True)


def cuda_devices() -> list[dict[str, Any]]:
    """Name and memory in bytes of every CUDA device; a broken driver means none."""
    import torch

    devices = []
    try:
        for index in range(torch.cuda.device_count()):
            free, total = torch.cuda.mem_get_info(index)
            name = torch.cuda.get_device_name(index)
            devices.append({"index": index, "name": name, "total_bytes": total, "free_bytes": free})
    except Exception:  # whatever a driver raises
        return devices
    return devices


def processor() -> dict[str, bool | None]:
    """Whether the processor has instructions for each half precision; None: not known."""
    from illava_cli.models.processor import INSTRUCTIONS, multiplies

    return {dtype: multiplies(dtype) for dtype in INSTRUCTIONS}


def as_text(report: dict[str, Any]) -> str:
    """The report as tables and lines."""
    rows = []
    for package in report["packages"]:
        need = "required" if package["required"] else "optional"
        version, tested = package["version"] or "-", package["tested"] or "any"
        rows.append((package["name"], version, tested, need, package["purpose"], package["status"]))
    lines = [
        f"illava {report['illava']}, Python {report['python']}, {report['platform']}",
        "",
        table(("PACKAGE", "VERSION", "TESTED", "NEED", "FOR", "STATUS"), rows),
        "",
    ]
    for device in report["cuda"]:
        memory = f"{size(device['total_bytes'])}, {size(device['free_bytes'])} free"
        lines.append(f"cuda:{device['index']}          {device['name']} ({memory})")
    if not report["cuda"]:
        lines.append("CUDA            no device: models run on the CPU")
    words = {True: "yes", False: "no, float32 is faster", None: "not known"}
    able = [f"{dtype}: {words[there]}" for dtype, there in report["processor"].items()]
    lines.append(f"processor       {'; '.join(able) or 'not asked'}")
    lines.append(f"video decoders  {', '.join(report['video_decoders']) or 'none: videos cannot be read'}")
    lines.append(f"attention       {', '.join(report['attention']) or 'none'}")
    lines.append(f"scores          {'Triton kernel' if report['triton_scores'] else 'PyTorch'}")
    # once, where one command brings several
    fixes = dict.fromkeys((package["fix"], package["purpose"]) for package in report["packages"])
    wanted = [f"  {fix:<42} for {purpose}" for fix, purpose in fixes if fix]
    if wanted:
        lines += ["", "To get what is missing, or what was tested:", *wanted]
    lines += ["", "ready" if report["ok"] else "not ready: something required is missing"]
    return "\n".join(lines) + "\n"
