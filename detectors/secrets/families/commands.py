"""Passwords in command lines and in SQL, where a flag or a clause says what they are."""

from __future__ import annotations

from detectors.secrets.rules import SecretRule

_QUOTE = r"\\?[\"']"
_VALUE = (
    rf"(?:{_QUOTE})?(?P<value>(?<=[\"'])(?![$%{{<])[^\"'\\\n]{{4,128}}(?=\\?[\"'])"
    r"|(?<![\"'])(?![$%<{\-/\"'|\\])[^\s$%\"'|;&<>,)\\]{6,128})"
)
"""In quotes, or one word without what a shell would replace."""
_WORDS = r"(?:[^\s|;]{1,60}[ \t]{1,4})"


def _command(
    programs: str, flag: str, *, name: str = "command-password", most: int = 8, words: str = _WORDS
) -> SecretRule:
    """A password behind a flag of these programs, which are divided by spaces."""
    either = "|".join(sorted(programs.split(), key=len, reverse=True))
    pattern = rf"(?i:{either})(?:\.exe)?[ \t]{{1,4}}{words}{{0,{most}}}(?:{flag}){_VALUE}"
    return SecretRule(name, tuple(programs.split()), pattern, reach=760, entropy=2.0, chosen=True)


RULES = (
    _command("mysql mysqldump mysqladmin mysqlimport mysqlsh mysqlcheck mariadb mariadb-dump", r"-p"),
    _command("sshpass psexec connect-viserver rdesktop", r"-p(?:assword)?[ \t]{0,3}|-Password[ \t]{1,3}"),
    _command(
        "mongo mongosh mongodump mongorestore mongoexport mongoimport cqlsh influx rabbitmqadmin",
        r"-p[ \t]{1,3}|--password[ \t=]{1,3}",
    ),
    _command(
        "docker podman nerdctl helm oc az oras skopeo",
        rf"login[ \t]{{1,4}}{_WORDS}{{0,6}}(?:-p|--password)[ \t=]{{1,3}}",
        most=3,
    ),
    _command("sqlcmd bcp isql osql zip unzip mosquitto_pub mosquitto_sub ipmitool", r"-P[ \t]{0,3}"),
    _command("ldapsearch ldapadd ldapmodify ldapdelete ldapwhoami ldappasswd", r"-[ws][ \t]{1,3}"),
    _command("redis-cli", r"-a[ \t]{1,3}|--pass[ \t]{1,3}|AUTH[ \t]{1,3}"),
    _command("7z 7za rar unrar", r"-p"),
    _command("plink pscp psftp putty", r"-pw[ \t]{1,3}"),
    _command("xfreerdp wfreerdp", r"/p:"),
    _command("keytool jarsigner", r"-(?:store|key|new|src|dest)(?:store|key)?pass[ \t]{1,3}"),
    _command("rabbitmqctl", r"(?:add_user|change_password)[ \t]{1,3}[^\s]{1,60}[ \t]{1,3}", most=2),
    _command("sp_addlogin", r"(?:N?'[^'\n]{1,60}'),[ \t]{0,3}", most=0),
    SecretRule(
        "command-password",
        ("requirepass", "masterauth"),
        rf"(?:requirepass|masterauth)[ \t]{{1,4}}{_VALUE}",
        reach=160,
        entropy=2.0,
        chosen=True,
    ),
    _command("htpasswd", r"-[a-zA-Z]{0,4}b[a-zA-Z]{0,4}[ \t]{1,3}[^\s]{1,80}[ \t]{1,3}[^\s]{1,40}[ \t]{1,3}", most=3),
    _command("smbclient rpcclient net smbmap", r"-U[ \t]{0,3}[\"']?[^\s%\"']{1,60}%"),
    _command("lftp ncftp", r"-u[ \t]{0,3}[\"']?[^\s,\"']{1,60},"),
    SecretRule(
        "command-password",
        ("sqlplus", "sqlldr", "expdp", "impdp", "rman"),
        r"(?i:sqlplus|sqlldr|expdp|impdp|rman)[ \t]{1,4}(?:(?:-\w{1,20}|target)[ \t]{1,4}){0,4}[\"']?[A-Za-z]\w{1,40}/"
        r"(?P<value>[^\s@\"'$]{4,64})",
        reach=260,
        entropy=2.0,
        chosen=True,
    ),
    SecretRule(
        "curl-user",
        ("-u", "--user"),
        rf"--?u(?:ser)?[ =]{{1,3}}(?:{_QUOTE})?[^\s:\"'$]{{1,64}}:(?:{_QUOTE})?"
        r"(?P<value>(?<=[\"'])[^\"'\n$]{4,128}(?=[\"'])|[^\s\"'$:]{4,128})",
        reach=220,
        chosen=True,
    ),
    SecretRule(
        "command-password",
        ("echo", "printf"),
        rf"(?:echo|printf)[ \t]{{1,3}}(?:-[en][ \t]{{1,3}})?{_VALUE}"
        r"(?=[\"']?[ \t]{0,3}\|[ \t]{0,3}sudo[ \t]{1,3}-\w{0,3}S)",
        reach=220,
        entropy=2.0,
        chosen=True,
    ),
    SecretRule(
        "command-password",
        ("echo", "printf"),
        r"(?:echo|printf)[ \t]{1,3}(?:-[en][ \t]{1,3})?[\"']?[a-z_][\w\-]{0,31}:(?P<value>[^\s\"'$:|]{4,128})"
        r"(?=(?:\\n)?[\"']?[ \t]{0,3}\|[ \t]{0,3}(?:sudo[ \t]{1,3})?chpasswd)",
        reach=240,
        entropy=2.0,
        chosen=True,
    ),
    SecretRule(
        "command-password",
        ("net",),
        r"(?i:net)[ \t]{1,3}(?i:use|user)[ \t]{1,3}(?:[A-Za-z]:[ \t]{1,3})?[^\s]{1,120}[ \t]{1,3}"
        r"(?P<value>(?![*/$%-])[^\s\"']{6,128})(?=[ \t]{1,3}/)",
        reach=320,
        entropy=2.0,
        chosen=True,
    ),
    SecretRule(
        "sql-password",
        ("identified",),
        r"(?i:identified)[ \t\n]{1,4}(?:(?i:with)\s{1,4}[\w\"']{1,48}\s{1,4})?(?i:by|as)\s{1,4}"
        r"(?:(?i:password|values)\s{1,4})?"
        rf"(?:{_QUOTE})?(?P<value>(?<=[\"'])[^\s\"'\\]{{4,128}}(?=\\?[\"'])"
        r"|(?<![\"'])(?=[^\s;]{0,60}\d)[A-Za-z][^\s;\"',.]{5,60}"
        r"(?=\s{0,4}(?:;|\Z|[\r\n]|(?i:using|default|account|replace|quota|profile|require)\b)))",
        reach=300,
        entropy=2.0,
        chosen=True,
    ),
)
