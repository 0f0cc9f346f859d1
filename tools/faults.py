"""Small faults that a program can be given, one at a time: what `tools/mutants.py` asks the tests to find.

A fault replaces one expression or statement, in the text of a module, by another that still runs. What nobody would
call wrong is left alone: docstrings, error messages, formatted text, annotations, decorators, progress bars, seeds,
and guards against division by zero.
"""

from __future__ import annotations

import ast
import random
from collections.abc import Iterator
from dataclasses import asdict, dataclass

OTHER: dict[type[ast.AST], tuple[type[ast.AST], ...]] = {
    ast.Lt: (ast.LtE, ast.GtE),
    ast.LtE: (ast.Lt, ast.Gt),
    ast.Gt: (ast.GtE, ast.LtE),
    ast.GtE: (ast.Gt, ast.Lt),
    ast.Eq: (ast.NotEq,),
    ast.NotEq: (ast.Eq,),
    ast.Is: (ast.IsNot,),
    ast.IsNot: (ast.Is,),
    ast.In: (ast.NotIn,),
    ast.NotIn: (ast.In,),
    ast.Add: (ast.Sub,),
    ast.Sub: (ast.Add,),
    ast.Mult: (ast.Div,),
    ast.Div: (ast.Mult,),
    ast.FloorDiv: (ast.Div,),
    ast.Mod: (ast.FloorDiv,),
    ast.Pow: (ast.Mult,),
    ast.BitAnd: (ast.BitOr,),
    ast.And: (ast.Or,),
    ast.Or: (ast.And,),
}
PAIRS = "mean sum, min max, amin amax, argmin argmax, minimum maximum, any all, floor ceil, std var, sin cos, log exp"
PARTNER = {a: b for pair in PAIRS.split(", ") for a, b in (pair.split(), reversed(pair.split()))}
ALONG = set(PARTNER) - {"minimum", "maximum", "floor", "ceil", "sin", "cos", "log", "exp"}
ALONG |= {"norm"}
ORDERED = {"cumsum", "flip", "softmax", "logsumexp", "diff", "median", "cat", "stack"}
NO_VALUES = {"torch", "np", "math", "F", "stats", "self", "cls"}
SYMMETRIC = {"min", "max", "minimum", "maximum", "hypot", "isinstance", "allclose", "zip", "getattr", "hasattr"}
FLAGS = {"keepdim", "descending", "reverse", "largest", "unbiased", "replacement", "endpoint"}
SILENT = {
    "print",
    "tqdm",
    "warn",
    "debug",
    "info",
    "warning",
    "manual_seed",
    "set_description",
    "set_postfix",
    "update",
}
UNHEARD = {"progress", "disable", "leave", "desc", "message", "help", "stacklevel", "seed"}
GUARD = 1e-5


@dataclass(frozen=True)
class Fault:
    """One replacement in a module: bytes ``start`` to ``end`` of its text become ``after``.

    ``first`` to ``last`` are lines one of which runs whenever the fault can matter, 0 for what runs when the module is
    imported; ``at`` is the line it stands in.
    """

    module: str
    kind: str
    at: int
    first: int
    last: int
    start: int
    end: int
    before: str
    after: str

    def apply(self, text: str) -> str:
        """Return the text of the module with the fault in it."""
        data = text.encode()
        return (data[: self.start] + self.after.encode() + data[self.end :]).decode()

    def record(self) -> dict[str, str | int]:
        """Return the fault for JSON."""
        return asdict(self)


def find(text: str, module: str) -> list[Fault]:
    """Return every fault that a module can be given, in the order of its text."""
    return sorted(_Search(text, module).found, key=lambda fault: (fault.start, fault.end, fault.kind, fault.after))


def draw(faults: list[Fault], count: int, seed: int) -> list[Fault]:
    """Return ``count`` faults, their kinds in turn so that rare ones are tried too, no expression twice."""
    kinds = sorted({fault.kind for fault in faults})
    left = {kind: [fault for fault in faults if fault.kind == kind] for kind in kinds}
    for kind in kinds:
        random.Random(f"{seed} {kind}").shuffle(left[kind])
    drawn: dict[tuple[str, int, int], Fault] = {}
    while len(drawn) < count and any(left.values()):
        for kind in kinds:
            while left[kind] and len(drawn) < count:
                fault = left[kind].pop()
                if drawn.setdefault((fault.module, fault.start, fault.end), fault) is fault:
                    break
    return list(drawn.values())


def _name(call: ast.AST) -> str:
    """The last part of the name of what is called."""
    function = call.func if isinstance(call, ast.Call) else call
    return function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")


