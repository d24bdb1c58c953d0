"""What of a worker's environment its child processes get.

They read what strangers sent, so they are given no address, no credential and no setting: what they need to
know is in their plan. What stays is what libraries find their files, threads and devices by.
"""

from collections.abc import Mapping

_NAMES = frozenset(
    {
        "HOME",
        "LANG",
        "LANGUAGE",
        "LD_LIBRARY_PATH",
        "PATH",
        "TMPDIR",
        "TOKENIZERS_PARALLELISM",
        "TZ",
        "VIRTUAL_ENV",
        # Never to ask anybody else for a model; HF_TOKEN is none of its business.
        "HF_HUB_OFFLINE",
        "TRANSFORMERS_OFFLINE",
    }
)
_PREFIXES = (
    "CUDA_",
    "GOMP_",
    "KMP_",
    "LC_",
    "MKL_",
    "NCCL_",
    "NVIDIA_",
    "OMP_",
    "PYTHON",
    "PYTORCH_",
    "TORCH_",
)


def surroundings(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the part of an environment that holds no secret of ours."""
    return {name: value for name, value in environ.items() if name in _NAMES or name.startswith(_PREFIXES)}
