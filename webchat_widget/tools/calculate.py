"""The one tool that comes with the package so far: arithmetic, exactly, without `eval`."""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable

from .decorator import tool

__all__ = ["calculate"]

_MAX_LENGTH = 200
_MAX_BITS = 4096

_BINARY: dict[type[ast.operator], Callable[[float, float], float]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.Pow: operator.pow,
}


@tool(read_only=True)
def calculate(expression: str) -> str:
    """Evaluate an arithmetic expression: numbers, + - * / // % ** and parentheses."""
    if len(expression) > _MAX_LENGTH:
        raise ValueError(f"the expression has over {_MAX_LENGTH} characters")
    try:
        tree = ast.parse(expression.strip(), mode="eval")
    except (SyntaxError, ValueError):
        raise ValueError("that is no arithmetic expression") from None
    value = _value(tree.body)
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        value = int(value)
    return str(value)


def _value(node: ast.expr) -> float:
    match node:
        case ast.Constant(value=int() | float() as number) if not isinstance(number, bool):
            return number
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return -_value(operand)
        case ast.UnaryOp(op=ast.UAdd(), operand=operand):
            return _value(operand)
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _BINARY:
            a, b = _value(left), _value(right)
            if isinstance(op, ast.Pow):
                _check_power(a, b)
            result = _BINARY[type(op)](a, b)
            if isinstance(result, complex):
                raise ValueError("the result is no real number")
            return result
    raise ValueError("only numbers, + - * / // % ** and parentheses are understood")


def _check_power(base: float, exponent: float) -> None:
    """Refuse powers whose digits would fill the memory."""
    if isinstance(base, int) and abs(exponent) * max(base.bit_length(), 1) > _MAX_BITS:
        raise ValueError("the power is too large")
