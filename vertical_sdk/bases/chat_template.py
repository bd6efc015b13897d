"""Render the chat template of a base within bounds. A template is a program of somebody else's: it may loop for ever or fill the memory.

Transformers compiles it in jinja's sandbox, which keeps it from files and from Python but not from counting. Here each turn of a loop,
each call of a macro and each character written is counted, no value may become larger than what is left, and reading a value (to
compare, search, hash or write it) counts a part of its size.
"""

from __future__ import annotations

import contextvars
import functools
import re
from collections.abc import Mapping, Sequence
from typing import Any

from jinja2 import Template, nodes
from jinja2.runtime import Macro
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Namespace
from jinja2.visitor import NodeTransformer

__all__ = ["render_turns"]

LARGEST = 1 << 17
"""Characters of a template; the templates of the hub have some thousands."""
ALLOWED = 500_000
"""Turns of loops and characters of values that a rendering may use, besides PER_LETTER for each character of the turns."""
PER_LETTER = 50
TURN, CALL = 4, 40
"""What a turn of a loop and a call of a macro count, as they take the time of so many characters."""
READ = 8
"""Characters and items that are read for the price of one written."""
WIDEST = 1000
"""The largest number that a filter or a method may be given, such as a width."""
WIDTH = re.compile(r"\d{4,}|\*")
CONSTANT = frozenset({"length", "count", "first", "last", "default", "d"})
"""Filters that read no more than one item."""
SCANNING = frozenset(
    "in eq == equalto ne != lt < lessthan le <= gt > greaterthan ge >= lower upper".split()  # noqa: SIM905  (a list of 17 lines)
)
"""Tests that read their whole arguments."""
VIEWS: tuple[Any, ...] = (type({}.keys()), type({}.values()), type({}.items()))
_left: contextvars.ContextVar[list[int]] = contextvars.ContextVar("left")


def render_turns(tokenizer: Any, turns: Sequence[Mapping[str, str]], *, question: bool) -> str:
    """Write turns by the tokenizer's chat template.

    question  end with the beginning of the assistant's answer

    Raises ValueError if the template takes too long or writes too much, and whatever the template raises.
    """
    template = _compile(tokenizer.get_chat_template())
    letters = sum(len(turn["content"]) for turn in turns)
    reset = _left.set([ALLOWED + PER_LETTER * letters])
    try:
        return template.render(
            messages=turns, add_generation_prompt=question, tools=None, documents=None, **tokenizer.special_tokens_map
        )
    except RecursionError:
        raise ValueError("the chat template calls itself, or nests its values, too deep") from None
    finally:
        _left.reset(reset)


@functools.lru_cache(maxsize=8)
def _compile(source: str) -> Template:
    from transformers.utils.chat_template_utils import _compile_jinja_template

    if len(source) > LARGEST:
        raise ValueError(f"the chat template has {len(source):,} characters, and at most {LARGEST:,} are read")
    theirs = _compile_jinja_template("").environment
    environment = _Bounded.__new__(_Bounded)
    environment.__dict__.update(theirs.__dict__)
    environment.optimized = False  # the optimizer computes what is constant without counting
    environment.filters = {n: function if n in CONSTANT else _bound(function) for n, function in environment.filters.items()}
    environment.tests = {n: _bound(function) if n in SCANNING else function for n, function in environment.tests.items()}
    environment.globals = {name: value for name, value in theirs.globals.items() if name != "lipsum"}
    tree = _Counting().visit(theirs.parse(source))
    tree.set_environment(environment)
    return Template.from_code(environment, environment.compile(tree), environment.make_globals(None))


def _spend(count: int) -> None:
    left = _left.get()
    left[0] -= count
    if left[0] < 0:
        raise ValueError("the chat template takes too long or writes too much")


def _measure(value: Any, left: int | None = None) -> int:
    """Characters and items of a value and all inside it, as far as they are allowed."""
    if isinstance(value, str | bytes | range):
        return len(value)
    if isinstance(value, Namespace):
        value = value._Namespace__attrs
    if not isinstance(value, (list, tuple, dict, *VIEWS)):
        return 0
    left = _left.get()[0] if left is None else left
    items: Any = value.values() if isinstance(value, dict) else value
    count = len(items)
    for item in items:
        if count > left:
            break
        count += 1 + _measure(item, left - count)
    return count


def _keep(value: Any) -> Any:
    """Count a value that was made."""
    _spend(1 + _measure(value))
    return value


