#!/usr/bin/env python3
"""Prepares libtorch for `cargo build`: fetches it into the cache and links it as .libtorch in the checkout.

By default that is a CPU libtorch: headers and the five libraries that are needed, out of the 531 MB CUDA wheel that is the
only Linux build on the package index, and NVRTC, which compiles our CUDA kernels and needs no GPU for it. With --cuda it is
all of it with NVIDIA's libraries. The same binary runs with both.
"""

import argparse
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

import tree
from wheels import SetupError, Wheel, cache_dir, fetch

VERSION = "2.11.0"
CHECKOUT = Path(__file__).resolve().parents[2]

TORCH = Wheel(
    "torch-2.11.0-cp311-cp311-manylinux_2_28_x86_64.whl",
    "7aa2f9bbc6d4595ba72138026b2074be1233186150e9292865e04b7a63b8c67a",
    531,
)
CUDA_RUNTIME = Wheel(
    "nvidia_cuda_runtime-13.0.96-py3-none-manylinux2014_x86_64.manylinux_2_17_x86_64.whl",
    "7f82250d7782aa23b6cfe765ecc7db554bd3c2870c43f3d1821f1d18aebf0548",
    2,
)
CUPTI = Wheel(
    "nvidia_cuda_cupti-13.0.85-py3-none-manylinux_2_25_x86_64.whl",
    "4eb01c08e859bf924d222250d2e8f8b8ff6d3db4721288cf35d14252a4d933c8",
    11,
)
NVRTC = Wheel(
    "nvidia_cuda_nvrtc-13.0.88-py3-none-manylinux2010_x86_64.manylinux_2_12_x86_64.whl",
    "ad9b6d2ead2435f11cbb6868809d2adeeee302e9bb94bcf0539c7a40d80e8575",
    90,
)

# What torch 2.11.0 requires from NVIDIA beyond these three; its Python-only requirements are left out.
CUDA_ONLY = [
    Wheel(
        "nvidia_cublas-13.1.0.3-py3-none-manylinux_2_27_x86_64.whl",
        "ee8722c1f0145ab246bccb9e452153b5e0515fd094c3678df50b2a0888b8b171",
        423,
    ),
    Wheel(
        "nvidia_cudnn_cu13-9.19.0.56-py3-none-manylinux_2_27_x86_64.whl",
        "d20e1734305e9d68889a96e3f35094d733ff1f83932ebe462753973e53a572bf",
        366,
    ),
    Wheel(
        "nvidia_cufft-12.0.0.61-py3-none-manylinux2014_x86_64.manylinux_2_17_x86_64.whl",
        "6c44f692dce8fd5ffd3e3df134b6cdb9c2f72d99cf40b62c32dde45eea9ddad3",
        214,
    ),
    Wheel(
        "nvidia_cufile-1.15.1.6-py3-none-manylinux2014_x86_64.manylinux_2_17_x86_64.whl",
        "08a3ecefae5a01c7f5117351c64f17c7c62efa5fffdbe24fc7d298da19cd0b44",
        1,
    ),
    Wheel(
        "nvidia_curand-10.4.0.35-py3-none-manylinux_2_27_x86_64.whl",
        "1aee33a5da6e1db083fe2b90082def8915f30f3248d5896bcec36a579d941bfc",
        60,
    ),
    Wheel(
        "nvidia_cusolver-12.0.4.66-py3-none-manylinux_2_27_x86_64.whl",
        "0a759da5dea5c0ea10fd307de75cdeb59e7ea4fcb8add0924859b944babf1112",
        201,
    ),
    Wheel(
        "nvidia_cusparse-12.6.3.3-py3-none-manylinux2014_x86_64.manylinux_2_17_x86_64.whl",
        "2b3c89c88d01ee0e477cb7f82ef60a11a4bcd57b6b87c33f789350b59759360b",
        146,
    ),
    Wheel(
        "nvidia_cusparselt_cu13-0.8.0-py3-none-manylinux2014_x86_64.whl",
        "25e30a8a7323935d4ad0340b95a0b69926eee755767e8e0b1cf8dd85b197d3fd",
        170,
    ),
    Wheel(
        "nvidia_nccl_cu13-2.28.9-py3-none-manylinux_2_18_x86_64.whl",
        "e4553a30f34195f3fa1da02a6da3d6337d28f2003943aa0a3d247bbc25fefc42",
        196,
    ),
    Wheel(
        "nvidia_nvjitlink-13.0.88-py3-none-manylinux2010_x86_64.manylinux_2_12_x86_64.whl",
        "13a74f429e23b921c1109976abefacc69835f2f433ebd323d3946e11d804e47b",
        41,
    ),
    Wheel(
        "nvidia_nvshmem_cu13-3.4.5-py3-none-manylinux2014_x86_64.manylinux_2_17_x86_64.whl",
        "290f0a2ee94c9f3687a02502f3b9299a9f9fe826e6d0287ee18482e78d495b80",
        60,
    ),
    Wheel(
        "nvidia_nvtx-13.0.85-py3-none-manylinux1_x86_64.manylinux_2_5_x86_64.whl",
        "4936d1d6780fbe68db454f5e72a42ff64d1fd6397df9f363ae786930fd5c1cd4",
        1,
    ),
]


