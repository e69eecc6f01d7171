#include "data/tokenizer/classes.h"

#include <assert.h>
#include <pthread.h>
#include <stddef.h>
#include <string.h>

#include "data/tokenizer/classes_table.h"

static const uint32_t class_spaces[][2] = {
    {0x9, 0xD},       {0x20, 0x20},     {0x85, 0x85},     {0xA0, 0xA0},     {0x1680, 0x1680},
    {0x2000, 0x200A}, {0x2028, 0x2029}, {0x202F, 0x202F}, {0x205F, 0x205F}, {0x3000, 0x3000}};

/* Pages 0 and 1: all others, all letters. */
static struct class_table table;
static unsigned distinct = 2;
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void fill_part(uint32_t first, uint32_t last, enum char_class class)
{
    unsigned p = first >> 8;
    if (class == CLASS_LETTER && !(first & 255) && (last & 255) == 255) {
        table.page[p] = 1;
        return;
    }
    if (!table.page[p]) {
        assert(distinct < CLASS_DISTINCT);
        table.page[p] = (uint8_t)distinct++;
    }
    memset(&table.classes[table.page[p]][first & 255], class, last - first + 1);
}

static void fill(const uint32_t ranges[][2], size_t n, enum char_class class)
{
    for (size_t i = 0; i < n; i++)
        for (uint32_t at = ranges[i][0]; at <= ranges[i][1]; at = (at | 255) + 1)
            fill_part(at, (at | 255) < ranges[i][1] ? at | 255 : ranges[i][1], class);
}

static void make(void)
{
    memset(table.classes[1], CLASS_LETTER, sizeof table.classes[1]);
    fill(class_letters, sizeof class_letters / sizeof *class_letters, CLASS_LETTER);
    fill(class_numbers, sizeof class_numbers / sizeof *class_numbers, CLASS_NUMBER);
    fill(class_spaces, sizeof class_spaces / sizeof *class_spaces, CLASS_SPACE);
}

const struct class_table *classes_get(void)
{
    pthread_once(&once, make);
    return &table;
}