class _Search(ast.NodeVisitor):
    """Walks a module and notes what can be replaced by what."""

    def __init__(self, text: str, module: str) -> None:
        self.text, self.module, self.found = text, module, []
        lines = text.encode().splitlines(keepends=True)
        self.begins = [0]
        for line in lines:
            self.begins.append(self.begins[-1] + len(line))
        self.span, self.inside = (0, 0), False
        self.even: set[ast.AST] = set()
        """Differences whose sign does not matter."""
        self.visit(ast.parse(text))

    def note(self, kind: str, node: ast.AST, new: ast.AST) -> None:
        start = self.begins[node.lineno - 1] + node.col_offset  # type: ignore[attr-defined]
        end = self.begins[node.end_lineno - 1] + node.end_col_offset  # type: ignore[attr-defined]
        after = ast.unparse(ast.fix_missing_locations(new))
        if isinstance(new, ast.expr):
            after = f"({after})"
        before = self.text.encode()[start:end].decode()
        if ast.unparse(node) != ast.unparse(new):
            self.found.append(Fault(self.module, kind, node.lineno, *self.span, start, end, before, after))  # type: ignore[attr-defined]

    # What is walked

    def generic_visit(self, node: ast.AST) -> None:
        outer = self.span
        if isinstance(node, ast.stmt) and self.inside:
            body = getattr(node, "body", None)
            last = min(body[0].lineno - 1, node.end_lineno or 0) if body else node.end_lineno or 0
            self.span = (node.lineno, max(last, node.lineno))
        if isinstance(node, (ast.If, ast.IfExp, ast.While)) and not isinstance(
            node.test, (ast.Compare, ast.BoolOp, ast.UnaryOp)
        ):
            self.note("condition", node.test, ast.UnaryOp(ast.Not(), node.test))
        self.even.update(_unsigned(node))
        for kind, new in _changes(node):
            if not (kind == "swapped" and node in self.even):
                self.note(kind, node, new)
        super().generic_visit(node)
        self.span = outer

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        if node.name in ("__repr__", "__str__"):
            return
        body = node.body[1:] if ast.get_docstring(node) is not None else node.body
        outer = self.span, self.inside
        self.span, self.inside = (body[0].lineno if body else node.lineno, node.end_lineno or 0), True
        for default in [*node.args.defaults, *filter(None, node.args.kw_defaults)]:
            self.visit(default)
        for statement in body:
            self.visit(statement)
        self.span, self.inside = outer

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        for statement in node.body:
            self.visit(statement)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        if node.value is not None:
            outer, self.span = self.span, (node.lineno, node.end_lineno or 0) if self.inside else (0, 0)
            self.visit(node.value)
            self.span = outer

    def visit_Call(self, node: ast.Call) -> None:
        if _name(node) not in SILENT:
            self.generic_visit(node)

    def visit_keyword(self, node: ast.keyword) -> None:
        if node.arg not in UNHEARD:
            self.generic_visit(node)

    def visit_If(self, node: ast.If) -> None:
        if "TYPE_CHECKING" not in ast.dump(node.test):
            self.generic_visit(node)

    def left_alone(self, node: ast.AST) -> None:
        """Error messages, formatted text, and names of types."""

    visit_Raise = visit_JoinedStr = visit_Import = visit_ImportFrom = visit_Assert = left_alone
    visit_AsyncFunctionDef = left_alone


def _changes(node: ast.AST) -> Iterator[tuple[str, ast.AST]]:
    """Yield what a node can be replaced by, and what kind of fault that is."""
    match node:
        case ast.Compare(ops=[op]) if type(op) in OTHER:
            edge = any(
                isinstance(side, ast.Constant) or _name(side) == "len" for side in (node.left, *node.comparators)
            )
            for new in OTHER[type(op)][0 if edge else -1 :]:  # an edge between two real numbers is never met
                yield "comparison", ast.Compare(node.left, [new()], node.comparators)  # type: ignore[list-item]
        case ast.BoolOp():
            yield "condition", ast.BoolOp(OTHER[type(node.op)][0](), node.values)  # type: ignore[arg-type]
        case ast.BinOp(left=left, right=right) if type(node.op) in OTHER and not _text(left, right):
            yield "arithmetic", ast.BinOp(left, OTHER[type(node.op)][0](), right)  # type: ignore[arg-type]
            if isinstance(node.op, (ast.Sub, ast.Div)):
                yield "swapped", ast.BinOp(right, node.op, left)
        case ast.UnaryOp(op=ast.USub()):
            yield "sign", node.operand
        case ast.UnaryOp(op=ast.Not()):
            yield "condition", node.operand
        case ast.If(orelse=[]) | ast.AugAssign():
            yield "removed", ast.Pass()
        case ast.Constant(value=value) if type(value) is int:
            yield "constant", ast.Constant(value + 1)
            if value > 1:
                yield "constant", ast.Constant(value - 1)
        case ast.Constant(value=value) if type(value) is float and abs(value) > GUARD:
            yield "constant", ast.Constant(value * 2)
            yield "constant", ast.Constant(value / 2)
        case ast.Call():
            yield from _calls(node)
        case ast.Return(value=ast.BinOp(left=left, right=right)) if not _text(left, right):
            yield "sign", ast.Return(ast.UnaryOp(ast.USub(), node.value))  # type: ignore[arg-type]
            yield "earlier", ast.Return(left)
        case ast.Return(value=ast.Call(func=ast.Attribute(value=value), args=args)):
            if _name(value) not in NO_VALUES:
                yield "earlier", ast.Return(value)
            elif args:
                yield "earlier", ast.Return(args[0])
        case ast.Assign(targets=[ast.Name(id=name)], value=value) if _uses(value, name):
            yield "earlier", ast.Pass()
        case ast.Expr(value=ast.Call() as call) if _name(call) not in SILENT:
            yield "removed", ast.Pass()


