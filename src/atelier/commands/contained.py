"""The process in which ``painters grade`` runs readers' functions; it knows no solution and judges nothing.

It imports torch once. For each exercise it forks a warden, which forks the reader's process and kills it, with all that
it started, when its time is over. What that process sends is data: whoever forges it has answered, and no more. The
solutions are not in its memory nor, in namespaces of its own, in any file that it sees: its root holds Python and the
packages, read-only, without ``atelier.exercises``. It has no network, sees no other process, and may write 16 MB.
"""

from __future__ import annotations

import ast
import ctypes
import json
import marshal
import os
import pickle
import re
import resource
import select
import signal
import sys
import time
import types
from collections.abc import Callable, Iterable
from importlib import import_module
from pathlib import Path
from typing import Any

OURS = "the package's solution (atelier.exercises) is no answer: it scores nothing"
UNWRITTEN = "not written yet"
MEMORY, LARGEST, FILE, PROCESSES = 1 << 30, 1 << 24, 1 << 24, 16
"""Bytes beyond those of Python and torch, of an answer, and of a file; and how many processes and threads."""
ROOT_HAS = ("/usr", "/bin", "/lib", "/lib64", "/etc/alternatives", "/etc/ld.so.cache", "/dev/null", "/dev/urandom")

SCRATCH = "scratch"
"""The one folder that can be written to; not /tmp, where the packages may be."""

Cell = tuple[str, str | None, str | None]
"""The source of a code cell, and of which exercise it says it is, and in what role."""


def rebuild(code: bytes, modules: dict[str, str], defaults: tuple | None, values: list) -> Callable[..., Any]:
    """Make a function again that was sent by value, as it stands in a module that must not be imported here."""
    names: dict[str, Any] = {name: import_module(module) for name, module in modules.items()}
    closure = tuple(types.CellType(value) for value in values)
    return types.FunctionType(marshal.loads(code), names, "given", defaults, closure)


# Which code is run


def bound(statement: ast.stmt) -> set[str]:
    """The names that a statement of a module sets."""
    if isinstance(statement, ast.FunctionDef | ast.ClassDef):
        return {statement.name}
    if isinstance(statement, ast.Import | ast.ImportFrom):
        return {(alias.asname or alias.name).split(".")[0] for alias in statement.names}
    return {n.id for n in ast.walk(statement) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}


def read(nodes: Iterable[ast.AST]) -> set[str]:
    """All names in some code."""
    return {node.id for top in nodes for node in ast.walk(top) if isinstance(node, ast.Name)}


def checks(node: ast.AST) -> bool:
    """Whether a piece of code is the page's call ``exercise(...)``."""
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "exercise"


def helps(statement: ast.stmt) -> bool:
    """Whether a statement of another cell may be run: an import, a definition, a literal, and nothing that computes."""
    if isinstance(statement, ast.Assign):
        return all(isinstance(n, ast.Constant | ast.Tuple | ast.List | ast.Load) for n in ast.walk(statement.value))
    return isinstance(statement, ast.Import | ast.ImportFrom | ast.FunctionDef | ast.ClassDef)


def parsed(source: str) -> ast.Module | Exception:
    """Parse a cell; lines for Jupyter are left out."""
    try:
        return ast.parse(re.sub(r"^\s*[%!].*", "", source, flags=re.M))
    except Exception as error:
        return error


def selected(cells: list[Cell], label: str) -> tuple[str, list[ast.stmt], list[ast.stmt]]:
    """Return the name of the reader's function, the statements of other cells that it needs, and those that define it.

    Raises ``LookupError`` if there is no such function, or what is wrong with its cell if that is no Python.
    """
    trees = [parsed(source) for source, _, _ in cells]
    bodies = [tree.body if isinstance(tree, ast.Module) else [] for tree in trees]
    name = None
    for body, (_, of, role) in zip(bodies, cells):
        if of == label and role == "answer":
            name = next((n for s in body for n in bound(s) if n.startswith("my_")), name)
    for call in (node for body in bodies for s in body for node in ast.walk(s) if checks(node)):
        match getattr(call, "args", []):
            case [ast.Constant(value=of), ast.Name(id=called)] if of == label:
                name = called
    own = [[not checks(getattr(s, "value", s)) for s in body if name in bound(s)] for body in bodies]
    own = [i for i, found in enumerate(own) if any(found)] or [i for i, found in enumerate(own) if found]
    if name is None or not own:
        for tree, (source, of, role) in zip(trees, cells):
            if isinstance(tree, Exception) and ((of == label and role == "answer") or f"def {name}" in source):
                raise tree
        raise LookupError(f"there is no function {name or 'my_...'} for this exercise")
    body = [s for i in own for s in bodies[i]]
    others = [s for i, other in enumerate(bodies) if i not in own for s in other if helps(s)]
    needed, taken = read(body), set()
    while new := {i for i, s in enumerate(others) if i not in taken and bound(s) & needed}:
        taken |= new
        needed |= read(others[i] for i in new)
    return name, [others[i] for i in sorted(taken)], body


