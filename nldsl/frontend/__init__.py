"""TEXT -> SYNTAX TREE, and back.

In: a `Source`. Out: a `File` of syntax.py, every piece with its span. Guaranteed: each statement
stands where it may, no word of the language names anything, and nothing is nested deeper than
`parse.DEEPEST_TREE`, so that later stages may recurse on the tree. A text that is refused raises
`Diagnostics` (N0xx) with all independent mistakes.

    lex.py          words, bounds, brackets, where statements begin
    foreign.py      words of Python and its like, by foreign_signs.py, foreign_words.py and
                    what wording.py knows without a grammar
    grammar.py      grammar/nl.lark, one attempt at a text
    mistakes.py     a refused word -> its message, by example of grammar/syntax_errors.nl
    tree.py         lark's tree -> syntax.py (statements) and expression.py (all within them)
    placement.py    where a statement may stand
    parse.py        all of these in order, and again behind each mistake
    unparse.py      the tree as text, by way of expression_text.py, statement_text.py and layout.py

Why the statement with a mistake is blanked and the text read again, rather than the parser's stack
repaired: the places stay true, no state is guessed, and a file of a few hundred lines takes
milliseconds.
"""
