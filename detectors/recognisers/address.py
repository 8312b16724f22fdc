"""Postal addresses: Chinese from province to room, English streets, UK postcodes, PO boxes."""

from __future__ import annotations

import re
from collections.abc import Iterable

from detectors.recognisers.rules import Rule, words

_HAN = "\u4e00-\u9fff"
_PLACES = "|".join(sorted(words("cn_places.txt"), key=lambda each: (-len(each), each)))
_REACH = 36
"""Characters before the road or compound that may belong to an address."""
_RUN = re.compile(rf"[{_HAN}A-Za-z0-9()·]+(?: [{_HAN}A-Za-z0-9()·]+)*\Z")
_LEAD = re.compile(
    "地址|住址|住在|家住|位于|坐落|收货|寄到|寄往|寄给|送到|送至|送往|发到|搬到|搬至|来到|前往|公司|总部|办公室|门店|单位|户籍|籍贯"
    "|我家|[在到往是给住址叫:]"
)
"""What leads to an address in a sentence."""
_WEAK_LEAD = re.compile(rf"[为至自从于去和与及或](?=(?:{_PLACES}))")
"""Characters that lead to an address as well, but occur in names of roads."""
_PARTICLES = (
    "对请把将这那的了我你他她它们和与从为于向来去看查问写寄送发叫说给到在往是让帮用按被比跟及或就都也又再新老旧"
)
_PLACE = re.compile(_PLACES)
_UNIT = re.compile(
    rf"(?:[{_HAN}]{{1,8}}(?:自治区|自治州|自治县|新区|开发区|高新区))|[{_HAN}]{{1,3}}[省市区县旗镇乡]|[{_HAN}]{{1,4}}街道"
)
_ROAD = re.compile(rf"[{_HAN}A-Za-z0-9]{{1,6}}\Z")

_NUMERAL = "[0-9A-Za-z一二三四五六七八九十东西南北甲乙丙丁]"
_PART = (
    rf"(?:[ \-]?(?:{_NUMERAL}{{1,5}}(?:号楼|号院|号|栋|幢|座|单元|楼|层|室|户|期|区|组|队|房|门|弄)"
    rf"|[{_HAN}A-Za-z]{{2,10}}?(?:大厦|广场|中心|小区|花园|家园|公寓|大楼|科技园|园区|新村|新城|家属院|宿舍|[苑城府湾庭园邸])(?=[0-9A-Za-z一二三四五六七八九十东西南北])"
    rf"|[{_HAN}A-Za-z]{{2,10}}?(?:大厦|广场|中心|小区|花园|家园|公寓|大楼|科技园|园区|新村|家属院|宿舍)"
    r"|[0-9]{3,4}(?![0-9A-Za-z年月日元个人])))"
)
_DETAIL = (
    r"(?:大[街道]|[东西南北中]路)?(?: ?[0-9]{1,5}(?:[\-之][0-9]{1,4})? ?(?:号楼|号院|号|弄|栋|幢|座|组|单元|期)"
    r"|[一二三四五六七八九十百]{1,5}(?:号楼|号院|号|栋|幢|座|单元)|[A-Za-z][0-9]{0,2}[座栋区])"
)
_ANCHOR = "[路街道巷弄同里条线村屯庄区园苑寓厦场城府湾坊寨镇心楼]"
"""Last character of the name of a road, village or compound; a number stands behind it."""
_STRONG = "路街道巷弄同"


def _chinese(match: re.Match[str]) -> Iterable[tuple[int, int]]:
    """The match holds the end of the road's name and what follows; the beginning is found backwards."""
    text, anchor = match.string, match.start()
    low = max(0, anchor - _REACH)
    run = _RUN.search(text, low, anchor)
    if run is None:
        return ()
    begin, known = _beginning(text, run.start(), anchor)
    if begin is None:
        return ()
    detail = len(re.findall("号|弄|栋|幢|座|单元|室|楼|层", match[0]))
    if not known and detail < 2 and text[anchor] not in _STRONG:
        return ()
    return ((begin, match.end()),)