def _unsigned(node: ast.AST) -> Iterator[ast.AST]:
    """Yield the difference that a node takes the size of."""
    match node:
        case ast.Call(func=ast.Name(id="abs"), args=[ast.BinOp(op=ast.Sub()) as inner]):
            yield inner
        case ast.Attribute(value=ast.BinOp(op=ast.Sub()) as inner, attr="abs" | "square" | "norm"):
            yield inner
        case ast.BinOp(left=ast.BinOp(op=ast.Sub()) as inner, op=ast.Pow(), right=ast.Constant(value=2)):
            yield inner


def _calls(node: ast.Call) -> Iterator[tuple[str, ast.AST]]:
    """Yield the faults of a call: another function, other axes, swapped arguments, a flag turned."""
    name, method = _name(node), isinstance(node.func, ast.Attribute)
    if name in PARTNER and (method or name in ("min", "max", "any", "all")):
        other = (
            ast.Attribute(node.func.value, PARTNER[name], ast.Load())
            if isinstance(node.func, ast.Attribute)
            else ast.Name(PARTNER[name], ast.Load())
        )
        yield "reduction", ast.Call(other, node.args, node.keywords)
    if len(node.args) > 1 and name not in SYMMETRIC and not any(isinstance(a, ast.Starred) for a in node.args[:2]):
        yield "swapped", ast.Call(node.func, [node.args[1], node.args[0], *node.args[2:]], node.keywords)
    for i, word in enumerate(node.keywords):
        rest = [*node.keywords[:i], *node.keywords[i + 1 :]]
        if word.arg in ("dim", "axis") and (axis := _whole(word.value)) is not None:
            yield "axis", ast.Call(node.func, node.args, [*rest, ast.keyword(word.arg, _other_axis(axis))])
            if name in ALONG and not any(other.arg == "keepdim" for other in rest):
                yield "axis", ast.Call(node.func, node.args, rest)
        elif word.arg in ("min", "max"):
            yield "reduction", ast.Call(node.func, node.args, [*rest, ast.keyword(PARTNER[word.arg], word.value)])
        elif word.arg in FLAGS and isinstance(word.value, ast.Constant):
            yield (
                "condition",
                ast.Call(node.func, node.args, [*rest, ast.keyword(word.arg, ast.Constant(not word.value.value))]),
            )
    if method and name in ALONG | ORDERED and node.args and (axis := _whole(node.args[-1])) is not None:
        yield "axis", ast.Call(node.func, [*node.args[:-1], _other_axis(axis)], node.keywords)
        if len(node.args) == 1 and name in ALONG and not node.keywords:
            yield "axis", ast.Call(node.func, [], [])


def _other_axis(axis: int) -> ast.Constant:
    return ast.Constant(-1 if axis == 0 else 0)


def _whole(node: ast.AST) -> int | None:
    """The value of a whole number in the text, negative ones included."""
    try:
        value = ast.literal_eval(node)  # type: ignore[arg-type]
    except ValueError:
        return None
    return value if type(value) is int else None


def _text(*nodes: ast.AST) -> bool:
    return any(
        isinstance(n, ast.JoinedStr) or (isinstance(n, ast.Constant) and isinstance(n.value, str)) for n in nodes
    )


def _uses(value: ast.AST, name: str) -> bool:
    return any(isinstance(n, ast.Name) and n.id == name for n in ast.walk(value))
