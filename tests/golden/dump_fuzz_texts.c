/* Writes the texts of tests/support/fuzz_texts.h, a JSON string a line, for tokenizer_fuzz.py.
 *
 *     dump_fuzz_texts SEED BYTES */
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>

#include "support/fuzz_texts.h"

int main(int argc, char **argv)
{
    static struct fuzz_texts f;
    if (argc != 3) return 1;
    fuzz_texts_start(&f, strtoull(argv[1], NULL, 10));
    for (long long left = strtoll(argv[2], NULL, 10); left > 0;) {
        size_t n = fuzz_texts_next(&f);
        json_t *text = json_stringn(f.text, n);
        if (!text || json_dumpf(text, stdout, JSON_ENCODE_ANY)) return 1;
        putchar('\n');
        json_decref(text);
        left -= (long long)n;
    }
    return 0;
}
