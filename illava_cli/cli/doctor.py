"""`illava doctor`: what is installed, what is missing, and the command that gets it.

Packages are really imported, because a broken install is found in no other way, and nothing that goes
wrong on the way ends the report.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.metadata
import io
import json
import platform
from dataclasses import asdict, dataclass
from typing import Any

import typer

from illava_cli.cli.options import Debug, Format, check_format
from illava_cli.cli.output import emit
from illava_cli.cli.render import size, table

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
    "av": ("av", "video", "'illava[pyav]'"),
    "accelerate": ("accelerate", "--device-map", "'illava[multi-gpu]'"),
    "bitsandbytes": ("bitsandbytes", "--quantization", "'illava[quantization]'"),
    "flash-attn": ("flash_attn", "--attn flash_attention_2", "'illava[flash-attn]'"),
    "triton": ("triton", "scores on CUDA", "triton"),
    "sentencepiece": ("sentencepiece", "tokenizer.model files", "'illava[sentencepiece]'"),
    "prompt_toolkit": ("prompt_toolkit", "line editing in chat", "'illava[chat]'"),
    "ray": ("ray", "batch --workers ray", "'illava[ray]'"),
    "lmms-eval": ("lmms_eval.api.model", "public benchmarks", "'illava[lmms]'"),
}
DECODERS = {"decord": "decord", "av": "pyav"}  # either will do


@dataclass(frozen=True)
class Package:
    """One package: its version, whether it works, and the command that mends it where not."""

    name: str
    purpose: str
    required: bool
    version: str | None
    status: str
    fix: str


def doctor(format: Format = "text", debug: Debug = False) -> None:
    """Report what is installed, what is missing and how to get it.

    Exit code 1 if something required is missing or broken.
    """
    as_json = check_format(format) == "json"
    report = examine()
    emit(json.dumps(report, ensure_ascii=False) + "\n" if as_json else as_text(report))
    if not report["ok"]:
        raise typer.Exit(1)


def examine() -> dict[str, Any]:
    """Everything that `doctor` reports, as plain data."""
    from illava_cli import __version__

    packages = [check(name, required=True) for name in REQUIRED]
    packages += [check(name, required=False) for name in OPTIONAL]
    works = {package.name for package in packages if package.status == "ok"}
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
    """One package: is it installed, new enough, and does it import?"""
    module, purpose, target = (REQUIRED if required else OPTIONAL)[name]
    try:
        version = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return Package(name, purpose, required, None, "missing", f"pip install {target}")
    if wanted := unmet_requirement(name, version):
        return Package(name, purpose, required, version, f"needs {wanted}", f"pip install '{name}{wanted}'")
    status = import_status(module)
    fix = "" if status == "ok" else f"pip install --force-reinstall {name}"
    return Package(name, purpose, required, version, status, fix)


def import_status(module: str) -> str:
    """`ok`, or in one line why the module cannot be imported."""
    try:
        # some packages greet on import, and stdout carries the report only
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            importlib.import_module(module)
    except Exception as error:
        return f"broken: {type(error).__name__}: {' '.join(str(error).split())[:120]}"
    return "ok"


def unmet_requirement(name: str, version: str) -> str:
    """What our own metadata asks of `name` and `version` does not meet, such as `>=2.5`; else nothing."""
    try:
        from packaging.requirements import Requirement

        ours = [Requirement(text) for text in importlib.metadata.requires("illava") or []]
    except Exception:  # no metadata in a plain checkout, no packaging where transformers is missing
        return ""
    for requirement in ours:
        if requirement.name.lower() == name.lower() and not requirement.specifier.contains(version, True):
            return str(requirement.specifier)
    return ""


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
        rows.append((package["name"], package["version"] or "-", need, package["purpose"], package["status"]))
    lines = [
        f"illava {report['illava']}, Python {report['python']}, {report['platform']}",
        "",
        table(("PACKAGE", "VERSION", "NEED", "FOR", "STATUS"), rows),
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
    fixes = [package for package in report["packages"] if package["fix"]]
    if fixes:
        lines += ["", "To get what is missing:"]
        lines += [f"  {package['fix']:<42} for {package['purpose']}" for package in fixes]
    lines += ["", "ready" if report["ok"] else "not ready: something required is missing"]
    return "\n".join(lines) + "\n"