class _Locked:
    """Refuses to import the solutions, also where the file system still has them."""

    def find_spec(self, name: str, *_: object) -> None:
        if name.startswith("atelier.exercises"):
            raise ImportError(OURS)


def _exercise(label: str, student: Any = None) -> Any:
    """What ``exercise`` is in the reader's cells: no check, and never a solution."""

    def solution(*arguments: object) -> None:
        raise ImportError(OURS)

    return student or solution


def answered(cells: list[Cell], label: str, inputs: bytes) -> bytes:
    """Run a reader's function on all inputs: ``T`` and its values as safetensors, or ``E`` and one sentence."""
    import numpy as np
    import torch
    from safetensors.torch import save

    def plain(value: Any) -> torch.Tensor:
        tensor = value if isinstance(value, torch.Tensor) else torch.as_tensor(np.asarray(value))
        return tensor.detach().cpu().contiguous().clone()

    try:
        name, helpers, body = selected(cells, label)
        names: dict[str, Any] = {"__name__": "__main__", "exercise": _exercise}
        problem = None
        for statement in helpers + body:  # what fails may need the chapter, and not be needed
            try:
                exec(compile(ast.Module([statement], []), "<notebook>", "exec"), names)
            except BaseException as error:
                problem = problem or error
                names |= dict.fromkeys(bound(statement), _exercise("")) if OURS in str(error) else {}
        if problem and name not in names:
            raise problem
        values: dict[str, torch.Tensor] = {}
        for i, arguments in enumerate(pickle.loads(inputs)):
            got = names[name](*arguments)
            if got is None or got is NotImplemented:
                return b"E" + UNWRITTEN.encode()
            parts = {f"{i}.{j}": x for j, x in enumerate(got)} if isinstance(got, tuple) else {f"{i}": got}
            values |= {key: plain(x) for key, x in parts.items()}
        return b"T" + save(values)
    except NotImplementedError:
        return b"E" + UNWRITTEN.encode()
    except LookupError as error:
        return b"E" + (error.args[0] if type(error) is LookupError else f"{type(error).__name__}: {error}").encode()
    except BaseException as error:
        try:
            text = OURS if OURS in str(error) else f"{type(error).__name__}: {error}"
        except BaseException:
            text = "an error that cannot be shown"
        return b"E" + text[:2000].encode(errors="replace")


# What holds it


def _libc(name: str, *arguments: object) -> None:
    """Call a function of the C library that returns 0 if all is well."""
    libc = ctypes.CDLL(None, use_errno=True)
    if getattr(libc, name)(*(x.encode() if isinstance(x, str) else x for x in arguments)):
        raise OSError(ctypes.get_errno(), f"{name}: {os.strerror(ctypes.get_errno())}")


def unshare() -> None:
    """Leave the namespaces of mounts, processes, network and the like; by a new one of users unless root."""
    user, group, root = os.getuid(), os.getgid(), os.getuid() == 0
    _libc("unshare", 0x6E020000 | (0 if root else 0x10000000))  # NEWNS, UTS, IPC, PID, NET, and USER
    if not root:
        for name, text in (("setgroups", "deny"), ("uid_map", f"{user} {user} 1"), ("gid_map", f"{group} {group} 1")):
            Path("/proc/self", name).write_text(text)


def contain(folder: str, user: int) -> None:
    """Make a new read-only root of what Python needs, go there, and give up every right."""
    bind, private, here = 0x1000 | 0x4000, 0x4000 | 0x40000, "/"  # BIND, REC; REC, PRIVATE
    _libc("mount", None, here, None, private, None)
    _libc("mount", "root", folder, "tmpfs", 0, "mode=755,size=1m")
    packages = [str(Path(import_module(name).__file__ or "").parent.parent) for name in ("torch", "painters")]
    wanted = {p for path in (sys.prefix, sys.base_prefix, *packages) for p in (path, os.path.realpath(path))}
    for path in sorted(wanted | {p for p in ROOT_HAS if os.path.exists(p)}):
        target = Path(folder + path)
        if target.exists():
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        if os.path.islink(path) and path in ROOT_HAS:
            target.symlink_to(os.readlink(path))
            continue
        (target.mkdir if os.path.isdir(path) else target.touch)()
        _libc("mount", path, str(target), None, bind, None)
    solutions = Path(import_module("atelier").__path__[0], "exercises")
    for path in {solutions, solutions.resolve()}:
        _libc("mount", "none", folder + str(path), "tmpfs", 0, "mode=755,size=1m")
    for name in ("proc", SCRATCH):
        Path(folder, name).mkdir(exist_ok=True)
    _libc("mount", "proc", f"{folder}/proc", "proc", 0xE, None)
    read_only = (ctypes.c_uint64 * 4)(3, 0, 0, 0)  # RDONLY, NOSUID; for all below, by mount_setattr
    _libc("syscall", 442, -1, ctypes.c_char_p(folder.encode()), 0x8000, ctypes.byref(read_only), ctypes.c_size_t(32))
    _libc("mount", "tmp", f"{folder}/{SCRATCH}", "tmpfs", 6, f"mode=1777,size={FILE}")
    os.chdir(folder)
    _libc("pivot_root", ".", ".")
    _libc("umount2", ".", 2)
    os.chdir(f"/{SCRATCH}")
    os.environ["TMPDIR"] = f"/{SCRATCH}"
    if os.getuid() == 0:
        os.setgroups([])
        os.setresgid(user, user, user)
        os.setresuid(user, user, user)
    _libc("capset", (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)())