def unpack_cpu(downloads, new):
    """The headers, what libtorch_cpu.so needs beside it, NVIDIA's compiler of kernels, and an empty libtorch.so.

    libtorch_cpu.so of a CUDA wheel wants libcudart and libcupti even where there is no GPU, and looks beside itself only.
    """
    libraries = ["libtorch_cpu.so", "libc10.so", "libgomp.so.1"]
    members = {f"torch/lib/{name}": f"lib/{name}" for name in libraries}
    tree.unzip(fetch(TORCH, downloads), new, {"torch/include/": "include", **members})
    beside = [
        (CUDA_RUNTIME, ["libcudart.so.13"]),
        (CUPTI, ["libcupti.so.13"]),
        (NVRTC, ["libnvrtc.so.13", "libnvrtc-builtins.so.13.0"]),
    ]
    for wheel, names in beside:
        tree.unzip(fetch(wheel, downloads), new, {f"nvidia/cu13/lib/{name}": f"lib/{name}" for name in names})
    link_stub(new / "lib" / "libtorch.so")
    (new / "build-version").write_text(VERSION + "\n", encoding="ascii")


def unpack_cuda(downloads, new):
    """torch and NVIDIA's libraries side by side, as pip would lay them out: they find each other by relative paths."""
    fetched = [fetch(wheel, downloads) for wheel in [TORCH, CUDA_RUNTIME, CUPTI, NVRTC, *CUDA_ONLY]]
    tree.unzip(fetched[0], new, {"torch/include/": "torch/include", "torch/lib/": "torch/lib"})
    for wheel in fetched[1:]:
        tree.unzip(wheel, new, {"nvidia/": "nvidia"}, keep=lambda name: ".so" in name or "/include/" in name)
    (new / "torch" / "build-version").write_text(VERSION + "\n", encoding="ascii")


def link_stub(path):
    """An empty shared library: started with a CUDA libtorch on the library path, the real one takes its place."""
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        raise SetupError("no C compiler; install one (Debian, Ubuntu: apt install gcc g++ make) and repeat the command")
    command = [compiler, "-shared", "-Wl,-soname,libtorch.so", "-o", str(path), "-x", "c", "/dev/null"]
    made = subprocess.run(command, capture_output=True, text=True, check=False)
    if made.returncode != 0:
        raise SetupError(f"{' '.join(command)} failed:\n{made.stderr.strip()}")


def problem_of(libtorch):
    """Why a directory cannot serve as LIBTORCH, or None."""
    for name in ["lib/libtorch_cpu.so", "lib/libc10.so", "lib/libtorch.so", "include/torch/csrc/api/include/torch/torch.h"]:
        if not (libtorch / name).is_file():
            return f"has no {name}"
    version = libtorch / "build-version"
    if version.is_file() and version.read_text(encoding="utf-8").strip().split("+")[0] != VERSION:
        return f"is version {version.read_text(encoding='utf-8').strip()}"
    return None


def check_platform():
    """The pinned libraries run on one kind of machine; any other brings its own libtorch."""
    libc, libc_version = platform.libc_ver()
    here = f"{platform.system()} on {platform.machine()}"
    remedy = f"get libtorch {VERSION} for it and set LIBTORCH to its directory, or use a PyTorch {VERSION} with LIBTORCH_USE_PYTORCH=1"
    if (platform.system(), platform.machine()) != ("Linux", "x86_64"):
        raise SetupError(f"the packaged libtorch is for Linux on x86_64 and this is {here}; {remedy}")
    if libc != "glibc" or tuple(int(part) for part in libc_version.split(".")[:2]) < (2, 28):
        raise SetupError(f"the packaged libtorch needs glibc 2.28 or newer and this is {libc or 'another libc'} {libc_version}; {remedy}")


