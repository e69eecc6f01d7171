/* scene.h - a temporary folder in which something is wrong, told in a few words.
 *
 * The folder starts with a link `m` to the tiny model, `a` to its adapter, d.jsonl, a few
 * instructions, p.jsonl, a few pairs of replies, k.jsonl, a few replies with labels, and c.yaml, a
 * config of five lines for model and instructions. Then steps change it, one a line:
 *
 *     model                    m becomes a copy, to be spoilt
 *     adapter                  a too
 *     write FILE TEXT          TEXT goes to the end of the line
 *     replace FILE FROM TO     the first FROM in the file, any bytes; neither has spaces
 *     cut FILE N               to N bytes
 *     append FILE TEXT
 *     repeat FILE N TEXT       TEXT N times
 *     remove FILE
 *     rename FILE TO
 *     dir NAME
 *     run ARGUMENTS            of cria; it must succeed
 *
 * In texts ` stands for a double quote, \n for a newline, \s for a space, \xHH for a byte.
 */
#ifndef CRIA_TESTS_SUPPORT_SCENE_H
#define CRIA_TESTS_SUPPORT_SCENE_H

#include <stddef.h>

struct scene_file {
    char path[256]; /* below the folder */
    char hash[33];
};

#define SCENE_FILES_MAX 64

struct scene {
    char dir[64];
    struct scene_file files[SCENE_FILES_MAX]; /* as scene_remember found them */
    size_t num_files;
};

/* Fails the test when a step is not possible. */
void scene_init(struct scene *s, const char *steps);
void scene_free(struct scene *s);

void scene_remember(struct scene *s);

/* 1 if what was remembered is there unchanged and nothing half-made lies beside it: no *.tmp, no
 * folder being written. Whole new files are fine where `may_add`; otherwise only those of the cache
 * (.cria-cache). What is wrong is printed. */
int scene_is_whole(const struct scene *s, int may_add);

#endif
