#include "support/fuzz_texts.h"

#include <string.h>

#include "data/tokenizer/utf8.h"

#define ROOM 1024 /* bytes that one part takes at most */

void fuzz_texts_start(struct fuzz_texts *f, uint64_t seed) { f->state = seed * 2 + 1; }

static uint32_t below(struct fuzz_texts *f, uint32_t n)
{
    f->state = f->state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)((f->state >> 32) * n >> 32);
}

static const char *const words[] = {
    "the",    "The",         "of",      "and",        "isn't",
    "we'll",  "I'VE",        "they'RE", "int",        "return",
    "x",      "main()",      "don't",   "HTTPServer", "a_b_c",
    "'s",     "'",           "\"",      "...",        "!!!",
    "----",   "https://a.b", "3.14",    "1234567",    "0x1F",
    "\\n",    "{}",          "[INST]",  "▁",          "▁▁the",
    "<0x0A>", "naïve",       "Ünïcödé", "привет",     "мир",
    "שלום",   "مرحبا",       "हिन्दी",   "ภาษาไทย",    "中文",
    "日本語", "ひらがな",    "한국어",  "👍🏽",   "👩‍👩‍👧",
    "🇩🇪",     "e\xCC\x81",   "½²"};

static const char *const specials[] = {"<s>",
                                       "</s>",
                                       "<unk>",
                                       "<|begin_of_text|>",
                                       "<|end_of_text|>",
                                       "<|eot_id|>",
                                       "<|padding|>",
                                       "<s",
                                       "<|reserved_special_token_7|>",
                                       "<|endoftext|>",
                                       "<|",
                                       "</s></s>",
                                       "<|start_header_id|>"};

static const char *const spaces[] = {
    " ",    " ",       " ",    " ",        "  ",           "   ",          "\n",   "\n\n",
    "\t",   "\r\n",    " \n ", "\xC2\xA0", "\xE3\x80\x80", "\xE2\x80\x8B", "    ", "\xE2\x80\xA8",
    "\x1C", "\xC2\x85"};

/* First and last of ranges that a run of characters is drawn from. */
static const uint32_t ranges[][2] = {
    {0x21, 0x7E},     {0x61, 0x7A},        {0x30, 0x39},       {0xA1, 0x24F},
    {0x300, 0x36F},   {0x370, 0x52F},      {0x590, 0x6FF},     {0x900, 0x97F},
    {0xE00, 0xE7F},   {0x1100, 0x11FF},    {0x1E00, 0x1FFF},   {0x2000, 0x27BF},
    {0x3040, 0x30FF}, {0x4E00, 0x9FFF},    {0x4E00, 0x4FFF},   {0xAC00, 0xD7A3},
    {0xE000, 0xFFFD}, {0x1D400, 0x1D7FF},  {0x1F300, 0x1FAFF}, {0x20000, 0x2A6DF},
    {0x1, 0x1F},      {0x10000, 0x10FFFF}, {0x1, 0xD7FF},      {0x660, 0x669}};

static size_t put(char *to, const char *text)
{
    size_t n = strlen(text);
    memcpy(to, text, n);
    return n;
}

static size_t put_run(struct fuzz_texts *f, char *to)
{
    const uint32_t *r = ranges[below(f, sizeof ranges / sizeof *ranges)];
    uint32_t count = below(f, 16) ? 1 + below(f, 12) : 1 + below(f, 200);
    int same = !below(f, 6);
    uint32_t cp = r[0] + below(f, r[1] - r[0] + 1);
    size_t n = 0;
    for (uint32_t i = 0; i < count; i++) {
        n += (size_t)utf8_encode(cp, to + n);
        if (!same) cp = r[0] + below(f, r[1] - r[0] + 1);
    }
    return n;
}

size_t fuzz_texts_next(struct fuzz_texts *f)
{
    size_t n = 0, want = below(f, 16) ? below(f, 700) : below(f, FUZZ_TEXT_BYTES - ROOM);
    while (n < want) {
        char *to = f->text + n;
        uint32_t kind = below(f, 20);
        if (kind < 10) n += put(to, words[below(f, sizeof words / sizeof *words)]);
        if (kind == 10 || kind == 11) n += put_run(f, to);
        if (kind == 12) n += put(to, specials[below(f, sizeof specials / sizeof *specials)]);
        if (kind > 12 || below(f, 3) == 0)
            n += put(f->text + n, spaces[below(f, sizeof spaces / sizeof *spaces)]);
    }
    return n;
}
