from __future__ import annotations

import base64
import itertools
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detectors.secrets import SecretRule, Secrets
from detectors.text import Text
from tests.detectors.secrets.made import HEX, NAMED, SHAPED, draw, jwt, pem, uuid

SECRETS = Secrets()
SURROUNDINGS = ("", "密钥", "我们的", "，请看：", " ", '"', "=", "(", "\\n", "%3D")


def values(text: str) -> list[str]:
    return [text[each.start : each.end] for each in SECRETS.find(Text(text))]


@pytest.mark.parametrize("rule", SHAPED)
@pytest.mark.parametrize("before", SURROUNDINGS)
def test_a_value_is_found_by_its_shape_whatever_touches_it(rule: str, before: str) -> None:
    value = SHAPED[rule]
    text = f"{before}{value}请处理一下"
    found = SECRETS.find(Text(text))
    assert [text[each.start : each.end] for each in found] == [value]
    assert found[0].category == "SECRET"


@pytest.mark.parametrize("rule", SHAPED)
def test_the_finding_names_the_rule(rule: str) -> None:
    assert [each.detector for each in SECRETS.find(Text(SHAPED[rule]))] == [f"secrets/{rule}"]


@pytest.mark.parametrize("rule", SHAPED)
def test_a_shape_inside_a_longer_word_is_something_else(rule: str) -> None:
    inner = SHAPED[rule]
    if inner[0].isalnum():
        assert f"secrets/{rule}" not in [each.detector for each in SECRETS.find(Text("zz" + inner[:14] + " end"))]


@pytest.mark.parametrize("name", NAMED)
@pytest.mark.parametrize("before", ["", "配置如下", "# "])
@pytest.mark.parametrize("quote", ["", '"', "'"])
def test_a_value_is_found_by_its_name(name: str, before: str, quote: str) -> None:
    assert values(f"{before}{name}{quote}{NAMED[name]}{quote}，谢谢") == [NAMED[name]]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("password = 'Tr0ub4dor&3'", "Tr0ub4dor&3"),
        ('{"db_password": "qwe#rty99"}', "qwe#rty99"),
        ("MYSQL_ROOT_PASSWORD=hunter22", "hunter22"),
        ("export ADMIN_PASSWORD=swordfish", "swordfish"),
        ("数据库密码：Abc123!x，请保密", "Abc123!x"),
        ("密码是abc12345。", "abc12345"),
        ("密码是123456", "123456"),
        ("初始密码为888888", "888888"),
        ("redis-cli -h db -a Zx9kkp77", "Zx9kkp77"),
        ("root的口令是Zx9#kkp", "Zx9#kkp"),
        ("密码改成了Summer2024!", "Summer2024!"),
        ("password是abc12345吗", "abc12345"),
        ("The password is hunter2x, do not share", "hunter2x"),
        ("login: bob password: s3cretpw", "s3cretpw"),
        ("Server=db;Uid=sa;Pwd=letmein;Database=x", "letmein"),
        ("postgres://bob:pa55word@db.intern:5432/x", "pa55word"),
        ("连接redis://:Kp9xxA@10.0.0.1:6379/0即可", "Kp9xxA"),
        ("jdbc:mysql://db/x?user=bob&password=letmein&ssl=1", "letmein"),
        ("curl -u bob:Qw3rty77 https://intern", "Qw3rty77"),
        ("machine git.intern login bob password n3trc99", "n3trc99"),
        ('new NetworkCredential("bob", "Wint3rmute")', "Wint3rmute"),
        ("<Password>Wint3rmute</Password>", "Wint3rmute"),
        ("password=Wint3rmute", "Wint3rmute"),
    ],
)
def test_passwords_by_the_words_around_them(text: str, value: str) -> None:
    assert values(text) == [value]


def test_random_values_under_general_names() -> None:
    for name in ("api_key", "client_secret", "ACCESS_TOKEN", "apiKey", "x-auth-token", "密钥", "令牌"):
        value = draw(33)
        assert values(f'{name}: "{value}"') == [value]
        assert values(f"{name}={value}") == [value]


@pytest.mark.parametrize(
    "text",
    [
        "password = os.environ['DB_PASSWORD']",
        "password: ${DB_PASSWORD}",
        "password: {{ vault_password }}",
        "password: <your password>",
        'api_key = "your-api-key"',
        "api_key = 'YOUR_API_KEY_HERE'",
        "api_key=sk-xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx",
        "AKIA" + "IOSFODNN7EXAMPLE",
        "password = getpass.getpass()",
        "password: string",
        "密码长度为6-20位",
        "请输入密码：",
        "密码学是一门学科，1976年公钥问世",
        "忘记密码怎么办？",
        "The password must be at least 8 characters.",
        "I forgot my password and need to reset it",
        "max_tokens: 4096, tokenizer = 'bert-base-uncased'",
        "The passenger2020 compass keyboard99",
        "primary_key = 'customer_2024_order_id_77'",
        "commit 9fceb02d0ae598e95dc970b74767f19372d61af8",
        "sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
        "id 123e4567-e89b-12d3-a456-426614174000",
        "https://example.org:8080/path@x",
        "def login(user, password, retries=3): pass",
        "token: Optional[str] = None",
        "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----",
        "-----BEGIN PRIVATE KEY-----\n...\n-----END PRIVATE KEY-----",
        "Authorization: Bearer <token>",
    ],
)
def test_placeholders_references_and_prose_stay(text: str) -> None:
    assert values(text) == []