def _weigh(value: Any) -> int:
    """Count a value that is read: values that contain one another many times are small in memory, and endless to read."""
    size = _measure(value)
    _spend(size if size > _left.get()[0] else size // READ)
    return size


def _read(value: Any) -> Any:
    _weigh(value)
    return value


def _check_arguments(subject: Any, *values: Any) -> None:
    """Refuse a call whose result could be large: a wide format, or many copies of a long text."""
    product = 1 + _weigh(subject)
    for value in values:
        if isinstance(value, int) and abs(value) > WIDEST:
            raise ValueError(f"the chat template calls with the number {value}, and at most {WIDEST} is allowed")
        product *= 1 + _weigh(value)
    if product > 20 * ALLOWED + _left.get()[0]:
        raise ValueError("the chat template takes too long or writes too much")


def _bound(function: Any) -> Any:
    @functools.wraps(function)
    def bounded(*arguments: Any, **named: Any) -> Any:
        _check_arguments(*arguments, *named.values())
        if function.__name__ == "do_format" and isinstance(arguments[0], str) and WIDTH.search(arguments[0]):
            raise ValueError("the chat template writes a number with a width that is too large")
        return _keep(function(*arguments, **named))

    return bounded


class _Bounded(ImmutableSandboxedEnvironment):
    """The environment of transformers, in which calls and operators are counted."""

    intercepted_binops = frozenset({"+", "-", "*", "**", "%"})
    spend, keep, read = staticmethod(_spend), staticmethod(_keep), staticmethod(_read)

    def call(__self, __context: Any, __obj: Any, *arguments: Any, **named: Any) -> Any:  # noqa: N805  (as the sandbox has it)
        if __obj is _spend or __obj is _keep or __obj is _read:
            return __obj(*arguments)
        owner = getattr(getattr(__obj, "__wrapped__", __obj), "__self__", None)  # the sandbox wraps str.format
        if isinstance(owner, str | bytes):
            _check_arguments(owner, *arguments, *named.values())
            if __obj.__name__ in {"format", "format_map"} and WIDTH.search(str(owner)):
                raise ValueError("the chat template writes a number with a width that is too large")
        elif not isinstance(__obj, Macro):
            for value in (owner, *arguments, *named.values()):
                _weigh(value)
        return _keep(super().call(__context, __obj, *arguments, **named))

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        if operator == "*":
            for one, times in ((left, right), (right, left)):
                if isinstance(times, int) and _measure(one):
                    _spend(_measure(one) * max(0, times))
        if operator == "-" and not (isinstance(left, int | float) and isinstance(right, int | float)):
            raise ValueError("the chat template subtracts what is not a number")
        if operator == "%":
            _weigh(right)
        if operator == "**" or (operator == "*" and max(_bits(left), _bits(right)) > 1024):
            raise ValueError(f"the chat template computes with {operator}, which is not allowed")
        if operator == "%" and isinstance(left, str) and WIDTH.search(left):
            raise ValueError("the chat template writes a number with a width that is too large")
        return _keep(super().call_binop(context, operator, left, right))


def _bits(value: Any) -> int:
    return value.bit_length() if isinstance(value, int) else 0


class _Counting(NodeTransformer):
    """Put a call that counts into each loop and macro, and around each value that is written or joined."""

    def visit_For(self, node: nodes.For) -> nodes.Node:  # noqa: N802  (the names of jinja's visitors)
        return self._count_turns(node)

    def visit_Macro(self, node: nodes.Macro) -> nodes.Node:  # noqa: N802
        return self._count_turns(node)

    def visit_CallBlock(self, node: nodes.CallBlock) -> nodes.Node:  # noqa: N802
        return self._count_turns(node)

    def visit_Concat(self, node: nodes.Concat) -> nodes.Node:  # noqa: N802
        self.generic_visit(node)
        node.nodes = [_count_read(one) for one in node.nodes]
        return _call("keep", node, node.lineno)

    def visit_Compare(self, node: nodes.Compare) -> nodes.Node:  # noqa: N802
        self.generic_visit(node)
        node.expr = _count_read(node.expr)
        return node

    def visit_Operand(self, node: nodes.Operand) -> nodes.Node:  # noqa: N802
        self.generic_visit(node)
        node.expr = _count_read(node.expr)
        return node

    def visit_Pair(self, node: nodes.Pair) -> nodes.Node:  # noqa: N802
        self.generic_visit(node)
        node.key = _count_read(node.key)
        return node

    def visit_Getitem(self, node: nodes.Getitem) -> nodes.Node:  # noqa: N802
        self.generic_visit(node)
        if isinstance(node.arg, nodes.Slice):
            return _call("read", node, node.lineno)
        node.arg = _count_read(node.arg)
        return node

    def visit_Output(self, node: nodes.Output) -> nodes.Node:  # noqa: N802
        self.generic_visit(node)
        node.nodes = [one if isinstance(one, nodes.TemplateData) else _call("keep", one, node.lineno) for one in node.nodes]
        return node

    def _count_turns(self, node: Any) -> nodes.Node:
        weight = (TURN if isinstance(node, nodes.For) else CALL) + sum(
            len(data.data) for data in node.find_all(nodes.TemplateData)
        )
        self.generic_visit(node)
        count = nodes.Const(weight, lineno=node.lineno)
        silent = nodes.ExprStmt(_call("spend", count, node.lineno), lineno=node.lineno)
        node.body = [silent, *node.body]
        counted: nodes.Node = node
        return counted


def _count_read(value: nodes.Expr) -> nodes.Expr:
    return value if isinstance(value, nodes.Const) else _call("read", value, value.lineno)


def _call(name: str, value: nodes.Expr, line: int) -> nodes.Call:
    return nodes.Call(nodes.EnvironmentAttribute(name, lineno=line), [value], [], None, None, lineno=line)
