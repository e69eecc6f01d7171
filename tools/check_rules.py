"""House rules that need a look at the source: who may include whom, banned calls, long functions
and files, PTX wrappers that no device would be asked about. Prints each breach as FILE:LINE: TEXT; exits with 1 if there is any."""

import os
import re
import subprocess
import sys

MAX_FUNCTION = 80  # lines between the braces
MAX_FILE = 800

# Who may include whom (ARCHITECTURE.md). A room always sees itself; tests see everything.
TAPE = {"trainer/base", "kernels", "trainer/autograd"}
MAY_INCLUDE = {
    "trainer/base": set(),
    "kernels": {"trainer/base"},
    "trainer/autograd": {"trainer/base", "kernels"},
    "trainer/model": TAPE,
    "trainer/adapter": TAPE,
    "trainer/objective": TAPE,
    "trainer/optim": TAPE,
    "data": {"trainer/base"},
    "trainer/config": {"trainer/base"},
    "trainer/ckpt": {"trainer/base"},
    "trainer/dist": {"trainer/base"},
    "trainer/run": TAPE
    | {f"trainer/{room}" for room in "model adapter objective optim ckpt config dist".split()}
    | {"data"},
    "trainer/cli": {"trainer/base", "trainer/run", "trainer/config"},
}

# Headers of libraries, and the folders that may see them.
LIBRARIES = [
    (r"hdf5.*\.h", ["data/store"]),
    (r"((cuda|cublas|cudnn|nvrtc|cooperative_groups).*|mma\.h)", ["kernels/cuda"]),
    (r"(nccl|mpi).*\.h", ["trainer/dist"]),
    (r"(cblas|openblas|dnnl).*\.h", ["kernels"]),
    (r"yaml\.h", ["trainer/config", "data/template"]),
    (r"(histedit|editline|readline|history)\.h", ["trainer/cli"]),
    (r"(pcre2|utf8proc)\.h", ["data"]),
]

# Calls, where they are allowed all the same, and what to use.
HEAP = "malloc calloc realloc free strdup strndup asprintf vasprintf aligned_alloc posix_memalign"
BANNED = [
    ("strcpy strcat stpcpy strncpy sprintf vsprintf gets", [], "snprintf or base/buf.h"),
    ("atoi atol atoll atof", [], "strtol or strtod, and look at the end"),
    ("strtok rand srand system popen alloca setlocale", [], "something reentrant and bounded"),
    # json.c: jansson gives its text away as malloc made it
    (HEAP, ["trainer/base/mem.c", "trainer/base/json.c", "kernels/emu", "tests"], "base/mem.h"),
    ("exit _exit quick_exit abort", ["trainer/cli", "kernels/bench", "kernels/emu", "tests", "tools"], "return a status"),
    ("signal sigaction", ["trainer/cli/signals.c", "trainer/cli/pager.c", "trainer/cli/main.c", "tests"],
     "cli/signals.h: a handler on a computing thread's stack breaks oneDNN's products"),
    ("printf vprintf puts putchar perror", ["trainer/cli", "kernels/bench", "tests", "tools"], "base/log.h"),
]

breaches = []


def breach(path, line, text):
    breaches.append(f"{path}:{line}: {text}")


def within(path, folders):
    return any(path == folder or path.startswith(folder + "/") for folder in folders)


def room_of(path):
    return next((room for room in MAY_INCLUDE if within(path, [room])), None)


def blank(match):
    return re.sub(r"[^\n]", " ", match.group())


def without_comments(text):
    """Comments, and (second result) strings too, as blanks: lines stay where they are."""
    token = re.compile(r'/\*.*?\*/|//[^\n]*|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\'', re.S)
    code = token.sub(lambda m: blank(m) if m.group().startswith("/") else m.group(), text)
    return code, token.sub(blank, code)


