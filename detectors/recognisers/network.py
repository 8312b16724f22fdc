"""IP and hardware addresses."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable

from detectors.recognisers.rules import Rule

_NAMED = re.compile(
    r"(?:version|release|\bver|\brev|版本号?|sections?|chapter|clause|paragraph|\bpara|article|appendix|annex|table|figure|\bfig"
    r"|\bitem|\bsee|(?:up|down)graded? to|§|第|参?见|参考|详见|参阅|附录|章节|条款|[图表]|[升降]级[到至为包]?"
    r"|固件|补丁|安装包|更新[到至])"
    r"[\s:=.\"'(]{0,3}\Z|\bv\.? ?\Z",
    re.IGNORECASE,
)
"""What four numbers are named for that are a version or the number of a section."""
_SECTION = re.compile(
    r"\s?(?:[小章]?节(?!点)|章|[条款](?!记录)|段落|附录|版本?(?!面)|\breleased?\b|\bsection\b|\bversion\b)",
    re.IGNORECASE,
)
_PORT = re.compile(r":[0-9]{2,5}(?![0-9])|/[0-9A-Za-z]")
_ABOUT = re.compile(
    r"\bips?\b|ipv4|host|server|addr|ping|dns|gateway|subnet|network|ssh|curl"
    r"|地址|服务器|主机|网关|内网|公网|端口|//",
    re.IGNORECASE,
)


def _v4(match: re.Match[str]) -> Iterable[tuple[int, int]]:
    """Addresses that name a host; four small numbers may be a version or a section instead."""
    text, start, end = match.string, match.start(), match.end()
    octets = [int(each) for each in match[0].split(".")]
    if octets[3] == 0 and text[end : end + 1] == "/":  # a network, not a host
        return ()
    if octets[0] in {0, 127} or octets[0] >= 240 or octets[:2] == [255, 255] or len(set(octets)) == 1:
        return ()
    named = _NAMED.search(text, max(0, start - 20), start) or _SECTION.match(text, end)
    if named and max(octets) < 100 and not _PORT.match(text, end):
        return ()
    if max(octets) < 32 and octets[0] != 10 and not _ABOUT.search(text, max(0, start - 48), start):
        return ()
    return ((start, end),)


_OCTET = "(?:25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])"
V4 = Rule(
    name="ipv4",
    category="IP_ADDRESS",
    first="[0-9]",
    rest=r"(?<![0-9]\..)(?:(?<=2)5[0-5]|(?<=2)[0-4][0-9]|(?<=1)[0-9]{2}|(?<=[1-9])[0-9]|)(?:\." + _OCTET + "){3}",
    right=r"(?![0-9A-Za-z])(?!\.[0-9])",
    gate=r"[0-9]\.[0-9]{1,3}\.[0-9]{1,3}\.[0-9]",
    longest=15,
    score=0.85,
    trim=_v4,
)


def _v6(value: str) -> bool:
    """At least three groups, one of them with a digit: `a::b` is a name in C++."""
    try:
        address = ipaddress.IPv6Address(value)
    except ValueError:
        return False
    groups = [each for each in value.split(":") if each]
    return len(groups) >= 3 and any(each.isdigit() for each in value) and not address.is_unspecified


_NO_GROUP = "".join(rf"(?<!(?<![0-9A-Za-z])[0-9A-Fa-f]{{{count}}}:.)" for count in range(1, 5))
"""Not the later part of groups of hexadecimal digits; a label such as `IPv6:` or `MAC:` is none."""
V6 = Rule(
    name="ipv6",
    category="IP_ADDRESS",
    first="[0-9A-Fa-f:]",
    rest=_NO_GROUP + r"(?:(?<=[0-9A-Fa-f])[0-9A-Fa-f]{0,3}:(?:[0-9A-Fa-f]{0,4}:){1,7}"
    r"(?:[0-9A-Fa-f]{1,4}|(?:[0-9]{1,3}\.){3}[0-9]{1,3}|(?<=::))"
    r"|(?<=:):[fF]{4}:(?:[0-9]{1,3}\.){3}[0-9]{1,3})",
    right=r"(?![0-9A-Za-z:])(?!\.[0-9])",
    gate=r"[0-9A-Fa-f:]:[0-9A-Fa-f]{0,4}:",
    longest=60,
    score=0.9,
    check=_v6,
)


def _hardware(value: str) -> bool:
    digits = re.sub("[^0-9a-f]", "", value.lower())
    return len(set(digits)) > 2


MACS = (
    Rule(
        name="mac",
        category="MAC_ADDRESS",
        first="[0-9A-Fa-f]",
        rest=r"(?<!(?<![0-9A-Za-z])[0-9A-Fa-f]{2}[:\-].)[0-9A-Fa-f](?:(?::[0-9A-Fa-f]{2}){5}|(?:-[0-9A-Fa-f]{2}){5})",
        right=r"(?![0-9A-Za-z])(?![:\-][0-9A-Fa-f]{2}(?![0-9A-Za-z]))",
        gate="[0-9A-Fa-f]{2}[:-][0-9A-Fa-f]{2}[:-][0-9A-Fa-f]{2}[:-][0-9A-Fa-f]{2}",
        longest=17,
        score=0.9,
        check=_hardware,
    ),
    Rule(
        name="mac_dotted",
        category="MAC_ADDRESS",
        first="[0-9A-Fa-f]",
        rest=r"(?<![0-9A-Fa-f]\..)[0-9A-Fa-f]{3}(?:\.[0-9A-Fa-f]{4}){2}",
        right=r"(?![0-9A-Za-z])(?!\.[0-9A-Fa-f])",
        gate=r"[0-9A-Fa-f]{4}\.[0-9A-Fa-f]{4}\.[0-9A-Fa-f]{4}",
        longest=14,
        score=0.8,
        check=lambda value: _hardware(value) and not value.replace(".", "").isdigit(),
    ),
)

RULES = (V4, V6, *MACS)
