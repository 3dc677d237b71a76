"""Names that a stranger chose are shown, and are nothing but text: read back by another Markdown parser."""

import pytest

from kapp.export.model_card import model_card
from kapp.reporting import run_report, tables
from kapp.reporting.markdown import (
    BulletList,
    Figure,
    Heading,
    Paragraph,
    Table,
    code,
    escape,
    link,
    to_markdown,
)
from tests.export.helpers import manifest
from tests.reporting.helpers import fabricate

markdown_it = pytest.importorskip("markdown_it")
NAMES = (
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "[a](javascript:x)",
    "![a](http://tracker/x.png)",
    "|x|",
    "# h",
    "- item",
    "=",
    "*bold* and ~~gone~~",
    "`code`",
    "&lt;b&gt; &#60;",
    "a\\|b \\",
    "<!-- hidden",
    r"$\frac$ $5",
    "linear_3 at 55.1% (54 < 56)",
)


def tokens(text: str) -> list:
    parsed = markdown_it.MarkdownIt("commonmark").enable(["table", "strikethrough"]).parse(text)
    return [child for token in parsed for child in (token, *(token.children or ()))]


def shown(text: str) -> str:
    """What a reader sees."""
    return "".join(token.content for token in tokens(text) if token.type in ("text", "code_inline"))


@pytest.mark.parametrize("name", NAMES)
def test_each_block_shows_the_name_and_has_no_element_of_it(name):
    blocks = [
        Heading(name),
        Paragraph(escape(name)),
        Paragraph(f"The network {escape(name)}."),
        Paragraph(code(name)),
        BulletList([escape(name)]),
        Table([{name: name}]),
    ]
    types = {token.type for token in tokens(to_markdown(blocks))}
    assert not types & {"html_block", "html_inline", "link_open", "image", "em_open", "strong_open", "s_open"}
    for block in blocks:
        assert name in shown(to_markdown([block]))
    assert sum(token.type == "heading_open" for token in tokens(to_markdown(blocks))) == 1
    assert sum(token.type == "bullet_list_open" for token in tokens(to_markdown(blocks))) == 1


@pytest.mark.parametrize("name", NAMES)
def test_links_and_figures_lead_to_their_file_alone(name):
    parsed = tokens(to_markdown([Paragraph(link(name, f"runs/{name}")), Figure(f"figures/{name}.png", name)]))
    targets = [token.attrs.get("href") or token.attrs.get("src") for token in parsed if token.attrs]
    assert [target.partition("/")[0] for target in targets] == ["runs", "figures"]
    assert not {token.type for token in parsed} & {"html_block", "html_inline"}


@pytest.mark.parametrize("name", NAMES)
def test_a_report_has_no_element_of_a_name(name, tmp_path):
    """The title, the sentences, the settings and the table on the terminal."""
    run = fabricate(tmp_path / "run", name, dataset=name, teachers=(name,), temperature=name)
    run_report.write_distillation(run, None, [])
    for text in (run.report_file.read_text(), tables.comparison(tables.rows([run.folder]))):
        parsed = tokens(text)
        assert not {token.type for token in parsed} & {"html_block", "html_inline", "em_open", "s_open"}
        for token in parsed:
            target = (token.attrs or {}).get("href") or (token.attrs or {}).get("src") or ""
            assert not target.startswith(("javascript:", "http:")), token
        assert name in shown(text)


def test_a_model_card_has_no_element_of_a_name():
    text = model_card(manifest(name=NAMES[0], classes=NAMES, source_file="`x` <b>"))
    assert not {token.type for token in tokens(text)} & {"html_block", "html_inline", "link_open", "image"}
    assert ", ".join(NAMES) in shown(text)


def test_control_characters_are_visible():
    assert shown(to_markdown([Table([{"class": "a\x1b[2J\u202eb\nc"}])])) == r"classa\x1b[2J\u202eb c"