def check_pytorch():
    """torch-sys asks `python3` for its torch, or `python` in a virtual environment; so does this."""
    python = "python" if os.environ.get("VIRTUAL_ENV") else "python3"
    try:
        asked = subprocess.run([python, "-c", "import torch; print(torch.__version__)"], capture_output=True, text=True, check=False)
        found = asked.stdout.strip() if asked.returncode == 0 else (asked.stderr.strip().splitlines() or ["no answer"])[-1]
    except OSError as error:
        found = str(error)
    if found.split("+")[0] != VERSION:
        raise SetupError(
            f"LIBTORCH_USE_PYTORCH is set and {python} must import torch {VERSION}, but: {found}; "
            f"install it ({python} -m pip install torch=={VERSION}) or unset LIBTORCH_USE_PYTORCH"
        )
    print(f"libtorch: the PyTorch {found} of {python} (LIBTORCH_USE_PYTORCH; keep it set for cargo too)")


def point(link, target):
    """Makes `link` a symbolic link to `target` in one step."""
    if link.exists() and not link.is_symlink():
        raise SetupError(f"{link} is a directory that set-up did not make and {problem_of(link)}; move it away and repeat the command")
    fresh = link.with_name(f"{link.name}.{os.getpid()}")
    fresh.symlink_to(target)
    fresh.replace(link)


def prepare(cuda, link, cache):
    """Builds the wanted libtorch in the cache, unless it is whole there, and points `link` at it."""
    name = f"libtorch-{VERSION}-{'cu13' if cuda else 'cpu'}"
    root = cache / name
    pinned = [TORCH, CUDA_RUNTIME, CUPTI, NVRTC, *(CUDA_ONLY if cuda else [])]
    recipe = {"layout": 1, "wheels": {wheel.filename: wheel.sha256 for wheel in pinned}}
    unpack = unpack_cuda if cuda else unpack_cpu
    with tree.locked(cache):
        made = tree.build(root, recipe, lambda new: unpack(cache / "downloads", new))
    libtorch = root / "torch" if cuda else root
    problem = problem_of(libtorch)
    if problem:
        raise SetupError(f"{libtorch} {problem} after unpacking; remove {root} and repeat the command")
    if not (link.is_symlink() and Path(os.readlink(link)) == libtorch):
        point(link, libtorch)
        made = True
    print(f"libtorch: {libtorch} ({'ready' if made else 'was ready'}, linked as {link.name})")


def prepare_nvrtc(libtorch, cache):
    """The compiler of kernels in the cache, for a libtorch that was brought and has none beside it."""
    folders = [libtorch / "lib", libtorch.parent / "nvidia" / "cu13" / "lib"]
    if any((folder / "libnvrtc.so.13").is_file() for folder in folders):
        return
    names = ["libnvrtc.so.13", "libnvrtc-builtins.so.13.0"]
    recipe = {"layout": 1, "wheels": {NVRTC.filename: NVRTC.sha256}}
    unpack = lambda new: tree.unzip(fetch(NVRTC, cache / "downloads"), new, {f"nvidia/cu13/lib/{name}": name for name in names})
    try:
        with tree.locked(cache):
            tree.build(cache / "nvrtc-13.0.88", recipe, unpack)
    except (SetupError, OSError) as error:
        print(f"note: no NVRTC, so CUDA kernels are not compiled here: {error}", file=sys.stderr)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cuda", action="store_true", help="all of libtorch with NVIDIA's libraries (5 GB on disk)")
    arguments = parser.parse_args()
    link = CHECKOUT / ".libtorch"
    if "LIBTORCH_USE_PYTORCH" in os.environ:
        return check_pytorch()
    if "LIBTORCH" in os.environ:
        libtorch = Path(os.environ["LIBTORCH"])
        problem = problem_of(libtorch)
        if problem:
            raise SetupError(f"LIBTORCH is {libtorch}, which {problem}; set it to a libtorch {VERSION}, or unset it to have one prepared")
        prepare_nvrtc(libtorch, cache_dir())
        return print(f"libtorch: {libtorch} (LIBTORCH; keep it set for cargo too)")
    cache = cache_dir()
    ours = link.is_symlink() and cache in Path(os.readlink(link)).parents
    linked_cuda = ours and Path(os.readlink(link)).name == "torch"
    if link.exists() and not ours and not arguments.cuda and problem_of(link) is None:
        prepare_nvrtc(link.resolve(), cache)
        return print(f"libtorch: {link.resolve()} (where {link.name} leads already)")
    check_platform()
    # A checkout that was given CUDA keeps it: `make test` after `make libtorch CUDA=1` does not undo that.
    return prepare(arguments.cuda or linked_cuda, link, cache)


if __name__ == "__main__":
    try:
        main()
    except (SetupError, OSError) as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit("\nstopped; the same command goes on where it stopped")
