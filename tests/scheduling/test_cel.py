import pytest

from extproc.scheduling.cel import BadExpression, compile_expression, compute, labels_read


@pytest.mark.parametrize(
    ("text", "labels", "wanted"),
    [
        ('labels["tenant"] == "acme" ? "gold" : labels["tier"]', {"tenant": "acme"}, "gold"),
        ('labels["tenant"] == "acme" ? "gold" : labels["tier"]', {"tenant": "b", "tier": "tin"}, "tin"),
        ('labels["tenant"] == "acme" ? "gold" : labels["tier"]', {"tenant": "b"}, None),
        ('labels.tenant + "/" + labels.model', {"tenant": "a", "model": "m"}, "a/m"),
        ('int(labels["size"]) > 1000', {"size": "1001"}, "true"),
        ("int(labels['size']) / 1000", {"size": "5400"}, "5"),
        ("int(labels['size']) / 0", {"size": "5400"}, None),
        ('"x" in labels', {}, "false"),
        ('["a", "b"].exists(t, t == labels["tenant"])', {"tenant": "b"}, "true"),
        ("[1, 2]", {}, None),
        ('labels["size"] > 3', {"size": "5"}, None),
    ],
)
def test_values(text: str, labels: dict[str, str], wanted: str | None) -> None:
    expression = compile_expression(text)
    assert expression.evaluate(labels) == wanted
    assert expression.evaluate(dict(labels)) == wanted


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("labels[", "no CEL expression"),
        ("tenant == 'a'", "unknown name 'tenant'"),
        ("'" + "x" * 2000 + "'", "longer than"),
        ("[1,2].map(x, [1,2].map(y, x * y))", "nested"),
    ],
)
def test_what_cannot_be_used_says_why(text: str, message: str) -> None:
    with pytest.raises(BadExpression, match=message):
        compile_expression(text)


def test_a_computed_label_that_fails_leaves_no_client_s_value_in_its_place() -> None:
    labels = {"tier": "forged", "tenant": "a"}
    rules = {"tier": compile_expression('labels["claim"]'), "who": compile_expression('labels["tenant"] + "!"')}
    compute(labels, rules)
    assert labels == {"tenant": "a", "who": "a!"}


@pytest.mark.parametrize(
    ("text", "reads"),
    [
        ('labels["tenant"] == "acme" ? labels.tier : labels["tenant"]', ("tenant", "tier")),
        ("'x' in labels", ("x",)),
        ("labels.exists(k, k == 'a')", None),
        ("labels[labels['which']]", None),
        ("'labels' == labels.a", None),
        ("1 == 1", ()),
    ],
)
def test_which_labels_are_read(text: str, reads: tuple[str, ...] | None) -> None:
    assert labels_read(text) == reads
