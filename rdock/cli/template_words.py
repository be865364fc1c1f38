"""The words of a template: text between actions, and what is in the actions. Trim markers and comments end here."""

from __future__ import annotations

from rdock.values import Value

ACTION_WORDS = ("if", "with", "range", "else", "end", "break", "continue", "define", "template", "block")

_SPACE = " \t\r\n"
_SINGLE = {"(": "(", ")": ")", "|": "|", ",": ",", "=": "="}
_OCTAL, _HEX = frozenset("01234567"), frozenset("0123456789abcdefABCDEF")
_ESCAPES = {"a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v", "\\": "\\"}


class Token(Value):
    kind: str
    """text, {{, }}, word, field, variable, number, string, error, EOF, or the sign itself."""
    at: int
    """Offset in bytes, as Go counts."""
    line: int
    text: str
    spaced: bool = False
    """Whether white space stands before it."""
    value: str | int | float = ""

    def shown(self) -> str:
        """As Go's parser names it in its complaints."""
        if self.kind == "EOF":
            return "EOF"
        if self.kind == "." or (self.kind == "word" and self.text in ACTION_WORDS):
            return f"<{self.text}>"
        text = self.text.replace("\\", "\\\\").replace('"', '\\"')
        return f'"{text[:10]}"...' if len(self.text) > 10 else f'"{text}"'


def words(text: str) -> list[Token]:
    """All tokens; the last is of kind EOF, or error."""
    return _Words(text).all()


class _Failed(Exception):
    pass


class _Words:
    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0
        self.found: list[Token] = []
        self.ascii = text.isascii()
        self.parentheses = 0

    def all(self) -> list[Token]:
        try:
            self.outside()
        except _Failed as e:
            self.add("error", self.at, str(e))
        self.add("EOF", len(self.text), "")
        return self.found

    def add(self, kind: str, at: int, text: str, *, spaced: bool = False, value: str | int | float = "") -> None:
        offset = at if self.ascii else len(self.text[:at].encode("utf-8", "surrogateescape"))
        self.found.append(Token(kind, offset, 1 + self.text.count("\n", 0, at), text, spaced, value))

    def outside(self) -> None:
        trim = False
        while True:
            start = self.text.find("{{", self.at)
            plain = self.text[self.at :] if start < 0 else self.text[self.at : start]
            if start >= 0 and self.text[start + 2 : start + 3] == "-" and self.text[start + 3 : start + 4] in _SPACED:
                plain = plain.rstrip(_SPACE)
            if trim:
                plain = plain.lstrip(_SPACE)
            if plain:
                self.add("text", self.at, plain)
            if start < 0:
                return
            self.at = start + 2
            if self.text[self.at : self.at + 1] == "-" and self.text[self.at + 1 : self.at + 2] in _SPACED:
                self.at += 2
            trim = self.comment() if self.text.startswith("/*", self.at) else self.action(start)

    def comment(self) -> bool:
        end = self.text.find("*/", self.at + 2)
        if end < 0:
            raise _Failed("unclosed comment")
        self.at = end + 2
        if self.text[self.at : self.at + 1] in _SPACED and self.text.startswith("-}}", self.at + 1):
            self.at += 4
            return True
        if not self.text.startswith("}}", self.at):
            raise _Failed("comment ends before closing delimiter")
        self.at += 2
        return False

    def action(self, start: int) -> bool:
        """The words up to `}}`; whether the text behind is to be trimmed."""
        self.add("{{", start, "{{")
        self.parentheses = 0
        while True:
            before = self.at
            while self.text[self.at : self.at + 1] in _SPACED and self.at < len(self.text):
                self.at += 1
            spaced = self.at > before
            trim = spaced and self.text.startswith("-}}", self.at)
            if trim or self.text.startswith("}}", self.at):
                if self.parentheses:
                    raise _Failed("unclosed left paren")
                self.add("}}", self.at, "}}", spaced=spaced)
                self.at += 3 if trim else 2
                return trim
            if self.at >= len(self.text):
                raise _Failed("unclosed action")
            self.word(spaced=spaced)

    def word(self, *, spaced: bool) -> None:
        text, start = self.text, self.at
        sign = text[start]
        if text.startswith(":=", start):
            self.at += 2
            self.add(":=", start, ":=", spaced=spaced)
        elif sign in _SINGLE:
            self.parentheses += (sign == "(") - (sign == ")")
            if self.parentheses < 0:
                raise _Failed("unexpected right paren")
            self.at += 1
            self.add(sign, start, sign, spaced=spaced)
        elif sign in "\"`'":
            self.quoted(sign, spaced=spaced)
        elif sign in "+-" or sign.isdecimal() or (sign == "." and text[start + 1 : start + 2].isdecimal()):
            self.number(spaced=spaced)
        elif sign in ".$" or sign == "_" or sign.isalnum():
            self.at += 1
            while self.at < len(text) and (text[self.at] == "_" or text[self.at].isalnum()):
                self.at += 1
            if not self.is_ended():
                raise _Failed(f"bad character {_unicode(text[self.at])}")
            found = text[start : self.at]
            kind = {".": "field", "$": "variable"}.get(sign, "word") if found != "." else "."
            self.add(kind, start, found, spaced=spaced)
        elif sign.isascii() and sign.isprintable():
            self.at += 1
            self.add("char", start, sign, spaced=spaced)
        else:
            raise _Failed(f"unrecognized character in action: {_unicode(sign)}")

    def is_ended(self) -> bool:
        """Whether a name may end here."""
        following = self.text[self.at : self.at + 1]
        return not following or following in _SPACE + ".,|:()=" or self.text.startswith("}}", self.at)

    def quoted(self, sign: str, *, spaced: bool) -> None:
        start = self.at
        end = start + 1
        while end < len(self.text) and self.text[end] != sign:
            if self.text[end] == "\n" and sign != "`":
                end = len(self.text)
            end += 2 if self.text[end : end + 1] == "\\" and sign != "`" else 1
        if end >= len(self.text):
            what = {'"': "quoted string", "`": "raw quoted string", "'": "character constant"}[sign]
            raise _Failed(f"unterminated {what}")
        self.at = end + 1
        raw = self.text[start : self.at]
        inner = raw[1:-1]
        value = inner.replace("\r", "") if sign == "`" else _unquote(inner, sign)
        if value is None or (sign == "'" and len(value) != 1):
            raise _Failed(f"malformed character constant: {raw}" if sign == "'" else "invalid syntax")
        if sign == "'":
            self.add("number", start, raw, spaced=spaced, value=ord(value))
        else:
            self.add("string", start, raw, spaced=spaced, value=value)

    def number(self, *, spaced: bool) -> None:
        text, start = self.text, self.at
        self.skip("+-", most=1)
        digits = {"0x": "0123456789abcdefABCDEF_", "0b": "01_", "0o": "01234567_"}.get(
            text[self.at : self.at + 2].lower(), ""
        )
        self.at += 2 if digits else 0
        self.skip(digits or "0123456789_")
        if self.skip(".", most=1):
            self.skip(digits or "0123456789_")
        if self.skip("pP" if digits else "eE", most=1):
            self.skip("+-", most=1)
            self.skip("0123456789_")
        if text[self.at : self.at + 1] == "_" or text[self.at : self.at + 1].isalnum():
            raise _Failed(f'bad number syntax: "{text[start : self.at + 1]}"')
        found = text[start : self.at]
        try:
            value = number(found)
        except OverflowError:
            raise _Failed(f'integer overflow: "{found}"') from None
        self.add("number", start, found, spaced=spaced, value="" if value is None else value)

    def skip(self, letters: str, *, most: int = 1 << 20) -> int:
        """How many of these letters stand here, which are passed."""
        start = self.at
        while self.at < len(self.text) and self.text[self.at] in letters and self.at - start < most:
            self.at += 1
        return self.at - start


