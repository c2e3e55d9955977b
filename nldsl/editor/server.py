"""The language server: requests of the protocol -> the functions of this folder, and their results
back as the protocol's types. Nothing is decided here.

A text is read again when it has rested for a moment, or when something is asked of it before.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TypeAlias

from lsprotocol import types
from pygls import uris
from pygls.exceptions import JsonRpcInvalidParams
from pygls.lsp.server import LanguageServer

from nldsl import __version__
from nldsl.diagnostic import Diagnostic, Edit
from nldsl.editor import completion, fixes, navigation, outline
from nldsl.editor.document import Document, read
from nldsl.editor.hover import hover
from nldsl.editor.positions import Positions
from nldsl.explanation import explanations
from nldsl.frontend.parse import recovered
from nldsl.frontend.unparse import unparse
from nldsl.source import Span

REST = 0.2  # seconds without a change before a text is read
SEVERITIES = {
    "error": types.DiagnosticSeverity.Error,
    "warning": types.DiagnosticSeverity.Warning,
    "note": types.DiagnosticSeverity.Information,
}
# declaration -> symbol, completion, token
SYMBOLS = {
    "file": types.SymbolKind.File,
    "dim": types.SymbolKind.Constant,
    "clock": types.SymbolKind.Event,
    "input": types.SymbolKind.Interface,
    "def": types.SymbolKind.Function,
    "level": types.SymbolKind.Class,
    "memory": types.SymbolKind.Field,
    "stream": types.SymbolKind.Variable,
}
ITEMS = {
    "file": types.CompletionItemKind.Module,
    "dim": types.CompletionItemKind.Constant,
    "constant": types.CompletionItemKind.Constant,
    "axis": types.CompletionItemKind.TypeParameter,
    "clock": types.CompletionItemKind.Event,
    "input": types.CompletionItemKind.Interface,
    "def": types.CompletionItemKind.Function,
    "function": types.CompletionItemKind.Function,
    "level": types.CompletionItemKind.Class,
    "memory": types.CompletionItemKind.Field,
    "weight": types.CompletionItemKind.Field,
    "word": types.CompletionItemKind.Keyword,
    "unit": types.CompletionItemKind.Unit,
}
TOKENS = {
    "file": "namespace",
    "dim": "enumMember",
    "constant": "enumMember",
    "axis": "typeParameter",
    "clock": "event",
    "input": "variable",
    "def": "function",
    "function": "function",
    "level": "class",
    "memory": "property",
    "stream": "variable",
    "index": "variable",
    "parameter": "parameter",
}
LEGEND = types.SemanticTokensLegend(sorted(set(TOKENS.values())), ["declaration"])


class Server(LanguageServer):
    """The open documents, as they were last read and as they could last be worked out."""

    def __init__(self) -> None:
        super().__init__(
            "nldsl", __version__, text_document_sync_kind=types.TextDocumentSyncKind.Full
        )
        self.read: dict[str, Document] = {}
        self.whole: dict[str, Document] = {}

    def document(self, uri: str) -> Document:
        """What is known of an open text as it is now."""
        text = self.workspace.get_text_document(uri).source
        known = self.read.get(uri)
        if known is None or known.source.text != text:
            known = self.read[uri] = read(text, path_of(uri))
            if known.program is not None:
                self.whole[uri] = known
        return known

    def texts(self) -> dict[Path, str]:
        """The open texts by their files."""
        open_ = self.workspace.text_documents
        return {path_of(uri): document.source for uri, document in open_.items()}

    def positions(self, text: str) -> Positions:
        agreed = types.PositionEncodingKind(self.workspace.position_encoding or "utf-16")
        return Positions.of(text, agreed.value)

    def offset(self, document: Document, at: types.Position) -> int:
        return self.positions(document.source.text).offset(at.line, at.character)

    def range(self, span: Span) -> types.Range:
        return self.between(self.positions(span.source.text), span.start, span.end)

    def between(self, positions: Positions, start: int, end: int) -> types.Range:
        first, last = positions.line_and_column(start), positions.line_and_column(end)
        return types.Range(types.Position(*first), types.Position(*last))

    def location(self, path: Path, span: Span | None) -> types.Location:
        start = types.Range(types.Position(0, 0), types.Position(0, 0))
        return types.Location(uri_of(path), start if span is None else self.range(span))

    def edits(self, edits: Iterable[Edit]) -> list[types.TextEdit]:
        return [types.TextEdit(self.range(edit.span), edit.text) for edit in edits]


def path_of(uri: str) -> Path:
    """The file of a document; one that was never saved has its name alone."""
    found = uris.to_fs_path(uri) if uri.startswith("file:") else None
    return Path(found).resolve() if found else Path(uri.rpartition(":")[2])


def uri_of(path: Path) -> str:
    return uris.from_fs_path(str(path)) or path.as_uri()


# ---- findings


async def changed(server: Server, params: types.DidChangeTextDocumentParams) -> None:
    """Publishes what is found, once the text has rested."""
    version = params.text_document.version
    await asyncio.sleep(REST)
    current = server.workspace.text_documents.get(params.text_document.uri)
    if current is not None and current.version == version:
        publish(server, params.text_document.uri)


def opened(server: Server, params: types.DidOpenTextDocumentParams) -> None:
    publish(server, params.text_document.uri)


def saved(server: Server, params: types.DidSaveTextDocumentParams) -> None:
    """Other open texts may import this one."""
    server.read.clear()
    for uri in server.workspace.text_documents:
        publish(server, uri)


def closed(server: Server, params: types.DidCloseTextDocumentParams) -> None:
    uri = params.text_document.uri
    server.read.pop(uri, None)
    server.whole.pop(uri, None)
    server.text_document_publish_diagnostics(types.PublishDiagnosticsParams(uri, []))


def publish(server: Server, uri: str) -> None:
    document = server.document(uri)
    found = [diagnostic(server, document, one) for one in document.findings]
    version = server.workspace.get_text_document(uri).version
    server.text_document_publish_diagnostics(types.PublishDiagnosticsParams(uri, found, version))


def diagnostic(server: Server, document: Document, one: Diagnostic) -> types.Diagnostic:
    """A finding in an imported file stands at the top, and names that place."""
    own = one.span is not None and one.span.source == document.source
    elsewhere = [(one.message, one.span)] if one.span is not None and not own else []
    notes = [*elsewhere, *one.notes]
    said = [
        one.message,
        one.label,
        *(f"note: {words}" for words, span in one.notes if span is None),
    ]
    return types.Diagnostic(
        range=server.between(server.positions(""), 0, 0)
        if one.span is None or not own
        else server.range(one.span),
        message="\n".join([line for line in said if line] + [f"help: {one.help}"] * bool(one.help)),
        severity=SEVERITIES[one.severity],
        code=one.code,
        code_description=explained(one.code),
        source="nldsl",
        related_information=[
            types.DiagnosticRelatedInformation(server.location(document.file_of(span), span), words)
            for words, span in notes
            if span is not None
        ],
    )


def explained(code: str) -> types.CodeDescription | None:
    """The page that explains a code, at its line."""
    found = explanations().get(code)
    return None if found is None else types.CodeDescription(f"{uri_of(found.path)}#L{found.line}")


def actions(server: Server, params: types.CodeActionParams) -> list[types.CodeAction]:
    """The fixes of the findings in a range, and all fixes of the text in one."""
    uri = params.text_document.uri
    document = server.document(uri)
    start, end = (server.offset(document, at) for at in (params.range.start, params.range.end))
    found = [
        types.CodeAction(
            one.help.partition("\n")[0],
            kind=types.CodeActionKind.QuickFix,
            diagnostics=[diagnostic(server, document, one)],
            is_preferred=True,
            edit=types.WorkspaceEdit(changes={uri: server.edits(one.fix)}),
        )
        for one in document.findings
        if one.fix
        and one.span is not None
        and one.span.start <= end
        and start <= one.span.end
        and all(edit.span.source == document.source for edit in one.fix)
    ]
    only = params.context.only or ()
    if types.CodeActionKind.SourceFixAll in only or types.CodeActionKind.Source in only:
        made = fixes.mended(document.source.text, lambda text: read(text, document.path))
        if made.applied:
            found.append(
                types.CodeAction(
                    "apply all fixes",
                    kind=types.CodeActionKind.SourceFixAll,
                    edit=types.WorkspaceEdit(
                        changes={uri: whole(server, document, made.document.source.text)}
                    ),
                )
            )
    return found


def whole(server: Server, document: Document, text: str) -> list[types.TextEdit]:
    """The edit that puts another text in the place of all of it."""
    before = document.source.text
    return [types.TextEdit(server.between(server.positions(before), 0, len(before)), text)]


def formatted(
    server: Server, params: types.DocumentFormattingParams
) -> list[types.TextEdit] | None:
    """As `nldsl fmt`; a text that cannot be read stays as it is."""
    document = server.document(params.text_document.uri)
    file, mistakes = recovered(document.source)
    if file is None or mistakes:
        return None
    text = unparse(file)
    return [] if text == document.source.text else whole(server, document, text)


# ---- names


def hovered(server: Server, params: types.HoverParams) -> types.Hover | None:
    document = server.document(params.text_document.uri)
    found = hover(document, server.offset(document, params.position))
    if found is None:
        return None
    text = types.MarkupContent(types.MarkupKind.Markdown, found.text)
    return types.Hover(text, server.range(found.span))


def defined(server: Server, params: types.DefinitionParams) -> types.Location | None:
    document = server.document(params.text_document.uri)
    found = navigation.definition(document, server.offset(document, params.position))
    if found is None:
        return None
    path, name = found
    return server.location(path, None if name is None else name.span)


def referenced(server: Server, params: types.ReferenceParams) -> list[types.Location]:
    document = server.document(params.text_document.uri)
    offset = server.offset(document, params.position)
    meant = navigation.declared_at(document, offset)
    return [
        server.location(path, name.span)
        for path, name in navigation.references(document, offset, server.texts())
        if params.context.include_declaration
        or meant is None
        or (path, name.span.start) != meant.place
    ]


def nameable(server: Server, params: types.PrepareRenameParams) -> types.Range | None:
    document = server.document(params.text_document.uri)
    offset = server.offset(document, params.position)
    found = document.bindings.at(offset) if document.bindings is not None else None
    return None if found is None or found[1] is None else server.range(found[0].span)


def renamed(server: Server, params: types.RenameParams) -> types.WorkspaceEdit:
    document = server.document(params.text_document.uri)
    offset = server.offset(document, params.position)
    try:
        found = navigation.renamed(document, offset, params.new_name, server.texts())
    except navigation.Refused as why:
        raise JsonRpcInvalidParams(str(why)) from None
    return types.WorkspaceEdit(
        changes={uri_of(path): server.edits(edits) for path, edits in found.items()}
    )


def completed(server: Server, params: types.CompletionParams) -> list[types.CompletionItem]:
    uri = params.text_document.uri
    document = server.document(uri)
    found = completion.completions(
        document, server.offset(document, params.position), server.whole.get(uri)
    )
    return [
        types.CompletionItem(
            one.text,
            kind=ITEMS.get(one.kind, types.CompletionItemKind.Variable),
            detail=one.form or None,
            documentation=types.MarkupContent(types.MarkupKind.Markdown, one.says)
            if one.says
            else None,
            sort_text=f"{i:04}",
        )
        for i, one in enumerate(found)
    ]


# ---- what is drawn


def symbols(server: Server, params: types.DocumentSymbolParams) -> list[types.DocumentSymbol]:
    def told(found: outline.Symbol) -> types.DocumentSymbol:
        return types.DocumentSymbol(
            found.name.text,
            SYMBOLS[found.kind],
            server.range(found.span),
            server.range(found.name.span),
            detail=found.kind,
            children=[told(inner) for inner in found.inner],
        )

    return [told(found) for found in outline.symbols(server.document(params.text_document.uri))]


def hinted(server: Server, params: types.InlayHintParams) -> list[types.InlayHint]:
    document = server.document(params.text_document.uri)
    start, end = (server.offset(document, at) for at in (params.range.start, params.range.end))
    return [
        types.InlayHint(server.range(hint.name.span).end, hint.text, kind=types.InlayHintKind.Type)
        for hint in outline.hints(document, start, end)
    ]


def tokens(server: Server, params: types.SemanticTokensParams) -> types.SemanticTokens:
    """Line, column, length, kind and modifiers of each name, line and column from the last one."""
    document = server.document(params.text_document.uri)
    positions, data = server.positions(document.source.text), list[int]()
    before = (0, 0)
    for name, kind, declared in outline.kinds(document):
        if kind not in TOKENS:
            continue
        line, column = positions.line_and_column(name.span.start)
        same = line == before[0]
        data += [line - before[0], column - before[1] if same else column, len(name.text)]
        data += [LEGEND.token_types.index(TOKENS[kind]), int(declared)]
        before = line, column
    return types.SemanticTokens(data)


Handler: TypeAlias = Callable[..., object]
HANDLERS: dict[str, tuple[Handler, object]] = {
    types.TEXT_DOCUMENT_DID_OPEN: (opened, None),
    types.TEXT_DOCUMENT_DID_CHANGE: (changed, None),
    types.TEXT_DOCUMENT_DID_SAVE: (saved, None),
    types.TEXT_DOCUMENT_DID_CLOSE: (closed, None),
    types.TEXT_DOCUMENT_CODE_ACTION: (
        actions,
        types.CodeActionOptions([types.CodeActionKind.QuickFix, types.CodeActionKind.SourceFixAll]),
    ),
    types.TEXT_DOCUMENT_FORMATTING: (formatted, None),
    types.TEXT_DOCUMENT_HOVER: (hovered, None),
    types.TEXT_DOCUMENT_DEFINITION: (defined, None),
    types.TEXT_DOCUMENT_REFERENCES: (referenced, None),
    types.TEXT_DOCUMENT_PREPARE_RENAME: (nameable, None),
    types.TEXT_DOCUMENT_RENAME: (renamed, types.RenameOptions(prepare_provider=True)),
    types.TEXT_DOCUMENT_COMPLETION: (
        completed,
        types.CompletionOptions(trigger_characters=[".", "@"]),
    ),
    types.TEXT_DOCUMENT_DOCUMENT_SYMBOL: (symbols, None),
    types.TEXT_DOCUMENT_INLAY_HINT: (hinted, None),
    types.TEXT_DOCUMENT_SEMANTIC_TOKENS_FULL: (tokens, LEGEND),
}


def served() -> None:
    """Serves one editor on standard input and output, until it goes."""
    server = Server()
    for method, (handler, options) in HANDLERS.items():
        server.feature(method, options)(handler)
    server.start_io()
