"""Identity and tax numbers of the United States, the United Kingdom and countries of the European Union."""

from __future__ import annotations

import re

from detectors.recognisers import checks
from detectors.recognisers.rules import Rule

_ARTICLE = (
    r"(?:\b(?:parts?|skus?|models?|orders?|invoices?|items?|serials?|tickets?|cases?|ref(?:erence)?|catalog(?:ue)?|products?"
    r"|tracking|batch|lot|version|build|p/n|s/n|po|rma|bin|stock|key|component|spare|gauge|article|claim|docket|policy"
    r"|quote|bug|issue|drawing|assembly|kit|valve|pump|module|board)|编号|物料|图号|型号|料号|零件|部件|订单|单号|货号|批号|产品|工单|序列号)号?"
    r"(?:[ \-_]?(?:no|num|number|code|id)\b)?[\s#:.=\"'是为(]{0,5}"
)
"""What a number is named for that is nobody's."""
_ISSUED_US = r"social security|\bssn\b|\bss ?#|社会安全号|社保号|社安号"

UNITED_STATES = (
    Rule(
        name="us_ssn",
        category="ID_CARD",
        first="[0-8]",
        rest=r"(?<![0-9][.\-/].)[0-9]{2}(?:-[0-9]{2}-|(?: )[0-9]{2} )[0-9]{4}",
        right=r"(?![0-9A-Za-z])(?![.\-/ ][0-9])",
        longest=11,
        score=0.75,
        check=checks.social_security,
        gate="[0-9]{3}[ -][0-9]{2}[ -][0-9]{4}",
        context=_ISSUED_US,
        against=_ARTICLE,
    ),
    Rule(
        name="us_ssn_bare",
        category="ID_CARD",
        first="[0-8]",
        rest=r"[0-9]{2}[ .]?[0-9]{2}[ .]?[0-9]{4}",
        longest=11,
        score=0.7,
        check=checks.social_security,
        context=_ISSUED_US,
        required=True,
    ),
    Rule(
        name="us_itin",
        category="TAX_ID",
        first="9",
        rest=r"[0-9]{2}[ \-]?(?:5[0-9]|6[0-5]|7[0-9]|8[0-8]|9[0-24-9])[ \-]?[0-9]{4}",
        longest=11,
        score=0.75,
        context=r"\bitin\b|taxpayer|tax id",
        required=True,
    ),
    Rule(
        name="us_ein",
        category="TAX_ID",
        first="[0-9]",
        rest="[0-9]-?[0-9]{7}",
        right=r"(?![0-9A-Za-z])(?!-[0-9])",
        longest=10,
        score=0.75,
        context=r"\bein\b|employer id|federal tax|\bfein\b|tax id|\btin\b",
        required=True,
    ),
)

UNITED_KINGDOM = (
    Rule(
        name="uk_nino",
        category="ID_CARD",
        first="[A-CEGHJ-PR-TW-Z]",
        rest=r"[A-CEGHJ-NPR-TW-Z](?:[ -]?[0-9]{2}){3}[ -]?[A-D]",
        longest=13,
        score=0.85,
        check=checks.national_insurance,
        context=r"national insurance|\bnino?\b|\bni no",
    ),
    Rule(
        name="uk_nhs",
        category="ID_CARD",
        first="[0-9]",
        rest="[0-9]{2}[ -]?[0-9]{3}[ -]?[0-9]{4}",
        longest=12,
        score=0.75,
        check=checks.national_health,
        context=r"\bnhs\b|national health",
        required=True,
    ),
    Rule(
        name="uk_driver",
        category="DRIVER_LICENSE",
        first="[A-Z]",
        rest=r"[A-Z9]{4}[0-9][0156][0-9](?:0[1-9]|[12][0-9]|3[01])[0-9][A-Z9]{2}[0-9A-Z]{3}",
        longest=16,
        score=0.85,
    ),
    Rule(
        name="uk_plate",
        category="LICENSE_PLATE",
        first="[A-Z]",
        rest="[A-Z][0-9]{2} ?[A-Z]{3}",
        longest=8,
        score=0.65,
        context=r"plate|registration|\breg\b|vehicle|\bcar\b|vrn",
        required=True,
    ),
    Rule(
        name="us_plate",
        category="LICENSE_PLATE",
        first="[0-9A-Z]",
        rest="[0-9A-Z]{1,3}[ -]?[0-9A-Z]{3,4}",
        longest=9,
        score=0.6,
        check=lambda value: any(map(str.isdigit, value)) and any(map(str.isupper, value)),
        context=r"licen[cs]e plate|plate (?:number|no)|number plate",
        required=True,
        gate="(?i)plate",
    ),
)

