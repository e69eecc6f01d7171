"""200 conversations as a browser saves ChatGPT's page: what tools/golden/clean.py cleans.

Deterministic. A reply is built from pieces: paragraphs, nested lists, tables, code blocks with their
copy button, quotes, links, entities; some pieces are broken on purpose (unclosed, stray, misnested
or unknown tags, references without an end). Conversations are broken too: a leading reply, a
trailing question, two questions in a row, blocked words, empty messages, repeated ids and pairs,
plugins, long ones that must be split."""

import random

NOUNS = ("llama alpaca vicuna pasture mountain river kernel tensor gradient matrix loop buffer compiler"
         " server client token letter island window harvest market engine signal border theory").split()
VERBS = "makes holds follows reads splits joins counts measures keeps finds draws moves".split()
LANGUAGES = ["python", "c", "javascript", "bash", "sql", "html", "", "c++", "yaml"]
CODE = {
    "python": 'def add(a, b):\n    """a_b * c"""\n    return a + b\n\nprint(add(1, 2))',
    "c": "#include &lt;stdio.h&gt;\nint main(void)\n{\n\tprintf(\"%d\\n\", a[i] &amp; 0xff);\n}",
    "javascript": "const f = (x) =&gt; x * 2;\nconsole.log(`${f(2)}`);",
    "bash": "for f in *.txt; do\n  echo \"$f\" &gt;&gt; all_files\ndone",
    "sql": "SELECT * FROM t WHERE a_b &lt; 3;",
    "html": "&lt;div class=\"x\"&gt;\n  &lt;p&gt;Hi&lt;/p&gt;\n&lt;/div&gt;",
    "": "plain text\n   with    spaces\n",
    "c++": "std::vector&lt;int&gt; v{1, 2};\ntemplate &lt;class T&gt; T twice(T x) { return x * 2; }",
    "yaml": "a: 1\nb:\n  - c_d\n  - '*'",
}
ENTITIES = ["&amp;", "&lt;tag&gt;", "&quot;x&quot;", "&nbsp;", "&hellip;", "&mdash;", "&#39;", "&#x2019;",
            "&eacute;", "&unknown;", "&copy 2023", "AT&T", "&#147;quoted&#148;", "&ApplyFunction;"]
BROKEN = [
    "<p>an open paragraph <b>with bold", "</div></p></span> stray ends", "<b><i>crossed</b> over</i>",
    "<ul><li>one<li>two<li>three</ul>", "if a < b and c > d: pass", "std::vector<int> of List<String>",
    "<table><tr><td>a<td>b<tr><td>c</table>", "one<br>two<br/>three</br>four", "<unknown-tag>kept</unknown-tag>",
    "<p/>after a slash<p></p>", "<a href=unquoted>link</a> <a>none</a>", "an &amp without an end &#38 too ",
    "<!-- a comment --> and <!DOCTYPE html> gone", "<script>var a_b = '<p>';</script>behind",
    "<h1>One</h1><h2>Two *x*</h2><h3>Three</h3><h6>Six</h6>", "<pre>a_b\n\n\n   c*d</pre>",
    "<?php echo 1 ?> text", "<img src=\"a_b.png\" alt=\"a picture\" title=\"t\"><hr>", "5 < 6 <3",
    "<ol start=\"4\"><li>four</li><li>five</li></ol>", "<kbd>Ctrl</kbd>+<samp>C</samp> x<sup>2</sup> <del>no</del>",
]
CHINESE = "你好,请问如何写一个程序?首先我们需要定义问题,然后一步一步地解决它。"
KOREAN = "안녕하세요. 오늘은 날씨가 아주 좋습니다. 우리는 함께 산에 올라갔습니다."


