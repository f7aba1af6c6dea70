"""Markdown of model cards as HTML."""

import time

import pytest

from cphloc.publishing.card_html import MAX_CHARACTERS, html_of


@pytest.mark.parametrize(
    ("markdown", "html"),
    [
        ("## Data", "<h2>Data</h2>"),
        ("- a\n- b", "<ul>\n<li>a</li>\n<li>b</li>\n</ul>"),
        ("| a | b |\n| --- | --- |\n| 1\\|2 | 3 |", "<tr>\n<td>1|2</td>\n<td>3</td>\n</tr>"),
        ("```sh\nls <x>\n```", "ls &lt;x&gt;\n</code></pre>"),
        ("![worst](pictures/worst.png)", 'src="unet/1.0.0/pictures/worst.png" alt="worst"'),
        ("[cases.csv](cases.csv)", '<a href="unet/1.0.0/cases.csv">cases.csv</a>'),
        ("[here](https://doi.org/1)", '<a href="https://doi.org/1">here</a>'),
        ("[here](javascript:alert(1))", "<p>[here](javascript:alert(1))</p>"),
        ("[here](../../id_rsa)", "<p>[here](../../id_rsa)</p>"),
        ("![worst](https://elsewhere/x.png)", "<em>worst</em>"),
        ("**bold** `code`", "<p><strong>bold</strong> <code>code</code></p>"),
    ],
)
def test_markdown_of_cards_becomes_html(markdown: str, html: str):
    assert html in html_of(markdown, "unet/1.0.0/")


@pytest.mark.parametrize("piece", ["[", "`a", "*a ", "![", "[a](", "<", "> ", "- ", "|a", "**a *b ", "[a]: b\n", "\\"])
def test_no_nesting_takes_long(piece: str):
    started = time.process_time()
    html_of(piece * (MAX_CHARACTERS // len(piece) // 2), "")
    html_of(piece * 10**6, "")
    assert time.process_time() - started < 3