@pytest.mark.parametrize("kind", ["RSA ", "", "EC ", "OPENSSH ", "ENCRYPTED "])
def test_the_whole_private_key_is_the_secret(kind: str) -> None:
    block = pem(kind)
    for text in (f"钥匙{block}在此", f"key: {block}\n", block.replace("\n", "\\n")):
        expected = block if block in text else block.replace("\n", "\\n")
        assert values(text) == [expected]


def test_a_private_key_without_its_end_goes_as_far_as_its_lines() -> None:
    cut = pem()[:300]
    assert values(f"{cut}\n然后") == [cut]


def test_one_level_under_base64_and_percent_signs() -> None:
    said = "the token is " + SHAPED["github-token"]
    hidden = base64.b64encode(said.encode()).decode()
    assert values(f"看{hidden}吧") == [hidden]
    assert values("q=password%3D%22Tr0ub4dor%263%22%20") != []
    twice = base64.b64encode(hidden.encode()).decode()
    assert values(twice) == []


def test_basic_authorization_needs_a_login_inside() -> None:
    login = base64.b64encode(b"bob:" + draw(9).encode()).decode()
    assert values(f"Authorization: Basic {login}") == [login]
    assert values("Basic understanding is enough") == []


def test_offsets_are_of_the_original_text() -> None:
    value = SHAPED["stripe-key"]
    spaced = "密码\u200b" + "\u200b".join(value) + "\uff0c"
    found = SECRETS.find(Text(spaced))
    assert [spaced[each.start : each.end].replace("\u200b", "") for each in found] == [value]
    wide = "".join(chr(ord(letter) + 0xFEE0) for letter in value)
    assert [(each.start, each.end) for each in SECRETS.find(Text("钥" + wide))] == [(1, 1 + len(wide))]


def test_extra_rules_and_allowed_values() -> None:
    rule = SecretRule("acme-key", ("acme_",), r"acme_[a-z0-9]{20}")
    value = "acme_" + draw(20, HEX)
    found = Secrets(extra=[rule]).find(Text(f"我{value}你"))
    assert [each.detector for each in found] == ["secrets/acme-key"]
    assert Secrets(extra=[rule], allow=[r"acme_.*"]).find(Text(value)) == []


@pytest.mark.parametrize("keywords", [(), ("",), ("two words",)])
def test_a_rule_needs_keywords_without_white_space(keywords: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match="keywords"):
        SecretRule("bad", keywords, "x")


@given(st.text(max_size=400))
@settings(max_examples=300, deadline=None)
def test_any_text_gives_spans_within_it(text: str) -> None:
    for each in SECRETS.find(Text(text)):
        assert 0 <= each.start < each.end <= len(text)
    assert 0 <= SECRETS.open_from(text) <= len(text)


PIECES = st.sampled_from(
    [
        "password",
        "密码",
        "key",
        " = ",
        '"',
        "是",
        "：",
        "token",
        "secret",
        "\n",
        "Abc123!x",
        "://",
        "@",
        "bob:",
        "%41",
        "basic ",
        "-----BEGIN PRIVATE KEY-----",
        "-----END PRIVATE KEY-----",
        "aws",
        "slack",
        ";",
        " is ",
        "中文",
        *SHAPED.values(),
    ]
)


@given(st.lists(PIECES, max_size=12).map("".join))
@settings(max_examples=200, deadline=None)
def test_findings_never_overlap(text: str) -> None:
    found = SECRETS.find(Text(text))
    assert all(one.end <= other.start for one, other in itertools.pairwise(found))


@given(
    st.text(alphabet="的一是在不了有和人这", max_size=60),
    st.text(alphabet="的一是在不了有和人这", max_size=60),
    st.sampled_from(sorted(SHAPED)),
)
@settings(max_examples=200, deadline=None)
def test_a_value_is_found_at_any_position(before: str, after: str, rule: str) -> None:
    text = before + SHAPED[rule] + after
    assert values(text) == [SHAPED[rule]]


def test_fresh_draws_of_common_shapes_are_found() -> None:
    generator = random.Random(3)
    for _ in range(50):
        value = generator.choice([jwt, uuid])()
        assert values(f'"access_token": "{value}"') == [value]
