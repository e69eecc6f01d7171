/* classes.h - letter, number, white space or other: what the split patterns ask of a character.
 *
 * Letters and numbers are those of the reference's \p{L} and \p{N} (classes_table.h), white space
 * is White_Space of Unicode, as its \s.
 */
#ifndef CRIA_DATA_TOKENIZER_CLASSES_H
#define CRIA_DATA_TOKENIZER_CLASSES_H

#include <stdint.h>

enum char_class { CLASS_OTHER, CLASS_LETTER, CLASS_NUMBER, CLASS_SPACE };

#define CLASS_PAGES 0x1100 /* of 256 characters */
#define CLASS_DISTINCT 224 /* pages that differ: no more than this, held by the filling */

/* Two levels, since most pages are all letters or all others. Filled by classes_init. */
struct class_table {
    uint8_t page[CLASS_PAGES];
    uint8_t classes[CLASS_DISTINCT][256];
};

/* The table; made once a process, by whichever thread comes first. */
const struct class_table *classes_get(void);

/* cp <= 0x10FFFF */
static inline enum char_class classes_of(const struct class_table *t, uint32_t cp)
{
    return (enum char_class)t->classes[t->page[cp >> 8]][cp & 255];
}

#endif
