"""The language server over standard input and output, with pygls's own client: what an editor asks
while a text is opened, typed and mended.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from commands import nldsl
from lsprotocol import types
from pygls.exceptions import JsonRpcException
from pygls.lsp.client import LanguageClient

from nldsl import cli
from nldsl.cli.outcome import exit_code
from nldsl.diagnostic import Diagnostics
from nldsl.extras import needs

ROOT = Path(__file__).parents[1]
TEXT = """nldsl 1  # \U0001f600 γ
import layers, own
dim d = 4
input x: [d]
y = unit(x)          # \U0001f600\U0001f600 length 1
# \U0001f600
z = twice(y)
level sum every token { memory M: [d] = 0  M <- M + z }
w = sum.M@after
"""
OWN = "nldsl 1\ndef twice(x) = 2 * x\n"
LIMIT = 60  # seconds for one exchange


class Editor:
    """A client with one open file, and what the server has published of it."""

    def __init__(self, folder: Path) -> None:
        self.client = LanguageClient("test", "1")
        self.published: asyncio.Queue[types.PublishDiagnosticsParams] = asyncio.Queue()
        self.path = folder / "spec.nl"
        self.uri, self.version, self.text = self.path.as_uri(), 0, ""
        self.id = types.TextDocumentIdentifier(self.uri)

    async def __aenter__(self) -> Editor:
        @self.client.feature(types.TEXT_DOCUMENT_PUBLISH_DIAGNOSTICS)
        def published(params: types.PublishDiagnosticsParams) -> None:
            self.published.put_nowait(params)

        await self.client.start_io(sys.executable, "-m", "nldsl", "lsp")
        answer = await self.client.initialize_async(
            types.InitializeParams(capabilities=types.ClientCapabilities())
        )
        assert answer.server_info is not None and answer.server_info.name == "nldsl"
        self.client.initialized(types.InitializedParams())
        return self

    async def __aexit__(self, *what: object) -> None:
        await self.client.shutdown_async(None)
        self.client.exit(None)
        await self.client.stop()

    async def open(self, text: str) -> tuple[types.Diagnostic, ...]:
        self.text = text
        self.client.text_document_did_open(
            types.DidOpenTextDocumentParams(types.TextDocumentItem(self.uri, "nldsl", 0, text))
        )
        return tuple((await self.published.get()).diagnostics)

    async def type(self, text: str) -> tuple[types.Diagnostic, ...]:
        self.text, self.version = text, self.version + 1
        self.client.text_document_did_change(
            types.DidChangeTextDocumentParams(
                types.VersionedTextDocumentIdentifier(self.version, self.uri),
                [types.TextDocumentContentChangeWholeDocument(text)],
            )
        )
        found = await self.published.get()
        assert found.version == self.version
        return tuple(found.diagnostics)

    def at(self, words: str) -> types.Position:
        """Where words begin, in lines and units of UTF-16."""
        before = self.text[: self.text.index(words)].split("\n")
        return types.Position(len(before) - 1, len(before[-1].encode("utf-16-le")) // 2)

    def words(self, place: types.Range) -> str:
        assert place.start.line == place.end.line
        line = self.text.split("\n")[place.start.line].encode("utf-16-le")
        return line[2 * place.start.character : 2 * place.end.character].decode("utf-16-le")


def in_editor(folder: Path, script: Callable[[Editor], Awaitable[None]]) -> None:
    (folder / "own.nl").write_text(OWN)

    async def exchange() -> None:
        async with Editor(folder) as editor:
            await script(editor)

    asyncio.run(asyncio.wait_for(exchange(), LIMIT))


def test_a_text_is_typed_and_mended(tmp_path: Path) -> None:
    async def script(editor: Editor) -> None:
        ask = editor.client
        assert await editor.open(TEXT) == ()
        wrong = TEXT.replace("twice(y)", "0 * x + twise(y)")
        (found,) = await editor.type(wrong)
        assert (found.code, found.severity) == ("N101", types.DiagnosticSeverity.Error)
        assert found.message == "there is no `twise` here\nhelp: did you mean `twice`?"
        assert editor.words(found.range) == "twise"
        path, _, line = found.code_description.href.removeprefix("file://").partition("#L")
        assert Path(path).read_text().splitlines()[int(line) - 1].startswith("## N101 ")
        (fix,) = await ask.text_document_code_action_async(
            types.CodeActionParams(editor.id, found.range, types.CodeActionContext([found]))
        )
        (edit,) = fix.edit.changes[editor.uri]
        assert (editor.words(edit.range), edit.new_text) == ("twise", "twice")
        assert fix.kind == types.CodeActionKind.QuickFix and fix.diagnostics[0] == found
        everything = await ask.text_document_code_action_async(
            types.CodeActionParams(
                editor.id,
                types.Range(types.Position(0, 0), types.Position(0, 0)),
                types.CodeActionContext([], only=[types.CodeActionKind.SourceFixAll]),
            )
        )
        (whole,) = everything[0].edit.changes[editor.uri]
        assert whole.new_text == TEXT.replace("twice(y)", "0 * x + twice(y)")
        assert await editor.type(TEXT) == ()

    in_editor(tmp_path, script)


def test_columns_are_units_of_utf_16(tmp_path: Path) -> None:
    async def script(editor: Editor) -> None:
        text = TEXT + 'q = "\U0001f600 \u03b3 \U0001f600" + twise(x)\n'
        (found,) = await editor.open(text)
        assert editor.words(found.range) == "twise"
        assert found.range.start.character == text.split("\n")[-2].index("twise") + 2
        last = types.Position(found.range.start.line, found.range.end.character + 1)
        hover = await editor.client.text_document_hover_async(types.HoverParams(editor.id, last))
        assert hover is not None and editor.words(hover.range) == "x"

    in_editor(tmp_path, script)


def test_findings_have_related_places(tmp_path: Path) -> None:
    async def script(editor: Editor) -> None:
        (found,) = await editor.open(TEXT + "z = x\n")
        (related,) = found.related_information
        assert found.code == "N105" and related.message == "first here"
        assert editor.words(related.location.range) == "z"
        (tmp_path / "own.nl").write_text(OWN.replace("2 * x", "2 * nope"))
        (elsewhere,) = await editor.type(TEXT)
        assert elsewhere.range.start == types.Position(0, 0)
        assert elsewhere.related_information[0].location.uri.endswith("own.nl")

    in_editor(tmp_path, script)


def test_names_are_told_found_and_changed(tmp_path: Path) -> None:
    async def script(editor: Editor) -> None:
        ask = editor.client
        await editor.open(TEXT)

        async def hover(words: str) -> str:
            found = await ask.text_document_hover_async(
                types.HoverParams(editor.id, editor.at(words))
            )
            return found.contents.value

        assert "`y: [d=4]`; a value every token" in await hover("y = unit")
        assert "ticks every token; frequency 1 per token" in await hover("sum every")
        found = await ask.text_document_definition_async(
            types.DefinitionParams(editor.id, editor.at("unit(x)"))
        )
        assert found.uri.endswith("nldsl/std/layers.nl")
        places = await ask.text_document_references_async(
            types.ReferenceParams(types.ReferenceContext(False), editor.id, editor.at("z = "))
        )
        assert [editor.words(place.range) for place in places] == ["z"]
        renamed = await ask.text_document_rename_async(
            types.RenameParams(editor.id, editor.at("twice"), "half")
        )
        assert {uri.rpartition("/")[2]: len(edits) for uri, edits in renamed.changes.items()} == {
            "spec.nl": 1,
            "own.nl": 1,
        }
        with pytest.raises(JsonRpcException, match="the text would be wrong"):
            await ask.text_document_rename_async(
                types.RenameParams(editor.id, editor.at("z = "), "y")
            )

    in_editor(tmp_path, script)


def test_the_text_is_completed_drawn_and_laid_out(tmp_path: Path) -> None:
    async def script(editor: Editor) -> None:
        ask = editor.client
        await editor.open(TEXT)
        await editor.type(TEXT.replace("w = sum.M@after", "w = sum."))
        place = editor.at("w = sum.")
        place = types.Position(place.line, place.character + len("w = sum."))
        offered = await ask.text_document_completion_async(types.CompletionParams(editor.id, place))
        assert [item.label for item in offered] == ["M"]
        assert offered[0].detail == "memory M: [d] = 0"
        assert await editor.type(TEXT) == ()
        symbols = await ask.text_document_document_symbol_async(
            types.DocumentSymbolParams(editor.id)
        )
        assert [s.name for s in symbols] == ["d", "x", "y", "z", "sum", "w"]
        assert [inner.name for inner in symbols[4].children] == ["M"]
        whole = types.Range(types.Position(0, 0), types.Position(99, 0))
        hints = await ask.text_document_inlay_hint_async(types.InlayHintParams(editor.id, whole))
        assert [hint.label for hint in hints] == [": [d]"] * 3
        found = await ask.text_document_semantic_tokens_full_async(
            types.SemanticTokensParams(editor.id)
        )
        assert len(found.data) % 5 == 0 and len(found.data) > 50
        options = types.FormattingOptions(4, True)
        laid = types.DocumentFormattingParams(editor.id, options)
        (edit,) = await ask.text_document_formatting_async(laid)
        assert edit.new_text == nldsl("fmt", "-", text=TEXT)[1] != TEXT
        await editor.type(edit.new_text)
        assert list(await ask.text_document_formatting_async(laid)) == []
        await editor.type("nldsl 1\ny = = 2\n")
        assert await ask.text_document_formatting_async(laid) is None

    in_editor(tmp_path, script)


def test_without_pygls_the_command_says_what_installs_it() -> None:
    with pytest.raises(Diagnostics) as missing, needs("lsp"):
        raise ModuleNotFoundError("no", name="pygls.lsp.server")
    (told,) = missing.value.diagnostics
    assert told.code == "N890" and told.help == "install it: pip install 'nldsl[lsp]'"
    assert exit_code(missing.value.diagnostics) == cli.BACKEND
    own = ModuleNotFoundError("no", name="nldsl.nowhere")
    with pytest.raises(ModuleNotFoundError), needs("lsp"):
        raise own