def limit(seconds: float) -> None:
    """Bound what a process may use; the first to go when memory is short."""
    pages = int(Path("/proc/self/statm").read_text().split()[0]) if os.path.exists("/proc/self/statm") else 1 << 18
    Path("/proc/self/oom_score_adj").write_text("1000") if os.path.exists("/proc/self/oom_score_adj") else None
    space, cpu = pages * resource.getpagesize() + MEMORY, int(seconds) + 1
    bounds = {"AS": space, "CPU": cpu, "FSIZE": FILE, "NPROC": PROCESSES, "NOFILE": 64, "CORE": 0}
    for name, most in bounds.items():
        resource.setrlimit(getattr(resource, f"RLIMIT_{name}"), (most, most))


def reader(folder: str, seconds: float, contained: bool, user: int, pipe: int) -> None:
    """The reader's process, from its start to its end."""
    os.setsid()  # a signal to its group must not reach the warden
    _libc("prctl", 1, signal.SIGKILL, 0, 0, 0) if sys.platform == "linux" else None  # it dies with the warden
    cells, label, inputs = pickle.loads(Path(folder, "job").read_bytes())
    Path(folder, "job").unlink()
    null = os.open("/dev/null", os.O_RDWR)
    for number in (0, 1, 2):
        os.dup2(null, number)
    os.dup2(pipe, 3)
    os.closerange(4, 1 << 16)
    limit(seconds)
    contain(folder, user) if contained else os.chdir(folder)
    sys.meta_path.insert(0, _Locked())  # type: ignore[arg-type]
    data = answered(cells, label, inputs) if label else b"T"
    while data:
        data = data[os.write(3, data) :]
    os._exit(0)


def warden(folder: str, seconds: float, contained: bool) -> bytes:
    """Start the reader's process, return what it sends, and end it and all that it started."""
    os.setsid()
    if sys.platform == "linux":
        _libc("prctl", 36, 1, 0, 0, 0)  # orphans of the reader's process become the warden's
        _libc("prctl", 1, signal.SIGKILL, 0, 0, 0)  # it dies with its parent, stopped or not
        if contained:
            unshare()
    (ours, theirs), user = os.pipe(), 60000 + os.getpid() % 5000
    if not (child := os.fork()):
        try:
            reader(folder, seconds, contained, user, theirs)
        except BaseException as error:
            os.write(theirs, f"E{error}".encode()[:2000])
        finally:
            os._exit(1)
    os.close(theirs)
    end, data, more = time.monotonic() + seconds, bytearray(), b"-"
    while more and len(data) <= LARGEST and (left := end - time.monotonic()) > 0:
        if select.select([ours], [], [], left)[0]:
            data += (more := os.read(ours, 1 << 20))
    time.sleep(0 if data or more else 0.05)  # it sent nothing: let it end by itself
    os.kill(child, signal.SIGKILL)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    tree = Path("/proc/self/task", str(os.getpid()), "children")
    while not contained and tree.exists() and (left := tree.read_text().split()):
        for number in map(int, left):
            os.kill(number, signal.SIGKILL)
            os.waitpid(number, 0)
    if more:
        why = f"sent more than {LARGEST >> 20} MB" if len(data) > LARGEST else f"took longer than {seconds:g} s"
        return f"E{why}".encode()
    ended = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended its process with status {code}"
    return bytes(data) or f"E{ended} and returned nothing".encode()


def main() -> None:
    """Do one order after the other: a folder, seconds, and whether in namespaces of its own."""
    for name in ("torch", "painters"):
        import_module(name)
    import_module("torch").set_num_threads(1)
    channel = os.dup(1)
    os.dup2(2, 1)

    def send(data: bytes) -> None:
        with open(channel, "wb", closefd=False) as file:
            file.write(len(data).to_bytes(8, "big") + data)

    for line in sys.stdin:
        if child := os.fork():
            if os.waitpid(child, 0)[1]:  # it was killed before it answered
                send(b"Eit ended the process that watches it")
            continue
        try:
            data = warden(*json.loads(line))
        except BaseException as error:
            data = f"E{error}".encode()
        send(data)
        os._exit(0)


if __name__ == "__main__":
    main()
