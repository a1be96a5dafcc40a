from recog.report.page.terms import _SPELLINGS, TERMS, term_marker


def test_a_known_word_has_its_meaning_and_a_number_of_its_own():
    term = term_marker()
    first, second = term("ECE"), term("Classwise ECE", "sort")
    assert first == (
        '<button type="button" class="term" aria-describedby="tip-1">ECE</button>'
        f'<span class="tip" role="tooltip" id="tip-1">{TERMS["ECE"]}</span>'
    )
    assert 'class="term sort" aria-describedby="tip-2"' in second


def test_an_unknown_word_is_text_and_escaped():
    assert term_marker()("<b>") == "&lt;b&gt;"
    assert term_marker()("<b>", "sort") == '<button type="button" class="sort">&lt;b&gt;</button>'


def test_every_spelling_leads_to_a_term():
    assert set(_SPELLINGS.values()) <= set(TERMS)
