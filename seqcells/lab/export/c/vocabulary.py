"""The words of a vocabulary in C: `NAME_words.h` and `NAME_words.c`."""

from __future__ import annotations

from seqcells.lab.text.vocabulary import Vocabulary

_HEADER = """\
// {title}
//
// The words that the model knows, with their numbers. Texts are split into {unit} in lower case
// before; vocabulary.json has the rules.
#ifndef {guard}
#define {guard}

#include <stdint.h>

#ifdef __cplusplus
extern "C" {{
#endif

// Return the number of a word in UTF-8; 1 if it is unknown.
int32_t @_number(const char *word);

// Return the word of a number from 0 to {last}, else NULL. 0 stands for the end of a text, 1 for an
// unknown word.
const char *@_word(int32_t number);

#ifdef __cplusplus
}}
#endif

#endif
"""

_SOURCE = """\
// {title}
#include "@_words.h"

#include <stddef.h>
#include <string.h>

static const char *const words[{count}] = {{
{words}
}};

// The numbers of the words from 2 on, in the order of the words.
static const int32_t sorted[{count}] = {{
{order}
}};

int32_t @_number(const char *word) {{
  int32_t first = 0, end = {known};
  while (first < end) {{
    const int32_t middle = first + (end - first) / 2;
    const int sign = strcmp(word, words[sorted[middle]]);
    if (sign == 0) return sorted[middle];
    if (sign < 0) {{
      end = middle;
    }} else {{
      first = middle + 1;
    }}
  }}
  return 1;
}}

const char *@_word(int32_t number) {{
  return number < 0 || number >= {count} ? NULL : words[number];
}}
"""


def vocabulary_files(vocabulary: Vocabulary, name: str, title: str) -> dict[str, str]:
    """Return the texts of the header and of the source, by file name."""
    words = [word.encode("utf-8", "surrogatepass") for word in vocabulary.words]
    order = sorted(range(2, len(words)), key=words.__getitem__)
    header = _HEADER.format(
        title=title, unit=vocabulary.unit, guard=f"{name.upper()}_WORDS_H", last=len(words) - 1
    )
    source = _SOURCE.format(
        title=title,
        count=len(words),
        known=len(order),
        words=",\n".join(f"  {_literal(word)}" for word in words),
        order=",\n".join(f"  {number}" for number in order or [0]),
    )
    texts = {f"{name}_words.h": header, f"{name}_words.c": source}
    return {file: text.replace("@_", f"{name}_") for file, text in texts.items()}


def _literal(word: bytes) -> str:
    """Return a C string. Escapes have three octal digits, so that they end there.

    `??` starts a trigraph, and `@` stands for the prefix.
    """
    plain = set(range(32, 127)) - set(b'"\\?@')
    return '"' + "".join(chr(byte) if byte in plain else f"\\{byte:03o}" for byte in word) + '"'
