"""XLA's flags and the store of compiled programs, chosen before JAX is loaded."""

import contextlib
import importlib.metadata
import os
import platform
import sys
import warnings

from jdd.files import cache_dir

_CACHE_BYTES = 2**29
_X86 = ("x86_64", "amd64")
_PROGRAM, _USED = "-cache", "-atime"  # how the files of JAX's cache end


def tune_xla() -> None:
    """Chooses XLA's code generation and where compiled programs are kept, before JAX starts.

    What the user has set in the environment stays. On x86 YNNPACK would take convolutions, which
    are faster without it, by a tenth in a training step (JAX 0.12: a twentieth); sums and matrix
    products stay with it. Without the fusion emitters JAX 0.10 compiles for CPUs in two thirds of
    the time; later ones have no such flag, and end the process where they meet an unknown one.

    Products are TF32 on GPUs and three bfloat16 passes on TPUs, as PyTorch's convolutions are TF32;
    JAX's own default on a TPU would be a single pass. On a CPU they are float32 either way.

    Compiled programs are kept in `jdd.files.cache_dir()`, the least recently used ones going when
    they fill it. Where `JAX_COMPILATION_CACHE_DIR` names another, JAX's own rules hold there.
    """
    try:
        version, flags = importlib.metadata.version("jaxlib"), []
    except importlib.metadata.PackageNotFoundError:
        print(
            f"error: JAX is not installed for {sys.executable}: activate the environment that jdd "
            "was installed into (. .venv/bin/activate), or install it (pip install .)",
            file=sys.stderr,
        )
        raise SystemExit(2) from None
    if version.startswith(("0.10.", "0.11.", "0.12.")) and platform.machine().lower() in _X86:
        flags.append("--xla_cpu_experimental_ynn_fusion_type=reduce,individual_dot")
    if version.startswith("0.10."):
        flags.append("--xla_cpu_use_fusion_emitters=false")
    if flags:
        os.environ.setdefault("XLA_FLAGS", " ".join(flags))
    os.environ.setdefault("JAX_DEFAULT_MATMUL_PRECISION", "tensorfloat32")
    if "JAX_COMPILATION_CACHE_DIR" in os.environ:
        return
    # A program that cannot be kept is compiled again by the next command: nobody need do anything.
    warnings.filterwarnings("ignore", message="Error (reading|writing) persistent compilation")
    programs = cache_dir() / "compiled"
    os.environ["JAX_COMPILATION_CACHE_DIR"] = str(programs)
    os.environ.setdefault("JAX_COMPILATION_CACHE_MAX_SIZE", str(_CACHE_BYTES))
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
    # A program that was cut off before the time of its use stood next to it keeps JAX from adding
    # any more.
    with contextlib.suppress(OSError):
        names = {path.name for path in programs.iterdir()}
        for name in names:
            if name.endswith(_PROGRAM) and name.removesuffix(_PROGRAM) + _USED not in names:
                (programs / name).unlink(missing_ok=True)
