"""Terraform files as blocks, attributes and the text of expressions.

The grammar is python-hcl2's, the parser lark's; both are used out of their pinned wheels. Of python-hcl2
the grammar alone is taken: what it makes of the tree forgets where things stood.
"""

from __future__ import annotations

import re
import sys
import zipfile
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

from provision.pins import HCL

ROOT = Path(__file__).resolve().parents[2]

# The end of line after `a * b` ends an entry of an object, too; the grammar takes it away from that.
_GREEDY = "binary_op : expression binary_term new_line_or_comment?"
_MENDED = "binary_op : expression binary_term"


@dataclass
class Expression:
    """The value of an attribute; what is not a constant is known by its text alone."""

    text: str
    line: int
    tree: object = field(repr=False, default=None)

    @property
    def constant(self) -> str | int | float | bool | None:
        """A literal text, number or boolean; None for anything that Terraform would have to compute."""
        if re.fullmatch(r'"(?:[^"\\$%]|\\.)*"', self.text):
            return re.sub(r"\\(.)", r"\1", self.text[1:-1])
        if re.fullmatch(r"-?\d+", self.text):
            return int(self.text)
        if re.fullmatch(r"-?\d+\.\d+", self.text):
            return float(self.text)
        return {"true": True, "false": False}.get(self.text)

    def items(self) -> list[str]:
        """The literal texts of a list."""
        if not self.text.startswith("["):
            return []
        return re.findall(r'"((?:[^"\\$]|\\.)*)"', self.text)

    def references(self) -> set[str]:
        """Dotted names that it looks up, such as `var.region` and `google_x.y.id`; nothing out of plain text."""
        found = set()
        for piece in _code(self.text):
            found.update(
                re.findall(r"(?<![\w.\"-])[a-z_][\w-]*(?:(?:\.[a-z_][\w-]*)|(?:\[[^\]]*\])|(?:\.\*))*", piece)
            )
        return found

    def keys(self) -> list[tuple[str, "Expression"]]:
        """Every key with its value of every object inside, at any depth."""
        found = []
        for node in self.tree.find_data("object_elem"):
            key, value = node.children[0], node.children[-1]
            found.append((_text_of(key, self._source).strip('"'), _expression(value, self._source)))
        return found

    _source: str = field(repr=False, default="")


def _code(text: str) -> list[str]:
    """What is code in an expression: all but the plain parts of its texts."""
    pieces, plain, depth = [""], [], 0
    i = 0
    while i < len(text):
        inside_text = bool(plain) and plain[-1] == depth
        if inside_text and text[i] == "\\":
            i += 2
            continue
        if inside_text and text.startswith("$${", i):
            i += 3
            continue
        if inside_text and text.startswith("${", i):
            depth += 1
            pieces.append("")
            i += 2
            continue
        if text[i] == '"':
            if inside_text:
                plain.pop()
            else:
                plain.append(depth)
            pieces.append("")
        elif not inside_text:
            if text[i] == "#" or text.startswith("//", i):
                while i < len(text) and text[i] != "\n":
                    i += 1
                continue
            if text[i] == "{":
                depth += 1
            elif text[i] == "}":
                depth -= 1
            pieces[-1] += text[i] if text[i] not in "{}" else " "
        i += 1
    return [piece for piece in pieces if piece.strip()]


@dataclass
class Block:
    """`kind "label" … { … }`; a file is a block without kind."""

    kind: str
    labels: tuple[str, ...]
    line: int
    file: Path
    attributes: dict[str, Expression] = field(default_factory=dict)
    blocks: list["Block"] = field(default_factory=list)
    goes_through: Expression | None = None
    """What a dynamic block is made for each of."""

    @property
    def address(self) -> str:
        return ".".join((self.kind, *self.labels))

    def of(self, kind: str) -> list["Block"]:
        """The blocks inside that are of a kind; what `dynamic` makes of it included."""
        return [block for block in self.blocks if block.kind == kind]

    def expressions(self) -> list[Expression]:
        """All values, at any depth."""
        below = [value for block in self.blocks for value in block.expressions()]
        own = [self.goes_through] if self.goes_through else []
        return [*self.attributes.values(), *own, *below]


class SyntaxFault(Exception):
    """A file that is not HCL; its text says where."""


def load(path: Path) -> Block:
    """The blocks of a file."""
    source = path.read_text(encoding="utf-8")
    parser, error = _parser()
    try:
        tree = parser.parse(source + "\n")
    except error as fault:
        line = getattr(fault, "line", "?")
        raise SyntaxFault(f"{path}:{line}: not HCL: {str(fault).splitlines()[0]}") from fault
    file = Block("", (), 1, path)
    _fill(file, tree.children[0], source)
    return file


@lru_cache(maxsize=None)
def _parser():
    # Named by their pins, so that a former version left in the cache is never taken.
    grammar_wheel, parser_wheel = (ROOT / ".cache" / wheel.path for wheel in HCL)
    if not (grammar_wheel.is_file() and parser_wheel.is_file()):
        raise SystemExit("python-hcl2 or lark is missing: run `python3 scripts/setup.py terraform`")
    if str(parser_wheel) not in sys.path:
        sys.path.insert(0, str(parser_wheel))
    from lark import Lark
    from lark.exceptions import UnexpectedInput

    with zipfile.ZipFile(grammar_wheel) as wheel:
        grammar = wheel.read("hcl2/hcl2.lark").decode()
    assert _GREEDY in grammar, "the grammar is the pinned one"
    grammar = grammar.replace(_GREEDY, _MENDED)
    return Lark(grammar, parser="lalr", propagate_positions=True), UnexpectedInput


def _fill(block: Block, body, source: str) -> None:
    for node in body.children:
        if getattr(node, "data", None) == "attribute":
            name = _text_of(node.children[0], source)
            if name in block.attributes:
                raise SyntaxFault(f"{block.file}:{node.meta.line}: {name} is set twice")
            block.attributes[name] = _expression(node.children[-1], source)
        elif getattr(node, "data", None) == "block":
            *head, inner = node.children
            words = [_text_of(word, source).strip('"') for word in head if _is_word(word)]
            child = Block(words[0], tuple(words[1:]), node.meta.line, block.file)
            _fill(child, inner, source)
            if child.kind == "dynamic":
                child = _made(child)
            block.blocks.append(child)


def _is_word(node) -> bool:
    return getattr(node, "data", None) != "new_line_or_comment" and str(node).strip() != ""


def _made(dynamic: Block) -> Block:
    """What a dynamic block makes: a block of its label's kind, with what it goes through as an attribute."""
    content = dynamic.of("content")
    if len(content) != 1 or "for_each" not in dynamic.attributes:
        raise SyntaxFault(f"{dynamic.file}:{dynamic.line}: dynamic needs for_each and one content")
    made = Block(dynamic.labels[0], (), dynamic.line, dynamic.file)
    made.attributes = content[0].attributes
    made.blocks = content[0].blocks
    made.goes_through = dynamic.attributes["for_each"]
    return made


def _text_of(node, source: str) -> str:
    meta = getattr(node, "meta", node)
    start = getattr(meta, "start_pos", None)
    return source[start : meta.end_pos]


def _expression(node, source: str) -> Expression:
    meta = getattr(node, "meta", node)
    text = _text_of(node, source).strip()
    return Expression(text, getattr(meta, "line", 0), node, source)
