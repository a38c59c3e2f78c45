"""What looks like a secret, by its name, by its shape, or by what it is assigned to."""

from __future__ import annotations

import re
from collections.abc import Iterator

__all__ = ["is_secret", "masked"]

_HIDDEN = "(hidden)"

# -- names ---------------------------------------------------------------------------------------------------

_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")
_WORDS = frozenset({"key", "keys", "token", "tokens", "auth", "pass", "pwd", "jwt", "cookie", "cookies"})
_CLEAR = re.compile(
    r"(?i)(?:api|access|private)_?key|passw|pass_?(?:phrase|code)|secret|cred(?:s\b|ential)|bearer|authoriz"
)
_PLAIN = frozenset({"key", "keys", "token", "tokens"})
"""These alone are rather of a dictionary, a table or a text."""
_ERRORS = frozenset({"error", "exception", "warning"})


def is_secret(name: str) -> bool:
    """Whether a variable of that name should be shown to nobody."""
    words = [word.lower() for word in _WORD.findall(name)]
    if words and words[-1] in _ERRORS:  # a KeyError
        return False
    return not _WORDS.isdisjoint(words) or _CLEAR.search(name) is not None


# -- texts: what a pattern has taken it does not give back, so that the time grows with the text

_PEM = re.compile(
    r"""(?x) -----BEGIN[ ][A-Z ]{0,40}PRIVATE[ ]KEY[A-Z ]{0,10}-----
    (?: (?: [^-] | -(?!----) )*+ -----END [A-Z ]{0,60} -{0,5} | [\w+/=\s\\]*+ )"""
)
_SHAPES = re.compile(
    r"""(?x) \b (?:
      (?: sk[-_] | gh[oprsu]_ | github_pat_ | hf_ | xox[abprs]- | glpat- | npm_ | pypi- | AKIA | AIza )
      [A-Za-z0-9_-]{8,}+
    | eyJ[\w-]{8,}+ (?: \.[\w-]++ )* )"""
)
_URL = re.compile(r"""(?<=\w://)([^\s/:@'"]*+:)(?!\{)[^\s/'"]*@""")
_HEADER = re.compile(
    r"""(?x) \b ( Bearer \s | Basic \s | [Xx]-[\w-]{0,40}: \s* | [Aa]uthorization: \s* \w{1,20}+ \s )
    \s*+ (?= [^\s'"]{0,40}? [\d+/=] ) [^\s'"]{4,}+"""
)
_OPTION = re.compile(
    r"""(?xm) ( (?: (?<! [\w-] ) -- | ^[ \t]*+ %(?:set_)?env[ \t]+ ) ([\w-]{1,60}) (?: [ \t]+ | = ) )
    (?! [-=&|] ) (?: "[^"\n]*+"? | '[^'\n]*+'? | [^\s'"]++ )"""
)
_LOGIN = re.compile(r"""((?<![\w-])(?:-u|--user)[ \t=]+['"]?[^\s:'"\[\]]++:)[^\s'"]++""")

_LITERAL = r"""(?is: [rbuft]{0,2}
    (?: "{3} [^"\\]*+ (?: (?: \\. | "(?!"") ) [^"\\]*+ )*+ (?:"{3})?
      | '{3} [^'\\]*+ (?: (?: \\. | '(?!'') ) [^'\\]*+ )*+ (?:'{3})?
      | "(?![\s"),;\]}]) [^"\\\n]*+ (?: \\. [^"\\\n]*+ )*+ "?
      | '(?![\s'),;\]}]) [^'\\\n]*+ (?: \\. [^'\\\n]*+ )*+ '? ) )"""
"""A text in quotes, of which the last may be missing. In `"Token: ")` none begins at the second."""
_LITERALS = re.compile(rf"(?x) {_LITERAL} (?: [\s\\]*+ {_LITERAL} )*+")
_GROUP = re.compile(rf"(?x) (?: [\s\\(\[{{,:+*] | {_LITERAL} | [\w.]++ )*+")
_NAMED = re.compile(
    r"""(?x) (?<!\w) (?P<name>\w++)
    (?= (?P<bridge> \\*+ (?: ['"] \s*+ (?P<comma>,) | (?: ['"] \s*+ \]? )? \s*+ (?:
          : \s*+ [\w.]++ (?: \[ [^\n=]{0,80}? \] )? (?: \s*+ \| \s*+ [\w.]++ )*+ \s*+ =(?!=)
        | [:+|]?=(?!=) | [=!]= | : | (?P<call>(?=\()) ) ) [\s\\]*+ (?P<open>[(\[{]?) ) )"""
)
"""A name, and how a value goes with it: `"name": `, `name: str = `, `["name"] = `, `"name", `, `name(`."""
_BARE = re.compile(r"""(?!lambda\b)[^\s'"(),;&\[\]{}<>=\\][^\s'"(),;&\[\]{}<>]{0,500}+(?=['"\s;&]|\Z)""")
_MIXED = re.compile(r"(?=\D{1,40}\d|\d{1,40}[A-Za-z])\w")


def masked(text: str) -> str:
    """Text, or code that may be broken, without what looks like a key, a token or a password in it.

    A value whose name says nothing, and that looks like nothing, stays.
    """
    text = _PEM.sub(_HIDDEN, text)
    text = _SHAPES.sub(_HIDDEN, text)
    text = _URL.sub(rf"\1{_HIDDEN}@", text)
    text = _HEADER.sub(rf"\1{_HIDDEN}", text)
    text = _LOGIN.sub(rf"\1{_HIDDEN}", text)
    text = _OPTION.sub(lambda found: f"{found[1]}{_HIDDEN}" if is_secret(found[2]) else found[0], text)
    return "".join(_without_named(text))


def _without_named(text: str) -> Iterator[str]:
    done = dry = 0  # up to there all is said, and there is no quotation mark
    for named in _NAMED.finditer(text):
        begin, name = named.end("bridge"), named["name"]
        if named.start() < done or not is_secret(name) or not _is_told(named):
            continue
        value: re.Match[str] | None = None
        if not named["open"]:
            value = _LITERALS.match(text, begin)
            if value is None and named["bridge"] == "=":
                value = _bare(text, begin, name)
        elif begin >= dry:
            value = _GROUP.match(text, begin)
            if value is not None and not re.search("['\"]", value[0]):
                dry = value.end()
                value = None
        if value is not None:
            yield text[done:begin]
            yield _HIDDEN
            done = value.end()
    yield text[done:]


def _is_told(named: re.Match[str]) -> bool:
    """Whether the value of a secret's name is one, too."""
    name = named["name"]
    if named["call"] is not None:
        return _CLEAR.search(name) is not None or name.lower().endswith("auth")
    return name not in _PLAIN or (named["comma"] is None and named["open"] in ("", "("))


def _bare(text: str, begin: int, name: str) -> re.Match[str] | None:
    """A value without quotes. In code it may be an argument, as in `key=len`."""
    certain = _CLEAR.search(name) is not None or name.isupper()
    return _BARE.match(text, begin) if certain or _MIXED.match(text, begin) else None
