from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509

from bench.certs import make_certificates


def test_the_certificate_names_its_hosts_and_is_signed_by_the_authority(tmp_path: Path) -> None:
    made = make_certificates(tmp_path / "new", ["dashscope.aliyuncs.com", "*.moonshot.cn", "127.0.0.1"])
    ca, cert = (x509.load_pem_x509_certificate(path.read_bytes()) for path in (made.ca, made.cert))
    cert.verify_directly_issued_by(ca)
    names = cert.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["dashscope.aliyuncs.com", "*.moonshot.cn"]
    assert [str(item) for item in names.get_values_for_type(x509.IPAddress)] == ["127.0.0.1"]
    assert timedelta(days=29) < cert.not_valid_after_utc - datetime.now(UTC) < timedelta(days=30)
    assert made.key.stat().st_mode & 0o077 == 0


def test_a_certificate_needs_a_host(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="host"):
        make_certificates(tmp_path, [])
