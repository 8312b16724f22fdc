"""Invented values in the formats of the vendors: drawn from a seed, so that the file holds nothing that looks alive."""

from __future__ import annotations

import base64
import json
import random
import string

_DRAW = random.Random(20)
ALNUM = string.ascii_letters + string.digits
HEX = "0123456789abcdef"
UPPER = string.ascii_uppercase + string.digits


def draw(size: int, letters: str = ALNUM) -> str:
    """Random letters, never by chance all of one kind."""
    return "".join(_DRAW.choice(letters) for _ in range(size - 2)) + letters[0] + letters[-1]


def uuid() -> str:
    return "-".join(draw(size, HEX) for size in (8, 4, 4, 4, 12))


def b64(said: str) -> str:
    return base64.urlsafe_b64encode(said.encode()).decode().rstrip("=")


def jwt() -> str:
    header = b64(json.dumps({"alg": "HS256", "typ": "JWT"}, separators=(",", ":")))
    return f"{header}.{b64(json.dumps({'sub': draw(8), 'iat': 1}))}.{draw(43)}"


def pem(kind: str = "RSA ") -> str:
    lines = "\n".join(draw(64) for _ in range(12))
    return "-----BEGIN " + kind + "PRIVATE KEY-----\n" + lines + "\n-----END " + kind + "PRIVATE KEY-----"


SHAPED = {
    "aws-access-key-id": "AK" + "IA" + draw(16, UPPER),
    "google-api-key": "AI" + "za" + draw(35),
    "google-oauth-secret": "GOC" + "SPX-" + draw(28),
    "azure-client-secret": draw(3) + "8Q" + "~" + draw(34),
    "digitalocean-token": "dop" + "_v1_" + draw(64, HEX),
    "doppler-token": "dp." + "pt." + draw(43),
    "vault-token": "hv" + "s." + draw(90),
    "terraform-cloud-token": draw(14) + ".atl" + "asv1." + draw(67),
    "newrelic-key": "NR" + "AK-" + draw(27, UPPER),
    "sentry-token": "sntr" + "yu_" + draw(64, HEX),
    "grafana-token": "gl" + "sa_" + draw(32) + "_" + draw(8, HEX),
    "dynatrace-token": "dt0" + "c01." + draw(24, UPPER) + "." + draw(64, UPPER),
    "docker-token": "dckr" + "_pat_" + draw(27),
    "github-token": "gh" + "p_" + draw(36),
    "github-fine-grained-token": "github" + "_pat_" + draw(22) + "_" + draw(59),
    "gitlab-token": "gl" + "pat-" + draw(20),
    "bitbucket-app-password": "AT" + "BB" + draw(32),
    "npm-token": "np" + "m_" + draw(36),
    "pypi-token": "py" + "pi-AgEIcHlwaS5vcmc" + draw(150),
    "rubygems-key": "ruby" + "gems_" + draw(48, HEX),
    "crates-token": "ci" + "o" + draw(32),
    "nuget-key": "oy" + "2" + draw(43, string.ascii_lowercase + string.digits),
    "artifactory-key": "AK" + "C" + draw(70),
    "figma-token": "fi" + "gd_" + draw(40),
    "postman-key": "PM" + "AK-" + draw(24, HEX) + "-" + draw(34, HEX),
    "linear-token": "lin" + "_api_" + draw(40),
    "notion-token": "nt" + "n_" + draw(46),
    "atlassian-token": "ATA" + "TT3" + draw(186),
    "launchdarkly-key": "api" + "-" + uuid(),
    "openai-key": "sk-" + "proj-" + draw(120),
    "anthropic-key": "sk-" + "ant-api03-" + draw(93) + "AA",
    "model-provider-key": "sk" + "-" + draw(32, HEX),
    "huggingface-token": "h" + "f_" + draw(34, string.ascii_letters),
    "groq-key": "gs" + "k_" + draw(52),
    "slack-token": "xo" + "xb-" + draw(12, string.digits) + "-" + draw(13, string.digits) + "-" + draw(24),
    "slack-webhook": "hooks.slack" + ".com/services/T" + draw(8, UPPER) + "/B" + draw(8, UPPER) + "/" + draw(24),
    "telegram-bot-token": draw(10, string.digits).replace("0", "1") + ":A" + "A" + draw(33),
    "discord-token": "M" + "TA" + draw(21) + "." + draw(6) + "." + draw(38),
    "twilio-key": "S" + "K" + draw(32, HEX),
    "sendgrid-key": "S" + "G." + draw(22) + "." + draw(43),
    "mailgun-key": "ke" + "y-" + draw(32, HEX),
    "mailchimp-key": draw(32, HEX) + "-u" + "s12",
    "stripe-key": "sk" + "_live_" + draw(24),
    "square-token": "sq0" + "atp-" + draw(22),
    "paypal-braintree-token": "access" + "_token$production$" + draw(16, HEX) + "$" + draw(32, HEX),
    "shopify-token": "shp" + "at_" + draw(32, HEX),
    "airtable-token": "pa" + "t" + draw(14) + "." + draw(64, HEX),
    "hubspot-token": "pat" + "-na1-" + uuid(),
    "dropbox-token": "sl" + "." + draw(135),
    "databricks-token": "da" + "pi" + draw(32, HEX),
    "planetscale-token": "pscale" + "_tkn_" + draw(43),
    "supabase-key": "sb" + "p_" + draw(40, HEX),
    "alibaba-access-key-id": "LT" + "AI5t" + draw(18),
    "tencent-secret-id": "AK" + "ID" + draw(32),
    "volcengine-access-key": "AK" + "LT" + draw(44),
    "baidu-cloud-key": "bce-v3" + "/ALTAK-" + draw(21) + "/" + draw(40, HEX),
    "dingtalk-sign-secret": "SE" + "C" + draw(64, HEX),
    "age-key": "AGE-SECRET" + "-KEY-1" + draw(58, UPPER),
    "json-web-token": jwt(),
    "password-hash-bcrypt": "$2" + "b$12$" + draw(53),
    "password-hash-crypt": "$6" + "$" + draw(8) + "$" + draw(86),
}
"""Rule to a value of its shape."""

NAMED = {
    "AWS_SECRET_ACCESS_KEY=": draw(38) + "/+",
    "AccountName=store;AccountKey=": draw(86) + "==",
    "datadog_api_key: ": draw(32, HEX),
    "HEROKU_API_KEY=": uuid(),
    "okta_api_token = ": "00" + draw(40),
    "facebook_secret: ": draw(32, HEX),
    "linkedin_client_secret=": draw(16),
    "algolia admin key: ": draw(32, HEX),
    "微信小程序AppSecret：": draw(32, HEX),
    "企业微信corpsecret是": draw(43),
    "accessKeySecret: ": draw(30),
    "mailgun: ": draw(32, HEX) + "-" + draw(8, HEX) + "-" + draw(8, HEX),
}
"""What stands before a value to the value, which has no shape of its own."""
