// Starts `nldsl lsp` for files of the language, and stops it with the window.
const { workspace } = require("vscode");
const { LanguageClient } = require("vscode-languageclient/node");

let client;

exports.activate = () => {
  const command = workspace.getConfiguration("nldsl").get("command");
  const server = { command, args: ["lsp"] };
  client = new LanguageClient("nldsl", "nldsl", server, {
    documentSelector: [{ language: "nldsl" }],
  });
  return client.start();
};

exports.deactivate = () => client && client.stop();
