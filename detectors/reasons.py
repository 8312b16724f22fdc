"""What people are told: one sentence per category, in the language of the text."""

from __future__ import annotations

import re
from collections.abc import Mapping

from detectors.findings import CATEGORIES

_CHINESE = re.compile("[\u4e00-\u9fff]")

_ENGLISH: Mapping[str, str] = {
    "BUSINESS_MEETING": "discloses an internal meeting of the company",
    "BUSINESS_FINANCE": "discloses financial figures that are not public",
    "BUSINESS_PERSONNEL": "discloses internal personnel matters",
    "BUSINESS_CUSTOMER": "discloses customers, contracts or offers",
    "BUSINESS_ROADMAP": "discloses plans, products or projects that are not announced",
    "BUSINESS_SECURITY": "discloses the security of the company's own systems",
    "BUSINESS_LEGAL": "discloses legal matters of the company",
    "BUSINESS_TECHNOLOGY": "discloses technical know-how of the company",
    "INJECTION": "tries to override the instructions of the model",
    "SECRET": "contains a password, key or token",
    "DENY_PATTERN": "matches a deny pattern",
    "ALLOW_PATTERN": "matches none of the allow patterns",
    "JUDGE": "was judged to hold sensitive information",
    "UNCHECKED": "could not be checked",
}
_CHINESE_REASONS: Mapping[str, str] = {
    "BUSINESS_MEETING": "透露了公司的内部会议",
    "BUSINESS_FINANCE": "透露了未公开的财务信息",
    "BUSINESS_PERSONNEL": "透露了公司内部的人事信息",
    "BUSINESS_CUSTOMER": "透露了客户、合同或报价信息",
    "BUSINESS_ROADMAP": "透露了尚未公布的计划、产品或项目",
    "BUSINESS_SECURITY": "透露了公司自身系统的安全信息",
    "BUSINESS_LEGAL": "透露了公司的法律事务",
    "BUSINESS_TECHNOLOGY": "透露了公司的技术诀窍",
    "INJECTION": "试图绕过或改写模型的指令",
    "SECRET": "包含密码、密钥或令牌",
    "DENY_PATTERN": "命中了禁止规则",
    "ALLOW_PATTERN": "没有命中任何允许规则",
    "JUDGE": "被判定含有敏感信息",
    "UNCHECKED": "无法完成检查",
    "PERSON": "包含人名",
    "ORGANIZATION": "包含机构名称",
    "LOCATION": "包含地名",
    "POSITION": "包含职务",
    "PROJECT": "包含项目名称或代号",
    "ADDRESS": "包含地址",
    "EMAIL": "包含电子邮箱",
    "PHONE": "包含电话号码",
    "ID_CARD": "包含身份证件号码",
    "PASSPORT": "包含护照或通行证号码",
    "DRIVER_LICENSE": "包含驾驶证号码",
    "TAX_ID": "包含税号",
    "CREDIT_CODE": "包含统一社会信用代码",
    "BANK_CARD": "包含银行卡号",
    "BANK_ACCOUNT": "包含银行账号",
    "IBAN": "包含国际银行账号",
    "LICENSE_PLATE": "包含车牌号",
    "WECHAT": "包含微信号",
    "QQ": "包含QQ号",
    "IP_ADDRESS": "包含IP地址",
    "MAC_ADDRESS": "包含MAC地址",
    "CRYPTO_WALLET": "包含加密货币钱包地址",
}


def is_chinese(text: str) -> bool:
    """Whether a reason is best given in Chinese."""
    return _CHINESE.search(text) is not None


def _article(meaning: str) -> str:
    return f"{'an' if meaning[:1].lower() in 'aeiou' else 'a'} {meaning}"


def explain(category: str, *, chinese: bool) -> str:
    """One sentence without the text itself, such as "The message discloses an internal meeting of the company"."""
    if chinese:
        return f"该消息{_CHINESE_REASONS.get(category, f'含有敏感内容（{category}）')}（{category}）。"
    said = _ENGLISH.get(category)
    if said is None:
        meaning = CATEGORIES.get(category, "sensitive content")
        said = f"contains {_article(meaning)}"
    return f"The message {said} ({category})."
