"""Databases, queues, data platforms, and credentials in addresses and headers."""

from __future__ import annotations

from detectors.secrets.rules import SecretRule, keyed, shaped

_UUID = r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}"

RULES = (
    shaped(
        "url-credentials",
        "://",
        r"[A-Za-z][A-Za-z0-9+.\-]{1,24}://[!-.0-9;-?A-~]{0,80}:(?P<value>[!#-&(-+\-.0-;=?-_a-{}~]{1,128})@[A-Za-z0-9\[*%$][\w.\-]{0,255}",
        before=25,
        entropy=0.0,
        chosen=True,
    ),
    shaped("databricks-token", "dapi dose", r"(?:dapi|dkea|dose)[a-f0-9]{32}(?:-\d)?"),
    shaped("planetscale-token", "pscale_", r"pscale_(?:tkn|pw|oauth|oauth_refresh)_[\w\-.=]{32,64}"),
    shaped("neon-key", "napi_ npg_", r"napi_[a-z0-9]{60,70}|npg_[A-Za-z0-9]{12,24}"),
    shaped("snowflake-token", "ver:1-hint:", r"ver:1-hint:\d{6,24}-ETMs[A-Za-z0-9+/=]{60,400}"),
    keyed("confluent-secret", "confluent kafka", r"[A-Za-z0-9+/]{64}", entropy=3.8),
    shaped("confluent-secret", "cflt", r"cflt[A-Za-z0-9+/]{60}", entropy=3.8),
    shaped("aiven-token", "avnsv1 avns_", r"AVNS_[\w\-]{16,40}|aivenv1[A-Za-z0-9+/=]{60,400}"),
    shaped("elastic-key", "essu_ elasticcloud", r"essu_[A-Za-z0-9+/=]{60,200}"),
    keyed("elastic-key", "elastic", r"[A-Za-z0-9+/_\-]{56,64}={0,2}", entropy=3.8),
    keyed("mongodb-atlas-key", "atlas", _UUID),
    keyed("influx-token", "influx", r"[\w\-]{86}=="),
    keyed("upstash-token", "upstash", r"[A-Za-z0-9+/]{40,140}={0,2}", entropy=3.8),
    keyed(
        "sidekiq-secret", "bundle_enterprise__contribsys__com bundle_gems__contribsys__com", r"[a-f0-9]{8}:[a-f0-9]{8}"
    ),
    shaped("rabbitmq-cookie", "erlang_cookie", r"(?i:erlang_cookie)=(?P<value>[A-Z]{20})"),
    shaped("firebase-key", ":apa91b", r"[\w\-]{7,24}:APA91b[\w\-]{120,180}|AAAA[\w\-]{7}:[\w\-]{140}", before=24),
    keyed("firebase-server-key", "firebase fcm server_key serverkey authorization", r"AAAA[\w\-]{7}:[\w\-]{140}"),
    SecretRule(
        "basic-authorization", ("basic",), r"(?i:basic)[ \t]{1,4}(?P<value>[A-Za-z0-9+/]{8,400}={0,2})", reach=412
    ),
    SecretRule(
        "bearer-token",
        ("bearer",),
        r"(?i:bearer)\"?[:=]?[ \t]{1,4}[\"']?(?P<value>(?=[^\s\"']{0,400}\d)[\w\-.~+/|]{14,400}={0,2})",
        reach=412,
        entropy=3.0,
    ),
    keyed("session-cookie", "sessionid phpsessid jsessionid connect.sid", r"[\w\-.%]{24,200}", entropy=3.2),
    SecretRule(
        "login-call",
        (
            "networkcredential",
            "directoryentry",
            "usernamepasswordcredential",
            "httpbasicauth",
            "setbasicauth",
            "basicauth",
        ),
        r"(?i:NetworkCredential|DirectoryEntry|HttpBasicAuth|UsernamePasswordCredential|setbasicauth|basicauth)\(\s{0,12}"
        r"(?:[\"'][^\"'\n]{0,100}[\"']\s{0,4},\s{0,20}){1,2}[\"'](?P<value>[^\s\"']{4,128})[\"']",
        reach=420,
        entropy=2.0,
    ),
)
