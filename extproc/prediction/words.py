"""Words of a prompt that tell how long its answer will be, before anything is learned.

Written by hand from what the words ask for, not fitted to any set of answers: `WORDS` and `PAIRS` give, for a word or
for two words in a row, how much longer (above 0) or shorter than usual an answer tends to be, in natural logarithms.
"""

from __future__ import annotations

_WORDS = """
.7 chapter novel dissertation thesis ebook book memoir
.6 essay essays article articles blog story stories syllabus curriculum handbook whitepaper documentation manuscript
.6 作文 论文 小说 故事 剧本 全文 专著
.5 report reports guide tutorial course proposal itinerary comprehensive extensive thorough elaborate policy manual
.5 screenplay monograph textbook encyclopedia bibliography 文章 报告 教程 手册 详细 全面 深入 方案 攻略
.4 detailed detail details plan plans lesson lessons speech presentation game roadmap lecture workshop scenes scene
.4 episode campaign narrative lengthy newsletter brochure backstory worldbuilding timeline biography 详尽 计划 演讲 教案
.4 规划 大纲 策划 介绍信 行程 长篇
.3 complete full app application website webpage business strategy strategies compare comparison contrast discuss
.3 stages scope schedule outline framework advanced simulation critique evaluate evaluation long everything templates
.3 pages pros overview deep essays dialogue conversation monologue marketing startup budget workout diet recipes meal
.3 checklist faq rubric matrix 完整 对比 比较 论述 讨论 评估 策略 步骤 网站 游戏 系统 小程序
.2 design implement implementation develop system analysis analyze analyse analyzing table ideas questions examples
.2 program build describe research scenario scenarios stepbystep bot plugin server dashboard react django unity html
.2 agenda specification architecture tests ways tips challenges chatbot crawler scraper parser compiler engine module
.2 component frontend backend authentication pipeline kubernetes terraform algorithm algorithms prompts scripts recipe
.2 advantages disadvantages benefits reasons causes effects impact impacts implications factors considerations
.2 列出 分析 设计 实现 编写 建议 方法 举例 原因 优缺 代码 程序 算法 影响 意义
.1 create explain example write code script list generate class database history make steps process methods model
.1 models css javascript java project provide explanation assignment interview tutorial 解释 说明 生成 写一 介绍
-.1 simple is does what fix find bug correct typo solve given value select choose are was did 修改 计算
-.2 answer which where calculate compute sql query function convert rewrite rows poem quick line result probability
-.2 excel equation true false option options variable syntax spelling shortcut price currency capital 哪个 哪里 简单
-.3 who when define meaning formula regex regexp command only summarize summarise short translation haiku number
-.3 shorten identify abbreviation acronym synonym synonyms antonym timezone date year percent 多少 总结 概括 公式 只要
-.4 briefly brief concise concisely succinct succinctly translate rephrase paraphrase proofread grammar title titles
-.4 sentence sentences extract label labels category riddle reply caption pronunciation 简短 简要 简洁 翻译 润色 标题
-.4 提取 改写 是否 一下 精简
-.6 classify classification sentiment tagline slogan tweet headline joke hello hi oneliner spell hey 分类 情感 一句
-.6 笑话 你好 几个字 名字 判断
-.8 thanks thank ok okay bye 谢谢 再见
"""

_PAIRS = """
.5 in-depth in-detail blog-post business-plan lesson-plan research-paper short-story case-study user-stories
.5 literature-review product-description cover-all full-stack from-scratch
.4 step-by scope-of cover-letter test-cases as-many as-much go-deep design-document unit-tests each-of
.3 how-to how-do how-can write-a create-a difference-between differences-between help-me make-a pros-and
.2 an-example show-me code-for explain-how list-of tell-me teach-me build-a give-examples
-.2 what-is how-much how-long what-was what-are can-i is-it what-does is-there does-the in-short
-.3 how-many one-line single-line just-the at-most no-more what-year what-time who-is who-was
-.5 yes-or true-or one-sentence no-explanation without-explanation one-paragraph respond-with which-of only-the
-.5 answer-with only-respond reply-with two-sentences output-only return-only only-output do-not-explain
-.7 one-word single-word one-letter a-number
"""


def _read(text: str) -> dict[str, float]:
    lines = (line.split() for line in text.strip().splitlines())
    return {word: float(weight) for weight, *words in lines for word in words}


WORDS = _read(_WORDS)
"""Lower-case words, and Chinese ones of two characters."""
PAIRS = {(first, second): weight for words, weight in _read(_PAIRS).items() for first, second in [words.split("-")[:2]]}