_VAT = (
    "ATU[0-9]{8}|BE[01][0-9]{9}|BG[0-9]{9,10}|CY[0-9]{8}[A-Z]|CZ[0-9]{8,10}|DE[0-9]{9}|DK[0-9]{8}|EE[0-9]{9}|EL[0-9]{9}"
    "|ES[0-9A-Z][0-9]{7}[0-9A-Z]|FI[0-9]{8}|FR[0-9A-Z]{2}[0-9]{9}|GB[0-9]{9}|HR[0-9]{11}|HU[0-9]{8}|IE[0-9]{7}[A-Z]{1,2}"
    "|IT[0-9]{11}|LT[0-9]{9}|LU[0-9]{8}|LV[0-9]{11}|MT[0-9]{8}|NL[0-9]{9}B[0-9]{2}|PL[0-9]{10}|PT[0-9]{9}|RO[0-9]{2,10}"
    "|SE[0-9]{12}|SI[0-9]{8}|SK[0-9]{10}|XI[0-9]{9}"
)
_VAT_FORM = re.compile(_VAT)

EUROPEAN_UNION = (
    Rule(
        name="eu_vat",
        category="TAX_ID",
        first="[A-Z]",
        rest=r"(?:(?<=A)T|(?<=B)[EG]|(?<=C)[YZ]|(?<=D)[EK]|(?<=E)[ELS]|(?<=F)[IR]|(?<=G)B|(?<=H)[RU]|(?<=I)[ET]|(?<=L)[TUV]|(?<=M)T"
        r"|(?<=N)L|(?<=P)[LT]|(?<=R)O|(?<=S)[EIK]|(?<=X)I)[ ]?(?:[0-9A-Z][ .]?){6,11}[0-9A-Z]",
        gate="[A-Z]{2} ?[0-9A-Z][0-9 .]{5}",
        longest=30,
        score=0.7,
        check=lambda value: _VAT_FORM.fullmatch(checks.bare(value)) is not None,
        context=r"\bvat\b|ust-?id|umsatzsteuer|\btva\b|\biva\b|\bmwst|\bbtw\b|tax|税号|增值税|partita|\bnip\b|\bmoms",
        required=True,
    ),
    Rule(
        name="es_dni",
        category="ID_CARD",
        first="[0-9XYZ]",
        rest="[0-9]{7}-?[A-HJ-NP-TV-Z]",
        longest=10,
        score=0.8,
        check=checks.spanish_id,
        context=r"\bdni\b|\bnie\b|\bnif\b",
    ),
    Rule(
        name="it_fiscal_code",
        category="ID_CARD",
        first="[A-Z]",
        rest="[A-Z]{5}[0-9LMNP-V]{2}[A-EHLMPR-T][0-9LMNP-V]{2}[A-Z][0-9LMNP-V]{3}[A-Z]",
        longest=16,
        score=0.95,
        check=checks.fiscal_code,
        flags=re.IGNORECASE,
    ),
    Rule(
        name="pl_pesel",
        category="ID_CARD",
        first="[0-9]",
        rest="[0-9]{10}",
        longest=11,
        score=0.8,
        check=checks.pesel,
        context="pesel",
        required=True,
    ),
    Rule(
        name="de_tax_id",
        category="TAX_ID",
        first="[1-9]",
        rest="[0-9](?: ?[0-9]{3}){3}",
        longest=14,
        score=0.8,
        check=checks.german_tax_id,
        context=r"steuer|\bidnr|\btin\b|tax id",
        required=True,
    ),
    Rule(
        name="de_id_card",
        category="ID_CARD",
        first="[CFGHJKLMNPRTVWXYZ]",
        rest="[0-9CFGHJKLMNPRTVWXYZ]{8}[0-9]?",
        longest=10,
        score=0.65,
        check=lambda value: sum(map(str.isdigit, value)) >= 3,
        context=r"personalausweis|ausweis(?:nummer|nr)|german id",
        required=True,
    ),
    Rule(
        name="fr_nir",
        category="ID_CARD",
        first="[1-478]",
        rest="[ .]?[0-9]{2}[ .]?[0-9]{2}[ .]?(?:[0-9]{2}|2[AB])[ .]?[0-9]{3}[ .]?[0-9]{3}[ .]?[0-9]{2}",
        longest=21,
        score=0.9,
        check=checks.french_nir,
        context=r"sécurité sociale|securite sociale|\bnir\b|\binsee\b",
    ),
    Rule(
        name="be_national_number",
        category="ID_CARD",
        first="[0-9]",
        rest=r"[0-9]\.[0-9]{2}\.[0-9]{2}-[0-9]{3}\.[0-9]{2}",
        longest=15,
        score=0.9,
        check=checks.belgian_number,
    ),
    Rule(
        name="se_personal_number",
        category="ID_CARD",
        first="[0-9]",
        rest="[0-9]{5}(?:[0-9]{2})?[-+]?[0-9]{4}",
        longest=13,
        score=0.75,
        check=checks.swedish_number,
        context="personnummer|personal identity|swedish",
        required=True,
    ),
    Rule(
        name="fi_identity_code",
        category="ID_CARD",
        first="[0-3]",
        rest="[0-9]{5}[-+A-FU-Y][0-9]{3}[0-9A-FHJ-NPR-Y]",
        longest=11,
        score=0.9,
        check=checks.finnish_code,
    ),
    Rule(
        name="dk_cpr",
        category="ID_CARD",
        first="[0-3]",
        rest="[0-9](?:0[1-9]|1[0-2])[0-9]{2}[- ]?[0-9]{4}",
        longest=11,
        score=0.75,
        context=r"\bcpr\b|personnummer|danish id",
        required=True,
    ),
    Rule(
        name="nl_bsn",
        category="ID_CARD",
        first="[0-9]",
        rest="[0-9]{3}[ .]?[0-9]{2}[ .]?[0-9]{3}",
        longest=11,
        score=0.8,
        check=checks.dutch_number,
        context=r"\bbsn\b|burgerservicenummer|sofinummer",
        required=True,
    ),
    Rule(
        name="ie_pps",
        category="ID_CARD",
        first="[0-9]",
        rest="[0-9]{6}[A-W][A-IW]?",
        longest=9,
        score=0.8,
        check=checks.irish_number,
        context=r"\bpps|irish",
        required=True,
    ),
    Rule(
        name="pt_nif",
        category="TAX_ID",
        first="[1-35689]",
        rest="[0-9]{2}[ .]?[0-9]{3}[ .]?[0-9]{3}",
        longest=11,
        score=0.75,
        check=checks.portuguese_number,
        context=r"\bnif\b|contribuinte|portug",
        required=True,
    ),
    Rule(
        name="pl_nip",
        category="TAX_ID",
        first="[1-9]",
        rest="[0-9]{2}-?[0-9]{3}-?[0-9]{2}-?[0-9]{2}",
        longest=13,
        score=0.75,
        context=r"\bnip\b",
        required=True,
    ),
)

CHINA_TAX = Rule(
    name="cn_tax_number",
    category="TAX_ID",
    first="[1-9]",
    rest="[0-9]{14}(?:[0-9]{5})?",
    longest=20,
    score=0.65,
    context="税号|纳税人识别|税务登记",
    required=True,
)

RULES = (*UNITED_STATES, *UNITED_KINGDOM, *EUROPEAN_UNION, CHINA_TAX)
