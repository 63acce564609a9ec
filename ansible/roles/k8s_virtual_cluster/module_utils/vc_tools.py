"""Runs vcbuild and vcdist for the modules of this role, and reads the JSON document that they print."""

import json


def run(module, arguments, codes=(0,), timeout=None):
    """Runs a program with `--output json` and returns its document. Fails the module unless it ends with one of `codes`."""
    command = [module.params["program"]] + arguments + ["--output", "json"] + module.params["arguments"]
    if timeout:
        command = ["timeout", str(timeout)] + command
    code, out, said = module.run_command(command)
    document = None
    try:
        document = json.loads(out) if out.strip() else None
    except ValueError as error:
        module.fail_json(msg="%s did not print a JSON document: %s" % (command[0], error), stdout=out, stderr=said)
    if code == 124 and timeout:
        module.fail_json(msg="%s did not end within %s s" % (" ".join(command[2:4]), timeout), stderr=said)
    if code not in codes or document is None:
        error = document.get("error") if isinstance(document, dict) else None
        last = error or said.strip() or "it printed nothing"
        module.fail_json(msg="%s ended with exit code %d: %s" % (" ".join(command), code, last), rc=code, document=document)
    return document


def option(name, value):
    """The option with its value, or nothing where there is no value."""
    return [name, value] if value else []
