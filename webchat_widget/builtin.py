"""Tools that come with the package; each is there only for who asks for it.

::

    from webchat_widget.builtin import calculator, inspect, run_code, variables
    ChatWidget(tools=[calculator, variables, inspect, run_code])
"""

from __future__ import annotations

import ast
import html
import itertools
import linecache
import sys
import traceback
from typing import Any

from .notebook.masking import is_secret
from .notebook.namespace import own_variables, shape_of, short, summary, user_namespace
from .tools.calculate import calculate
from .tools.decorator import tool
from .tools.output import Output

__all__ = ["calculator", "inspect", "run_code", "variables"]

_MOST = 200
_HIDDEN = "(hidden: the name says that it is a secret)"

_numbers = itertools.count(1)


@tool(read_only=True, thread=True)
def calculator(expression: str) -> str:
    """Evaluate an arithmetic expression exactly: numbers, + - * / // % ** and parentheses."""
    return calculate(expression)


@tool(read_only=True)
def variables() -> Output:
    """List the variables of the user's notebook: name, type, size and a short form of the value."""
    rows: list[tuple[str, ...]] = [
        (name, type(value).__name__, *(("", _HIDDEN) if is_secret(name) else (shape_of(value), short(value))))
        for name, value in own_variables().items()
    ]
    if not rows:
        return Output("The notebook has no variables.")
    lines = [f"{name}: {kind}{f' ({size})' if size else ''} = {form}" for name, kind, size, form in rows]
    if len(rows) > _MOST:
        lines[_MOST:] = [f"… and {len(rows) - _MOST} more"]
    return Output("\n".join(lines), {"text/html": _table(("name", "type", "size", "value"), rows)})


@tool(read_only=True)
def inspect(name: str) -> str:
    """Describe one variable of the user's notebook: type, shape, columns, first rows; of a function or class
    its signature and docstring.
    """
    namespace = user_namespace()
    if name not in namespace:
        raise NameError(f"the notebook has no variable {name[:100]!r}")
    if is_secret(name):
        return f"{name}: {type(namespace[name]).__name__}, {_HIDDEN}"
    return summary(name, namespace[name])


@tool(approval="each")
def run_code(code: str) -> Any:
    """Run Python code in the user's notebook, with its variables, and return the value of the last line where
    that is an expression. What is printed or displayed is returned too.
    """
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    # Not by the shell's run_cell, which changes `_`, shows errors in a cell, and takes its open figures.
    file = f"<run_code {next(_numbers)}>"
    try:
        source = code if shell is None else shell.transform_cell(code)
        # Tracebacks show the lines of a file that is remembered like this.
        linecache.cache[file] = (len(source), None, source.splitlines(keepends=True), file)
        return _run(ast.parse(source, file), file)
    except Exception as error:
        raise CodeError(_said(error, file)) from None


class CodeError(Exception):
    """Code that was run has failed; the message is its traceback."""


def _run(tree: ast.Module, file: str) -> Any:
    namespace = user_namespace()
    match tree.body:
        case [*_, ast.Expr(value=last)]:
            tree.body.pop()
            exec(compile(tree, file, "exec"), namespace)
            return eval(compile(ast.Expression(last), file, "eval"), namespace)
    exec(compile(tree, file, "exec"), namespace)
    return None


def _said(error: Exception, file: str) -> str:
    """The traceback from the code on, without the way there."""
    at = error.__traceback__
    while at is not None and at.tb_frame.f_code.co_filename != file:
        at = at.tb_next
    return "".join(traceback.format_exception(type(error), error, at)).rstrip()


def _table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    def line(cells: tuple[str, ...], tag: str) -> str:
        return "<tr>" + "".join(f"<{tag}>{html.escape(cell)}</{tag}>" for cell in cells) + "</tr>"

    body = "".join(line(row, "td") for row in rows[:_MOST])
    return f"<table><thead>{line(head, 'th')}</thead><tbody>{body}</tbody></table>"
