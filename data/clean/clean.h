/* clean.h - conversations as people saved them, made fit to be trained on: the Vicuna pipeline.
 *
 * One streaming pass over the sources: a record is read (formats), its conversations go through the
 * steps, and each is written as a line of ShareGPT's form, {"id", "model"?, "conversations":
 * [{"from", "value"}]}; plain text stays {"text"}, prompt and completion stay a pair. Several
 * threads do it, block by block (prepare/crew.h); output and report are the same whatever their
 * number. What has to be remembered for duplicates is some 30 bytes a record, 550 with `near`; the
 * rest of the memory is a few blocks a thread. The output is written aside, fsynced and renamed.
 *
 * The steps, in this order, each optional (CLEAN_STEP_TABLE); what they leave out is counted by
 * reason (CLEAN_REASON_TABLE), with samples. They compute what fschat 0.2.36 computes
 * (fastchat.data.clean_sharegpt, optional_clean, split_long_conversation, filter_wrong_format, in
 * the order of prepare_all). Other than there, on purpose:
 *
 *   - a leading system message, and a record's `system` and `tools`, are kept as the conversation's
 *     first turn, and count where it is split; FastChat drops them
 *   - roles may have any name that a format knows (user, assistant, bard, ...), and the other
 *     formats are read too; an Alpaca input is put on lines of its own behind its instruction
 *   - the last pair of a conversation, when it does not fit, becomes a segment of its own; FastChat
 *     loses it, and all of a conversation of one long pair (SEMANTICS B 3)
 *   - `quality` also rejects a reply that is ChatGPT's refusal of too many requests (SEMANTICS B 1;
 *     fschat 0.2.36 does not)
 *   - a record without an id gets one from its place, FILE_NUMBER; FastChat stops at such a one,
 *     and at a list that does not start at a number
 *   - &#0; and references to surrogates become U+FFFD
 *   - languages are those of the CLD2 that cria was built with (language.h)
 *   - near-duplicates and decontamination (near.h, against.h), which FastChat has not
 *
 * Where SEMANTICS B says otherwise than the scripts do, when they are run:
 *
 *   - records that have `plugins` are rejected
 *   - a first message that is not the human's is dropped once; what is left is counted again after
 *     each of the droppings
 *   - role, words and HTML are checked message by message, so an empty message ends the
 *     conversation before a later one's fault is seen
 *   - unprintable is what str.isprintable says of the first character
 *   - the 16 characters are counted before the cut to an even count
 *   - an id that was there is looked for before `plugins`, the first pair behind it; only records
 *     that pass all of it count as having been there
 *   - a reply that is a refusal rejects nothing
 *   - text whose language cannot be told is `unknown`: keeping one language drops it, skipping one
 *     does not; prepare_all only skips ko
 *   - the (\d)\1{8} filter is off unless asked for, and prepare_all does not ask
 *   - splitting first cuts a conversation to an even count; all ids get _{start}, unsplit ones too
 *   - the wrong-format filter comes behind the splitting, and drops single segments
 *   - the split into training and test data is 99/1 only by prepare_all's option (0.9 is the
 *     default), by numpy's permutation with seed 0
 *   - markdownify is 0.11.6: later ones write other Markdown
 */
#ifndef CRIA_DATA_CLEAN_CLEAN_H
#define CRIA_DATA_CLEAN_CLEAN_H

#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/status.h"
#include "data/clean/against.h"
#include "data/formats/format.h"
#include "data/tokenizer/tokenizer.h"

/* step, its name, what it does */
#define CLEAN_STEP_TABLE(X)                                                                    \
    X(CLEAN_READ, "read", "records are read as conversations")                                 \
    X(CLEAN_HTML, "html",                                                                      \
      "HTML becomes Markdown; code blocks and lists as ChatGPT's page had them")               \
    X(CLEAN_REPAIR, "repair",                                                                  \
      "roles alternate, from a question to a reply; what is empty ends it")                    \
    X(CLEAN_BLOCKED, "blocked", "no conversation that names one of the blocked words")         \
    X(CLEAN_QUALITY, "quality", "none that is too short, was refused, or used plugins")        \
    X(CLEAN_EXACT, "exact", "none whose id, or first question and reply, was there before")    \
    X(CLEAN_LANGUAGE, "language", "the languages that are wanted")                             \
    X(CLEAN_REPEATS, "repeats", "none with a digit nine times in a row")                       \
    X(CLEAN_AGAINST, "against", "nothing that an evaluation file holds too")                   \
    X(CLEAN_NEAR, "near", "none that says almost the same as an earlier one")                  \
    X(CLEAN_SPLIT, "split", "long conversations are split between pairs, and no turn is lost") \
    X(CLEAN_NUMBERING, "numbering", "no list whose second item is number 1 again")

