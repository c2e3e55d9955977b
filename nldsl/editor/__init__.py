"""TEXT AS IT IS TYPED -> WHAT AN EDITOR SHOWS OF IT, DOES TO IT, AND COLOURS IN IT.

In: the text of a file, finished or not, and the path where it lies. Out: values of this folder, as
places in that text. Guaranteed: no text raises anything; a text with mistakes is answered as far as
it can be read; an edit that is offered leaves a text that means what was promised.

    document.py    the text, its tree, names, program and findings, read once
    bindings.py    each name -> its declaration, by the scopes of the language
    positions.py   characters <-> lines and columns in the units of an editor
    words.py       what is told of the words of the language and of built-in names
    meanings.py    what the elaborator found a name to mean, as text
    hover.py, completion.py, navigation.py, outline.py
                   what is asked at a place, and of the whole text
    fixes.py       the fixes of findings, applied where they mend; `nldsl check --fix`
    server.py      the protocol -> these functions; needs pygls
    textmate.py, lexer.py
                   colours by words alone: the grammar in grammar/editors, and Pygments

Decisions. Names are bound twice: by scopes, which holds of all text, and by the elaborator, which
knows types but sees only what is called; each is shown for what it knows. A rename is tried on the
text before it is offered: where it would change a meaning it is refused, with the place. A text is
read anew as a whole: that takes a fraction of a second, and no state can be stale.
"""
