/* scan.h - the split patterns of known models, compiled by hand.
 *
 * A scanner cuts a text where the matches of its pattern begin and end. Its patterns match any
 * character, so pieces lie end to end. Each scanner gives what PCRE2 gives for the pattern
 * (split.h); tests and a fuzzer hold it to that.
 *
 *   llama3   Llama 3; Qwen differs in taking numbers one by one
 *   gpt2     GPT-2, GPT-NeoX and whatever has a ByteLevel pre-tokenizer with use_regex
 */
#ifndef CRIA_DATA_TOKENIZER_SCAN_H
#define CRIA_DATA_TOKENIZER_SCAN_H

#include <stddef.h>

/* Fills ends[] with where the next pieces of text[at..n) end, `max` of them at most, fewer only at
 * the end of the text; how many. `text` is well-formed UTF-8; `at` is 0 or the end of a piece. */
typedef size_t scanner(const char *text, size_t n, size_t at, size_t *ends, size_t max);

extern const char scan_gpt2_pattern[];   /* of a ByteLevel pre-tokenizer with use_regex */
extern const char scan_llama3_pattern[]; /* of Meta's tokenizer.model for Llama 3 */
extern const char scan_qwen_pattern[];   /* of Qwen 2 and 3 */

scanner *scanner_find(const char *pattern); /* NULL: none of the known ones */

#endif