enum clean_step {
#define X(id, name, text) id,
    CLEAN_STEP_TABLE(X)
#undef X
        NUM_CLEAN_STEPS
};

/* reason, the step that gives it, its name in JSON reports, what it says to people */
#define CLEAN_REASON_TABLE(X)                                                                      \
    X(CLEAN_KEPT, CLEAN_READ, "kept", "kept")                                                      \
    X(CLEAN_BAD_RECORD, CLEAN_READ, "bad_record", "not a valid record")                            \
    X(CLEAN_MARKUP, CLEAN_HTML, "markup", "HTML that cannot be read")                              \
    X(CLEAN_ROLES, CLEAN_REPAIR, "roles", "human and assistant do not alternate")                  \
    X(CLEAN_ONE_MESSAGE, CLEAN_REPAIR, "one_message", "no question with a reply is left")          \
    X(CLEAN_WORDS, CLEAN_BLOCKED, "blocked_words", "a blocked word")                               \
    X(CLEAN_SHORT, CLEAN_QUALITY, "short", "fewer than 16 characters")                             \
    X(CLEAN_REFUSAL, CLEAN_QUALITY, "refusal", "a refusal of too many requests for a reply")       \
    X(CLEAN_PLUGINS, CLEAN_QUALITY, "plugins", "made with plugins")                                \
    X(CLEAN_SAME_ID, CLEAN_EXACT, "same_id", "the id of an earlier one")                           \
    X(CLEAN_SAME_PAIR, CLEAN_EXACT, "same_pair", "the first question and reply of an earlier one") \
    X(CLEAN_FOREIGN, CLEAN_LANGUAGE, "language", "a language that is not wanted")                  \
    X(CLEAN_DIGITS, CLEAN_REPEATS, "repeats", "a digit nine times in a row")                       \
    X(CLEAN_CONTAMINATED, CLEAN_AGAINST, "contaminated", "words of an evaluation item")            \
    X(CLEAN_SIMILAR, CLEAN_NEAR, "near_duplicate", "almost the same as an earlier one")            \
    X(CLEAN_NUMBERS, CLEAN_NUMBERING, "numbering", "a list that is numbered 1, 1")

enum clean_reason {
#define X(id, step, name, text) id,
    CLEAN_REASON_TABLE(X)
#undef X
        NUM_CLEAN_REASONS
};

/* What is changed in conversations that are kept: name, what it says to people */
#define CLEAN_CHANGE_TABLE(X)                                                        \
    X(CLEAN_CONVERTED, "converted", "had messages that HTML's conversion changed")   \
    X(CLEAN_LED, "leading_reply", "lost a reply that nobody asked for")              \
    X(CLEAN_TRAILED, "trailing_question", "lost a last question that has no reply")  \
    X(CLEAN_CUT, "cut", "end before an empty message")                               \
    X(CLEAN_DIVIDED, "divided", "were split")                                        \
    X(CLEAN_SAVED, "saved_pair", "kept a last pair that FastChat's splitting loses") \
    X(CLEAN_LONG, "long_pair", "have a pair that alone is longer than the maximum")

enum clean_change {
#define X(id, name, text) id,
    CLEAN_CHANGE_TABLE(X)
#undef X
        NUM_CLEAN_CHANGES
};

const char *clean_step_name(enum clean_step s);
const char *clean_reason_name(enum clean_reason r);
const char *clean_reason_text(enum clean_reason r);
enum clean_step clean_reason_step(enum clean_reason r);
const char *clean_change_name(enum clean_change c);
const char *clean_change_text(enum clean_change c);

#define CLEAN_BIT(step) (1u << (step))

/* What a list of steps ("default,near,-blocked"; names, `default`, `all`, - before what is left
 * out) stands for. ERR_CONFIG: an unknown name. */