def check_include(path, line, quoted, name):
    room = room_of(path)
    if not quoted:
        for pattern, folders in LIBRARIES:
            if re.fullmatch(pattern, os.path.basename(name)) and not within(path, folders):
                breach(path, line, f"<{name}> is for {', '.join(folders)} only")
        return
    places = [os.path.dirname(path), "trainer", ""]
    targets = [os.path.normpath(os.path.join(place, name)) for place in places]
    target = next((t for t in targets if os.path.exists(t)), None)
    if target is None:
        breach(path, line, f'"{name}" does not exist')
    elif within(target, ["tests", "tools"]) and not within(path, ["tools"]):
        breach(path, line, f"nobody includes {target}")
    elif room and room_of(target) != room and room_of(target) not in MAY_INCLUDE[room]:
        breach(path, line, f"{room} must not include {target}")


def check_file(path):
    with open(path, encoding="utf-8") as f:
        code, bare = without_comments(f.read())
    lines = bare.split("\n")
    if len(lines) - 1 > MAX_FILE:
        breach(path, len(lines) - 1, f"longer than {MAX_FILE} lines")
    if not within(path, ["tests"]):
        for i, text in enumerate(code.split("\n"), 1):
            found = re.match(r'\s*#\s*include\s*([<"])([^>"]+)', text)
            if found:
                check_include(path, i, found[1] == '"', found[2])
    for names, folders, instead in BANNED:
        if within(path, folders):
            continue
        call = re.compile(r"(?<![\w.>])(%s)\s*\(" % "|".join(names.split()))
        for i, text in enumerate(lines, 1):
            for found in call.finditer(text):
                breach(path, i, f"{found[1]} is banned here: {instead}")
    if not within(path, ["trainer/cli", "kernels/bench", "kernels/emu", "tests", "tools"]):
        for i, text in enumerate(lines, 1):
            if re.search(r"\b(stdout|stderr)\b", text):
                breach(path, i, "libraries print nothing: base/log.h")
    start = 0  # the format puts a function's braces, and only them, at the start of a line
    for i, text in enumerate(lines, 1):
        if text.startswith("{") and not lines[i - 2].startswith("namespace"):
            start = i
        elif text.startswith("}") and start:
            if i - start - 1 > MAX_FUNCTION:
                breach(path, start, f"a function of {i - start - 1} lines, {MAX_FUNCTION} at most")
            start = 0


def check_wrappers():
    """What only a device can prove is run on one: each wrapper of PTX by wrappers.cu."""
    rows = ["kernels/cuda/wrappers.cu", "kernels/cuda/wrappers_hopper.cuh"]
    called = ""
    for path in rows:
        with open(path, encoding="utf-8") as f:
            called += f.read()
    for wrappers in ["kernels/cuda/ptx.cuh", "kernels/cuda/hopper.cuh"]:
        with open(wrappers, encoding="utf-8") as f:
            for i, text in enumerate(f, 1):
                found = re.match(r"(?:template <.*> )?DEVICE .*?(\w+)\(", text)
                if found and not re.search(r"\b%s\b *[(<]" % found[1], called):
                    breach(wrappers, i, f"{found[1]} has no row in {rows[0]}")


def check_programs():
    """What was built does not belong here: in git, or about to be."""
    listed = subprocess.run(["git", "ls-files", "-co", "--exclude-standard"], check=True,
                            capture_output=True, text=True).stdout.split("\n")
    for path in listed:
        if path and os.path.isfile(path):
            with open(path, "rb") as f:
                if f.read(4) in (b"\x7fELF", b"!<ar"):
                    breach(path, 1, "a program or library: remove it")


def main():
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard", "--", "*.c", "*.h", "*.cc", "*.cu", "*.cuh"],
        check=True, capture_output=True, text=True).stdout.split("\n")
    paths = sorted(path for path in listed if path and os.path.exists(path))
    for path in paths:
        check_file(path)
    check_wrappers()
    check_programs()
    print("\n".join(breaches + [f"rules: {len(paths)} files, {len(breaches)} breaches"]))
    return 1 if breaches else 0


if __name__ == "__main__":
    sys.exit(main())
