"""What a PromQL expression asks for: metrics, the values of labels, and the labels by which it groups."""

from collections.abc import Iterator
from dataclasses import dataclass

import promql_parser as promql

GRAFANA = {"$__rate_interval": "5m", "$__range": "1h"}
"""What Grafana puts in for its variables."""


@dataclass(frozen=True)
class Selected:
    """One selector of an expression."""

    name: str
    matched: tuple[tuple[str, str, str], ...]
    """Label, operator (``=``, ``!=``, ``=~``, ``!~``) and value of each matcher."""
    grouped: frozenset[str]
    """Labels by which the selector's series are grouped, at any level."""

    @property
    def labels(self) -> set[str]:
        """All labels that it must have."""
        return {label for label, _, _ in self.matched} | self.grouped


_OPERATORS = (
    (promql.MatchOp.Equal, "="),
    (promql.MatchOp.NotEqual, "!="),
    (promql.MatchOp.Re, "=~"),
    (promql.MatchOp.NotRe, "!~"),
)


def selected(expression: str) -> list[Selected]:
    """Return the selectors of an expression.

    Raises:
        ValueError: this is no PromQL.
    """
    for variable, value in GRAFANA.items():
        expression = expression.replace(variable, value)
    return list(_walk(promql.parse(expression), frozenset()))


def _matched(matcher: promql.Matcher) -> tuple[str, str, str]:
    operator = next(sign for kind, sign in _OPERATORS if matcher.op == kind)
    return matcher.name, operator, matcher.value


def _walk(node: object, grouped: frozenset[str]) -> Iterator[Selected]:
    match node:
        case promql.VectorSelector():
            yield Selected(node.name or "", tuple(_matched(each) for each in node.matchers.matchers), grouped)
        case promql.MatrixSelector():
            yield from _walk(node.vector_selector, grouped)
        case promql.AggregateExpr():
            by = frozenset(node.modifier.labels) if node.modifier is not None else frozenset[str]()
            yield from _walk(node.expr, grouped | by)
        case promql.BinaryExpr():
            yield from _walk(node.lhs, grouped)
            yield from _walk(node.rhs, grouped)
        case promql.Call():
            for argument in node.args:
                yield from _walk(argument, grouped)
        case promql.ParenExpr() | promql.UnaryExpr() | promql.SubqueryExpr():
            yield from _walk(node.expr, grouped)
        case promql.NumberLiteral() | promql.StringLiteral():
            return
        case _:
            raise TypeError(f"what is this: {node!r}")
