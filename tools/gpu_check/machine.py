"""What a machine has: programs and their libraries, the GPU, its memory, the peers' packages."""

import ctypes
import glob
import importlib.metadata
import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BIN = Path(os.environ.get("CRIA_GPU_CHECK_BIN") or ROOT / "build/release")
# name: where it is below BIN; and the same with the emulator in the GPU's place
PROGRAMS = {
    "cria": ("cria", "cria_emulated"),
    "quickstart_world": ("quickstart_world", "quickstart_world"),
    "bench_gpu": ("bench_gpu", "tests/bench_gpu_emulated"),
    "test_wrappers": ("tests/test_wrappers_cuda", "tests/test_wrappers_emulated"),
    "test_ops": ("tests/test_ops_cuda", "tests/test_ops_emulated"),
}
PEERS = ("torch", "transformers", "peft", "trl", "accelerate", "liger-kernel",
         "torchtune", "torchao", "triton")
BLAS_LIBRARY = "libcublasLt.so.13"
DOCTOR_LIMIT = 30
DNN_LIBRARY = "libcudnn.so.9"


class Failed(Exception):
    """A part cannot go on; the text says why."""


def program(name, emulated=False):
    return BIN / PROGRAMS[name][emulated]


def environment():
    """With the folders of cuBLASLt and cuDNN for the loader, which may not find them by itself."""
    env = dict(os.environ)
    folders = (blas_folder(), library_folder(DNN_LIBRARY), env.get("LD_LIBRARY_PATH"))
    if any(folders):
        env["LD_LIBRARY_PATH"] = ":".join(filter(None, folders))
    return env


def blas_folder():
    return library_folder(BLAS_LIBRARY)


def library_folder(name):
    """A library's folder: CUDA's, or that of the wheel beside python3's packages; or None."""
    places = ["/usr/local/cuda/lib64", "/usr/local/cuda*/lib64", "/usr/local/cuda*/lib",
              "/usr/local/cuda*/targets/x86_64-linux/lib", "/usr/lib/x86_64-linux-gnu",
              *(f"{path}/nvidia/*/lib" for path in sys.path if path)]
    for place in places:
        for found in sorted(glob.glob(f"{place}/{name}"), reverse=True):
            return str(Path(found).parent)
    return None


def missing_libraries(path):
    """Shared libraries that the loader does not find for this program."""
    env = dict(environment(), LD_TRACE_LOADED_OBJECTS="1")
    listed = subprocess.run([str(path)], env=env, capture_output=True, text=True).stdout
    return re.findall(r"^\s*(\S+) => not found", listed, re.M)


def has_package(name):
    try:
        importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def find_tool(name):
    """A tool of CUDA's, in PATH or in its usual places."""
    return shutil.which(name) or next(iter(
        sorted(glob.glob(f"/usr/local/cuda*/bin/{name}")
               + glob.glob(f"/usr/local/cuda*/compute-sanitizer/{name}")
               + glob.glob(f"/opt/nvidia/*/{name}"), reverse=True)), None)


def lacking(needs, emulated=False):
    """What a part needs and this machine lacks, in words."""
    found = []
    for name in needs.get("programs", ()):
        path = program(name, emulated)
        if not path.exists():
            found.append(f"{path.name} (not built, or without CUDA)")
        else:
            found += [f"{library} for {path.name}" for library in missing_libraries(path)]
    found += [name for name in needs.get("files", ()) if not (ROOT / name).exists()]
    if not emulated:
        found += [name for name in needs.get("tools", ()) if not find_tool(name)]
    found += [f"python3's {name}" for name in needs.get("packages", ()) if not has_package(name)]
    return found


# --- the GPU ---


def told_by_driver(trouble):
    """Where our own program does not come to an answer, the driver's does."""
    driver = query_driver()
    return (f"{driver}; {trouble}", None) if driver else (None, trouble)


def find_gpu(emulated=False):
    """(description, None), or (None, why there is none)."""
    path = program("cria", emulated)
    if not path.exists():
        return None, f"{path} is not there"
    try:
        done = subprocess.run([str(path), "doctor", "--json"], env=environment(),
                              capture_output=True, text=True, timeout=DOCTOR_LIMIT)
        gpu = {c["name"]: c["found"] for c in json.loads(done.stdout)["checks"]}["gpu"]
    except subprocess.TimeoutExpired:  # it runs each wrapper: the parts will tell which one hangs
        return told_by_driver(f"cria doctor did not end in {DOCTOR_LIMIT} s")
    except (ValueError, KeyError):
        return told_by_driver(f"cria doctor ended with {done.returncode}: "
                              f"{done.stderr.strip()[-300:]}")
    for start in ("none: ", "not used: "):
        if gpu.startswith(start):
            return None, gpu[len(start):]
    return gpu, None


class Memory(ctypes.Structure):
    _fields_ = [(name, ctypes.c_ulonglong) for name in ("total", "free", "used")]


def load_nvml():
    """The driver's library, wherever it lies; None where it does not."""
    places = ["libnvidia-ml.so.1"]
    for folder in ("/usr/local/nvidia/lib*", "/usr/lib/x86_64-linux-gnu", "/usr/lib64", "/usr/lib"):
        places += glob.glob(f"{folder}/libnvidia-ml.so.1")
    for place in places:
        try:
            return ctypes.CDLL(place)
        except OSError:
            pass
    return None


class Nvml:
    """Bytes used on GPU 0, as the driver's own library tells; None where there is none."""

    def __init__(self):
        self.handle, self.library = None, load_nvml()
        handle = ctypes.c_void_p()
        if (self.library and self.library.nvmlInit_v2() == 0
                and self.library.nvmlDeviceGetHandleByIndex_v2(0, ctypes.byref(handle)) == 0):
            self.handle = handle

    def used(self):
        m = Memory()
        if self.handle and self.library.nvmlDeviceGetMemoryInfo(self.handle, ctypes.byref(m)) == 0:
            return m.used
        return None


def query_driver():
    tool = shutil.which("nvidia-smi")
    if not tool:
        return None
    done = subprocess.run([tool, "--query-gpu=name,driver_version,memory.total,clocks.max.sm",
                           "--format=csv,noheader"], capture_output=True, text=True)
    return done.stdout.strip() or None


# --- the whole of it, for the JSON ---


def commit():
    said = ROOT / "COMMIT"  # in a carried folder
    if said.exists():
        return said.read_text().strip()

    def git(*words):
        return subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True).stdout

    changed = git("status", "--porcelain", "--untracked-files=no").strip()
    return git("rev-parse", "--short=12", "HEAD").strip() + (" with changes" if changed else "")


def describe(gpu, why):
    cpu = re.search(r"model name\s*:\s*(.*)", Path("/proc/cpuinfo").read_text())
    return {
        "commit": commit(), "date": time.strftime("%Y-%m-%d"), "gpu": gpu, "no_gpu": why,
        "driver": query_driver(), "cpu": cpu[1] if cpu else "unknown",
        "cores": len(os.sched_getaffinity(0)), "python": sys.version.split()[0],
        "peers": {name: importlib.metadata.version(name) for name in PEERS if has_package(name)},
    }