def _beginning(text: str, low: int, anchor: int) -> tuple[int | None, bool]:
    """Where the address starts in `text[low:anchor]`, and whether a place or an administrative unit says so."""
    for lead in _LEAD.finditer(text, low, anchor - 1):
        low = lead.end()
    for lead in _WEAK_LEAD.finditer(text, low, anchor):
        low = lead.end()
    while low < anchor and text[low] in " ,()·":
        low += 1
    place, unit = _PLACE.search(text, low, anchor), _UNIT.search(text, low, anchor)
    if place is not None and unit is not None and unit.end() <= place.start():  # a road named after a city
        place = None
    if place is not None:
        return place.start(), True
    if unit is not None:  # most names have two characters; the third may belong to the sentence
        return unit.start() + (unit.end() - unit.start() == 4 and text[unit.start()] in _PARTICLES), True
    road = _ROAD.search(text, low, anchor)
    return (road.start(), False) if road is not None else (None, False)


CHINESE = Rule(
    name="cn_address",
    category="ADDRESS",
    first=_ANCHOR,
    rest=rf"(?:(?<!同)|(?<=胡同)){_DETAIL}{_PART}{{0,6}}(?: [0-9]{{6}}(?![0-9]))?",
    left="",
    right="",
    gate="[路街道巷弄同里条线村屯庄区园苑寓厦场城府湾坊寨镇心楼大东西南北中] ?[0-9A-Za-z一二三四五六七八九十]",
    longest=160,
    score=0.8,
    context="地址|住址|住在|家住|寄|收货|快递|户籍|位于|address",
    trim=_chinese,
    tail=(
        rf"(?:(?:(?:{_PLACES})|[{_HAN}]{{1,8}}自治[区州县]|[{_HAN}]{{1,3}}[省市区县旗镇乡]|[{_HAN}]{{1,4}}(?:街道|新区|开发区|高新区))"
        rf"[{_HAN}A-Za-z0-9()· ]{{0,{_REACH}}}|[{_HAN}A-Za-z0-9]{{0,6}}){_ANCHOR}"
        rf"{_DETAIL}{_PART}{{0,6}}(?: [0-9]{{6}})?"
    ),
)

_COMMON = (
    "Street|St|Avenue|Ave|Road|Rd|Boulevard|Blvd|Lane|Ln|Drive|Dr|Court|Ct|Place|Pl|Square|Sq|Terrace|Ter|Parkway|Pkwy|"
    "Highway|Hwy|Circle|Cir|Crescent|Close|Way|Row|Mews|Alley|Trail|Turnpike|Broadway|Expressway|Gardens|Grove|Hill"
)
_RARE = (
    "Bridge|Brook|Brooks|Burg|Bypass|Camp|Canyon|Cape|Causeway|Center|Centers|Circles|Cliff|Cliffs|Club|Common|Corner|"
    "Corners|Course|Courts|Cove|Coves|Creek|Crest|Crossing|Crossroad|Curve|Dale|Dam|Divide|Drives|Estate|Estates|"
    "Extension|Extensions|Fall|Falls|Ferry|Field|Fields|Flat|Flats|Ford|Fords|Forest|Forge|Forges|Fork|Forks|Fort|"
    "Freeway|Garden|Gateway|Glen|Glens|Green|Greens|Groves|Harbor|Harbors|Haven|Heights|Hills|Hollow|Inlet|Island|"
    "Islands|Isle|Junction|Junctions|Key|Keys|Knoll|Knolls|Lake|Lakes|Land|Landing|Light|Lights|Loaf|Lock|Locks|Lodge|"
    "Loop|Mall|Manor|Manors|Meadow|Meadows|Mill|Mills|Mission|Motorway|Mount|Mountain|Mountains|Neck|Orchard|Oval|"
    "Overpass|Park|Parks|Parkways|Pass|Passage|Path|Pike|Pine|Pines|Plain|Plains|Plaza|Point|Points|Port|Ports|Prairie|"
    "Radial|Ramp|Ranch|Rapid|Rapids|Rest|Ridge|Ridges|River|Roads|Route|Rue|Run|Shoal|Shoals|Shore|Shores|Skyway|Spring|"
    "Springs|Spur|Spurs|Squares|Station|Stravenue|Stream|Streets|Summit|Throughway|Trace|Track|Trafficway|Tunnel|"
    "Underpass|Union|Unions|Valley|Valleys|Via|Viaduct|View|Views|Village|Villages|Ville|Vista|Walk|Walks|Wall|Ways|Well|Wells"
)
_WORD = r"(?:[A-Z][A-Za-z'.\-]{0,20}|[0-9]{1,3}(?:st|nd|rd|th)|de|of|the|la)"
_NAME = rf"(?:(?:[NSEW]|NE|NW|SE|SW)\.? )?(?:{_WORD} ){{1,4}}?"
_POST = "[A-Z]{1,2}[0-9][A-Z0-9]? ?[0-9][A-Z]{2}"
_TOWN = (
    rf"(?:[,\n]\s?|, ?\n)(?:[A-Z][A-Za-z'.\-]{{1,20}}[ ,\n]{{1,2}}){{1,4}}"
    rf"(?:[A-Z]{{2}}\.? [0-9]{{5}}(?:-[0-9]{{4}})?|{_POST})"
)
_SUITE = r"(?:,? ?(?:Apt|Apartment|Suite|Ste|Unit|Flat|Room|Rm|Floor|Fl|#)\.? ?#?[0-9A-Z\-]{1,6})"
_EDGE = r"(?![0-9A-Za-z])"

