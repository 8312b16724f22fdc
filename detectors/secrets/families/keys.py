"""Tokens that carry their own proof, private keys in one line, and hashes of passwords."""

from __future__ import annotations

from detectors.secrets.rules import keyed, shaped

_CRYPT = r"[./A-Za-z0-9]"

RULES = (
    shaped(
        "json-web-token",
        "eyj zxlk",
        r"eyJ[\w\-]{10,4000}\.eyJ?[\w\-]{8,12000}\.[\w\-]{16,1500}|ZXlK[A-Za-z0-9+/]{60,4000}={0,2}",
        entropy=3.0,
    ),
    shaped(
        "json-web-encryption",
        "eyj",
        r"eyJ[\w\-]{10,2000}\.[\w\-]{0,1000}\.[\w\-]{12,64}\.[\w\-]{10,8000}\.[\w\-]{16,64}",
        entropy=3.0,
    ),
    shaped("private-key-base64", "ls0tls1crudjti", r"LS0tLS1CRUdJTi[A-Za-z0-9+/]{60,16000}={0,3}"),
    shaped(
        "private-key-der",
        "ibadanbgkqhkig9w0baqefaas ibaakca ibaakbg",
        r"MII[A-Za-z0-9+/]{1,4}IBA(?:DANBgkqhkiG9w0BAQEFAAS|AKCA|AKBg)[A-Za-z0-9+/]{100,8000}={0,2}",
        before=8,
    ),
    shaped(
        "private-key-der",
        "aqawewyhkozizj0",
        r"M(?:IG|EE|IIB?)[A-Za-z0-9+/]{2,6}AQAwEwYHKoZIzj0[A-Za-z0-9+/]{60,400}={0,2}",
        before=12,
    ),
    keyed("wireguard-key", "privatekey presharedkey wg_private", r"[A-Za-z0-9+/]{43}="),
    keyed("ethereum-private-key", "private_key privatekey priv_key 私钥", r"(?:0x)?[a-fA-F0-9]{64}", entropy=3.0),
    shaped("bitcoin-private-key", "xprv", r"xprv[1-9A-HJ-NP-Za-km-z]{107}"),
    keyed("bitcoin-private-key", "wif wallet_import", r"[5KL][1-9A-HJ-NP-Za-km-z]{50,51}"),
    shaped("password-hash-bcrypt", "$2", r"\$2[abxy]?\$\d{2}\$[./A-Za-z0-9]{53}"),
    shaped("password-hash-crypt", "$1$ $apr1$", rf"\$(?:1|apr1)\${_CRYPT}{{1,8}}\${_CRYPT}{{22}}"),
    shaped("password-hash-crypt", "$5$", rf"\$5\$(?:rounds=\d{{1,9}}\$)?{_CRYPT}{{1,16}}\${_CRYPT}{{43}}"),
    shaped("password-hash-crypt", "$6$", rf"\$6\$(?:rounds=\d{{1,9}}\$)?{_CRYPT}{{1,16}}\${_CRYPT}{{86}}"),
    shaped("password-hash-yescrypt", "$y$ $7$", rf"\$(?:y|7)\${_CRYPT}{{2,12}}\${_CRYPT}{{1,64}}\${_CRYPT}{{43}}"),
    shaped("password-hash-cisco", "$8$ $9$", rf"\$[89]\${_CRYPT}{{14}}\${_CRYPT}{{43}}"),
    shaped(
        "password-hash-argon2",
        "$argon2",
        r"\$argon2(?:id|i|d)\$v=\d+\$m=\d+,t=\d+,p=\d+\$[A-Za-z0-9+/]{10,64}\$[A-Za-z0-9+/]{20,128}",
    ),
    shaped(
        "password-hash-scrypt",
        "$scrypt$ scrypt:",
        r"\$scrypt\$ln=\d+,r=\d+,p=\d+\$[A-Za-z0-9+/.]{10,64}\$[A-Za-z0-9+/.]{30,128}|scrypt:\d+:\d+:\d+\$[A-Za-z0-9]{8,32}\$[a-f0-9]{128}",
    ),
    shaped(
        "password-hash-pbkdf2",
        "pbkdf2",
        r"pbkdf2[_:$-]sha\d{1,3}[$:]\d{3,8}\$[A-Za-z0-9+/.]{8,64}\$[A-Za-z0-9+/=]{28,128}|\$pbkdf2-sha\d{1,3}\$\d{3,8}\$[A-Za-z0-9+/.]{8,64}\$[A-Za-z0-9+/=.]{28,128}",
    ),
    shaped("password-hash-htpasswd", "{sha}", r"\{SHA\}[A-Za-z0-9+/]{27}="),
    shaped("password-hash-ldap", "{ssha", r"\{SSHA(?:256|512)?\}[A-Za-z0-9+/]{28,160}={0,2}"),
    shaped("password-hash-kerberos", "$krb5", r"\$krb5(?:asrep|tgs|pa)\$\d{2}\$[!-~]{30,4000}"),
    keyed("password-hash-mysql", "password identified", r"\*[A-F0-9]{40}"),
    shaped("password-hash-phpass", "$p$ $h$", r"\$[PH]\$[A-Za-z0-9./]{31}"),
)