class Maker:
    def __init__(self, seed):
        self.rng = random.Random(seed)

    def words(self, n):
        out = [self.rng.choice(VERBS if i % 3 == 1 else NOUNS) for i in range(n)]
        return " ".join(out).capitalize() + "."

    def inline(self):
        w, r = self.words(self.rng.randint(3, 9)), self.rng.random()
        if r < 0.1:
            return f"<strong>{w}</strong> {self.rng.choice(ENTITIES)}"
        if r < 0.2:
            return f"{w} <em> {w} </em><code>x_{self.rng.randint(1, 9)}</code>"
        if r < 0.3:
            u = f"https://example.org/a_{self.rng.randint(1, 99)}"
            return f'{w} <a href="{u}" target="_new">{u if r < 0.25 else w}</a>'
        return w

    def items(self, depth):
        inner = []
        for _ in range(self.rng.randint(1, 4)):
            nested = self.list(depth + 1) if depth < 3 and self.rng.random() < 0.25 else ""
            body = self.inline()
            inner.append(f"<li>{f'<p>{body}</p>' if self.rng.random() < 0.5 else body}{nested}</li>")
        return self.rng.choice(["", "\n"]).join(inner)

    def list(self, depth=0):
        tag = self.rng.choice(["ul", "ol"])
        return f"<{tag}>{self.items(depth)}</{tag}>"

    def table(self):
        n = self.rng.randint(1, 4)
        head = "<thead><tr>" + "".join(f"<th>{c} {i}</th>" for i, c in enumerate(NOUNS[:n])) + "</tr></thead>"
        rows = "".join("<tr>" + "".join(f"<td>{self.inline()}</td>" for _ in range(n)) + "</tr>\n"
                       for _ in range(self.rng.randint(1, 3)))
        return f"<table>{head if self.rng.random() < 0.7 else ''}<tbody>{rows}</tbody></table>"

    def code(self):
        lang = self.rng.choice(LANGUAGES)
        body = "\n".join([CODE[lang]])
        return ('<pre><div class="bg-black"><div class="flex">'
                f'<span class="">{lang}</span><button class="flex"><svg><path d="M16 4h2"></path></svg>'
                'Copy code</button></div><div class="p-4">'
                f'<code class="hljs language-{lang}"><span class="hljs-keyword">{body}</span>\n'
                "</code></div></div></pre>")

    def block(self):
        r = self.rng.random()
        if r < 0.35:
            return f"<p>{self.inline()} {self.inline()}</p>"
        if r < 0.5:
            return self.list()
        if r < 0.58:
            return self.table()
        if r < 0.75:
            return self.code()
        if r < 0.8:
            return f"<blockquote>\n<p>{self.inline()}</p>\n</blockquote>"
        if r < 0.85:
            return "".join(self.rng.choice(ENTITIES) + " " for _ in range(4))
        if r < 0.96:
            return self.rng.choice(BROKEN)
        return self.rng.choice(["\n\n\n", "Copy123 chars / 45 words", "<pre><code>Copy code</code></pre>", CHINESE])

    def reply(self, blocks):
        body = self.rng.choice(["", "\n"]).join(self.block() for _ in range(blocks))
        before = f"<span>{self.rng.randint(1, 3)} / 3</span>" if self.rng.random() < 0.15 else ""
        return f'{before}<div class="markdown prose">{body}</div>'

    def question(self):
        return self.rng.choice([self.words(8), f"<div>{self.words(5)}</div>", self.words(4) + "\n\n" + CODE["c"],
                                self.rng.choice(BROKEN), f"{self.words(3)} {self.rng.choice(ENTITIES)}"])

    def conversation(self, i):
        pairs = self.rng.choice([1, 1, 2, 3])
        turns = []
        for _ in range(pairs):
            turns.append({"from": "human", "value": self.question()})
            turns.append({"from": "gpt", "value": self.reply(self.rng.randint(1, 5))})
        return {"id": f"page{i:03d}", "conversations": turns}


def damage(maker, i, c, before):
    """What is wrong with every so manyth conversation."""
    turns = c["conversations"]
    kind = i % 20
    if kind == 1:
        turns.insert(0, {"from": "gpt", "value": maker.reply(1)})
    elif kind == 3:
        turns.append({"from": "human", "value": maker.question()})
    elif kind == 5:
        turns.insert(1, {"from": "human", "value": "again"})
    elif kind == 7:
        turns[-1]["value"] += maker.rng.choice(["<p>As an OpenAI model</p>", "I am Chat<b>GPT</b>", "by CHATGPT"])
    elif kind == 9 and len(turns) > 2:
        turns[len(turns) // 2]["value"] = maker.rng.choice(["", "<p> </p>", "\u200bhidden", "<div></div>\n"])
    elif kind == 11:
        c["id"] = before[-2]["id"]
    elif kind == 13:
        c["conversations"] = [dict(t) for t in before[-3]["conversations"]] + turns
    elif kind == 15:
        c["plugins"] = {"name": "x"}
    elif kind == 16:
        c["conversations"] = [{"from": "human", "value": "<p>Hi</p>"}, {"from": "gpt", "value": "Yes <br>"}]
    elif kind == 17:
        turns[-1]["value"] = "<p>A list:\n1. first thing\nand more\n1. other thing\n1. third</p>"
    elif kind == 18:
        c["conversations"] = [{"from": f, "value": " ".join(KOREAN for _ in range(3))} for f in ("human", "gpt")]
        c["conversations"][0]["value"] += f" {i}"
    elif kind == 19:
        turns[0]["value"] += " call 0000000000 now"


def make_pages(count=200, seed=2023):
    maker = Maker(seed)
    pages = []
    for i in range(count):
        c = maker.conversation(i)
        damage(maker, i, c, pages)
        if i % 10 == 4:
            for _ in range(4):
                c["conversations"] += [{"from": "human", "value": maker.question()},
                                       {"from": "gpt", "value": maker.reply(5)}]
        if i % 6 == 0:
            c["model"] = maker.rng.choice(["gpt4", "Model: GPT-4", ""])
        pages.append(c)
    pages[40]["conversations"] = pages[40]["conversations"][:1]
    pages[60]["conversations"][0]["value"] = "<![unknown[ section ]]>"
    pages[80]["conversations"] = []
    for i, last in ((100, "x"), (120, "a question of many characters")):  # 16 are counted with it
        pages[i]["conversations"] = [{"from": f, "value": v} for f, v in (
            ("human", f"{i}"), ("gpt", "yes"), ("human", last), ("gpt", ""))]
    return pages