_NUMBER = r"[0-9]{0,5}(?:[A-Za-z]|-[0-9]{1,4})?,? "
_STREET = rf"{_NAME}(?:{_COMMON}){_EDGE}\.?(?: [NSEW]{{1,2}}{_EDGE})?"

ENGLISH = (
    Rule(
        name="english_address",
        category="ADDRESS",
        first="[1-9]",
        rest=rf"{_NUMBER}(?:{_STREET}|{_NAME}(?:{_RARE}){_EDGE})(?:{_SUITE}(?:{_TOWN})?|{_TOWN})",
        right=_EDGE,
        gate=rf"[0-9][A-Za-z]?,? [A-Z0-9][A-Za-z0-9'. \-]{{1,80}}(?:{_COMMON}|{_RARE})",
        longest=200,
        score=0.85,
        tail=rf"[1-9](?<![0-9A-Za-z].){_NUMBER}{_NAME}(?:{_COMMON}|{_RARE})\.?(?: [NSEW]{{1,2}})?{_SUITE}?(?:{_TOWN})?",
    ),
    Rule(
        name="english_street",
        category="ADDRESS",
        first="[1-9]",
        rest=_NUMBER + _STREET,
        right=_EDGE,
        gate=rf"[0-9][A-Za-z]?,? [A-Z0-9][A-Za-z0-9'. \-]{{1,80}}(?:{_COMMON})",
        longest=110,
        score=0.6,
        context=r"address|\bi live|\blives? (?:at|on)|living at|home|\bship|deliver|mail(?:ed|ing)? to"
        r"|send\b.{0,12} to|resid(?:e|ing|ence)|地址|[家我].?住|住在|street",
        required=True,
        tail=rf"[1-9](?<![0-9A-Za-z].){_NUMBER}{_STREET}",
    ),
)

MORE = (
    Rule(
        name="po_box",
        category="ADDRESS",
        first="P",
        rest=r"\.? ?O\.? ?Box [0-9]{1,6}" + rf"(?:{_TOWN})?",
        longest=130,
        score=0.8,
    ),
    Rule(
        name="military_address",
        category="ADDRESS",
        first="[PUD]",
        rest=r"(?:(?<=P)SC [0-9]{1,4}|(?<=U)(?:SNS|SCGC|SS|nit)"
        r" [A-Z0-9][A-Za-z0-9]{0,20}|(?<=D)PO),?(?: Box [0-9]{1,5})?"
        r"[\n, ]{1,2}(?:D?[AF]PO),? A[AEP] [0-9]{5}",
        gate="[AFD]PO,? A[AEP] [0-9]{5}",
        longest=70,
        score=0.8,
    ),
    Rule(
        name="uk_postcode",
        category="ADDRESS",
        first="[A-Z]",
        rest="[A-Z]?[0-9][A-Z0-9]? [0-9][ABD-HJLNP-UW-Z]{2}",
        longest=8,
        score=0.65,
        context="post ?code|address|postal",
        required=True,
    ),
)

RULES = (CHINESE, *ENGLISH, *MORE)