MUST_CHECK enum status clean_parse_steps(const char *list, unsigned *out, struct err *e);

/* FastChat's own: html, repair, blocked, quality, exact, numbering. */
#define CLEAN_DEFAULT_STEPS                                                       \
    (CLEAN_BIT(CLEAN_HTML) | CLEAN_BIT(CLEAN_REPAIR) | CLEAN_BIT(CLEAN_BLOCKED) | \
     CLEAN_BIT(CLEAN_QUALITY) | CLEAN_BIT(CLEAN_EXACT) | CLEAN_BIT(CLEAN_NUMBERING))

#define CLEAN_LEAST_CHARACTERS 16 /* of a conversation */
#define CLEAN_MESSAGE_TOKENS                                            \
    6 /* what a message takes beyond its text, when lengths are counted \
       */
#define CLEAN_SAMPLES 3
#define CLEAN_EXCERPT 96 /* bytes of a sample's text, and a zero */

struct clean_options {
    const char *const *sources;
    size_t num_sources;
    const char *format; /* NULL or "auto": each source for itself */
    unsigned steps;     /* CLEAN_BITs */
    int html_by_file;   /* CLEAN_HTML only where the first messages of a file have end tags */
    const char *const *blocked; /* lower case; NULL: openai and chatgpt */
    size_t num_blocked;
    const char *keep_language, *skip_language; /* codes; at most one of them; NULL: none */
    const struct against *against;
    double similarity;                 /* of near-duplicates */
    const struct tokenizer *tokenizer; /* to split, with max_length */
    int32_t max_length;
    size_t max_record; /* bytes; 0: the default of jsonl.h */
    int skip_bad;      /* go on behind invalid records */
    size_t threads;    /* 0: all cores the process may use */
};

struct clean_sample {
    uint32_t source;
    int64_t place; /* line or record number */
    uint32_t other_source;
    int64_t other_place; /* of the earlier one, or the evaluation item; 0: none */
    char detail[32];     /* the language found, a blocked word; "" */
    char text[CLEAN_EXCERPT];
};

struct clean_tally {
    int64_t count;
    struct clean_sample samples[CLEAN_SAMPLES];
};

struct clean_source_report {
    char *path;
    const struct format *format;
    int is_html, is_array;
    int64_t records, kept;
};

struct clean_report {
    struct clean_source_report *sources; /* [num_sources] */
    size_t num_sources;
    unsigned steps;
    int64_t records, conversations;
    int64_t kept;     /* conversations with a segment written */
    int64_t segments; /* before `numbering`, and what of them was written */
    int64_t written, turns, bytes;
    struct clean_tally dropped[NUM_CLEAN_REASONS]; /* of `numbering`: segments */
    int64_t changed[NUM_CLEAN_CHANGES];            /* of the conversations kept */
    const struct against *against;
    size_t remembered; /* bytes, for duplicates */
    char first_bad[512];
};

struct clean_progress {
    const char *path;
    int64_t bytes, total_bytes; /* over all sources */
    int64_t records, kept;
};

typedef void clean_watcher(void *ctx, const struct clean_progress *p);

/* Writes `out` and fills *report (zero it; clean_report_free in any case). `watch` may be NULL.
 * ERR_CONFIG (a step without what it needs, an unknown format, `out` is a source), ERR_UNSUPPORTED
 * (preferences; `language` in a cria without CLD2), ERR_FORMAT (an invalid record or file),
 * ERR_DATA (no format fits, nothing is left, sources that do not go into one file), ERR_IO,
 * ERR_DISK_FULL, ERR_MEMORY. */
MUST_CHECK enum status clean_files(const struct clean_options *options, const char *out,
                                   struct clean_report *report, clean_watcher *watch, void *ctx,
                                   struct err *e);

/* ---- the report (report.c) ---- */

void clean_report_free(struct clean_report *r); /* zeroed is fine */

/* A table of the steps, and samples of what went. ERR_MEMORY, ERR_FORMAT (over the cap). */
MUST_CHECK enum status clean_report_print(const struct clean_report *r, struct buf *out);

/* The same as JSON, into a file (base/json.h). ERR_IO, ERR_DISK_FULL, ERR_MEMORY. */
MUST_CHECK enum status clean_report_write(const struct clean_report *r, const char *path,
                                          struct err *e);

#endif
