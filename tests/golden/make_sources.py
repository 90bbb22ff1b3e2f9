"""Keep a hash of every metric's code beside its version, so that no code changes without a decision.

``python -m tests.golden.make_sources`` records metrics whose version was raised, and new ones. Where values stay what
they were (the golden files say so to their tolerance), ``--same-values NAME...`` (or ``all``) records code under its
old version.

``source`` is over the syntax of the metric's function, of everything in the package ``metrics`` that it names, in turn,
and of the fields of its record that decide a value. ``harness`` is over what brings predictions to that function: the
code of `benchmark.scoring` for its kind, and for features of pictures the network, its layer, its resize path and its
published files. Comments, docstrings, type hints and layout do not count.
"""

import argparse
import ast
import hashlib
import importlib.util
import json
import re
from functools import cache, partial
from pathlib import Path

from benchmark.pretrained import hub
from benchmark.spaces import FEATURES, MEASURES
from metrics.table import METRICS

FILE = Path(__file__).parent / "metric_sources.json"
HOW = "python -m tests.golden.make_sources"
FIELDS = ("kind", "aggregate", "centred", "pool", "gallery", "features", "protocol", "lacks")
PRETRAINED = "benchmark.pretrained"
HARNESS = ("benchmark.scoring", "benchmark.frozen", *(f"{PRETRAINED}.{m}" for m in ("perceptual", "clip", "judge")))
NETWORKS = {  # what reads pictures; of all other models Network of the module perceptual
    "clip": (f"{PRETRAINED}.clip", "Clip"),
    "judge": (f"{PRETRAINED}.judge", "Judge"),
    "lpips": (f"{PRETRAINED}.perceptual", "Lpips"),
}
_REFERENCE = re.compile(r"metrics(?:\.\w+)+:\w+")
_NO_MEANING = ("annotation", "returns", "ctx", "type_comment", "type_params", "kind")


def sources(metrics, read=None):
    """Return version and hash of every metric, by name."""
    return {
        name: {"version": m.version, "source": source_hash(m, read), "harness": harness_hash(m, read)}
        for name, m in sorted(metrics.items())
    }


def source_hash(metric, read=None):
    """Return the hash of what a metric computes.

    Parameters
    ----------
    metric : Metric
    read : callable, optional
        ``read(module) -> source text``, None for a module that is not followed. Default: the package ``metrics`` and
        `HARNESS`.
    """
    function, bound = metric.function, []
    while isinstance(function, partial):
        bound += [repr(function.args), repr(sorted(function.keywords.items()))]
        function = function.func
    name = function.__qualname__.partition(".")[0]
    if "<lambda>" in function.__qualname__:
        raise ValueError(f"metric {metric.name}: its function is {function.__qualname__}, expected one with a name")
    cells = [cell.cell_contents for cell in function.__closure__ or ()]
    bound += [repr(value) for value in cells if isinstance(value, (int, float, str, tuple))]
    parts = closure(function.__module__, name, read or _read)
    if not parts:
        raise ValueError(f"metric {metric.name}: {function.__module__}:{name} is not found in the package metrics")
    fields = [repr(getattr(metric, field, None)) for field in FIELDS]
    return _hash([sorted(parts.items()), bound, fields])


def harness_hash(metric, read=None):
    """Return the hash of what comes between predictions and a metric's function; parameters as in `source_hash`."""
    entries = [("benchmark.scoring", name) for name in ("_view", "_summary", f"_{metric.kind}")]
    facts = []
    if metric.kind in ("images", "vectors"):  # pictures among them
        entries += [("benchmark.scoring", name) for name in ("_at_size", "Part")]
    if metric.features:
        model, output, options = FEATURES[metric.features]
        entries += [("benchmark.scoring", "_of_features"), ("benchmark.frozen", "of_pictures")]
        module, name = NETWORKS.get(model, (f"{PRETRAINED}.perceptual", "Network"))
        entries += [(module, name), (module, f"{name}.{output}"), (module, f"{name}.from_full")]
        if model == "clip-l14":  # imported only where it is loaded
            entries += [(f"{PRETRAINED}.clip", "Clip.from_full")]
        if model in MEASURES:  # its weights are the published ones; those of other models are in a run's provenance
            facts = [hub.MODELS[model].architecture, [file.sha256 for file in hub.MODELS[model].files]]
        facts += [model, output, sorted(options.items())]
    parts = {}
    for module, name in entries:
        parts |= closure(module, name, read or _read, by_member=True)
    return _hash([sorted(parts.items()), facts])


def _hash(content):
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16]