_SPACED = (" ", "\t", "\r", "\n")


def number(text: str) -> int | float | None:
    """A number as Go writes it: 12, 0x1f, 0b1, 017, 1_000, 1.5e3; None for what is none.

    Raises OverflowError for an integer that Go's int64 cannot hold.
    """
    body = text.lstrip("+-")
    if not text.isascii() or len(text) - len(body) > 1 or body.endswith("_"):
        return None
    found: int | float
    try:
        found = _integer(text, body)
        if not -(1 << 63) <= found < 1 << 63:
            raise OverflowError
        return found
    except ValueError:
        pass
    try:
        if body[:2].lower() == "0x":
            found = float.fromhex(text)
        else:
            found = float(text) if body[:1] in "0123456789." else _INFINITE
    except (ValueError, OverflowError):
        return None
    return found if -_INFINITE < found < _INFINITE else None


_INFINITE = float("inf")


def _integer(text: str, body: str) -> int:
    if body.replace("_", "").isdecimal() and len(body) > _MAX_DIGITS:
        raise OverflowError  # which the interpreter would not read, either
    if len(body) > 1 and body[0] == "0" and body.replace("_", "").isdecimal():
        return int(text.replace("_", ""), 8)
    return int(text, 0)


# More than any number of 64 bits has, in whatever base.
_MAX_DIGITS = 200


def _unquote(inner: str, sign: str) -> str | None:
    """What stands between quotation marks, with Go's escapes; None if one of them is wrong."""
    if "\\" not in inner:
        return inner
    found: list[str] = []
    at = 0
    while at < len(inner):
        if inner[at] != "\\":
            found.append(inner[at])
            at += 1
            continue
        letter = inner[at + 1 : at + 2]
        if letter in _ESCAPES or letter == sign:
            found.append(_ESCAPES.get(letter, letter))
            at += 2
            continue
        is_octal = letter in _OCTAL
        size = {"x": 2, "u": 4, "U": 8}.get(letter, 3)
        begin = at + (1 if is_octal else 2)
        digits = inner[begin : begin + size]
        if not letter or letter not in "xuU01234567":
            return None
        if len(digits) < size or not (_OCTAL if is_octal else _HEX).issuperset(digits):
            return None
        code = int(digits, 8 if is_octal else 16)
        # \x and octal escapes are bytes, which need not be UTF-8.
        is_byte = letter not in ("u", "U")
        if code > (0xFF if is_byte else 0x10FFFF) or 0xD800 <= code < 0xE000:
            return None
        found.append(chr(0xDC00 + code) if is_byte and code > 0x7F else chr(code))
        at = begin + size
    text = "".join(found)
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "surrogateescape")


def _unicode(character: str) -> str:
    """As Go's %#U: U+0040 '@'."""
    return f"U+{ord(character):04X}" + (f" '{character}'" if character.isprintable() else "")