def closure(module, name, read, by_member=False):
    """Return the syntax of a module-level name and of all that it reaches, by ``module:name``.

    With ``by_member`` a class does not bring all of its methods along, only those whose name is used as an attribute in
    the same module, and a name in a type hint brings nothing.
    """
    found, todo = {}, [(module, name)]
    while todo:
        module, name = todo.pop()
        key = f"{module}:{name}"
        text = read(module)
        if key in found or text is None:
            continue
        defined, imported = _names(text, by_member)
        if name in imported:
            source, member = imported[name]
            if member is None or read(source) is None:  # a module, or something from another package
                found[key] = f"import {source}.{member}"
            todo += [(source, member)] if member is not None else []
            continue
        if name not in defined:
            continue
        found[key] = "; ".join(_syntax(node) for node in defined[name])
        for part in (part for node in defined[name] for part in _named(node, not by_member)):
            if isinstance(part, ast.Attribute) and by_member:
                todo += [(module, member) for member in defined if member.endswith(f".{part.attr}")]
            if isinstance(part, ast.Name):
                todo.append((module, part.id))
            elif isinstance(part, ast.Attribute) and isinstance(part.value, ast.Name):
                source, member = imported.get(part.value.id, (None, None))
                if source:
                    todo.append((source if member is None else f"{source}.{member}", part.attr))
            elif isinstance(part, ast.Constant) and _REFERENCE.fullmatch(str(part.value)):
                todo.append(tuple(part.value.split(":")))  # what the registry resolves
    return found


def syntax(node):
    """Return a node as text that is the same in every version of Python, without docstrings and hints."""
    if isinstance(node, list):
        return f"[{', '.join(map(syntax, node))}]"
    if not isinstance(node, ast.AST):
        return repr(node)
    fields = {k: v for k, v in ast.iter_fields(node) if k not in _NO_MEANING and v is not None and v != []}
    body = fields.get("body")
    if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)) and ast.get_docstring(node) is not None:
        fields["body"] = body[1:]
    return f"{type(node).__name__}({', '.join(f'{k}={syntax(v)}' for k, v in fields.items())})"


@cache
def _syntax(node):
    return syntax(node)


@cache
def _named(node, hints):
    """Return the names, attributes and constants in a node, with or without those in type hints."""
    return [part for part in _parts(node, hints) if isinstance(part, (ast.Name, ast.Attribute, ast.Constant))]


def _parts(node, hints):
    """Yield a node and all below it, with or without type hints."""
    yield node
    for name, value in ast.iter_fields(node):
        if hints or name not in ("annotation", "returns"):
            for child in value if isinstance(value, list) else [value]:
                if isinstance(child, ast.AST):
                    yield from _parts(child, hints)


@cache
def _names(text, by_member):
    """Return the statements that define each module-level name, and what each imported name is.

    With ``by_member`` methods are apart from their class, as ``Class.method``; names with two underscores stay in it.
    """
    defined, imported = {}, {}
    for node in ast.parse(text).body:
        if by_member and isinstance(node, ast.ClassDef):
            methods = [n for n in node.body if isinstance(n, ast.FunctionDef) and not n.name.startswith("__")]
            defined |= {f"{node.name}.{method.name}": [method] for method in methods}
            node.body = [n for n in node.body if n not in methods]
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            defined.setdefault(node.name, []).append(node)
        elif isinstance(node, ast.Import):
            imported |= {a.asname or a.name.partition(".")[0]: (a.name, None) for a in node.names}
        elif isinstance(node, ast.ImportFrom):
            imported |= {a.asname or a.name: (node.module, a.name) for a in node.names}
        else:
            for part in ast.walk(node):
                if isinstance(part, ast.Name) and isinstance(part.ctx, ast.Store):
                    defined.setdefault(part.id, []).append(node)
    return defined, imported


@cache
def _read(module):
    if module.partition(".")[0] != "metrics" and module not in HARNESS:
        return None
    try:
        found = importlib.util.find_spec(module)
    except ModuleNotFoundError:  # a name of a module, not a module
        return None
    return Path(found.origin).read_text("utf-8") if found and found.origin else None


def faults(recorded, now):
    """Return, for every metric, what must be done before its code counts as accepted."""
    for name in sorted(recorded.keys() | now.keys()):
        old, new = recorded.get(name), now.get(name)
        if new is None:
            yield f"{name} is recorded and not registered any more: {HOW}"
        elif old is None:
            yield f"{name} is not recorded: {HOW}"
        elif new["version"] < old["version"]:
            yield f"{name} went back from version {old['version']} to {new['version']}: raise it"
        elif new["version"] > old["version"]:
            yield f"{name} has version {new['version']}, recorded is {old['version']}: {HOW}"
        elif new != old:
            what = "the code" if new["source"] != old["source"] else "what brings predictions to the code"
            yield (
                f"{what} of {name} changed and its version is still {new['version']}: raise `version` in its record "
                f"and run {HOW}, or, where every value stays the same, {HOW} --same-values {name}"
            )


def update(recorded, now, same_values=()):
    """Return what to record, and the metrics that are refused: changed code under an old version."""
    refused = [
        name
        for name, new in now.items()
        if (old := recorded.get(name))
        and not (new["version"] > old["version"] or new == old)
        and (new["version"] < old["version"] or not {name, "all"} & set(same_values))
    ]
    return {name: recorded[name] if name in refused else new for name, new in now.items()}, refused


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--same-values", nargs="+", default=[], metavar="NAME")
    options = parser.parse_args()
    recorded = json.loads(FILE.read_text("utf-8")) if FILE.exists() else {}
    content, refused = update(recorded, sources(METRICS), options.same_values)
    FILE.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    print(f"{len(content)} metrics, {sum(recorded.get(k) != v for k, v in content.items())} recorded anew")
    if refused:
        raise SystemExit(f"not recorded: {', '.join(refused)}; raise the version, or --same-values")


if __name__ == "__main__":
    main()
